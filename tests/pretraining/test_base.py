"""What the objectives share: fresh weights by seed, evaluation on equal terms, and a kNN figure that only looks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ssl_transfer.data.batch import Batch
from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.encoders import EncoderSpec, load_encoder
from ssl_transfer.pretraining import Autoencoder, DenoisingAutoencoder, Objective, SimCLR
from ssl_transfer.running.fit import fit
from ssl_transfer.running.summary import read_curves

SMALL = EncoderSpec(arguments={"widths": [8, 16], "strides": [1, 2]}, pool=2)
OPTIONS = {"enable_progress_bar": False, "verbose": False, "precision": "32-true"}


def test_the_seed_decides_the_weights(digits: ImageDataModule, tmp_path: Path) -> None:
    def weights(name: str, seed: int) -> dict[str, torch.Tensor]:
        module = SimCLR(SMALL)
        fit(module, digits, tmp_path / name, max_epochs=1, seed=seed, limit_train_batches=2, **OPTIONS)
        return module.state_dict()

    torch.manual_seed(123)
    first = weights("a", 5)
    torch.manual_seed(456)
    again, other = weights("b", 5), weights("c", 6)
    assert all(torch.equal(value, again[key]) for key, value in first.items())
    assert not torch.equal(first["encoder.network.stem.0.weight"], other["encoder.network.stem.0.weight"])


def test_labels_change_nothing_that_is_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same run with every label shuffled ends in the same weights and the same losses."""
    states, losses = [], []
    for name in ("true", "shuffled"):
        data = ImageDataModule("digits", batch_size=128)
        data.setup()
        if name == "shuffled":
            data.table.targets = data.table.targets[torch.randperm(len(data.table)).numpy()]
        module = DenoisingAutoencoder(SMALL)
        run = fit(module, data, tmp_path / name, max_epochs=2, **OPTIONS)
        states.append(module.state_dict())
        losses.append([read_curves(run)[key] for key in ("train/loss", "val/loss")])
        assert run.metrics()["best_by"] == "val/loss"  # which sees no label
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    assert losses[0] == losses[1]


def test_validation_is_on_equal_terms_every_epoch(digits: ImageDataModule, tmp_path: Path) -> None:
    asked: list[tuple[bool, int]] = []

    class Watched(SimCLR):
        def loss(self, batch: Batch, epoch: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            asked.append((self.training, epoch))
            return super().loss(batch, epoch)

    fit(Watched(SMALL), digits, tmp_path / "run", max_epochs=2, limit_train_batches=1, **OPTIONS)
    assert asked == [(True, 0), (False, 0), (True, 1), (False, 0)]


def test_the_validation_loss_by_hand(digits: ImageDataModule, tmp_path: Path) -> None:
    module = Autoencoder(SMALL, bottleneck=6, sparsity=0.1)
    run = fit(module, digits, tmp_path / "run", max_epochs=1, **OPTIONS)
    module.eval()
    with torch.no_grad():
        batches = list(digits.val_dataloader())
        losses = [module.loss(batch, 0)[0].item() * len(batch.index) for batch in batches]
    assert run.metrics()["val/loss"] == pytest.approx(sum(losses) / len(digits.indices("val")), abs=2e-6)
    assert {"val/reconstruction_error", "val/mean_activation", "train/loss", "val/knn_accuracy"} <= set(run.metrics())


def test_unlabelled_images_are_enough(tmp_path: Path, photos: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for number, path in enumerate(sorted(photos.rglob("*.png"))):
        path.rename(flat / f"{number}.png")
    module = SimCLR(EncoderSpec(arguments={"widths": [8], "strides": [2]}))
    run = fit(module, ImageDataModule(str(flat), size=16), tmp_path / "run", max_epochs=1, **OPTIONS)
    assert "val/knn_accuracy" not in run.metrics() and "val/loss" in run.metrics()
    assert load_encoder(run.encoder).shape == (3, 16, 16)


def test_predicted_features_are_the_encoder_s(digits: ImageDataModule, tmp_path: Path) -> None:
    module = SimCLR(SMALL)
    run = fit(module, digits, tmp_path / "run", max_epochs=1, limit_train_batches=1, enable_progress_bar=False)
    batch = next(iter(digits.loader("test")))
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():  # as in a run of mixed precision
        predicted = module.eval().predict_step(batch, 0)
    with torch.no_grad():
        assert torch.equal(predicted["features"], load_encoder(run.encoder)(batch.images))


def test_an_objective_without_its_parts_is_a_programmer_s_mistake(digits: ImageDataModule) -> None:
    bare = Objective(SMALL)
    with pytest.raises(AssertionError):
        bare.build_heads()
    with pytest.raises(AssertionError):
        bare.loss(next(iter(digits.loader("val"))), 0)
