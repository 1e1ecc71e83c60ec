"""What is read of an encoder while it learns: right figures, held-out images only, cheap, and without any trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from ssl_transfer.data.loader import BatchLoader
from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.encoders import EncoderSpec, load_encoder
from ssl_transfer.evaluation.diagnostics import rankme
from ssl_transfer.evaluation.features import encode
from ssl_transfer.evaluation.probes import accuracy, knn_scores, solve_ridge
from ssl_transfer.pretraining import Autoencoder, SimCLR
from ssl_transfer.pretraining.monitor import Monitor, shrunk
from ssl_transfer.running.fit import fit
from ssl_transfer.running.recorder import RunCheckpoint
from ssl_transfer.running.summary import read_curves

SMALL = EncoderSpec(arguments={"widths": [8, 16], "strides": [1, 2]}, pool=2)
OPTIONS: dict[str, Any] = {"enable_progress_bar": False, "verbose": False, "precision": "32-true"}


def test_the_figures_are_those_of_the_encoder(digits: ImageDataModule, tmp_path: Path) -> None:
    run = fit(SimCLR(SMALL), digits, tmp_path / "run", max_epochs=1, **OPTIONS)
    encoder = load_encoder(run.encoder)
    known, asked = (encode(encoder, digits.loader(split)) for split in ("train", "val"))
    knn = knn_scores(known.features, known.targets, asked.features, 10)
    linear = solve_ridge(known.features, known.targets, 10)(asked.features)
    metrics = run.metrics()
    assert metrics["val/knn_accuracy"] == pytest.approx(accuracy(knn, asked.targets), abs=1e-6)
    assert metrics["val/linear_accuracy"] == pytest.approx(accuracy(linear, asked.targets), abs=1e-6)
    assert 1 < metrics["val/rankme"] <= 64 and metrics["val/knn_accuracy_raw_pixels"] > 0.9


def test_reading_leaves_no_trace(digits: ImageDataModule, tmp_path: Path) -> None:
    """The weights are the same to the bit however often one looks."""
    weights = []
    for every in (1, 3):
        module = SimCLR(SMALL)
        fit(module, digits, tmp_path / str(every), max_epochs=3, monitor=Monitor(every_n_epochs=every), **OPTIONS)
        weights.append(module.state_dict())
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_the_test_split_is_never_touched(
    digits: ImageDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_out, gather = set(digits.indices("test").tolist()), BatchLoader.gather

    def watched(loader: BatchLoader, rows: Any) -> Any:
        assert not held_out & set(rows.tolist())
        return gather(loader, rows)

    monkeypatch.setattr(BatchLoader, "gather", watched)
    fit(Autoencoder(SMALL, bottleneck=4), digits, tmp_path / "run", max_epochs=1, **OPTIONS)


def test_how_often(digits: ImageDataModule, tmp_path: Path) -> None:
    """The first epoch, the last, and between them as often as asked; what was not read is not in the curves."""
    run = fit(SimCLR(SMALL), digits, tmp_path / "run", max_epochs=6, monitor=Monitor(every_n_epochs=2), **OPTIONS)
    curves = read_curves(run)
    assert [epoch for epoch, _ in curves["val/rankme"]] == [1, 3, 5, 6]
    assert [epoch for epoch, _ in curves["val/loss"]] == [1, 2, 3, 4, 5, 6]


def test_small_data_are_read_less_often(digits: ImageDataModule) -> None:
    assert Monitor().period(digits) == pytest.approx((1132 + 126 + 252) / (0.02 * 6 * 1132), abs=1)
    assert Monitor(every_n_epochs=1).period(digits) == 1

    class Large:
        def indices(self, split: str) -> range:
            return range({"train": 54_000, "val": 6_000}[split])

    assert Monitor().period(Large()) == 1  # type: ignore[arg-type]


def test_without_a_validation_split(tmp_path: Path) -> None:
    """Training images are read, but none is classified by itself."""
    data = ImageDataModule("digits", batch_size=128, val_fraction=0.0)
    run = fit(Autoencoder(SMALL, bottleneck=4), data, tmp_path / "run", max_epochs=1, **OPTIONS)
    assert run.metrics()["train/rankme"] > 1 and run.metrics()["checkpoint"] == "checkpoints/last.ckpt"
    assert not any("knn" in name for name in run.metrics())


def test_a_fit_that_ends_within_an_epoch_is_read_too(digits: ImageDataModule, tmp_path: Path) -> None:
    run = fit(SimCLR(SMALL), digits, tmp_path / "run", max_steps=3, **OPTIONS)
    assert run.metrics()["val/knn_accuracy"] > 0.3 and run.metrics()["val/rankme"] > 1


def test_the_first_validation_is_read_whenever_it_comes(digits: ImageDataModule, tmp_path: Path) -> None:
    monitor = Monitor(every_n_epochs=100)
    run = fit(
        SimCLR(SMALL), digits, tmp_path / "run", max_epochs=6, check_val_every_n_epoch=2, monitor=monitor, **OPTIONS
    )
    assert [epoch for epoch, _ in read_curves(run)["val/rankme"]] == [2, 6]


def test_the_figures_are_those_of_the_network_that_is_kept(digits: ImageDataModule, tmp_path: Path) -> None:
    """Also where another epoch is the best than those that were read."""

    class Best(RunCheckpoint):
        def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            if trainer.current_epoch == 2:
                super().on_validation_end(trainer, pl_module)

    options = {"monitor": Monitor(every_n_epochs=100), "checkpoint": Best(), **OPTIONS}
    run = fit(SimCLR(SMALL), digits, tmp_path / "run", max_epochs=5, **options)
    assert run.metrics()["best_epoch"] == 3
    features = encode(load_encoder(run.encoder), digits.loader("val")).features
    assert run.metrics()["val/rankme"] == pytest.approx(rankme(features), rel=1e-4)


def test_large_images_are_read_small() -> None:
    images = torch.randint(0, 256, (3, 3, 96, 64), dtype=torch.uint8)
    small = shrunk(images, 48)
    assert small.shape == (3, 3, 48, 32)
    assert torch.allclose(small[:, :, 0, 0], images[:, :, :2, :2].float().mean((2, 3)))
    assert torch.equal(shrunk(images, 96), images.float())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"bank": 1}, "monitor.bank must be at least 2"), ({"every_n_epochs": 0}, "monitor.every_n_epochs must be")],
)
def test_bad_arguments(arguments: dict[str, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Monitor(**arguments)
