import re
from dataclasses import asdict

import pytest
import torch
from torch import nn

from ssl_transfer.encoders import Encoder, EncoderSpec, build_encoder
from ssl_transfer.encoders.encoder import pool_maps


def build(spec: EncoderSpec | str = "small_resnet", channels: int = 3, side: int = 16) -> Encoder:
    return build_encoder(spec, (channels, side, side), [0.4] * channels, [0.2] * channels)


def test_normalisation_is_inside() -> None:
    images = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    expected = (images.float() / 255 - 0.4) / 0.2
    torch.testing.assert_close(build().normalise(images), expected)
    torch.testing.assert_close(build().normalise(images.float() / 255), expected)
    assert build().normalise(images).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(3, 16, 16, dtype=torch.uint8),
        torch.zeros(2, 1, 16, 16, dtype=torch.uint8),
        torch.zeros(2, 3, 16, 16, dtype=torch.int64),
        torch.zeros(2, 3, 16, 16, dtype=torch.bool),
    ],
)
def test_wrong_images_get_one_line(images: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"^images must be [^\n]*$"):
        build()(images)


def test_a_checkpoint_carries_mean_and_std() -> None:
    assert {"mean", "std"} <= set(build().state_dict())


@pytest.mark.parametrize("pool", [1, 2, 3, 4])
def test_pooled_maps_are_means_of_their_cells(pool: int) -> None:
    maps = torch.rand(2, 3, 4, 4)
    expected = torch.nn.functional.adaptive_avg_pool2d(maps, pool).flatten(1)
    torch.testing.assert_close(pool_maps(maps, pool), expected)


def test_features_are_read_from_maps() -> None:
    images = torch.rand(2, 3, 16, 16)
    for spec in (EncoderSpec(pool=2), EncoderSpec(bottleneck=10)):
        encoder = build(spec).eval()
        assert encoder.feature_dim == (10 if spec.bottleneck else 512)
        assert torch.equal(encoder(images), encoder.features_from_maps(encoder.maps(images)))


def test_pool_beyond_the_maps_is_refused() -> None:
    with pytest.raises(ValueError, match="pool must not exceed the maps: small_resnet gives 8x8 maps of 16x16 images"):
        build(EncoderSpec(pool=9))


@pytest.mark.parametrize(
    "wrong",
    [
        {"pool": 0},
        {"bottleneck": 0},
        {"pool": 2, "bottleneck": 8},
        {"name": ""},
        {"own_head": True, "pool": 2},
        {"own_head": True, "bottleneck": 8},
    ],
)
def test_spec_checks_itself(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"^encoder\.[^\n]*$"):
        EncoderSpec(**wrong)  # type: ignore[arg-type]


def test_building_measures_without_a_trace() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)).train()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    state = torch.get_rng_state()
    encoder = build_encoder(module, (3, 16, 16), [0.5] * 3, [0.5] * 3)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())
    assert all(part.training for part in module.modules())
    assert encoder.spec.name == "torch.nn.modules.container.Sequential"
    assert encoder.feature_dim == 4


def test_building_is_a_function_of_the_seed() -> None:
    torch.manual_seed(3)
    one = build().state_dict()
    torch.manual_seed(3)
    other = build().state_dict()
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_autocast_and_gradients() -> None:
    encoder = build()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features = encoder(torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8))
    features.float().sum().backward()
    assert features.shape == (4, 128)
    assert all(parameter.grad is not None for parameter in encoder.parameters())


def test_other_sizes_pass_unless_a_bottleneck_fixes_them() -> None:
    assert build().resize((3, 32, 32)).map_size == (16, 16)
    assert build()(torch.rand(1, 3, 20, 24)).shape == (1, 128)
    with pytest.raises(ValueError, match="bottleneck reads one image size: this one 16x16, the images are 32x32"):
        build(EncoderSpec(bottleneck=4)).resize((3, 32, 32))
    with pytest.raises(ValueError, match="bottleneck reads maps of 8x8"):
        build(EncoderSpec(bottleneck=4))(torch.rand(1, 3, 32, 32))
    with pytest.raises(ValueError, match="reads 3 channels, the images have 1"):
        build_encoder(build(), (1, 16, 16), [0.5], [0.5])


def test_unknown_names_list_the_known_and_the_close() -> None:
    with pytest.raises(ValueError, match=r"did you mean resnet18.*Known are small_resnet, .*vgg16") as caught:
        build("resnt18")
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="folder nowhere/encoder does not exist"):
        build("nowhere/encoder")


def test_a_built_spec_builds_the_same_at_any_size() -> None:
    encoder = build("small_resnet", side=96)
    again = build_encoder(EncoderSpec(**asdict(encoder.spec)), (3, 32, 32), [0.5] * 3, [0.5] * 3)
    assert again.state_dict().keys() == encoder.state_dict().keys()
    assert again.spec == encoder.spec


def test_no_maps_say_so() -> None:
    encoder = build_encoder(nn.Sequential(nn.Flatten(), nn.Linear(12, 5)), (3, 2, 2), [0.5] * 3, [0.5] * 3)
    assert encoder(torch.rand(2, 3, 2, 2)).shape == (2, 5)
    assert (encoder.map_dim, encoder.map_size) == (None, None)
    with pytest.raises(ValueError, match="gives features only, no maps"):
        encoder.maps(torch.rand(2, 3, 2, 2))


def test_modules_of_other_outputs_are_refused() -> None:
    with pytest.raises(ValueError, match=re.escape("neither features (B, D) nor maps (B, D, h, w)")):
        build_encoder(nn.Flatten(0), (3, 4, 4), [0.5] * 3, [0.5] * 3)
