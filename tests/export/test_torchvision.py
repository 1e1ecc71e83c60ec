"""Target torchvision: its own keys, its own builders, the same features."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import load_file

from ssl_transfer import load_encoder, load_model, read_export, write_export
from ssl_transfer.downstream.heads import Translation

Make = Callable[..., Path]
IMAGES = torch.randint(0, 256, (3, 3, 32, 32), generator=torch.Generator().manual_seed(5), dtype=torch.uint8)
FAMILIES = [
    ("resnext50_32x4d", (3, 32, 32), {}),
    ("densenet121", (3, 32, 32), {}),
    ("efficientnet_b0", (3, 64, 64), {}),
    ("mobilenet_v2", (1, 28, 28), {}),
    ("regnet_y_400mf", (3, 64, 64), {}),
    ("swin_t", (3, 32, 32), {}),
    ("vit_b_32", (3, 64, 64), {}),
    ("vit_b_16", (3, 32, 32), {"pool": 2}),
    ("googlenet", (3, 64, 64), {}),
    ("inception_v3", (3, 96, 96), {}),
    ("convnext_tiny", (3, 32, 32), {}),
    ("vgg11_bn", (1, 28, 28), {}),
    ("alexnet", (3, 64, 64), {}),
    ("maxvit_t", (3, 224, 224), {"arguments": {"input_size": (224, 224)}}),
    ("resnet18", (2, 96, 80), {"pool": 3}),
]


@pytest.fixture(scope="module")
def shuffled(make: Make) -> Path:
    return make("shufflenet_v2_x0_5", (3, 32, 32))


def _check(folder: Path, encoder: Path) -> dict[str, Any]:
    """The features of the export and of what comes back are the encoder's; returns what the example defines."""
    ours = load_encoder(encoder)
    images = torch.randint(0, 256, (3, *ours.shape), generator=torch.Generator().manual_seed(5), dtype=torch.uint8)
    with torch.no_grad():
        features = ours(images)
        assert torch.equal(read_export(folder)(images), features)
    example = runpy.run_path(str(folder / "example.py"))
    atol = 1e-5 * max(1.0, float(features.abs().max()))
    torch.testing.assert_close(example["predict"](images)["features"], features, rtol=0, atol=atol)
    as_floats = example["predict"](images.float() / 255)["features"]
    torch.testing.assert_close(as_floats, features, rtol=0, atol=atol)
    return example


def test_a_plain_resnet18_takes_the_weights(make: Make, tmp_path: Path) -> None:
    encoder = make("resnet18", (3, 96, 96))
    done = write_export(encoder, "torchvision", tmp_path / "out")  # verified in a process without ssl_transfer
    assert max(done.differences.values()) < 1e-4 and not done.notes
    state = load_file(done.path / "model.safetensors")
    told = torchvision.models.resnet18().load_state_dict(state, strict=False)
    assert told.missing_keys == ["fc.weight", "fc.bias"] and not told.unexpected_keys
    example = _check(done.path, encoder)
    assert "net = torchvision.models.resnet18()\nnet.fc = " in (done.path / "example.py").read_text()
    assert example["net"].conv1.kernel_size == (7, 7)


@pytest.mark.usefixtures("in_process")
def test_a_small_stem_is_made_by_plain_lines_and_told(make: Make, tmp_path: Path) -> None:
    encoder = make("resnet18", (1, 28, 28))
    done = write_export(encoder, "torchvision", tmp_path / "out", maps=True)
    source = (done.path / "example.py").read_text()
    lines = (
        "net.conv1 = torch.nn.Conv2d(1, 64, 3, 1, padding=1, bias=False)\n",
        "net.maxpool = torch.nn.Identity()\n",
    )
    assert all(line in source and line.strip() in done.notes[0] for line in lines)
    assert set(done.differences) == {"features", "maps"}
    _check(done.path, encoder)


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(
    ("name", "shape", "spec"),
    [
        ("shufflenet_v2_x0_5", (3, 32, 32), {}),
        ("mobilenet_v3_small", (3, 64, 64), {"pool": 2}),
        ("squeezenet1_1", (3, 64, 64), {}),
    ],
)
def test_families(make: Make, tmp_path: Path, name: str, shape: tuple[int, int, int], spec: dict[str, Any]) -> None:
    encoder = make(name, shape, **spec)
    _check(write_export(encoder, "torchvision", tmp_path / "out").path, encoder)


@pytest.mark.slow
@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(("name", "shape", "spec"), FAMILIES)
def test_all_families(make: Make, tmp_path: Path, name: str, shape: tuple[int, int, int], spec: dict[str, Any]) -> None:
    encoder = make(name, shape, **spec)
    maps = name not in ("googlenet", "inception_v3")
    _check(write_export(encoder, "torchvision", tmp_path / "out", maps=maps).path, encoder)


@pytest.mark.usefixtures("in_process")
def test_a_head_becomes_the_network_s_last_layer(shuffled: Path, classify: Make, tmp_path: Path) -> None:
    model = classify(shuffled)
    done = write_export(model, "torchvision", tmp_path / "out")
    net = torchvision.models.shufflenet_v2_x0_5(num_classes=3)
    state = load_file(done.path / "model.safetensors")
    if stem := load_encoder(shuffled).spec.arguments.get("small_stem"):
        net.conv1[0] = torch.nn.Conv2d(3, 24, 3, 1, padding=1, bias=False)
        net.maxpool = torch.nn.Identity()
    assert stem
    net.load_state_dict(state)  # strictly, all keys
    with torch.no_grad():
        probabilities = net.eval()((IMAGES.float() / 255 - 0.4) / 0.3).softmax(1)
    expected = load_model(model).predict(IMAGES)
    torch.testing.assert_close(probabilities, expected.scores, rtol=0, atol=1e-5)
    example = _check(done.path, model / "encoder")
    assert example["LABELS"] == ["ant", "bee", "cow"]
    torch.testing.assert_close(example["predict"](IMAGES)["probabilities"], expected.scores, rtol=0, atol=1e-5)


@pytest.mark.usefixtures("in_process")
def test_a_head_that_the_network_has_not_is_a_file_of_its_own(make: Make, classify: Make, tmp_path: Path) -> None:
    model = classify(make("mobilenet_v3_small", (3, 32, 32)))
    done = write_export(model, "torchvision", tmp_path / "out")
    assert {key: tuple(value.shape) for key, value in load_file(done.path / "head.safetensors").items()} == {
        "weight": (3, 576),
        "bias": (3,),
    }
    assert "head.safetensors" in done.notes[-1]
    found = _check(done.path, model / "encoder")["predict"](IMAGES)["probabilities"]
    torch.testing.assert_close(found, load_model(model).predict(IMAGES).scores, rtol=0, atol=1e-5)


@pytest.mark.usefixtures("in_process")
def test_several_targets(shuffled: Path, classify: Make, tmp_path: Path) -> None:
    targets = [
        {"kind": "class", "name": "sort", "classes": ["ant", "bee"]},
        {"kind": "regression", "name": "age's", "mean": 40.0, "deviation": 10.0},
        {"kind": "multi_label", "name": "tags", "classes": ["red", "old"]},
    ]
    model = classify(shuffled, targets)
    done = write_export(model, "torchvision", tmp_path / "out")
    found = _check(done.path, model / "encoder")["predict"](IMAGES)
    for name, answer in load_model(model).predict(IMAGES).targets.items():
        torch.testing.assert_close(found[f"{name}_scores"], answer.scores, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("in_process")
def test_a_network_s_own_head_and_its_translation(make: Make, classify: Make, tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save(torchvision.models.shufflenet_v2_x0_5().state_dict(), tmp_path / "own.pt")
    encoder = make("shufflenet_v2_x0_5", (3, 64, 64), weights=str(tmp_path / "own.pt"), own_head=True)
    _check(write_export(encoder, "torchvision", tmp_path / "encoder").path, encoder)
    table = Translation(1000, 3)
    table.table.copy_(torch.rand(1000, 3).log_softmax(1))
    model = classify(encoder, head=table)
    images = IMAGES.repeat_interleave(2, 2).repeat_interleave(2, 3)
    found = _check(write_export(model, "torchvision", tmp_path / "model").path, encoder)["predict"](images)
    torch.testing.assert_close(found["probabilities"], load_model(model).predict(images).scores, rtol=0, atol=1e-5)


def test_what_it_cannot_hold(make: Make, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"torchvision's networks, and .* is of small_resnet: use torch, onnx"
    ) as error:
        write_export(make(), "torchvision", tmp_path / "out")
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="ends in a bottleneck of 7, which it has not: use torch, onnx"):
        write_export(make("shufflenet_v2_x0_5", (3, 32, 32), bottleneck=7), "torchvision", tmp_path / "out")
    assert not list(tmp_path.iterdir())
