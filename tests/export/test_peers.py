"""What other packages make of the exports: segmentation networks, and lightly-train, which start from our weights."""

from __future__ import annotations

import importlib.util
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from ssl_transfer import load_encoder, read_export, write_export

Make = Callable[..., Path]
SMP = ("segmentation-models-pytorch==0.6.0",)
LIGHTLY_TRAIN = (
    *("lightly-train==0.18.0", "albumentations==2.0.8", "albucore==0.0.24", "stringzilla", "simsimd"),
    *(
        "opencv-python-headless",
        "nvidia-ml-py",
        "eval-type-backport",
        "pycocotools",
        "transformers",
        "tokenizers",
        "regex",
    ),
)
NEEDED = {"omegaconf": "omegaconf", "pydantic": "pydantic", "tqdm": "tqdm", "psutil": "psutil"}  # by module


def _installed(folder: Path, packages: tuple[str, ...]) -> dict[str, str]:
    """The environment of a process that has the packages, which are not among this project's own."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder)]
    missing = [package for module, package in NEEDED.items() if importlib.util.find_spec(module) is None]
    for more in (["--no-deps", *packages], missing):
        done = subprocess.run([*pip, *more], capture_output=True, text=True) if more else None
        if done is not None and done.returncode:
            pytest.skip(f"{packages[0]} cannot be installed: {done.stderr.strip().splitlines()[-1]}")
    quiet = {"PYTHONPATH": str(folder), "HF_HUB_OFFLINE": "1", "LIGHTLY_TRAIN_EVENTS_DISABLED": "1"}
    return os.environ | quiet | {"CUDA_VISIBLE_DEVICES": "", "NO_ALBUMENTATIONS_UPDATE": "1"}


@pytest.fixture(scope="module")
def smp(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return _installed(tmp_path_factory.mktemp("smp"), SMP)


@pytest.fixture(scope="module")
def lightly_train(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return _installed(tmp_path_factory.mktemp("lightly_train"), LIGHTLY_TRAIN)


def _said(code: str, environment: dict[str, str], *arguments: str) -> str:
    command = [sys.executable, "-W", "ignore", "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.usefixtures("in_process")
def test_torchvision_s_segmentation_starts_from_the_weights(make: Make, tmp_path: Path) -> None:
    encoder = make("mobilenet_v3_large", (1, 48, 48))
    done = write_export(encoder, "segmentation", tmp_path / "out")
    start = runpy.run_path(str(done.path / "start.py"))
    net = start["deeplab"](classes=2)
    ours = load_encoder(encoder).network.get_submodule("network.features").state_dict()
    theirs = net.backbone.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], value) for key, value in theirs.items())
    assert start["compare"](net, start["deeplab_maps"]) is None
    _train(start, net)
    assert read_export(done.path).spec.name == "mobilenet_v3_large"


@pytest.mark.slow
@pytest.mark.usefixtures("in_process")
def test_a_dilated_resnet_gives_our_maps_on_a_denser_grid(make: Make, tmp_path: Path) -> None:
    done = write_export(make("resnet50", (1, 48, 48)), "segmentation", tmp_path / "out")
    start = runpy.run_path(str(done.path / "start.py"))
    net = start["deeplab"](classes=2)
    assert start["compare"](net, start["deeplab_maps"]) < 1e-5 * _largest(done.path)
    _train(start, net)


def _train(start: dict[str, Any], net: torch.nn.Module) -> None:
    images = torch.randint(0, 256, (2, 1, 48, 48), dtype=torch.uint8)
    losses = start["train"](net, images, (images[:, 0] > 127).long())
    assert len(losses) == 2 and all(np.isfinite(losses))


def _largest(folder: Path) -> float:
    return max(1.0, float(load_file(folder / "golden_maps.safetensors")["maps"].abs().max()))


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(("name", "shape"), [("shufflenet_v2_x0_5", (1, 48, 48)), ("shufflenet_v2_x0_5", (3, 96, 96))])
def test_the_network_for_lightly_train_has_our_weights(
    make: Make, classify: Make, tmp_path: Path, name: str, shape: tuple[int, int, int]
) -> None:
    done = write_export(classify(make(name, shape)), "lightly_train", tmp_path / "out")
    start = runpy.run_path(str(done.path / "start.py"))
    net, images = start["network"]().eval(), load_file(done.path / "golden.safetensors")["images"]
    net.fc = torch.nn.Identity()
    with torch.no_grad():
        found = net(((images / 255 - 0.4) / 0.3).expand(-1, 3, -1, -1))
        torch.testing.assert_close(found, read_export(done.path)(images), rtol=1e-5, atol=1e-5)
    assert any("reads colour" in note for note in done.notes) == (shape[0] == 1)
    assert start["TRANSFORM"]["image_size"] == shape[1:] and start["TRANSFORM"]["normalize"]["std"] == (0.3,) * 3


def test_what_they_cannot_start_from(make: Make, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is of small_resnet: known are densenet121, "):
        write_export(make(), "segmentation", tmp_path / "out")
    with pytest.raises(ValueError, match="is of squeezenet1_1: use torch"):
        write_export(make("squeezenet1_1", (3, 64, 64)), "lightly_train", tmp_path / "out")
    with pytest.raises(ValueError, match="reads 2: use torchvision"):
        write_export(make("shufflenet_v2_x0_5", (2, 64, 64)), "lightly_train", tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_unet_needs_all_pools(make: Make, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"which has fewer max-pools than .* needs: use torchvision"):
        write_export(make("vgg11", (1, 28, 28)), "segmentation", tmp_path / "out")


@pytest.mark.slow
@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("resnet18", (1, 28, 28)),
        ("resnet34", (3, 96, 96)),
        ("resnext50_32x4d", (3, 64, 64)),
        ("vgg11_bn", (3, 96, 96)),
        ("mobilenet_v2", (3, 64, 64)),
        ("densenet121", (1, 64, 64)),
    ],
)
def test_a_unet_starts_from_the_weights(
    make: Make, classify: Make, tmp_path: Path, smp: dict[str, str], name: str, shape: tuple[int, int, int]
) -> None:
    done = write_export(classify(make(name, shape)), "segmentation", tmp_path / "out")
    code = (
        "import runpy, sys, torch\n"
        "start = runpy.run_path(sys.argv[1] + '/start.py')\n"
        "net = start['unet'](classes=2)\n"
        "print(start['compare'](net, start['unet_maps']))\n"
        f"images = torch.randint(0, 256, (2, {shape[0]}, 64, 64), dtype=torch.uint8)\n"
        "print(*start['train'](net, images, (images[:, 0] > 127).long()))\n"
    )
    difference, losses = _said(code, smp, str(done.path)).splitlines()
    assert float(difference) < 1e-5 * _largest(done.path)
    assert len(losses.split()) == 2 and all(np.isfinite(float(loss)) for loss in losses.split())


@pytest.mark.slow
@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(
    ("name", "shape", "arguments"),
    [
        ("resnet18", (1, 28, 28), {}),
        ("convnext_tiny", (3, 64, 64), {}),
        ("timm.create_model", (3, 64, 64), {"model_name": "resnet10t"}),
    ],
)
def test_lightly_train_starts_from_the_weights(
    make: Make,
    tmp_path: Path,
    lightly_train: dict[str, str],
    name: str,
    shape: tuple[int, int, int],
    arguments: dict[str, str],
) -> None:
    encoder = make(name, shape, arguments=arguments)
    done = write_export(encoder, "lightly_train", tmp_path / "out")
    (tmp_path / "photos").mkdir()
    for seed in range(8):
        noise = np.random.default_rng(seed).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / "photos" / f"{seed}.png")
    code = (
        "import runpy, sys, torch\n"
        "from safetensors.torch import load_file, save_file\n"
        "from lightly_train._models import package_helpers\n"
        "out, photos, run, found = sys.argv[1:]\n"
        "start = runpy.run_path(out + '/start.py')\n"
        "wrapped = package_helpers.get_wrapped_model(start['network'](), num_input_channels=3).eval()\n"
        "x = (load_file(out + '/golden.safetensors')['images'] / 255 - 0.4) / 0.3\n"
        "with torch.no_grad():\n"
        "    given = wrapped.forward_pool(wrapped.forward_features(x.expand(-1, 3, -1, -1)))['pooled_features']\n"
        "save_file({'features': given.flatten(1).contiguous()}, found)\n"
        "options = dict(epochs=1, batch_size=4, num_workers=0, accelerator='cpu', devices=1)\n"
        "start['pretrain'](photos, run, **options)\n"
    )
    run, found = tmp_path / "run", tmp_path / "found.safetensors"
    _said(code, lightly_train, str(done.path), str(tmp_path / "photos"), str(run), str(found))
    if name != "convnext_tiny":  # whose last norm torchvision applies after the pooling
        wanted = load_encoder(encoder)(load_file(done.path / "golden.safetensors")["images"]).detach()
        features = load_file(found)["features"]
        torch.testing.assert_close(features, wanted, rtol=0, atol=1e-5 * max(1.0, float(wanted.abs().max())))
    assert (run / "exported_models" / "exported_last.pt").exists()
