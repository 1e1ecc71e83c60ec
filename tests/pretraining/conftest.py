"""What the tests of the objectives share: the digits, a small network, and how well kNN reads features."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ssl_transfer.data.batch import Batch
from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.data.splits import draw_label_budget
from ssl_transfer.encoders import EncoderSpec, build_encoder, load_encoder
from ssl_transfer.evaluation.features import Features
from ssl_transfer.evaluation.floors import encode_all, random_encoder
from ssl_transfer.evaluation.probes import accuracy, knn_scores
from ssl_transfer.pretraining import Objective
from ssl_transfer.running.fit import fit
from ssl_transfer.running.summary import read_curves

SPEC = EncoderSpec(arguments={"widths": [16, 32, 64], "strides": [1, 2, 2]}, pool=2)


@pytest.fixture
def spec() -> EncoderSpec:
    """A residual network of three stages that reads the digits in milliseconds."""
    return replace(SPEC)


@pytest.fixture
def batch() -> Batch:
    """Eight images of 12×12 with three channels."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (8, 3, 12, 12), dtype=torch.uint8, generator=generator)
    return Batch(images, torch.arange(8), torch.arange(100, 108))


@pytest.fixture
def built() -> Callable[[Objective], Objective]:
    """An objective with its networks, in no trainer."""

    def build(module: Objective) -> Objective:
        torch.manual_seed(0)
        module.encoder = build_encoder(module.chosen_encoder[0], (3, 12, 12), [0.4, 0.5, 0.6], [0.2, 0.3, 0.25])
        module.build_heads()
        return module

    return build


def few_label_knn(features: Features, data: ImageDataModule) -> float:
    """Test accuracy of kNN where ten images a class vote, mean of five draws."""
    test, values = data.indices("test"), []
    for seed in range(5):
        rows = draw_label_budget(data.table, data.indices("train"), 10, seed)
        bank, targets = features.features[rows], features.targets[rows]
        scores = knn_scores(bank, targets, features.features[test], data.num_classes, k=5)
        values.append(accuracy(scores, features.targets[test]))
    return statistics.fmean(values)


@pytest.fixture
def gain(digits: ImageDataModule, tmp_path: Path) -> Callable[..., float]:
    """Pretrain, check that the loss falls, and return by how much kNN beats the same network with random weights."""

    def pretrain(module: Objective, epochs: int, spec: EncoderSpec) -> float:
        options = {"max_epochs": epochs, "precision": "32-true", "enable_progress_bar": False, "verbose": False}
        run = fit(module, digits, tmp_path / "run", **options)
        curves = read_curves(run)
        for name in ("train/loss", "val/loss"):
            losses = [value for _, value in curves[name]]
            assert len(losses) == epochs and losses[-1] < 0.75 * losses[0]
        learned = few_label_knn(encode_all(load_encoder(run.encoder), digits), digits)
        return learned - few_label_knn(encode_all(random_encoder(digits, spec), digits), digits)

    return pretrain
