"""Maps of the stages inside an encoder."""

from __future__ import annotations

import pytest
import torch

from ssl_transfer.encoders import Encoder, EncoderSpec, build_encoder
from ssl_transfer.encoders.stage_maps import one_grid, stage_maps, stage_shapes

LITE = EncoderSpec("efficientnet_lite_pytorch.EfficientNet.from_name", {"model_name": "efficientnet-lite0"})


def build(spec: EncoderSpec | str, side: int = 64) -> Encoder:
    return build_encoder(spec, (3, side, side), [0.5] * 3, [0.25] * 3).eval()


@pytest.mark.parametrize("name", ["small_resnet", "resnet18", "densenet121", "vgg11", "mobilenet_v3_small"])
@torch.inference_mode()
def test_the_last_stage_gives_the_encoders_own_maps(name: str) -> None:
    encoder = build(name)
    images = torch.rand(2, 3, 64, 64)
    last = list(stage_shapes(encoder))[-1]
    assert torch.equal(stage_maps(encoder, images, [last])[0], encoder.maps(images))


@torch.inference_mode()
def test_an_early_stage_runs_no_later_one_and_is_not_changed_by_it() -> None:
    encoder = build("resnet18")
    images = torch.rand(2, 3, 64, 64)
    calls: list[int] = []
    encoder.network.network.layer3.register_forward_hook(lambda *_: calls.append(1))  # type: ignore[union-attr]
    early = stage_maps(encoder, images, ["layer1"])[0]
    assert not calls
    assert torch.equal(early, stage_maps(encoder, images, ["layer4", "layer1"])[1])
    assert calls


def test_shapes_come_in_order_and_stages_that_share_a_module_with_earlier_ones_are_left_out() -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    shapes = stage_shapes(build(LITE))
    assert list(shapes) == ["_conv_stem", *(f"_blocks.{n}" for n in range(16))]
    assert shapes["_blocks.4"] == (40, 8, 8)


def test_a_name_that_is_no_stage() -> None:
    with pytest.raises(ValueError, match=r"stage 'layer9' of encoder resnet18 gives no maps; those that do are conv1"):
        stage_maps(build("resnet18"), torch.rand(1, 3, 64, 64), ["layer9"])


def test_one_grid_keeps_each_stages_values() -> None:
    fine, coarse = torch.rand(2, 3, 8, 8), torch.full((2, 1, 4, 4), 5.0)
    maps = one_grid([coarse, fine])
    assert maps.shape == (2, 4, 8, 8)
    assert torch.equal(maps[:, 1:], fine)
    assert torch.equal(maps[:, :1], torch.full((2, 1, 8, 8), 5.0))
