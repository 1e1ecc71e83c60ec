"""`fit`, `test` and `predict` from a notebook: what they write, what they refuse, and what survives a failure."""

from __future__ import annotations

import csv
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
import yaml

from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.downstream import Classifier, Frozen, Scratch, load_model
from ssl_transfer.encoders import EncoderSpec, load_encoder
from ssl_transfer.pretraining import Autoencoder, SimCLR
from ssl_transfer.running import fit as running
from ssl_transfer.running.folder import RunFolder

Contents = Callable[[Path], dict[str, bytes]]
Make = Callable[[], SimCLR]
QUIET = {"enable_progress_bar": False, "verbose": False}
SPEC = EncoderSpec(arguments={"widths": [8, 16], "strides": [1, 2]}, pool=2)


def test_three_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The notebook of the README, on digits."""
    data = ImageDataModule("digits", batch_size=256)
    first = running.fit(SimCLR(SPEC), data, tmp_path / "a", max_epochs=1)
    second = running.fit(
        Classifier(encoder=str(first.encoder), tuning=Frozen()), ImageDataModule("digits"), tmp_path / "b"
    )
    assert load_encoder(first.encoder).feature_dim == 64 and load_model(second.model).classes[3] == "3"
    told = capsys.readouterr().out
    assert "SimCLR on digits (1,132 train, 126 val, 539 test; 1×8×8)" in told and str(tmp_path / "b") in told


def test_what_pretraining_writes(pretrained: RunFolder) -> None:
    names = {path.name for path in pretrained.path.iterdir()}
    assert names == {"encoder", "checkpoints", "metrics.json", "config.yaml", "summary.html", "logs"}
    assert sorted(path.name for path in pretrained.checkpoints.iterdir()) == ["best.ckpt", "last.ckpt"]
    assert any(path.name.startswith("events.out.tfevents") for path in pretrained.logs.iterdir())
    metrics = pretrained.metrics()
    assert metrics["seed"] == 0 and metrics["images_seen"] == 2 * 8 * 128 and metrics["wall_seconds"] > 0
    assert metrics["peak_memory_bytes"] > 1e7 and metrics["checkpoint"] == "checkpoints/best.ckpt"
    assert metrics["checkpoint_last"] == "checkpoints/last.ckpt" and metrics["best_by"] == "val/loss"
    assert metrics["rejected_images"] == [] and isinstance(metrics["warnings"], list)
    for name, value in metrics.items():
        flat = isinstance(value, int | float | str | list)
        assert flat and ("/" not in name or name.split("/")[0] in ("train", "val", "test"))


def test_what_a_downstream_fit_writes(classified: RunFolder) -> None:
    names = {path.name for path in classified.path.iterdir()}
    assert names == {"model", "checkpoints", "metrics.json", "config.yaml", "summary.html", "logs"}
    assert classified.metrics()["val/accuracy"] > 0.5


def test_the_curves(pretrained: RunFolder) -> None:
    with (pretrained.logs / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1.0", "2.0"]
    read = {"rankme", "feature_std", "alignment", "uniformity", "view_difference", "linear_accuracy", "knn_accuracy"}
    pace = {"images_per_second", "data_wait_share", "gradient_norm"}
    expected = {"epoch", "seconds", "val/loss", "val/knn_accuracy_raw_pixels", *(f"val/{name}" for name in read)}
    assert set(rows[0]) == expected | {"train/loss", *(f"train/{name}" for name in pace)}
    assert float(rows[0]["seconds"]) < float(rows[1]["seconds"])
    assert pretrained.metrics()["train/loss"] == pytest.approx(float(rows[1]["train/loss"]), abs=1e-6)


def test_the_training_loss_is_the_mean_over_the_epoch(digits: ImageDataModule, tmp_path: Path) -> None:
    seen: list[tuple[float, int]] = []

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, outputs, batch, i: int) -> None:  # type: ignore[no-untyped-def]
            seen.append((outputs["loss"].item(), len(batch.index)))

    module = Autoencoder(SPEC, bottleneck=4)
    run = running.fit(module, digits, tmp_path / "run", max_epochs=1, callbacks=[Watch()], **QUIET)
    mean = sum(loss * count for loss, count in seen) / sum(count for _, count in seen)
    assert run.metrics()["train/loss"] == pytest.approx(mean, abs=2e-6)
    assert len(seen) == 8


def test_the_summary_needs_no_network(pretrained: RunFolder) -> None:
    page = pretrained.summary.read_text(encoding="utf-8")
    assert page.startswith("<!") and "SimCLR on digits" in page
    loaded = re.findall(r"""(?:src|href)\s*=\s*["']?([^"'\s>]+)|url\(\s*["']?([^"')]+)|@import\s+["']([^"']+)""", page)
    links = [link for group in loaded for link in group if link]
    assert all(link.startswith(("data:", "#")) for link in links)


def test_the_configuration_tells_everything(pretrained: RunFolder) -> None:
    config = yaml.safe_load(pretrained.config.read_text())
    assert config["seed_everything"] == 0 and config["trainer"]["max_epochs"] == 2
    assert config["model"]["class_path"].endswith("SimCLR")
    assert config["model"]["init_args"]["encoder"]["arguments"] == {"widths": [8, 16], "strides": [1, 2]}
    assert config["data"]["init_args"]["source"] == "digits"


def test_a_used_folder_is_refused_and_stays(
    pretrained: RunFolder, digits: ImageDataModule, simclr: Make, contents: Contents
) -> None:
    before = contents(pretrained.path)
    with pytest.raises(ValueError, match="already holds a run"):
        running.fit(simclr(), digits, pretrained.path, max_epochs=1, **QUIET)
    assert contents(pretrained.path) == before


def test_overwriting(pretrained: RunFolder, digits: ImageDataModule, simclr: Make, contents: Contents) -> None:
    before = contents(pretrained.path)
    running.fit(simclr(), digits, pretrained.path, max_epochs=1, seed=5, overwrite=True, **QUIET)
    after = contents(pretrained.path)
    assert pretrained.metrics()["seed"] == 5 and len(list(pretrained.logs.glob("events*"))) == 1
    assert before["encoder/model.safetensors"] != after["encoder/model.safetensors"]
    assert not any(name.startswith(".") for name in after)


@pytest.mark.parametrize("mistake", ["source", "encoder", "labels"])
@pytest.mark.parametrize("overwrite", [True, False])
def test_a_fit_that_fails_at_once_leaves_the_old_run(
    mistake: str, overwrite: bool, pretrained: RunFolder, simclr: Make, contents: Contents, tmp_path: Path, photos: Path
) -> None:
    before = contents(pretrained.path)
    module: pl.LightningModule = simclr()
    data = ImageDataModule("digits")
    if mistake == "source":
        data = ImageDataModule(str(tmp_path / "nowhere"))
    elif mistake == "encoder":
        module = SimCLR("resnt18")
    else:
        (photos / "bee").rename(photos / "test")
        (photos / "ant").rename(photos / "train")
        module, data = Classifier(SPEC), ImageDataModule(str(photos), size=16)
    with pytest.raises(ValueError):
        running.fit(module, data, pretrained.path, overwrite=overwrite, max_epochs=1, **QUIET)
    assert contents(pretrained.path) == before


def test_overwriting_the_run_whose_encoder_is_to_be_used(
    pretrained: RunFolder, digits: ImageDataModule, contents: Contents
) -> None:
    before = contents(pretrained.path)
    with pytest.raises(ValueError, match="encoder"):
        running.fit(Classifier(str(pretrained.encoder)), digits, pretrained.path, overwrite=True, **QUIET)
    assert contents(pretrained.path) == before


def test_callbacks_and_trainer_options_pass_through(digits: ImageDataModule, simclr: Make, tmp_path: Path) -> None:
    epochs = []

    class Count(pl.Callback):
        def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
            epochs.append(trainer.current_epoch)

    run = running.fit(
        simclr(), digits, tmp_path / "run", max_epochs=3, callbacks=[Count()], limit_train_batches=1, **QUIET
    )
    assert epochs == [0, 1, 2] and run.metrics()["images_seen"] == 3 * 128
    assert "Count" in run.config.read_text()


def test_testing_what_was_never_fitted(digits: ImageDataModule, tmp_path: Path) -> None:
    for function in (running.test, running.predict):
        with pytest.raises(ValueError, match="holds no finished fit"):
            function(Classifier(SPEC), digits, tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_testing_with_another_network_or_a_damaged_checkpoint(classified: RunFolder, digits: ImageDataModule) -> None:
    other = EncoderSpec(arguments={"widths": [8, 32], "strides": [1, 2]})
    with pytest.raises(ValueError, match=r"holds another network than these arguments describe.*config\.yaml"):
        running.test(Classifier(other, tuning=Scratch()), digits, classified.path)
    checkpoint = classified.fitted_checkpoint()
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"last\.ckpt is damaged"):
        running.test(Classifier(SPEC), digits, classified.path)


def test_a_checkpoint_that_would_run_code_is_not_loaded(classified: RunFolder, digits: ImageDataModule) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (classified.path / "owned",))  # type: ignore[return-value]

    torch.save({"state_dict": {}, "classes": [], "evil": Evil()}, classified.fitted_checkpoint())
    with pytest.raises(ValueError, match="damaged or no checkpoint"):
        running.test(Classifier(SPEC), digits, classified.path)
    assert not (classified.path / "owned").exists()


def test_testing_a_pretraining_run_as_a_classifier(pretrained: RunFolder, digits: ImageDataModule) -> None:
    with pytest.raises(ValueError, match="not written by the fit of a Classifier"):
        running.test(Classifier(SPEC), digits, pretrained.path)


def test_the_test_figures_join_the_others(classified: RunFolder, digits: ImageDataModule) -> None:
    before = classified.metrics()
    after = running.test(Classifier(SPEC), digits, classified.path)
    assert classified.metrics() == after and before.items() <= after.items()
    assert after["test/accuracy_low"] < after["test/accuracy"] < after["test/accuracy_high"]
    assert f"{after['test/accuracy']:.2f}"[1:] in classified.summary.read_text(encoding="utf-8")


def test_unreadable_images_are_recorded(photos: Path, tmp_path: Path) -> None:
    (photos / "ant" / "broken.png").write_bytes(b"")
    data = ImageDataModule(str(photos), size=16, on_bad_image="skip")
    module = SimCLR(EncoderSpec(arguments={"widths": [8], "strides": [2]}))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*unreadable images are left out")
        run = running.fit(module, data, tmp_path / "run", max_epochs=1, **QUIET)
    [entry] = run.metrics()["rejected_images"]
    assert "broken.png" in entry and "broken.png" in run.summary.read_text(encoding="utf-8")
