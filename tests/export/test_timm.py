"""Target timm: what `timm.create_model` opens, by a folder and by a checkpoint."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ssl_transfer import load_encoder, load_model, read_export, write_export

timm = pytest.importorskip("timm")

Make = Callable[..., Path]
TIMM = "timm.create_model"


def _images(encoder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Images, and the features of the encoder."""
    ours = load_encoder(encoder)
    images = torch.randint(0, 256, (3, *ours.shape), generator=torch.Generator().manual_seed(5), dtype=torch.uint8)
    with torch.no_grad():
        return images, ours(images)


def _check(folder: Path, encoder: Path) -> dict[str, Any]:
    images, features = _images(encoder)
    with torch.no_grad():
        assert torch.equal(read_export(folder)(images), features)
    example = runpy.run_path(str(folder / "example.py"))
    _same(example["predict"](images)["features"], features)
    return example


def _same(found: torch.Tensor, features: torch.Tensor) -> None:
    """Equal to 1e-5 of the largest: those of an untrained deep network run to hundreds."""
    assert float((found - features).abs().max()) <= 1e-5 * max(1.0, float(features.abs().max()))


@pytest.fixture(scope="module")
def small(make: Make) -> Path:
    return make(TIMM, (3, 48, 64), arguments={"model_name": "resnet10t"})


@pytest.mark.usefixtures("in_process")
def test_create_model_opens_the_folder_and_the_checkpoint(small: Path, tmp_path: Path) -> None:
    done = write_export(small, "timm", tmp_path / "out")
    _check(done.path, small)
    images, features = _images(small)
    by_folder = timm.create_model(f"local-dir:{done.path}", pretrained=True).eval()
    by_file = timm.create_model("resnet10t", num_classes=0, checkpoint_path=done.path / "model.safetensors").eval()
    for net in (by_folder, by_file):
        with torch.no_grad():
            _same(net((images / 255 - 0.4) / 0.3), features)
    told = timm.data.resolve_model_data_config(by_folder)
    assert tuple(told["input_size"]) == (3, 48, 64) and told["interpolation"] == "bilinear" and told["crop_pct"] == 1
    assert list(told["mean"]) == [0.4] * 3 and list(told["std"]) == [0.3] * 3 and told["crop_mode"] == "center"
    config = json.loads((done.path / "config.json").read_text())
    assert config["architecture"] == "resnet10t" and config["num_classes"] == 0 and config["num_features"] == 512


@pytest.mark.usefixtures("in_process")
def test_a_classifier_is_timm_s_own(small: Path, classify: Make, tmp_path: Path) -> None:
    model = classify(small)
    done = write_export(model, "timm", tmp_path / "out")
    _check(done.path, model / "encoder")
    images, _ = _images(small)
    net = timm.create_model(f"local-dir:{done.path}", pretrained=True).eval()
    assert net.num_classes == 3 and net.pretrained_cfg["label_names"] == ["ant", "bee", "cow"]
    with torch.no_grad():
        found = net((images / 255 - 0.4) / 0.3).softmax(1)
    torch.testing.assert_close(found, load_model(model).predict(images).scores, rtol=0, atol=1e-5)


@pytest.mark.usefixtures("in_process")
def test_torchvision_s_resnet_in_another_number_of_channels(make: Make, tmp_path: Path) -> None:
    encoder = make("resnet18", (1, 96, 96))
    done = write_export(encoder, "timm", tmp_path / "out", maps=True)
    assert set(done.differences) == {"features", "maps"}
    _check(done.path, encoder)
    assert read_export(done.path).spec.name == "resnet18"


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(
    ("shape", "arguments", "pool"),
    [
        ((3, 64, 64), {"model_name": "convnext_atto"}, 1),  # its head has a norm that our features do not read
        ((1, 64, 64), {"model_name": "mobilenetv3_small_050"}, 2),
        ((3, 32, 32), {"model_name": "vit_tiny_patch16_224", "img_size": 32}, 1),
    ],
)
def test_families(
    make: Make, classify: Make, tmp_path: Path, shape: tuple[int, int, int], arguments: dict[str, Any], pool: int
) -> None:
    encoder = make(TIMM, shape, arguments=arguments, pool=pool)
    model = classify(encoder)
    done = write_export(model, "timm", tmp_path / "out")
    found = _check(done.path, encoder)["predict"](_images(encoder)[0])["probabilities"]
    torch.testing.assert_close(found, load_model(model).predict(_images(encoder)[0]).scores, rtol=0, atol=1e-5)
    whole = arguments["model_name"].startswith("vit")
    assert (done.path / "head.safetensors").exists() != whole
    assert any("forward_features" in note for note in done.notes) != whole


@pytest.mark.slow
def test_the_example_does_without_the_package(small: Path, tmp_path: Path) -> None:
    done = write_export(small, "timm", tmp_path / "out")  # verified in a process without ssl_transfer
    assert done.differences["features"] < 1e-5


@pytest.mark.slow
@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("name", ["resnet50", "resnext50_32x4d", "densenet121"])
def test_other_twins_of_torchvision(make: Make, tmp_path: Path, name: str) -> None:
    encoder = make(name, (3, 96, 96))
    _check(write_export(encoder, "timm", tmp_path / "out").path, encoder)


def test_what_it_cannot_hold(make: Make, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"timm has no small_resnet; use torch, onnx or torch_export$"):
        write_export(make(), "timm", tmp_path / "out")
    with pytest.raises(ValueError, match="timm has no shufflenet_v2_x0_5; use torchvision, torch, onnx"):
        write_export(make("shufflenet_v2_x0_5", (3, 32, 32)), "timm", tmp_path / "out")
    with pytest.raises(ValueError, match="timm builds no resnet18 with small_stem=True; use torchvision"):
        write_export(make("resnet18", (1, 28, 28)), "timm", tmp_path / "out")
    with pytest.raises(ValueError, match="timm's resnet18 gives other features; use torchvision"):
        write_export(make("resnet18", (3, 96, 96), pool=2), "timm", tmp_path / "out")
    assert not list(tmp_path.iterdir())
