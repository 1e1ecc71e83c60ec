"""The pieces of a grid against direct computation: features, readings, networks, the record and the forecast."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torchmetrics.classification import MulticlassCalibrationError

from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.data.views import Views
from ssl_transfer.downstream import Classifier, Frozen, Full
from ssl_transfer.downstream.tuning import LinearThenFull, LoRA, Scratch
from ssl_transfer.encoders import EncoderSpec, load_encoder, save_encoder
from ssl_transfer.evaluation.evidence import Trial, unpack
from ssl_transfer.evaluation.floors import encode_all, few_label_accuracies, random_encoder
from ssl_transfer.evaluation.probes import accuracy, knn_scores
from ssl_transfer.running.evidence import features
from ssl_transfer.running.evidence.asked import label_budgets, named_encoders, tunings
from ssl_transfer.running.evidence.features import FeatureFiles
from ssl_transfer.running.evidence.grid import Cell, Grid
from ssl_transfer.running.evidence.record import Record
from ssl_transfer.running.evidence.run import forecast, measure
from ssl_transfer.running.evidence.write import results_of
from ssl_transfer.running.folder import RunFolder
from ssl_transfer.running.recipes import recipe_for
from ssl_transfer.running.trial import scores_of, trial

VIEWS = Views(horizontal_flip=0.0)


@pytest.fixture
def grid(digits: ImageDataModule, pretrained: RunFolder, tmp_path: Path) -> Grid:
    encoders = {"simclr": pretrained.encoder}
    strategies = {"Frozen": Frozen(), "Full": Full(), "Frozen(l2=0.1)": Frozen(l2=0.1)}
    return Grid(digits, encoders, strategies, [2, None], 2, tmp_path / "features", VIEWS, steps=4)


def _trial(grid: Grid, method: str, budget: int | None, seed: int = 1) -> Trial:
    chosen = next(one for one in grid.methods if one.name == method)
    return grid.measure(Cell(chosen, budget, seed), [])


def test_probes_are_what_direct_computation_gives(grid: Grid, digits: ImageDataModule, pretrained: RunFolder) -> None:
    encoded = encode_all(load_encoder(pretrained.encoder), digits)
    assert _trial(grid, "Linear", 2).accuracy == pytest.approx(few_label_accuracies(encoded, digits, 2, [1])[0])
    train, test = digits.few(2, 1).indices("train"), digits.indices("test")
    scores = knn_scores(encoded.features[train], encoded.targets[train], encoded.features[test], 10)
    found = _trial(grid, "kNN", 2)
    assert found.accuracy == pytest.approx(accuracy(scores, encoded.targets[test])) and found.labels == 20
    expected = MulticlassCalibrationError(10, n_bins=15)(scores, encoded.targets[test])
    assert found.calibration_error == pytest.approx(float(expected), abs=1e-6)
    assert found.right is not None and unpack(found.right).mean() == pytest.approx(found.accuracy)
    assert unpack(found.right).tolist() == (scores.argmax(1) == encoded.targets[test]).tolist()


def test_a_network_learns_as_its_recipe_says(grid: Grid, digits: ImageDataModule, pretrained: RunFolder) -> None:
    few, recipe = digits.few(2, 1), recipe_for(Full(), 20)
    assert recipe.batch_size == 20 and recipe.steps >= 100
    given = {"optimisation": recipe.optimisation, "views": VIEWS, **recipe.options}
    module = Classifier(str(pretrained.encoder), tuning=Full(), **given)
    trial(module, few, steps=4, batch_size=20, seed=1)
    assert _trial(grid, "Full", 2).accuracy == accuracy(*scores_of(module, few, "test"))
    assert 0 < _trial(grid, "Frozen(l2=0.1)", 2).accuracy <= 1  # solves its head: neither views nor steps


def test_all_learn_at_one_rate() -> None:
    for tuning in (Scratch(), Full(encoder_lr=0.1), LinearThenFull(encoder_lr=0.1, head_lr=0.2), LoRA()):
        rate = recipe_for(tuning, 100).optimisation.lr
        assert max(tuning.encoder_lr, tuning.head_lr) * rate == pytest.approx(3e-3)


def test_large_budgets_get_more_steps() -> None:
    steps = [recipe_for(Full(), labels).steps for labels in (10, 100, 1_000, 10_000, 60_000)]
    assert steps == sorted(steps) and steps[-1] > steps[0]


def test_features_are_made_once(digits: ImageDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = digits.indices("val")
    files = FeatureFiles(tmp_path, digits, rows, torch.device("cpu"))
    pixels, components = files.pixels(), files.components()
    flat = torch.from_numpy(digits.images(rows)).flatten(1) / 255
    assert torch.equal(pixels.features, flat) and torch.equal(pixels.at(rows[2:4]), flat[2:4])
    pca = PCA(0.95).fit(digits.images(digits.indices("train")).reshape(-1, 64) / 255.0)
    assert np.allclose(components.features.abs(), np.abs(pca.transform(flat.numpy())), atol=1e-4)
    asked = []
    make = features.pixel_features
    monkeypatch.setattr(features, "pixel_features", lambda data, rows: (asked.append(len(rows)), make(data, rows))[1])
    again = FeatureFiles(tmp_path, digits, rows[:5], torch.device("cpu")).pixels()  # fewer will do
    assert torch.equal(again.at(rows[:5]), flat[:5]) and again.seconds == pixels.seconds and not asked
    more = np.append(rows, digits.indices("test")[:7])
    grown = FeatureFiles(tmp_path, digits, more, torch.device("cpu"))
    assert torch.equal(grown.pixels().at(np.sort(more)), make(digits, np.sort(more))) and asked == [7]
    assert grown.pixels() is grown.pixels()


def test_the_forecast_knows_seeds_and_images() -> None:
    def done(method: str, budget: int, seed: int, seconds: float) -> Trial:
        return Trial("", method, "ours", budget, budget, seed, 0.5, None, 0.0, seconds)

    work = {
        ("", m, b, s): float(100 * b if m == "net" else 0) for m in ("net", "probe") for b in (1, 3) for s in (0, 1)
    }
    assert forecast([("", "net", 1, 0)], [], work) is None
    known = [done("net", 1, 0, 2.0), done("probe", 1, 0, 0.5)]
    assert forecast([("", "net", 1, 1)], known, work) == 2.0  # as with the other seed
    assert forecast([("", "net", 3, 0), ("", "probe", 1, 1)], known, work) == 6.0 + 0.5  # three times the images


def test_what_is_to_come_is_said(grid: Grid, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid.tunings, grid.budgets, grid.seeds = {}, [2], 1
    record = Record(tmp_path / "out", "out")
    record.claim(grid.settings(), overwrite=False)
    measure(grid, record)
    lines = capsys.readouterr().out.splitlines()
    seen = 4 * recipe_for(Scratch(), 20).batch_size
    assert lines[0] == f"6 trials to measure, 1 of them fits of a network, which see {seen} images while they learn"
    assert len(lines) == 7 and lines[-1].startswith("6 of 6: From scratch, 2 a class, seed 0: ")
    measure(replace(grid, seeds=2), record)
    assert "; 6 of 12 are there already" in capsys.readouterr().out


def test_a_seed_draws_the_weights_of_the_random_encoder(grid: Grid, digits: ImageDataModule) -> None:
    spec = load_encoder(grid.encoders["simclr"]).spec
    for seed in (0, 1):
        encoded = encode_all(random_encoder(digits, spec, seed), digits)
        expected = few_label_accuracies(encoded, digits, 2, [seed])[0]
        assert _trial(grid, "Random encoder", 2, seed).accuracy == pytest.approx(expected)
    known = [_trial(grid, "Random encoder", None, 0)]
    random = next(one for one in grid.methods if one.name == "Random encoder")
    assert grid.measure(Cell(random, None, 1), known).right != known[0].right


def test_floors_of_another_architecture_are_not_taken_over(grid: Grid, tmp_path: Path) -> None:
    record = Record(tmp_path / "out", "out")
    record.claim(grid.settings(), overwrite=False)
    spec = EncoderSpec(arguments={"widths": [8, 8], "strides": [1, 2]}, pool=2)
    other = save_encoder(random_encoder(grid.data, spec), tmp_path / "b", objective="SimCLR", data={})
    alone = replace(grid, encoders={"b": other}).settings()
    with pytest.raises(ValueError, match=r"other settings \(architecture of the floors\)"):
        record.claim(alone, overwrite=False)
    record.claim(replace(grid, encoders=grid.encoders | {"b": other}).settings(), overwrite=False)


def test_steps_are_not_mixed_in_one_record(grid: Grid, tmp_path: Path) -> None:
    record = Record(tmp_path / "out", "out")
    record.claim(replace(grid, budgets=[2]).settings(), overwrite=False)
    with pytest.raises(ValueError, match=r"other settings \(steps\)"):
        record.claim(replace(grid, budgets=[5], steps=None).settings(), overwrite=False)


@pytest.mark.parametrize(("objective", "doubted"), [("SimCLR", False), ("Classifier", True), ("Partial(1)", True)])
def test_an_encoder_that_learned_from_labels_is_named(
    objective: str, doubted: bool, grid: Grid, pretrained: RunFolder
) -> None:
    file = pretrained.encoder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"objective": objective}))
    found = results_of(grid, [], "")
    assert bool(found.doubts) == doubted
    assert any("as many steps as a tuning strategy" in note for note in found.notes)
    if doubted:
        assert f"simclr was trained WITH labels ({objective} on digits)" in found.doubts[0]
        assert "more labels of this source than a budget counts" in found.doubts[0]


def test_a_record_is_never_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = Record(tmp_path / "out", "out")
    record.claim({"a": 1}, overwrite=False)
    record.append(Trial("a", "kNN", "ours", 1, 2, 0, 0.5, None, 0.1, 0.2))
    before = (record.folder / "trials.jsonl").stat()
    record.trials()
    after = (record.folder / "trials.jsonl").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns), "rewritten without need"
    (record.folder / ".DS_Store").touch()
    record.check()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with (record.folder / "trials.jsonl").open("a") as file:
        file.write("{")
    monkeypatch.setattr(Path, "replace", killed)
    for write in (record.trials, lambda: record.claim({"a": 1, "b": 2}, overwrite=False)):
        with pytest.raises(KeyboardInterrupt):
            write()
    monkeypatch.undo()
    assert json.loads((record.folder / "settings.json").read_text()) == {"a": 1} and len(record.trials()) == 1


def test_the_record_drops_half_a_line_and_keeps_its_settings(tmp_path: Path) -> None:
    record = Record(tmp_path / "out", "out")
    record.claim({"views": None, "encoders": {"a": "1"}}, overwrite=False)
    one = Trial("a", "kNN", "ours", 1, 2, 0, 0.5, None, 0.1, 0.2)
    record.append(one)
    with (record.folder / "trials.jsonl").open("a") as file:
        file.write('{"encoder": "b"')
    assert record.trials() == [one]
    record.append(one)
    assert record.trials() == [one, one]
    record.claim({"views": None, "encoders": {"b": "2"}}, overwrite=False)
    with pytest.raises(ValueError, match=r"--out out was measured with other settings \(encoders of a\)"):
        record.claim({"views": None, "encoders": {"a": "3"}}, overwrite=False)
    record.claim({"views": {"rotate": 1.0}, "encoders": {"a": "3"}}, overwrite=True)
    assert record.trials() == []


def test_long_tails_can_be_asked_for_all(digits: ImageDataModule) -> None:
    targets = digits.table.targets[digits.indices("train")]
    rows = digits.indices("train")
    rare = digits.with_train(np.concatenate([rows[targets != 9], rows[targets == 9][:3]]))
    assert label_budgets(None, rare) == [1, None]
    none = digits.with_train(rows[targets != 9])
    with pytest.raises(ValueError, match="class 9 of digits has no labelled training image: label some, or leave the"):
        label_budgets("all", none)
    test = none.indices("test")
    none = none._with_rows("test", test[none.table.targets[test] != 9])
    assert label_budgets("all", none) == label_budgets(None, none) == [None]
    with pytest.raises(ValueError, match=r"class 9 of digits has no labelled .* or give --budgets all"):
        label_budgets("1,all", none)
    even = digits.with_train(np.concatenate([rows[targets == k][:5] for k in range(10)]))
    assert label_budgets("1,5,all", even) == label_budgets(None, even) == [1, None]
    assert label_budgets("1,5", even) == [1, 5]


def test_what_is_asked_for(digits: ImageDataModule) -> None:
    assert label_budgets("[10, 1,all,10]", digits) == [1, 10, None]
    assert label_budgets(None, digits) == [1, 5, 10, 50, 100, None]
    assert list(named_encoders("a/x/encoder,b/x/encoder")) == ["a/x", "b/x"]
    assert tunings("Full, Full( encoder_lr = 0.5 )")["Full(encoder_lr=0.5)"].encoder_lr == 0.5
    for wrong in ("Full(**{'a': 1})", "Full('a')", "LoRA(2.5)", "Partial(layers=[1])", "Full(*[1])"):
        with pytest.raises(ValueError, match="give names such as Full,LinearThenFull"):
            tunings(wrong)
    assert tunings("[Frozen]").keys() == {"Frozen"} and tunings("") == {}
