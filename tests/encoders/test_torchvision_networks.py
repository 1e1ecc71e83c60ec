from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from ssl_transfer.encoders import Encoder, EncoderSpec, build_encoder


def build(spec: EncoderSpec | str, channels: int = 3, side: int = 32) -> Encoder:
    return build_encoder(spec, (channels, side, side), [0.5] * channels, [0.25] * channels)


@pytest.mark.parametrize(
    ("name", "width", "map_side"),
    [
        ("resnet18", 512, 4),
        ("densenet121", 1024, 4),
        ("shufflenet_v2_x0_5", 1024, 4),
        ("vgg11", 512, 2),
        ("mobilenet_v3_small", 576, 2),
        ("efficientnet_b0", 1280, 2),
        ("mnasnet0_5", 1280, 2),
        ("regnet_y_400mf", 440, 2),
        ("convnext_tiny", 768, 2),
        ("swin_t", 768, 2),
        ("squeezenet1_1", 512, 3),
    ],
)
def test_families(name: str, width: int, map_side: int) -> None:
    encoder = build(name, channels=1).eval()
    images = torch.randint(0, 256, (2, 1, 32, 32), dtype=torch.uint8)
    maps = encoder.maps(images)
    assert maps.shape == (2, width, map_side, map_side)
    assert torch.equal(encoder(images), encoder.features_from_maps(maps))
    staged = [id(parameter) for _, stage in encoder.stages() for parameter in stage.parameters()]
    assert sorted(staged) == sorted(id(parameter) for parameter in encoder.parameters())


def test_vit_gives_its_class_token_and_patch_tokens() -> None:
    encoder = build("vit_b_16").eval()
    assert encoder(torch.rand(2, 3, 32, 32)).shape == (2, 768)
    assert encoder.maps(torch.rand(2, 3, 32, 32)).shape == (2, 768, 2, 2)
    assert not encoder.pools_maps
    assert len(encoder.stages()) == 13
    with pytest.raises(ValueError, match="square images of a multiple of 16 pixels, not 28x28"):
        build("vit_b_16", side=28)


def test_networks_that_branch_give_features_only() -> None:
    encoder = build("googlenet")
    assert (encoder.feature_dim, encoder.map_dim) == (1024, None)


def test_large_images_leave_resnet_as_torchvision_has_it() -> None:
    torch.manual_seed(0)
    ours = build("resnet18", side=65).eval()
    torch.manual_seed(0)
    theirs = torchvision.models.resnet18()
    theirs.fc = nn.Identity()
    images = torch.rand(2, 3, 65, 65)
    torch.testing.assert_close(ours(images), theirs.eval()((images - 0.5) / 0.25))


@pytest.mark.parametrize("side", [8, 28, 96])
def test_vgg_keeps_maps_of_two_pixels(side: int) -> None:
    size = build("vgg11", side=side).map_size
    assert size is not None and min(size) >= 2


def test_small_stem_is_a_choice() -> None:
    assert build(EncoderSpec("resnet18", {"small_stem": False}), side=64).map_size == (2, 2)
    assert build("resnet18", side=64).map_size == (8, 8)


def test_too_small_an_image_gets_one_line() -> None:
    with pytest.raises(ValueError, match=r"^encoder alexnet cannot process images of shape \(3, 32, 32\)[^\n]*$"):
        build("alexnet")
    with pytest.raises(ValueError, match=r"refuses its arguments \{'depth': 3\}"):
        build(EncoderSpec("resnet18", {"depth": 3}))


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_weights_from_a_file(tmp_path: Path, suffix: str) -> None:
    theirs = torchvision.models.resnet18(num_classes=7).eval()
    path = tmp_path / f"weights.{suffix}"
    state = theirs.state_dict()
    if suffix == "pt":
        torch.save({"state_dict": state}, path)
    else:
        save_file(state, path)
    ours = build(EncoderSpec("resnet18", {"small_stem": False}, weights=str(path))).eval()
    theirs.fc = nn.Identity()
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(ours(images), theirs((images - 0.5) / 0.25))


def test_pretrained_kernels_are_summed_for_grey_and_cropped_for_small_images(tmp_path: Path) -> None:
    state = torchvision.models.resnet18().state_dict()
    torch.save(state, tmp_path / "w.pt")
    encoder = build(EncoderSpec("resnet18", weights=str(tmp_path / "w.pt")), channels=1)
    kernel = encoder.state_dict()["network.network.conv1.weight"]
    torch.testing.assert_close(kernel, state["conv1.weight"].sum(1, keepdim=True)[:, :, 2:5, 2:5])


def test_wrong_weights_get_one_line(tmp_path: Path) -> None:
    state = torchvision.models.resnet18().state_dict()
    del state["layer1.0.conv1.weight"]
    state["stray"] = torch.zeros(1)
    state["layer2.0.bn1.weight"] = torch.zeros(3)
    torch.save(state, tmp_path / "w.pt")
    (tmp_path / "text.pt").write_text("hello")
    (tmp_path / "text.safetensors").write_text("hello")
    expected = "missing layer1.0.conv1.weight; unexpected stray; of another shape layer2.0.bn1.weight"
    for name, message in {
        "w.pt": expected,
        "text.pt": "not a file of tensors",
        "text.safetensors": "damaged",
        "none.pt": "no such file",
    }.items():
        with pytest.raises(ValueError, match=message) as caught:
            build(EncoderSpec("resnet18", weights=str(tmp_path / name)))
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="known are DEFAULT, IMAGENET1K_V1"):
        build(EncoderSpec("resnet18", weights="IMAGENET22K"))


def test_named_weights_bring_their_normalisation(monkeypatch: pytest.MonkeyPatch) -> None:
    state = torchvision.models.resnet18().state_dict()

    def fetch(self: Any, *args: Any, **kwargs: Any) -> dict[str, torch.Tensor]:
        return state

    monkeypatch.setattr(torchvision.models.WeightsEnum, "get_state_dict", fetch)
    encoder = build(EncoderSpec("resnet18", weights="DEFAULT"))
    assert encoder.mean.tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert torch.equal(encoder.state_dict()["network.network.layer1.0.conv1.weight"], state["layer1.0.conv1.weight"])


def test_named_weights_of_a_vit_suit_another_size(monkeypatch: pytest.MonkeyPatch) -> None:
    state = torchvision.models.vit_b_32().state_dict()

    def fetch(self: Any, *args: Any, **kwargs: Any) -> dict[str, torch.Tensor]:
        return dict(state)

    monkeypatch.setattr(torchvision.models.WeightsEnum, "get_state_dict", fetch)
    encoder = build(EncoderSpec("vit_b_32", weights="DEFAULT"), side=64)
    assert encoder.map_size == (2, 2)


def test_no_connection_gets_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(self: Any, *args: Any, **kwargs: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.models.WeightsEnum, "get_state_dict", fetch)
    with pytest.raises(ValueError, match=r"could not be fetched \(no route to host\)"):
        build(EncoderSpec("resnet18", weights="DEFAULT"))
