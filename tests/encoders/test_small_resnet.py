import pytest
import torch

from ssl_transfer.encoders import EncoderSpec, SmallResNet, build_encoder
from ssl_transfer.encoders.small_resnet import choose_layout


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize(("side", "map_side", "width"), [(8, 4, 128), (28, 7, 128), (32, 8, 128), (96, 6, 256)])
def test_shapes(channels: int, side: int, map_side: int, width: int) -> None:
    encoder = build_encoder("small_resnet", (channels, side, side), [0.5] * channels, [0.25] * channels)
    images = torch.randint(0, 256, (2, channels, side, side), dtype=torch.uint8)
    assert encoder.map_size == (map_side, map_side)
    assert encoder.maps(images).shape == (2, width, map_side, map_side)
    assert encoder(images).shape == (2, encoder.feature_dim) == (2, width)


@pytest.mark.parametrize("side", range(8, 225, 9))
def test_maps_have_four_to_eight_pixels(side: int) -> None:
    for stride in choose_layout(side):
        side = -(-side // stride)
    assert 4 <= side <= 8


def test_given_widths_fix_the_number_of_stages() -> None:
    encoder = build_encoder(EncoderSpec("small_resnet", {"widths": [8, 16], "blocks": 2}), (1, 28, 28), [0.5], [0.5])
    assert encoder.spec.arguments == {"widths": [8, 16], "strides": [2, 2], "blocks": 2}
    assert [name for name, _ in encoder.stages()] == ["stem", "stage1"]


def test_odd_sizes_and_strides_agree_with_the_shortcut() -> None:
    assert SmallResNet(1, (4, 8, 8), (1, 2, 3)).maps(torch.zeros(1, 1, 13, 11)).shape == (1, 8, 3, 2)


@pytest.mark.parametrize("arguments", [{"widths": [8, 16], "strides": [1]}, {"blocks": 0}, {"depth": 3}])
def test_mistakes_get_one_line(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="small_resnet") as caught:
        build_encoder(EncoderSpec("small_resnet", arguments), (1, 28, 28), [0.5], [0.5])
    assert "\n" not in str(caught.value)
