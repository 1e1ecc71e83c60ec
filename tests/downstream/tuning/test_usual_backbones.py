"""The whole path of a pretrained VGG16: its head taken off, its base frozen, a head trained, the last block freed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor

from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.downstream import Classifier, Frozen, Gradual, Partial, Tuning
from ssl_transfer.encoders import Encoder, EncoderSpec, load_encoder, save_encoder
from ssl_transfer.optimisation import Optimisation
from ssl_transfer.running.trial import scores_of, trial

BASE = "network.network.features."
LAST = {f"{BASE}{layer}.{part}" for layer in (24, 26, 28) for part in ("weight", "bias")}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of weights as published ones come, but random; without the 124 million of a head that nobody reads."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "vgg16.pth"
    torch.save({f"features.{key}": w for key, w in torchvision.models.vgg16().features.state_dict().items()}, path)
    return path


@pytest.fixture(scope="module")
def few() -> ImageDataModule:
    """Ten images a class, in the three channels that the network reads."""
    data = ImageDataModule("digits", size=16, channels=3)
    data.setup()
    return data.few(10, seed=0)


def fit(
    weights: Path, tuning: Tuning, data: Any, epochs: int, lr: float = 1e-3
) -> tuple[Classifier, dict[str, Tensor]]:
    """The module after its fit, and how its encoder began."""
    module = Classifier(EncoderSpec("vgg16", weights=str(weights)), tuning, Optimisation(lr=lr, weight_decay=0.0))
    trial(module, data, epochs=epochs, batch_size=50, seed=0)
    return module, {f"{BASE}{k[9:]}": w for k, w in torch.load(weights, weights_only=True).items()}


def changed(encoder: Encoder, before: dict[str, Tensor]) -> set[str]:
    state = encoder.state_dict()
    assert set(before) == set(state) - {"mean", "std"}, "the head is gone"
    return {name for name, value in before.items() if not torch.equal(state[name], value)}


def test_a_frozen_base_with_a_head_that_learns(weights: Path, few: ImageDataModule) -> None:
    module, before = fit(weights, Frozen(solve=False), few, epochs=30, lr=0.1)
    assert changed(module.encoder, before) == set()
    scores, targets = scores_of(module, few, "train")
    assert float((scores.argmax(1) == targets).float().mean()) > 0.5
    assert module.encoder.feature_dim == 512 and module.encoder.map_size == (2, 2)


@pytest.mark.parametrize(
    "tuning",
    [
        pytest.param(Partial(n_stages=1), id="at once"),
        pytest.param(Gradual(every=1), id="after the head", marks=pytest.mark.slow),
    ],
)
def test_the_last_block_is_freed(weights: Path, few: ImageDataModule, tuning: Tuning, tmp_path: Path) -> None:
    module, before = fit(weights, tuning, few, epochs=2)
    assert changed(module.encoder, before) == LAST
    path = save_encoder(module.encoder, tmp_path / "encoder", objective="Classifier", data={})
    assert changed(load_encoder(path), before) == LAST
