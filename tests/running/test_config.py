"""A module as its configuration: what the command line reads is what a notebook writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import yaml

from ssl_transfer.data.corruptions import Corruption
from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.data.views import Views
from ssl_transfer.downstream import Classifier, Frozen, Full
from ssl_transfer.encoders import EncoderSpec
from ssl_transfer.optimisation import Optimisation
from ssl_transfer.pretraining import Autoencoder, DenoisingAutoencoder, RotationPrediction, SimCLR
from ssl_transfer.running.command import TrainingParser
from ssl_transfer.running.config import describe

MODULES = [
    SimCLR(EncoderSpec("resnet18", pool=2), Views(rotate=5.0), temperature=0.3, optimisation=Optimisation(lr=1e-3)),
    RotationPrediction("small_resnet", Views(rotate=5.0), hidden_dim=None),
    SimCLR(distribution_augmentation=True),
    Autoencoder("small_resnet", bottleneck=None, sparsity=0.1),
    DenoisingAutoencoder(corruption=Corruption(gaussian=0.2, patch=3)),
    Classifier("resnet18", tuning=Full(encoder_lr=0.3), label_smoothing=0.1),
    Classifier(EncoderSpec(weights="a.safetensors"), tuning=Frozen(solve=False)),
]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: type(module).__name__)
def test_a_module_comes_back_from_its_description(module: pl.LightningModule) -> None:
    described = describe(module)
    assert yaml.safe_load(yaml.safe_dump(described)) == described
    parser = TrainingParser()
    parser.add_lightning_class_args(pl.LightningModule, "model", subclass_mode=True)
    parsed = parser.parse_object({"model": described})
    again = parser.instantiate(parsed)["model"]
    assert type(again) is type(module) and describe(again) == described


def test_a_data_module_s_description_is_its_arguments() -> None:
    described = describe(ImageDataModule("digits", batch_size=7, label_budget=3))
    assert described["class_path"] == "ssl_transfer.data.module.ImageDataModule"
    assert described["init_args"]["batch_size"] == 7 and described["init_args"]["label_budget"] == 3
    assert ImageDataModule(**described["init_args"]).batch_size == 7


def test_folders_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "encoder").mkdir()
    monkeypatch.chdir(tmp_path)
    assert describe(Classifier("encoder"))["init_args"]["encoder"] == str(tmp_path / "encoder")
    assert describe(Classifier("resnet18"))["init_args"]["encoder"] == "resnet18"


@pytest.mark.parametrize("odd", [torch.zeros(2), print, {1, 2}, torch.float32, pl.Callback(), lambda x: x, int])
def test_anything_can_be_described(odd: Any) -> None:
    text = yaml.safe_dump(describe({"option": odd, "path": Path("a"), "pair": (1, 2.5)}))
    assert yaml.safe_load(text)["pair"] == [1, 2.5]
