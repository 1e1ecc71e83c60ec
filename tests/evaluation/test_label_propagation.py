"""Label propagation: against the closed form and scikit-learn, and its limits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.evaluation.floors import RawPixels, encode_all
from ssl_transfer.evaluation.label_propagation import DIMENSIONS, _graph, _solve, propagate_labels, surest_labels


def test_the_closed_form() -> None:
    torch.manual_seed(0)
    features = torch.randn(60, 5)
    targets = np.full(60, -1)
    targets[:6] = [0, 1, 2, 0, 1, 2]
    graph = _graph(features, 5)
    inverse = np.linalg.inv(np.eye(60) - 0.9 * graph.toarray())
    expected = inverse @ np.eye(4)[targets][:, :3]
    np.testing.assert_allclose(_solve(graph, targets, 3, 0.9), np.maximum(expected, 0), atol=1e-4)
    np.testing.assert_allclose(graph.toarray(), graph.toarray().T, atol=1e-6)


def test_two_bows_from_one_label_each() -> None:
    """Each class is a bow, along which neighbours lead from its only label to its far end."""
    rng = np.random.default_rng(0)
    angle, truth = rng.uniform(0, 2.5, 600), rng.integers(0, 2, 600)
    points = np.stack([np.cos(angle), np.sin(angle), 1.2 * truth - 0.6], 1) @ rng.normal(size=(3, 200))
    targets = torch.full((600,), -1)
    for label in (0, 1):
        targets[int(np.flatnonzero((truth == label) & (angle < 0.3))[0])] = label
    shares, certainty = propagate_labels(torch.from_numpy(points).float(), targets, 2, k=8, alpha=0.99)
    assert points.shape[1] > DIMENSIONS
    assert float((shares.argmax(1).numpy() == truth).mean()) > 0.9
    torch.testing.assert_close(shares.sum(1), torch.ones(600))
    assert certainty.min() >= 0 and certainty.max() <= 1


def test_what_no_label_reaches_stays_open() -> None:
    features = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.1, 0.0], [-1.0, 0.0, 5.0], [-1.0, 0.1, 5.0]])
    shares, certainty = propagate_labels(features, torch.tensor([0, -1, -1, -1]), 2, k=1)
    assert shares[0].tolist() == [1.0, 0.0] and certainty[0] == 1
    assert shares[1, 0] > 0.99
    assert shares[2].tolist() == [0.5, 0.5] and certainty[2] == 0
    assert surest_labels(shares, certainty, torch.tensor([0, -1, -1, -1]), 1.0).tolist() == [0, 0, -1, -1]


def test_digits_gain_from_those_without_a_label(digits: ImageDataModule) -> None:
    few = digits.few(1, seed=0)
    more = few.with_unlabelled()
    rows = more.indices("train")
    features = encode_all(RawPixels(), digits).features[rows]
    known = torch.from_numpy(more.table.targets[rows])
    truth = torch.from_numpy(digits.table.targets[rows])
    shares, certainty = propagate_labels(features, known, 10)
    labels = surest_labels(shares, certainty, known)
    assert int((known >= 0).sum()) == 10 and int((labels >= 0).sum()) > 500
    sure = labels >= 0
    right = (shares.argmax(1) == truth).float()
    assert right.mean() > 0.6 and right[sure].mean() > right.mean()
    assert torch.equal(labels[known >= 0], known[known >= 0])


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_how_many_are_kept(share: float) -> None:
    shares, certainty = torch.eye(3).repeat(4, 1), torch.linspace(0.1, 1, 12)
    targets = torch.full((12,), -1)
    targets[0] = 2
    labels = surest_labels(shares, certainty, targets, share)
    assert labels[0] == 2 and int((labels >= 0).sum()) == (12 if share else 1)


@pytest.mark.parametrize("target", [-1, 1])
def test_a_lone_row_has_no_neighbour(target: int) -> None:
    shares, certainty = propagate_labels(torch.ones(1, 3), torch.tensor([target]), 2)
    assert shares.tolist() == ([[0.5, 0.5]] if target < 0 else [[0.0, 1.0]]) and float(certainty) == (target > 0)
