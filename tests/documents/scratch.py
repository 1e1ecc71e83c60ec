"""The folder in which pages are run: images of every kind that they name, and the runs that they go on from."""

from __future__ import annotations

import csv
import gzip
import shutil
import struct
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from sklearn.datasets import load_digits

from ssl_transfer.cli import main
from tests.documents.blocks import ROOT
from tests.documents.shortened import shortened

# The runs that stand there when a page begins, and what makes them.
_PARTS = "--data.source parts/ --data.normal good --data.size 64"
_MAP = "--data.source photos/ --data.size 64"
RUNS = {
    "runs/simclr": ["fit --config configs/pretrain/simclr.yaml --data.source photos/ --data.size 64"],
    "runs/autoencoder": ["fit --config configs/pretrain/autoencoder.yaml --data.source photos/ --data.size 64"],
    "runs/cats": [
        "fit --config configs/classify/frozen.yaml --model.encoder runs/simclr/encoder --data.source labelled/ "
        "--data.size 64 --data.test_fraction 0.2"
    ],
    "runs/parts": [f"fit --config configs/pretrain/simclr.yaml {_PARTS}"],
    "runs/defects": [f"fit --config configs/anomaly/patch_bank.yaml --model.encoder runs/parts/encoder {_PARTS}"],
    "runs/map": [f"fit --config configs/reduce/parametric.yaml --model.encoder runs/simclr/encoder {_MAP}"],
    "runs/clusters": [
        f"{verb} --config configs/cluster/kmeans.yaml --model.reducer runs/map/model {_MAP}"
        for verb in ("fit", "predict")
    ],
}


def make_images(folder: Path) -> None:
    """Images and data sets, and a copy of the configurations."""
    rng = np.random.default_rng(0)
    _save(folder / "photos", [picture(rng, kind=i % 3) for i in range(40)], "jpg")
    for kind, label in enumerate(("cat", "dog")):
        _save(folder / "labelled" / label, [picture(rng, kind) for _ in range(60)], "jpg")
        _save(folder / "field" / label, [picture(rng, kind).point(lambda v: v // 2) for _ in range(60)], "jpg")
    for label, count in (("good", 40), ("scratch", 10), ("dent", 10)):
        _save(folder / "parts" / label, [part(rng, label) for _ in range(count)], "png")
    _manifest(folder / "labelled")
    for name in ("new.jpg", "new.png", "image.png", "picture.png"):
        picture(rng, kind=0).save(folder / name)
    for name in ("MNIST", "FashionMNIST"):
        _as_idx(folder / "data" / name / "raw")
    shutil.copytree(ROOT / "configs", folder / "configs")


def make_runs() -> None:
    """The runs, in the working directory."""
    for directory, commands in RUNS.items():
        for command in commands:
            words = [*shortened(command.split()), "--trainer.default_root_dir", directory]
            assert main(words) == 0, " ".join(words)
    shutil.copytree("runs/simclr", "runs/a")


def picture(rng: np.random.Generator, kind: int) -> Image.Image:
    """A scene of 32 to 96 px a side: blobs, stripes or frames in front of a slope of light."""
    width, height = (int(side) for side in rng.integers(32, 97, 2))
    y, x = np.mgrid[0:height, 0:width]
    slope = np.stack([rng.uniform(0, 255) + rng.uniform(-2, 2) * x + rng.uniform(-2, 2) * y for _ in range(3)], axis=2)
    noisy = slope + rng.normal(0, 8, slope.shape)
    image = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(2, 5))):
        colour = tuple(int(c) for c in rng.integers(0, 256, 3))
        (left, top), size = rng.integers(0, [width, height]), int(rng.integers(6, 24))
        box = (int(left), int(top), int(left) + size, int(top) + size)
        (draw.ellipse, draw.line, draw.rectangle)[kind](box, fill=colour)
    return image


def part(rng: np.random.Generator, label: str) -> Image.Image:
    """A grey disc of 64 px, whole or with a defect."""
    image = Image.fromarray(rng.normal(60, 5, (64, 64)).clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    draw.ellipse((8, 8, 56, 56), fill=int(rng.integers(150, 180)))
    x, y = (int(v) for v in rng.integers(16, 40, 2))
    if label == "scratch":
        draw.line((x, y, x + 14, y + 6), fill=250, width=2)
    elif label == "dent":
        draw.ellipse((x, y, x + 8, y + 8), fill=20)
    return image


def _save(folder: Path, images: list[Image.Image], suffix: str) -> None:
    folder.mkdir(parents=True)
    for i, image in enumerate(images):
        image.save(folder / f"{i:02}.{suffix}")


def _manifest(folder: Path) -> None:
    """A table of the labelled images with further columns: `species` (a class) and `age` (a number)."""
    with (folder / "manifest.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "label", "species", "age"])
        for i, path in enumerate(sorted(folder.glob("*/*.jpg"))):
            table.writerow([path.relative_to(folder), path.parent.name, ("grey", "brown")[i % 2], 0.5 + i % 7])


def _as_idx(folder: Path) -> None:
    """The digits at 28 px in MNIST's files, so that torchvision finds the data set."""
    digits = load_digits()
    images = np.pad(digits.images.astype(np.uint8).repeat(3, axis=1).repeat(3, axis=2) * 15, ((0, 0), (2, 2), (2, 2)))
    folder.mkdir(parents=True)
    for name, rows in (("train", slice(0, 400)), ("t10k", slice(400, 500))):
        labels = digits.target[rows].astype(np.uint8)
        for suffix, head, values in (
            ("images-idx3-ubyte", struct.pack(">IIII", 2051, len(labels), 28, 28), images[rows]),
            ("labels-idx1-ubyte", struct.pack(">II", 2049, len(labels)), labels),
        ):
            content = head + values.tobytes()
            (folder / f"{name}-{suffix}").write_bytes(content)
            (folder / f"{name}-{suffix}.gz").write_bytes(gzip.compress(content))
