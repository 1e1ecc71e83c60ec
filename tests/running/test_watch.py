"""Never blind: speed and gradients, warnings in plain words, pictures, and a stop before anything good is lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ssl_transfer.data.loader import BatchLoader
from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.downstream import Classifier
from ssl_transfer.encoders import EncoderSpec, load_encoder
from ssl_transfer.optimisation import Optimisation
from ssl_transfer.pretraining import Autoencoder, DenoisingAutoencoder, SimCLR
from ssl_transfer.pretraining.monitor import Monitor
from ssl_transfer.running.fit import fit
from ssl_transfer.running.folder import RunFolder
from ssl_transfer.running.recorder import RunCheckpoint
from ssl_transfer.running.summary import read_curves, two_directions
from ssl_transfer.running.watch import Watch

SPEC = EncoderSpec(arguments={"widths": [8, 16], "strides": [1, 2]}, pool=2)
QUIET: dict[str, Any] = {"enable_progress_bar": False, "verbose": False}


def test_a_collapse_is_named(digits: ImageDataModule, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A learning rate far too high: one image's features are as good as another's."""
    module = SimCLR(optimisation=Optimisation(lr=100.0))
    run = fit(module, digits, tmp_path / "run", max_epochs=2, **QUIET)
    told = capsys.readouterr().out
    assert "warning, epoch 1: the encoder has collapsed" in told and "lower --model.optimisation.lr" in told
    assert told.count("has collapsed") == 1
    assert any("collapsed" in warning for warning in run.metrics()["warnings"])
    assert "the encoder has collapsed" in run.summary.read_text(encoding="utf-8")
    assert "warnings/text_summary" in events(run).Tags()["tensors"]


def test_an_absurd_temperature_is_named(digits: ImageDataModule, tmp_path: Path) -> None:
    run = fit(SimCLR(SPEC, temperature=100.0), digits, tmp_path / "run", max_epochs=1, **QUIET)
    assert any("the loss is saturated" in warning for warning in run.metrics()["warnings"])


def test_waiting_for_images_is_named(digits: ImageDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    gather, last = BatchLoader.gather, [time.perf_counter()]

    def slow(loader: BatchLoader, rows: Any) -> Any:
        time.sleep(max(0.3, 2 * (time.perf_counter() - last[0])))  # longer than a step, on a busy machine too
        batch = gather(loader, rows)
        last[0] = time.perf_counter()
        return batch

    monkeypatch.setattr(BatchLoader, "gather", slow)
    run = fit(Autoencoder(SPEC, bottleneck=4), digits, tmp_path / "run", max_epochs=1, **QUIET)
    assert run.metrics()["train/data_wait_share"] > 0.3
    assert any("training waits for images" in warning for warning in run.metrics()["warnings"])


def test_the_gradient_s_norm(digits: ImageDataModule, tmp_path: Path) -> None:
    """The mean over the steps, from the gradients themselves."""
    norms: list[float] = []

    class Look(pl.Callback):
        def on_after_backward(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
            squares = [float(p.grad.double().square().sum()) for p in module.parameters() if p.grad is not None]
            norms.append(sum(squares) ** 0.5)

    run = fit(SimCLR(SPEC), digits, tmp_path / "run", max_epochs=1, callbacks=[Look()], **QUIET)
    assert run.metrics()["train/gradient_norm"] == pytest.approx(sum(norms) / len(norms), rel=1e-4)
    assert run.metrics()["train/images_per_second"] > 0


def poison(module: pl.LightningModule, step: int) -> pl.Callback:
    class Poison(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            if trainer.global_step == step:
                next(module.parameters()).data.fill_(float("nan"))

    return Poison()


@pytest.mark.parametrize("step", [12, 16])  # in the middle of the second epoch, and after its last step
def test_nan_stops_and_the_last_good_checkpoint_stays(digits: ImageDataModule, tmp_path: Path, step: int) -> None:
    module, run = DenoisingAutoencoder(SPEC), RunFolder(tmp_path / "run")
    with pytest.raises(ValueError, match=r"diverged in epoch 2.* last good checkpoint is kept in .*last\.ckpt") as told:
        fit(module, digits, run.path, max_epochs=3, callbacks=[poison(module, step)], **QUIET)
    assert "\n" not in str(told.value) and "lower --model.optimisation.lr (0.002)" in str(told.value)
    kept = torch.load(run.last, weights_only=True)
    assert kept["global_step"] == 8 and all(value.isfinite().all() for value in kept["state_dict"].values())
    assert not run.encoder.exists() and run.metrics() == {}
    assert "The fit was stopped" in run.summary.read_text(encoding="utf-8")


def test_best_by_a_figure_of_one_s_choice(digits: ImageDataModule, tmp_path: Path) -> None:
    module = SimCLR(SPEC)
    options = {"checkpoint": RunCheckpoint(best_by="val/rankme"), "monitor": Monitor(every_n_epochs=1), **QUIET}
    run = fit(module, digits, tmp_path / "run", max_epochs=4, **options)
    metrics, ranks = run.metrics(), dict(read_curves(run)["val/rankme"])
    assert metrics["best_by"] == "val/rankme" and metrics["checkpoint"] == metrics["checkpoint_best"]
    assert metrics["best_epoch"] == max(ranks, key=lambda epoch: ranks[epoch])
    best = torch.load(run.best, weights_only=True)["state_dict"]
    encoder = load_encoder(run.encoder).state_dict()
    assert all(torch.equal(value, best[f"encoder.{name}"]) for name, value in encoder.items())


def test_the_last_epoch_may_count(digits: ImageDataModule, tmp_path: Path) -> None:
    run = fit(SimCLR(SPEC), digits, tmp_path / "run", max_epochs=1, checkpoint=RunCheckpoint(best_by="last"), **QUIET)
    assert run.metrics()["checkpoint"] == "checkpoints/last.ckpt" and "best_by" not in run.metrics()


def test_a_figure_that_is_not_measured(digits: ImageDataModule, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"best_by val/auroc is not measured in this fit; known are .*val/rankme"):
        fit(
            SimCLR(SPEC), digits, tmp_path / "run", max_epochs=1, checkpoint=RunCheckpoint(best_by="val/auroc"), **QUIET
        )
    with pytest.raises(ValueError, match="best_by must be a figure on the validation split"):
        RunCheckpoint(best_by="test/accuracy")


def events(run: RunFolder) -> EventAccumulator:
    found = EventAccumulator(str(run.logs))
    found.Reload()
    return found


@pytest.mark.parametrize(
    ("make", "heading"),
    [
        (lambda: SimCLR(SPEC), "Views"),
        (lambda: DenoisingAutoencoder(SPEC), "Restoration"),
        (lambda: Autoencoder(SPEC, bottleneck=4), "Reconstruction"),
    ],
)
def test_the_same_pictures_in_both_places(
    make: Callable[[], pl.LightningModule], heading: str, digits: ImageDataModule, tmp_path: Path
) -> None:
    run = fit(make(), digits, tmp_path / "run", max_epochs=2, **QUIET)
    page, tags = run.summary.read_text(encoding="utf-8"), events(run).Tags()
    for picture in (heading, "Features in two dimensions"):
        assert picture in page and picture in tags["images"]
    assert {"train/loss", "val/rankme", "train/gradient_norm"} <= set(tags["scalars"])
    assert all(name in page for name in ("val/loss", "train/images_per_second"))


def test_the_page_grows_while_the_fit_runs(digits: ImageDataModule, tmp_path: Path) -> None:
    seen: list[str] = []

    class Reader(pl.Callback):
        def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
            watch = next(c for c in trainer.callbacks if isinstance(c, Watch))  # type: ignore[attr-defined]
            watch.every_seconds = 0.0
            page = RunFolder(tmp_path / "run").summary
            seen.append(page.read_text(encoding="utf-8") if page.exists() else "")

    fit(SimCLR(SPEC), digits, tmp_path / "run", max_epochs=3, callbacks=[Reader()], **QUIET)
    assert not seen[0] and "epoch 1 of 3 is done" in seen[1] and "epoch 2 of 3 is done" in seen[2]


def test_another_criterion_starts_anew(digits: ImageDataModule, die: Callable[..., None], tmp_path: Path) -> None:
    """Gone on with by another figure: an old best by the loss is not compared with accuracies."""
    die(SimCLR(SPEC), digits, tmp_path, epoch=2, max_epochs=4)
    checkpoint, monitor = RunCheckpoint(best_by="val/knn_accuracy"), Monitor(every_n_epochs=1)
    options = {"checkpoint": checkpoint, "monitor": monitor, "resume": True, **QUIET}
    run = fit(SimCLR(SPEC), digits, tmp_path, max_epochs=4, **options)
    assert run.metrics()["best_by"] == "val/knn_accuracy" and run.metrics()["best_epoch"] >= 3


def test_a_choice_that_cannot_be_made(digits: ImageDataModule, tmp_path: Path) -> None:
    by_rank = RunCheckpoint(best_by="val/rankme")
    with pytest.raises(ValueError, match=r"best_by val/rankme needs a validation split"):
        data = ImageDataModule("digits", val_fraction=0.0)
        fit(SimCLR(SPEC), data, tmp_path / "a", max_epochs=1, checkpoint=by_rank, **QUIET)
    with pytest.raises(ValueError, match=r"nothing is chosen where a head is solved"):
        fit(Classifier(SPEC), digits, tmp_path / "b", checkpoint=by_rank, **QUIET)


def test_an_early_stopping_of_one_s_own(digits: ImageDataModule, tmp_path: Path) -> None:
    """Lightning's callbacks find a figure also in epochs that are not read."""
    stopping = pl.callbacks.EarlyStopping("val/knn_accuracy", mode="max", patience=50)
    fit(SimCLR(SPEC), digits, tmp_path / "run", max_epochs=3, callbacks=[stopping], **QUIET)


def test_the_loss_is_not_divided_by_what_is_accumulated(digits: ImageDataModule, tmp_path: Path) -> None:
    options = {"max_epochs": 1, "precision": "32-true", **QUIET}
    slow = Optimisation(lr=1e-9)
    whole = fit(SimCLR(SPEC, optimisation=slow), digits, tmp_path / "a", **options)
    parts = fit(SimCLR(SPEC, optimisation=slow), digits, tmp_path / "b", accumulate_grad_batches=4, **options)
    assert parts.metrics()["train/loss"] == pytest.approx(whole.metrics()["train/loss"], rel=1e-4)


@pytest.mark.parametrize("shape", [(1, 5), (2, 40), (5, 2), (40, 1), (300, 20), (20, 300)])
def test_two_directions_are_those_of_the_singular_values(shape: tuple[int, int]) -> None:
    z = np.random.default_rng(0).normal(size=shape) * np.linspace(3, 1, shape[1])
    z = z - z.mean(0)
    points, share = two_directions(z)
    _, values, axes = np.linalg.svd(z, full_matrices=False)
    assert points.shape == (len(z), 2)
    if z.any():
        assert share == pytest.approx((values[:2] ** 2).sum() / (values**2).sum())
        for column, axis in zip(points.T, axes, strict=False):
            assert np.abs(np.abs(column) - np.abs(z @ axis)).max() < 1e-8
