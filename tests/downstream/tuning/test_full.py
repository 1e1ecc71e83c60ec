"""The tuning strategies: where they start, and what they refuse."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from ssl_transfer.downstream import Frozen, Full, Scratch
from ssl_transfer.encoders import EncoderSpec, load_encoder

SHAPE, MEAN, STD = (1, 8, 8), [0.3], [0.4]


def test_frozen_and_full_start_from_the_folder(encoder_folder: Path) -> None:
    stored = load_encoder(encoder_folder).state_dict()
    for tuning in (Frozen(), Full()):
        encoder = tuning.encoder(str(encoder_folder), SHAPE, MEAN, STD)
        assert all(torch.equal(value, stored[key]) for key, value in encoder.state_dict().items())
    assert not Frozen().trains_encoder and Full().trains_encoder and Scratch().trains_encoder


def test_scratch_keeps_the_architecture_only(encoder_folder: Path) -> None:
    stored = load_encoder(encoder_folder)
    encoder = Scratch().encoder(str(encoder_folder), SHAPE, MEAN, STD)
    assert encoder.spec == stored.spec and encoder.feature_dim == stored.feature_dim
    first = "network.stem.0.weight"
    assert not torch.equal(encoder.state_dict()[first], stored.state_dict()[first])
    assert float(encoder.mean) == pytest.approx(0.3)  # of the images it will be trained on
    assert float(encoder.state_dict()["network.stem.1.running_mean"].abs().max()) == 0.0


def test_scratch_drops_the_weights_of_a_spec() -> None:
    spec = EncoderSpec("small_resnet", weights="missing.safetensors")
    assert Scratch().encoder(spec, SHAPE, MEAN, STD).spec.weights is None
    assert Scratch().encoder("small_resnet", SHAPE, MEAN, STD).feature_dim == 128
    with pytest.raises(ValueError, match="not a module"):
        Scratch().encoder(nn.Flatten(), SHAPE, MEAN, STD)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match=r"tuning\.l2 must be 0 or more"):
        Frozen(l2=-1)
    with pytest.raises(ValueError, match=r"tuning\.encoder_lr must be above 0, not 0.*Frozen"):
        Full(encoder_lr=0)
