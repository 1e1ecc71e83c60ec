"""Labels, numbers and several targets at once, learnt on digits: solved, by gradient, and through the command line."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from ssl_transfer.cli import main
from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.downstream import Classifier, Frozen, Full, LinearThenFull, Scratch, load_model
from ssl_transfer.downstream.targets import Target
from ssl_transfer.encoders import EncoderSpec
from ssl_transfer.optimisation import Optimisation
from ssl_transfer.running import fit as running
from ssl_transfer.running.folder import RunFolder

OPTIONS: dict[str, Any] = {"enable_progress_bar": False, "verbose": False, "precision": "32-true"}
SPEC = EncoderSpec(arguments={"widths": [8, 16], "strides": [1, 2]}, pool=2)
ALL = ["label", "digit", "size"]
NAMES = ["nought", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
COUNT = 900


@pytest.fixture(scope="session")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits with their class, what may be said of them (even, large), and how large; a third lacks each of these."""
    folder = tmp_path_factory.mktemp("digits")
    images, digits = load_digits(return_X_y=True)
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "split", "label", "digit", "size", "group_of"])
        for number, (pixels, digit) in enumerate(zip(images[:COUNT], digits[:COUNT].tolist(), strict=True)):
            Image.fromarray((pixels.reshape(8, 8) * 15).astype(np.uint8)).save(folder / f"{number}.png")
            split = "test" if number >= 700 else ""
            said = json.dumps(["even"] * (digit % 2 == 0) + ["large"] * (digit > 4))
            told = [said, NAMES[digit], str(digit + 0.5)]
            if not split:
                told[number % 3] = ""
            writer.writerow([f"{number}.png", split, *told, "abc"[number % 3]])
    return folder / "manifest.csv"


def read(manifest: Path) -> ImageDataModule:
    return ImageDataModule(str(manifest), batch_size=64)


LINEAR, TUNED = (0.7, 0.85, 0.3), (0.85, 0.9, 0.55)  # what random features read linearly give, and learnt ones


def good(metrics: dict[str, Any], floors: tuple[float, float, float]) -> bool:
    """Accuracy, mean average precision and R² above these; chance and the mean would give 0.1, 0.5 and 0."""
    learnt = (metrics["test/digit/accuracy"], metrics["test/label/mean_average_precision"], metrics["test/size/r2"])
    assert metrics["test/score"] == pytest.approx(sum(learnt) / 3, abs=1e-5)
    return all(value > floor for value, floor in zip(learnt, floors, strict=True))


@pytest.fixture(scope="module")
def solved(manifest: Path, encoder_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    path = tmp_path_factory.mktemp("solved") / "run"
    run = running.fit(Classifier(str(encoder_folder), targets=list(ALL)), read(manifest), path, **OPTIONS)
    running.test(Classifier(str(encoder_folder)), read(manifest), run.path)
    return run


def test_heads_of_several_targets_are_solved(solved: RunFolder) -> None:
    metrics = solved.metrics()
    assert good(metrics, LINEAR) and metrics["images_seen"] > 0 and "val/score" in metrics
    assert metrics["test/digit/accuracy_low"] < metrics["test/digit/accuracy"] < metrics["test/digit/accuracy_high"]
    assert 1.5 < metrics["test/size/root_mean_squared_error"] < 2.5  # in the unit of the numbers


def test_the_model_folder_tells_each_target(solved: RunFolder, manifest: Path) -> None:
    model, data = load_model(solved.model), read(manifest)
    data.setup()
    rows = data.indices("test")
    found = model.predict(torch.from_numpy(data.images(rows))).targets
    columns = data.columns(rows)
    assert np.mean([a == b for a, b in zip(found["digit"].told, columns["digit"], strict=True)]) == pytest.approx(
        solved.metrics()["test/digit/accuracy"], abs=1e-6
    )
    errors = np.abs(np.array(found["size"].told) - np.array(columns["size"]))
    assert errors.mean() == pytest.approx(solved.metrics()["test/size/mean_absolute_error"], abs=1e-4)
    assert set(found["label"].told[0]) <= {"even", "large"} and found["label"].scores.shape == (len(rows), 2)
    assert model.classes == [] and "size (a number)" in model.card("model")
    config = json.loads((solved.model / "config.json").read_text())
    assert [target["kind"] for target in config["targets"]] == ["multi_label", "class", "regression"]


def test_predictions_have_columns_for_each_target(solved: RunFolder, manifest: Path) -> None:
    """Of images without any label too."""
    data = read(manifest)
    data.setup()
    np.save(solved.path / "images.npy", data.images(data.indices("test"))[:, 0])
    path = running.predict(Classifier(SPEC), ImageDataModule(str(solved.path / "images.npy")), solved.path)
    table = pq.read_table(path)
    assert table.column_names == ["path", "split", "label", "label_scores", "digit", "digit_scores", "size"]
    expected = load_model(solved.model).predict(torch.from_numpy(data.images(data.indices("test")))).targets
    for name in ALL:
        np.testing.assert_equal(table[name].to_pylist(), expected[name].told) if name != "size" else None
    np.testing.assert_allclose(table["size"].to_numpy(), expected["size"].told, rtol=1e-5)
    np.testing.assert_allclose(np.stack(table["digit_scores"].to_numpy()), expected["digit"].scores, atol=1e-6)
    assert table.schema.metadata[b"label_classes"] == b"even\nlarge"


@pytest.mark.parametrize(
    ("tuning", "lr", "floors"),
    [
        (Full(encoder_lr=1.0), 1e-2, TUNED),
        (LinearThenFull(batch_norm="frozen"), 1e-3, LINEAR),
        (Frozen(solve=False), 5e-2, LINEAR),
    ],
    ids=["full", "linear_then_full", "frozen"],
)
def test_several_targets_are_learnt_by_gradient(
    tuning: Any, lr: float, floors: tuple[float, float, float], manifest: Path, encoder_folder: Path, tmp_path: Path
) -> None:
    module = Classifier(str(encoder_folder), tuning=tuning, optimisation=Optimisation(lr=lr), targets=list(ALL))
    run = running.fit(module, read(manifest), tmp_path / "run", max_epochs=15, **OPTIONS)
    metrics = run.metrics()
    assert metrics["best_by"] == "val/score" and metrics["checkpoint"] == "checkpoints/best.ckpt"
    assert good(running.test(Classifier(str(encoder_folder), tuning=tuning), read(manifest), run.path), floors)


@pytest.mark.parametrize("options", [{"mixup": 0.3}, {"label_smoothing": 0.1, "class_weights": "balanced"}])
def test_training_options_suit_every_target(options: dict[str, Any], manifest: Path, tmp_path: Path) -> None:
    module = Classifier(
        SPEC, tuning=Scratch(), optimisation=Optimisation(lr=1e-2), targets=list(ALL), weight_average=0.9, **options
    )
    run = running.fit(module, read(manifest), tmp_path / "run", max_epochs=15, **OPTIONS)
    assert good(running.test(Classifier(SPEC, tuning=Scratch()), read(manifest), run.path), TUNED)


def test_an_image_teaches_what_it_has(manifest: Path) -> None:
    """The gradient of a head's rows comes from the images that have their target alone."""
    data = read(manifest)
    data.setup()
    module = Classifier(SPEC, tuning=Scratch(), targets=list(ALL))
    module.trainer = type("Trainer", (), {"datamodule": data})()
    module.configure_model()
    module._read_values()
    batch = next(iter(data.loader("train")))
    values = module._values(batch)
    assert not module.targets.present(values).all() and module.targets.present(values).any(1).all()
    without = [own.clone() for own in values]
    without[2][:] = float("nan")  # no number at all
    keep = torch.ones(len(batch.index), dtype=torch.bool)
    losses, fewer = (module._losses(batch, keep, each).detach() for each in (values, without))
    torch.testing.assert_close(losses[:2], fewer[:2])
    assert float(fewer[2]) == 0.0 < float(losses[2])


def test_one_column_is_one_target(manifest: Path, encoder_folder: Path, tmp_path: Path) -> None:
    """With plain names of figures and columns, whatever its kind."""
    for target, figure in (("size", "r2"), ("digit", "accuracy"), ("label", "mean_average_precision")):
        module = Classifier(str(encoder_folder), targets=[target])
        run = running.fit(module, read(manifest), tmp_path / target, **OPTIONS)
        metrics = running.test(Classifier(str(encoder_folder)), read(manifest), run.path)
        assert metrics[f"test/{figure}"] > 0.3 and metrics[f"val/{figure}"] > 0.3 and module.l2 > 0
        table = pq.read_table(running.predict(Classifier(SPEC), read(manifest), run.path))
        assert table.column_names == ["path", "split", "prediction"] + ["scores"] * (target != "size")
        found = load_model(run.model).predict(torch.zeros(2, 1, 8, 8))
        assert len(found.labels if target == "digit" else found.targets[target].told) == 2


def test_a_source_of_numbers_needs_no_choice(tmp_path: Path, encoder_folder: Path, digits: ImageDataModule) -> None:
    images, targets = digits.images(digits.indices("all"))[:400, 0], digits.table.targets[:400]
    np.savez(tmp_path / "numbers.npz", images=images, labels=targets + 0.25)
    data = ImageDataModule(str(tmp_path / "numbers.npz"), test_fraction=0.3, batch_size=64)
    run = running.fit(Classifier(str(encoder_folder)), data, tmp_path / "run", **OPTIONS)
    assert running.test(Classifier(str(encoder_folder)), data, run.path)["test/r2"] > 0.4
    module = Classifier(SPEC, tuning=Scratch(), optimisation=Optimisation(lr=1e-2))
    run = running.fit(module, data, tmp_path / "scratch", max_epochs=12, **OPTIONS)
    assert run.metrics()["best_by"] == "val/r2"
    assert running.test(Classifier(SPEC, tuning=Scratch()), data, run.path)["test/r2"] > 0.6
    assert "test/r2" in run.metrics() and run.summary.exists()


def test_through_the_command_line(
    manifest: Path, encoder_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = "[label, {column: digit, weight: 2}, {column: size, kind: regression}]"
    common = ["--model", "Classifier", "--model.encoder", str(encoder_folder), "--data.source", str(manifest)]
    common += ["--trainer.default_root_dir", str(tmp_path / "run"), "--trainer.enable_progress_bar", "false"]
    assert main(["fit", *common, "--model.targets", chosen]) == 0
    assert main(["test", *common, "--model.targets", chosen]) == 0
    assert good(RunFolder(tmp_path / "run").metrics(), LINEAR)
    capsys.readouterr()
    assert main(["predict", *common]) == 0
    assert pq.read_table(RunFolder(tmp_path / "run").predictions)["digit"].to_pylist()[0] in NAMES
    tuned = ["--model.tuning", "Full", "--model.targets", chosen, "--trainer.max_epochs", "1", "--overwrite"]
    assert main(["fit", *common, *tuned]) == 0
    assert main(["fit", "--config", str(tmp_path / "run" / "config.yaml"), "--overwrite"]) == 0


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        ("[colour]", "model.targets names 'colour' and data.source"),
        ("[]", "model.targets is empty"),
        ("[size, size]", "names 'size' 2 times"),
        (
            "[{column: size, kind: number}]",
            "--model.targets.kind must be class, multi_label, regression or null, not 'number'",
        ),
        ("[{columns: size}]", "model.targets"),
        ("size", "--model.targets must be"),
        ("[{column: size, weight: -1}]", "the weight of 'size' must be above 0, not -1"),
        ("[{column: digit, kind: regression}]", "target 'digit' cannot be regression: its column holds 'eight'"),
    ],
)
def test_mistakes(targets: str, words: str, manifest: Path, tmp_path: Path, mistake: Callable[..., str]) -> None:
    given = ["--model", "Classifier", "--data.source", str(manifest), "--model.targets", targets]
    error = mistake("fit", *given, "--trainer.default_root_dir", str(tmp_path), "--trainer.enable_progress_bar=false")
    assert words in error


def test_options_for_classes_are_refused_for_numbers(manifest: Path, tmp_path: Path) -> None:
    for option in ({"label_smoothing": 0.1}, {"class_weights": "balanced"}):
        module = Classifier(SPEC, tuning=Scratch(), targets=["size"], **option)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=f"model.{next(iter(option))} is for classes and labels"):
            running.fit(module, read(manifest), tmp_path / "run", **OPTIONS)


def test_another_source_is_read_by_the_fit_s_names(solved: RunFolder, manifest: Path, tmp_path: Path) -> None:
    """With fewer classes, and one that nobody knows."""
    rows = list(csv.DictReader(manifest.read_text().splitlines()))
    for name, keep in (("few", ("one", "seven")), ("odd", ("one", "dozen"))):
        chosen = [row | {"path": str(manifest.parent / row["path"])} for row in rows if row["digit"] in keep]
        if name == "odd":
            chosen = [*chosen, chosen[0] | {"path": str(manifest.parent / "899.png"), "digit": "dozen"}]
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(chosen)
    metrics = running.test(Classifier(SPEC), read(tmp_path / "few.csv"), solved.path)
    assert metrics["test/digit/accuracy"] > 0.8
    with pytest.raises(ValueError, match="target 'digit' has 'dozen' here and had no such class in the fit"):
        running.test(Classifier(SPEC), read(tmp_path / "odd.csv"), solved.path)


def test_a_target_with_a_weight_counts_by_it() -> None:
    assert Classifier(SPEC, targets=["a", Target("b", weight=2.0)]).chosen_targets[0] == ["a", Target("b", weight=2.0)]
