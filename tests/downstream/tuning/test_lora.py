"""Low-rank adapters: they begin with nothing, have the rank they should, and merge into plain weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ssl_transfer.downstream import LoRA
from ssl_transfer.downstream.tuning.lora import LowRank
from ssl_transfer.encoders import Encoder, EncoderSpec, build_encoder

VIT = {"image_size": 8, "patch_size": 4, "num_layers": 2, "num_heads": 2, "hidden_dim": 8, "mlp_dim": 16}
SPECS = {
    "small_resnet": EncoderSpec(),
    "mobilenet_v2": EncoderSpec("mobilenet_v2"),
    "vit": EncoderSpec("torchvision.models.VisionTransformer", VIT),
}


def adapted(name: str, tuning: LoRA) -> tuple[Encoder, Encoder]:
    """The encoder before and after adapters come."""
    shape, half = (3, 8, 8), [0.5] * 3
    plain = build_encoder(SPECS[name], shape, half, half).eval()
    encoder = tuning.encoder(plain.spec, shape, half, half).eval()
    state = encoder.state_dict()
    for key, value in plain.state_dict().items():
        stem, _, last = key.rpartition(".")
        state[key if key in state else f"{stem}.parametrizations.{last}.original"].copy_(value)
    return plain, encoder


@pytest.mark.parametrize("name", SPECS)
def test_it_begins_as_the_network_and_merges_into_one(name: str) -> None:
    tuning = LoRA(rank=3, alpha=6)
    plain, encoder = adapted(name, tuning)
    images = torch.rand(4, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(encoder(images), plain(images))
        for parameter_name, parameter in encoder.named_parameters():
            if parameter_name.endswith(".up"):
                parameter.normal_()
        merged = tuning.finished(encoder)
        torch.testing.assert_close(merged(images), encoder(images))
        assert not torch.allclose(merged(images), plain(images))
    assert merged.state_dict().keys() == plain.state_dict().keys()
    assert any(isinstance(module, LowRank) for module in encoder.modules())  # the one that trains is as it was
    for key, value in merged.state_dict().items():
        change = (value - plain.state_dict()[key]).float()
        if change.ndim > 1 and change.abs().max() > 0:
            assert torch.linalg.matrix_rank(change.flatten(1), rtol=1e-4) <= 3, key


def test_only_adapters_learn(name: str = "vit") -> None:
    tuning = LoRA(rank=2)
    _, encoder = adapted(name, tuning)
    chosen = tuning.chosen(encoder)
    assert chosen and all(n.endswith((".up", ".down")) for n in chosen)
    assert any("in_proj_weight" in n for n in chosen) and any("mlp" in n for n in chosen)
    some = LoRA(rank=2, layers=["*mlp*"])
    assert all("mlp" in n for n in some.chosen(some.encoder(SPECS[name], (3, 8, 8), [0.5] * 3, [0.5] * 3)))


def test_the_sum_in_closed_form() -> None:
    weight = torch.zeros(4, 2, 3, 3)
    part = LowRank(weight, rank=2, scale=0.5)
    nn.init.ones_(part.up)
    nn.init.ones_(part.down)
    assert torch.equal(part(weight), torch.ones(4, 2, 3, 3))


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match=r"tuning\.rank must be at least 1"):
        LoRA(rank=0)
    with pytest.raises(ValueError, match=r"tuning\.alpha must be above 0"):
        LoRA(alpha=0)
    with pytest.raises(ValueError, match=r"tuning\.layers must name"):
        LoRA(layers=[])
    with pytest.raises(ValueError, match=r"LoRA adapts convolutions and linear layers, and small_resnet has none"):
        LoRA(layers=["*.bn1.weight"]).encoder("small_resnet", (1, 8, 8), [0.5], [0.5])
    encoder = LoRA().encoder("small_resnet", (1, 8, 8), [0.5], [0.5])
    with pytest.raises(ValueError, match="this encoder has adapters already"):
        LoRA().encoder(encoder, (1, 8, 8), [0.5], [0.5])
