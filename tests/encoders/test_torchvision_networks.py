import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from ssl_transfer.encoders import Encoder, EncoderSpec, build_encoder, load_encoder, save_encoder


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
    assert [name for name, _ in build("vgg11", side=side).stages()] == [f"features.{i}" for i in (0, 3, 6, 11, 16)]


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


@pytest.mark.parametrize("name", ["vgg16", "resnet50", "efficientnet_b0"])
def test_usual_backbones_from_a_local_file(name: str, tmp_path: Path) -> None:
    theirs = torchvision.models.get_model(name).eval()
    path = tmp_path / "weights.pth"
    torch.save({key: value for key, value in theirs.state_dict().items() if not key.startswith("classifier.")}, path)
    encoder = build(EncoderSpec(name, weights=str(path)), side=96).eval()
    images = torch.rand(2, 3, 96, 96)
    x = (images - 0.5) / 0.25
    children = dict(theirs.named_children())
    trunk = children["features"] if "features" in children else nn.Sequential(*list(children.values())[:-2])
    torch.testing.assert_close(encoder.maps(images), trunk(x), rtol=1e-3, atol=1e-3)


def test_weights_of_a_vit_from_a_file_suit_another_size(tmp_path: Path) -> None:
    theirs = torchvision.models.vit_b_16()
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    encoder = build(EncoderSpec("vit_b_16", weights=str(tmp_path / "weights.pth")), side=48)
    positions = encoder.state_dict()["network.network.encoder.pos_embedding"]
    assert positions.shape == (1, 10, 768)
    assert torch.equal(positions[:, 0], theirs.state_dict()["encoder.pos_embedding"][:, 0])
    torch.save({"encoder.pos_embedding": torch.zeros(2)}, tmp_path / "wrong.pth")
    with pytest.raises(ValueError, match="do not fit VisionTransformer: missing class_token"):
        build(EncoderSpec("vit_b_16", weights=str(tmp_path / "wrong.pth")), side=48)


@pytest.mark.parametrize(
    "name",
    ["resnet18", "mobilenet_v3_small", "squeezenet1_1", "googlenet", pytest.param("vit_b_32", marks=pytest.mark.slow)],
)
def test_own_head_gives_the_logits_of_the_pretrained_network(name: str, tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"image_size": 64} if name == "vit_b_32" else {}
    if name == "googlenet":
        arguments = {"init_weights": False, "aux_logits": False}
    theirs = torchvision.models.get_model(name, num_classes=7, **arguments).eval()
    torch.save(theirs.state_dict(), tmp_path / "w.pt")
    spec = EncoderSpec(name, {"num_classes": 7}, str(tmp_path / "w.pt"), own_head=True)
    encoder = build(spec, side=64).eval()
    images = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(encoder(images), theirs((images - 0.5) / 0.25))
    assert (encoder.feature_dim, encoder.map_dim, encoder.own_classes) == (7, None, None)
    again = load_encoder(save_encoder(encoder, tmp_path / "encoder", objective="none", data={}))
    assert again.spec.own_head and torch.equal(again(images), encoder(images))
    staged = [id(parameter) for _, stage in encoder.stages() for parameter in stage.parameters()]
    assert sorted(staged) == sorted(id(parameter) for parameter in encoder.parameters())


def test_own_head_of_named_weights_names_its_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = torchvision.models.resnet18().state_dict()
    monkeypatch.setattr(torchvision.models.WeightsEnum, "get_state_dict", lambda *args, **kwargs: state)
    encoder = build(EncoderSpec("resnet18", weights="DEFAULT", own_head=True))
    assert encoder.own_classes is not None and encoder.own_classes[0] == "tench" and len(encoder.own_classes) == 1000
    path = save_encoder(encoder, tmp_path / "encoder", objective="none", data={})
    assert load_encoder(path).own_classes == encoder.own_classes
    assert json.loads((path / "config.json").read_text())["pretrained_cfg"]["num_classes"] == 1000
    assert build(EncoderSpec("resnet18", weights="DEFAULT")).own_classes is None


def test_heads_for_training_alone_go(monkeypatch: pytest.MonkeyPatch) -> None:
    state = torchvision.models.inception_v3(init_weights=False).state_dict()
    monkeypatch.setattr(torchvision.models.WeightsEnum, "get_state_dict", lambda *args, **kwargs: state)
    encoder = build(EncoderSpec("inception_v3", weights="DEFAULT"), side=80).train()
    assert encoder(torch.rand(2, 3, 80, 80)).shape == (2, 2048)
    assert not any("AuxLogits" in key for key in encoder.state_dict())


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (EncoderSpec("resnet18", own_head=True), r"needs a pretrained head.*encoder\.weights to DEFAULT"),
        (EncoderSpec("small_resnet", own_head=True), "small_resnet has no head of its own"),
        (EncoderSpec("oriented_gradients", own_head=True), "oriented_gradients has no head of its own"),
        (EncoderSpec("resnet18", {"small_stem": True}, "W", own_head=True), "as it was pretrained, not with"),
        (EncoderSpec("vgg11", {"pools": 3}, "W", own_head=True), "as it was pretrained, not with"),
    ],
)
def test_no_own_head_gets_one_line(spec: EncoderSpec, message: str, tmp_path: Path) -> None:
    if spec.weights:
        torch.save(torchvision.models.get_model(spec.name).state_dict(), tmp_path / "w.pt")
        spec.weights = str(tmp_path / "w.pt")
    with pytest.raises(ValueError, match=message) as caught:
        build(spec)
    assert "\n" not in str(caught.value)
