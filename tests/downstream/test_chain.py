"""Chains of tasks: the encoder of a fitted classifier feeds the next task, with other classes or other images."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.downstream import Classifier, Frozen, LinearThenFull, Scratch, load_model
from ssl_transfer.encoders import EncoderSpec, load_encoder
from ssl_transfer.optimisation import Optimisation
from ssl_transfer.running import fit as running
from ssl_transfer.running.trial import scores_of, trial

QUIET: dict[str, Any] = {"enable_progress_bar": False, "verbose": False}
SPEC = EncoderSpec(arguments={"widths": [16, 32], "strides": [2, 2]}, pool=3)


def source_task(data: ImageDataModule, path: Path) -> Path:
    """The encoder folder that a classifier from scratch leaves."""
    module = Classifier(SPEC, tuning=Scratch(), optimisation=Optimisation(lr=5e-3))
    run = running.fit(module, data, path, max_epochs=8, limit_val_batches=0, **QUIET)
    assert torch.equal(
        load_encoder(run.encoder)(torch.zeros(1, *data.shape)),
        load_model(run.model).encoder(torch.zeros(1, *data.shape)),
    )
    return run.encoder


def accuracy_of(tuning: Any, encoder: Path | EncoderSpec, data: ImageDataModule) -> float:
    given = str(encoder) if isinstance(encoder, Path) else encoder
    module = trial(Classifier(given, tuning=tuning), data, steps=60, batch_size=50)
    scores, targets = scores_of(module, data, "test")
    return float((scores.argmax(1) == targets).float().mean())


def few_of(name: str, root: Path, budget: int) -> ImageDataModule:
    data = ImageDataModule(name, root=str(root), batch_size=64, label_budget=budget)
    data.setup()
    data._indices["test"] = data._indices["test"][:1000]
    return data


def test_digits_then_clothes(real_data: Path, tmp_path: Path) -> None:
    encoder = source_task(few_of("MNIST", real_data, 100), tmp_path / "digits")
    clothes = few_of("FashionMNIST", real_data, 20)
    assert load_encoder(encoder).spec.name == "small_resnet"
    reached = {type(tuning).__name__: accuracy_of(tuning, encoder, clothes) for tuning in (Frozen(), LinearThenFull())}
    assert min(reached.values()) > 0.6
    assert reached["Frozen"] > accuracy_of(Frozen(), SPEC, clothes) - 0.05


@pytest.fixture(scope="module")
def halves(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[ImageDataModule, ImageDataModule]:
    """CIFAR-10 in two tasks: its classes 0 to 4 and its classes 5 to 9, each under its own name."""
    folder = tmp_path_factory.mktemp("cifar10")
    names = (real_data / "cifar10_jpeg" / "labels.txt").read_text().split()
    parts: dict[str, list[np.ndarray]] = {"train": [], "test": []}
    labels: dict[str, np.ndarray] = {}
    for split, count in (("train", 3000), ("test", 1000)):
        table = pq.read_table(real_data / "cifar10_jpeg" / f"{split}.parquet").slice(0, count).to_pydict()
        parts[split] = [np.asarray(Image.open(io.BytesIO(image["bytes"]))) for image in table["image"]]
        labels[split] = np.array(table["label"])
    made = []
    for half in (range(5), range(5, 10)):
        arrays = {}
        for split in ("train", "test"):
            rows = np.flatnonzero(np.isin(labels[split], half))
            arrays[f"x_{split}"] = np.stack([parts[split][row] for row in rows])
            arrays[f"y_{split}"] = np.array([names[label] for label in labels[split][rows]])
        path = folder / f"{half.start}.npz"
        np.savez(path, **arrays)  # type: ignore[arg-type]
        made.append(ImageDataModule(str(path), batch_size=64))
        made[-1].setup()
    return made[0], made[1]


def test_five_classes_then_five_others(halves: tuple[ImageDataModule, ImageDataModule], tmp_path: Path) -> None:
    first, second = halves
    assert not set(first.classes or []) & set(second.classes or [])
    encoder = source_task(first, tmp_path / "first")
    learnt = accuracy_of(Frozen(), encoder, second.few(100, seed=0))
    assert learnt > 0.3  # of five classes
    assert learnt > accuracy_of(Frozen(), SPEC, second.few(100, seed=0)) - 0.03
