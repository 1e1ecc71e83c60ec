"""Maps of the stages inside an encoder."""

from __future__ import annotations

import pytest
import torch

from ssl_transfer.encoders import Encoder, EncoderSpec, build_encoder
from ssl_transfer.encoders.stage_maps import default_stages, joined_shape, one_grid, stage_maps, stage_shapes

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


def test_one_grid_averages_the_finer_maps_or_keeps_them() -> None:
    fine, coarse = torch.rand(2, 3, 8, 6), torch.rand(2, 1, 4, 3)
    maps = one_grid([coarse, fine])
    assert torch.equal(maps[:, :1], coarse)
    torch.testing.assert_close(maps[:, 1:, 1, 2], fine[:, :, 2:4, 4:6].mean((2, 3)))
    finest = one_grid([torch.full((2, 1, 4, 3), 5.0), fine], "finest")
    assert torch.equal(finest[:, 1:], fine) and torch.equal(finest[:, :1], torch.full((2, 1, 8, 6), 5.0))
    for grid, joined in (("coarsest", maps), ("finest", finest)):
        assert joined_shape([(1, 4, 3), (3, 8, 6)], grid) == joined.shape[1:]  # type: ignore[arg-type]


def test_one_grid_averages_grids_that_do_not_nest_over_what_they_cover() -> None:
    maps = one_grid([torch.arange(25.0).view(1, 1, 5, 5), torch.zeros(1, 1, 3, 3)])
    assert maps.shape == (1, 2, 3, 3) and float(maps[0, 0, 1, 1]) == 12.0


@pytest.mark.parametrize(
    ("name", "side", "stages"),
    [
        ("resnet18", 256, ["layer2", "layer3"]),
        ("small_resnet", 8, ["stage1", "stage2"]),
        ("small_resnet", 28, ["stage1", "stage2"]),
        ("small_resnet", 64, ["stage1", "stage2"]),
        ("small_resnet", 128, ["stage2", "stage3"]),
    ],
)
def test_default_stages_are_the_last_of_two_coarse_grids(name: str, side: int, stages: list[str]) -> None:
    assert default_stages(build(name, side)) == stages


def test_default_stages_of_a_network_with_many() -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    assert default_stages(build(LITE, 256)) == ["_blocks.10", "_blocks.14"]
    assert default_stages(build(LITE, 64)) == ["_blocks.2", "_blocks.4"]
