"""A network as it is: its own head, translated or renamed, and nearest means without one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.downstream import AsIs, Classifier, load_model
from ssl_transfer.downstream.heads import Translation
from ssl_transfer.encoders import EncoderSpec, load_encoder
from ssl_transfer.running import fit as running

QUIET: dict[str, Any] = {"enable_progress_bar": False, "verbose": False}


def test_nearest_means_without_a_head(encoder_folder: Path, digits: ImageDataModule, tmp_path: Path) -> None:
    before = load_encoder(encoder_folder).state_dict()
    run = running.fit(Classifier(str(encoder_folder), tuning=AsIs()), digits, tmp_path / "run", **QUIET)
    figures = running.test(Classifier(str(encoder_folder), tuning=AsIs()), digits, run.path)
    assert figures["test/accuracy"] > 0.8
    after = load_model(run.model).encoder.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.fixture
def pretrained(digits: ImageDataModule, tmp_path: Path) -> EncoderSpec:
    """Torchvision's squeezenet with weights from a file, of which the head tells 1,000 classes at random."""
    from torchvision.models import squeezenet1_1

    torch.manual_seed(0)
    network = squeezenet1_1()
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    return EncoderSpec("squeezenet1_1", weights=str(tmp_path / "weights.safetensors"))


def test_its_own_head_is_translated(pretrained: EncoderSpec, tmp_path: Path) -> None:
    data = ImageDataModule("digits", size=32, channels=3)
    module = Classifier(pretrained, tuning=AsIs())
    run = running.fit(module, data, tmp_path / "run", **QUIET)
    assert isinstance(module.head, Translation) and module.head.table.shape == (1000, 10)
    model = load_model(run.model)
    assert model.encoder.spec.own_head and model.encoder.feature_dim == 1000
    batch = next(iter(data.loader("test")))
    with torch.inference_mode():
        expected = model.encoder(batch.images).softmax(1) @ module.head.table.exp()
    torch.testing.assert_close(model.predict(batch.images).scores, expected, atol=1e-5, rtol=1e-4)


def test_its_own_classes_are_taken_by_name() -> None:
    head = Translation(3, 3).rename(["b", "c", "a"], ["a", "b", "c"])
    logits = torch.tensor([[0.0, 1.0, 3.0]])
    torch.testing.assert_close(head(logits).exp(), logits.softmax(1)[:, [2, 0, 1]])


def test_other_targets_are_refused(digits: ImageDataModule, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="tuning AsIs learns nothing"):
        running.fit(Classifier(tuning=AsIs(), class_weights="balanced"), digits, tmp_path / "run", **QUIET)
