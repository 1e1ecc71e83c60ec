"""How good clusters are: by labels where there are some, and by themselves."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, silhouette_score
from sklearn.metrics.cluster import contingency_matrix
from torch import Tensor

from ssl_transfer.evaluation.metrics import wilson_interval

Whole = NDArray[np.integer]
SAMPLE = 2000  # points whose silhouette is computed, each against all of them


def cluster_figures(
    found: Whole | Tensor,
    labels: Whole | Tensor | None = None,
    vectors: NDArray[np.floating] | Tensor | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Figures of clusters that were found without labels.

    Args:
        found: the clusters `(N,)`; −1 is noise.
        labels: the classes `(N,)`; −1 has none and is left out of what compares with them.
        vectors: what was clustered, `(N, D)`, for the silhouette.
        seed: of the sample for the silhouette.

    Returns:
        `clusters`, how many; `noise_share`. With vectors and two clusters or more `silhouette`, of a sample. With
        labels `nmi` (normalised by the arithmetic mean), `ari` (Hubert and Arabie 1985), both with noise as a cluster
        of its own, and `hungarian_accuracy` with its 95 % interval `_low` and `_high`: clusters are matched with
        classes one to one in the best way (Kuhn 1955); images of clusters without a class are wrong, and so is noise.

    >>> figures = cluster_figures(np.array([1, 1, 0, 0, -1]), np.array([0, 0, 1, 1, 1]))
    >>> figures["clusters"], figures["noise_share"], figures["hungarian_accuracy"]
    (2.0, 0.2, 0.8)
    """
    clusters = np.asarray(found)
    noise = clusters < 0
    figures = {"clusters": float(len(np.unique(clusters[~noise]))), "noise_share": float(noise.mean())}
    score = None if vectors is None else silhouette(vectors, clusters, seed=seed)
    if score is not None:
        figures["silhouette"] = score
    classes = np.full(len(clusters), -1) if labels is None else np.asarray(labels)
    known = classes >= 0
    return figures | _beside(clusters[known], classes[known]) if known.any() else figures


def _beside(found: Whole, labels: Whole) -> dict[str, float]:
    accuracy = hungarian_accuracy(found, labels)
    low, high = wilson_interval(accuracy, len(labels))
    return {
        "nmi": float(normalized_mutual_info_score(labels, found)),
        "ari": float(adjusted_rand_score(labels, found)),
        "hungarian_accuracy": accuracy,
        "hungarian_accuracy_low": low,
        "hungarian_accuracy_high": high,
    }


def hungarian_accuracy(found: Whole, labels: Whole) -> float:
    """The share of images whose cluster `(N,)` is matched with their class `(N,)`, one to one in the best way.

    >>> hungarian_accuracy(np.array([2, 2, 2, 0]), np.array([1, 1, 0, 0]))
    0.75
    """
    inside = found >= 0
    if not inside.any():
        return 0.0
    counts = contingency_matrix(labels[inside], found[inside])
    return float(counts[linear_sum_assignment(counts, maximize=True)].sum() / len(found))


def silhouette(
    vectors: NDArray[np.floating] | Tensor, found: Whole | Tensor, most: int = SAMPLE, seed: int = 0
) -> float | None:
    """Mean silhouette (Rousseeuw 1987) of clusters `(N,)` of vectors `(N, D)`, on at most `most` points drawn by seed.

    Noise is left out. None where fewer than two clusters are left, or none has two points.
    """
    clusters = np.asarray(found)
    rows = np.flatnonzero(clusters >= 0)
    if len(rows) > most:
        rows = np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))
    if not 2 <= len(np.unique(clusters[rows])) < len(rows):
        return None
    points = vectors[torch.from_numpy(rows)].cpu().numpy() if isinstance(vectors, Tensor) else vectors[rows]
    return float(silhouette_score(points, clusters[rows]))
