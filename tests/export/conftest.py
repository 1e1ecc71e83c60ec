"""What the tests of the exports share: encoders and a classifier, in folders."""

from __future__ import annotations

import runpy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ssl_transfer.downstream.fitted_classifier import FittedClassifier
from ssl_transfer.downstream.model_folder import save_model
from ssl_transfer.encoders import Encoder, EncoderSpec, build_encoder, load_encoder, save_encoder
from ssl_transfer.export import verify

Make = Callable[..., Path]
METRICS = {"val/knn_accuracy": 0.9, "val/loss": 2.25, "train/loss": 2.5, "seed": 0}


def _data(shape: tuple[int, int, int]) -> dict[str, Any]:
    resize = {"source": "/home/somebody/digits", "resize": "crop", "value_range": None}
    return resize | {"channels": shape[0], "height": shape[1], "width": shape[2]}


def _encoder(name: str, shape: tuple[int, int, int], **spec: Any) -> Encoder:
    """Random weights, and statistics in the batch normalisation that are not those of the start."""
    torch.manual_seed(0)
    encoder = build_encoder(EncoderSpec(name, **spec), shape, [0.4] * shape[0], [0.3] * shape[0])
    for part in encoder.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
            part.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
    return encoder.eval()


@pytest.fixture(scope="session")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Make an encoder folder, the same for the same arguments: `make(name, shape, **spec)`."""
    made: dict[str, Path] = {}

    def of(name: str = "small_resnet", shape: tuple[int, int, int] = (1, 8, 8), **spec: Any) -> Path:
        key = repr((name, shape, spec))
        if key in made:
            return made[key]
        path = tmp_path_factory.mktemp("made") / "encoder"
        told = {"objective": "SimCLR", "data": _data(shape), "metrics": METRICS}
        made[key] = save_encoder(_encoder(name, shape, **spec), path, **told)
        return made[key]

    return of


@pytest.fixture(scope="session")
def classify(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Make the folder of a classifier on an encoder folder: `classify(encoder, targets=None, head=None)`."""

    def of(folder: Path, targets: list[dict[str, Any]] | None = None, head: nn.Module | None = None) -> Path:
        encoder = load_encoder(folder)
        torch.manual_seed(1)
        config = {"tuning": "Frozen", "data": _data(encoder.shape), "metrics": {"test/accuracy": 0.75}}
        told = {"classes": ["ant", "bee", "cow"]} if targets is None else {"classes": None, "targets": targets}
        width = 3 if targets is None else 5
        fitted = FittedClassifier(encoder, head or nn.Linear(encoder.feature_dim, width), config | told)
        return save_model(fitted, tmp_path_factory.mktemp("classified") / "model")

    return of


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Examples are verified in this process, which is quick and does not prove that they need nothing of ours."""
    monkeypatch.setattr(verify, "run_example", run)


@pytest.fixture(scope="module")
def in_one_process() -> Iterator[None]:
    """The same for all tests of a module."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(verify, "run_example", run)
        yield


def run(folder: Path, hidden: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """What `verify.run_example` gives, from this process."""
    example = runpy.run_path(str(folder / "example.py"))
    images = torch.as_tensor(example["golden"]()["images"])
    alone = {f"{name}/alone": value for name, value in example["predict"](images[:1]).items()}
    return {**example["predict"](images), **alone}
