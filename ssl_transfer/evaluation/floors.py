"""What any encoder must beat, and the fair comparison at a label budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy import stats
from sklearn.decomposition import PCA
from torch import Tensor

from ssl_transfer.data.splits import draw_label_budget
from ssl_transfer.encoders import Encoder, EncoderSpec, build_encoder
from ssl_transfer.evaluation.features import Features, encode
from ssl_transfer.evaluation.probes import accuracy, select_logistic


def encode_all(encoder: torch.nn.Module, data: Any, device: torch.device | str = "cpu") -> Features:
    """Features of every image of a DataModule, row i of the result being row i of its store."""
    return encode(encoder, data.loader("all"), device)


class RawPixels(torch.nn.Module):
    """The pixels themselves as features, in [0, 1]."""

    def forward(self, images: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, C·H·W)`."""
        return images.flatten(1).float() / 255


def floor_features(data: Any, spec: EncoderSpec, seed: int = 0, variance: float = 0.95) -> dict[str, Features]:
    """Features of every image by the floors: raw pixels, PCA, and the network of `spec` with random weights.

    PCA is fitted on the training split and keeps the components that hold `variance` of it.
    """
    pixels = replace(encode_all(RawPixels(), data), common_scale=True)
    train = pixels.features[data.indices("train")]
    pca = PCA(variance).fit(train.numpy())
    reduced = torch.from_numpy(pca.transform(pixels.features.numpy())).float()
    return {
        "Raw pixels": pixels,
        "PCA": replace(pixels, features=reduced),
        "Random encoder": encode_all(random_encoder(data, spec, seed), data),
    }


def random_encoder(data: Any, spec: EncoderSpec, seed: int = 0) -> Encoder:
    """The network of `spec` with fresh weights."""
    torch.manual_seed(seed)
    return build_encoder(spec, data.shape, data.mean, data.std)


def few_label_accuracies(features: Features, data: Any, budget: int, seeds: Sequence[int]) -> list[float]:
    """Test accuracy of a linear head on `budget` labelled training images a class, one value a draw of labels.

    The head's penalty is chosen by cross-validation within the budget.
    """
    test = data.indices("test")
    values = []
    for seed in seeds:
        rows = draw_label_budget(data.table, data.indices("train"), budget, seed)
        train = (features.features[rows], features.targets[rows])
        head, _ = select_logistic(train, None, data.num_classes, common_scale=features.common_scale)
        values.append(accuracy(head(features.features[test]), features.targets[test]))
    return values


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and Student's 95 % interval of independent values; the interval of one value is the value.

    >>> [round(bound, 3) for bound in mean_interval([0.8, 0.9, 1.0])]
    [0.9, 0.652, 1.148]
    """
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, mean, mean
    half = float(stats.t.ppf(0.975, len(values) - 1)) * float(np.std(values, ddof=1)) / len(values) ** 0.5
    return mean, mean - half, mean + half
