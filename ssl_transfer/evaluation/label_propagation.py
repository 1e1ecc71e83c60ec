"""Few labels spread over many unlabelled images, along a graph of nearest neighbours."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import csr_array, diags_array, eye_array
from scipy.sparse.linalg import cg
from torch import Tensor

from ssl_transfer.evaluation.neighbours import nearest

DIMENSIONS = 128  # principal components in which neighbours are sought
_TOLERANCE, _STEPS = 1e-6, 200  # of the conjugate gradients


def propagate_labels(
    features: Tensor, targets: Tensor, classes: int, k: int = 10, alpha: float = 0.95
) -> tuple[Tensor, Tensor]:
    """Class shares `(N, K)` of every row, spread from the labelled ones to their neighbours, and how sure they are.

    Solves (I − α D^-½ W D^-½) Z = Y (Zhou et al. 2004, https://papers.nips.cc/paper/2506), where W joins each row with
    its k nearest by the cosine, found among at most 128 principal components. Each class's column is scaled to the
    same sum, so that a class does not win by lying where rows are dense. The certainty `(N,)` is 1 − entropy / log K
    (Iscen et al. 2019, https://arxiv.org/abs/1904.04717); labelled rows keep their label, with a certainty of 1. Rows
    that no label reaches have equal shares and a certainty of 0.

    Args:
        features: `(N, D)`, of labelled and unlabelled images.
        targets: `(N,)`, −1 without a label.
        classes: K.
        k: neighbours of a row, fewer where there are fewer rows.
        alpha: how much comes from neighbours, in (0, 1).

    >>> line = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.1, 1.0], [0.0, 1.0]])
    >>> propagate_labels(line, torch.tensor([0, -1, -1, 1]), classes=2, k=1)[0].argmax(1).tolist()
    [0, 0, 1, 1]
    """
    spread = _solve(_graph(features, k), targets.cpu().numpy(), classes, alpha)
    spread /= np.maximum(spread.sum(0, keepdims=True), 1e-12)
    shares = torch.from_numpy(spread).float().to(features.device)
    total = shares.sum(1, keepdim=True)
    reached = total[:, 0] > 1e-12
    shares = torch.where(reached[:, None], shares / total.clamp(min=1e-12), torch.full_like(shares, 1 / classes))
    entropy = -torch.xlogy(shares, shares).sum(1)
    certainty = (1 - entropy / np.log(max(classes, 2))).clamp(0, 1)
    known = targets >= 0
    shares[known] = torch.nn.functional.one_hot(targets[known], classes).to(shares)
    certainty[known] = 1.0
    return shares, certainty


def surest_labels(shares: Tensor, certainty: Tensor, targets: Tensor, share: float = 0.5) -> Tensor:
    """Labels `(N,)` for the labelled rows and, of the rows that go to each class, the surest `share`; −1 elsewhere.

    shares `(N, K)` and certainty `(N,)` as `propagate_labels` gives them, targets `(N,)` those that are known. An equal
    share of every class keeps the easy ones from crowding out the others.

    >>> shares = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.6, 0.4], [0.0, 1.0]])
    >>> surest_labels(shares, torch.tensor([1.0, 0.5, 0.1, 1.0]), torch.tensor([0, -1, -1, 1])).tolist()
    [0, 0, -1, 1]
    """
    labels = torch.where(targets >= 0, targets, -1)
    guessed = shares.argmax(1)
    for label in range(shares.shape[1]):
        rows = torch.nonzero((targets < 0) & (guessed == label) & (certainty > 0))[:, 0]
        kept = rows[certainty[rows].argsort(descending=True, stable=True)[: round(share * len(rows))]]
        labels[kept] = label
    return labels


def _graph(features: Tensor, k: int) -> csr_array:
    """The symmetric, normalised matrix D^-½ W D^-½ of the cosine's nearest neighbours; a lone row has none."""
    count = len(features)
    if count < 2:
        return csr_array((count, count))
    x = torch.nn.functional.normalize(_compressed(features), dim=1)
    distances, neighbours = nearest(x, min(k, count - 1))
    weights = (1 - 0.5 * distances.square()).clamp(min=0).pow(3).flatten().cpu().numpy()  # the cosine, cubed
    rows = np.repeat(np.arange(count), neighbours.shape[1])
    one_way = csr_array((weights, (rows, neighbours.flatten().cpu().numpy())), shape=(count, count))
    both = one_way + one_way.T
    scale = diags_array(1 / np.sqrt(np.maximum(both.sum(1), 1e-12)))
    return csr_array(scale @ both @ scale)


def _compressed(features: Tensor) -> Tensor:
    """The features in at most `DIMENSIONS` principal directions, about their mean."""
    x = features.float() - features.float().mean(0)
    if x.shape[1] <= DIMENSIONS:
        return x
    vectors = torch.linalg.eigh((x.T @ x).double())[1][:, -DIMENSIONS:]
    return x @ vectors.float()


def _solve(graph: csr_array, targets: np.ndarray, classes: int, alpha: float) -> np.ndarray:
    """What each class gives to each row `(N, K)`."""
    system = eye_array(graph.shape[0]) - alpha * graph
    columns = []
    for label in range(classes):
        start = (targets == label).astype(np.float64)
        found, _ = cg(system, start, rtol=_TOLERANCE, maxiter=_STEPS)
        columns.append(np.maximum(found, 0))
    return np.stack(columns, axis=1)
