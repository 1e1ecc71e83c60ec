"""The figures of a map against scikit-learn, slow references and maps whose worth is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from torch import Tensor

from ssl_transfer.evaluation.map_quality import map_quality


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor, Tensor]:
    """500 digits with a little noise, so that no distances are tied; their first two axes; classes."""
    images, classes = load_digits(return_X_y=True)
    space = images[:500] + 0.01 * np.random.default_rng(0).normal(size=(500, 64))
    return torch.tensor(space), torch.tensor(PCA(2).fit_transform(space)), torch.tensor(classes[:500])


def test_against_scikit_learn(digits: tuple[Tensor, Tensor, Tensor]) -> None:
    space, coordinates, classes = digits
    figures = map_quality(space, coordinates, classes, k=(5, 10, 15))
    for k in (5, 10, 15):
        expected = trustworthiness(space.numpy(), coordinates.numpy(), n_neighbors=k)
        assert figures[f"trustworthiness_{k}"] == pytest.approx(expected, abs=1e-6)
        expected = trustworthiness(coordinates.numpy(), space.numpy(), n_neighbors=k)
        assert figures[f"continuity_{k}"] == pytest.approx(expected, abs=1e-6)
    for k in (10, 100):
        near = [NearestNeighbors(n_neighbors=k).fit(x).kneighbors()[1] for x in (space.numpy(), coordinates.numpy())]
        shared = np.mean([len(np.intersect1d(a, b)) / k for a, b in zip(*near, strict=True)])
        assert figures[f"knn_recall_{k}"] == pytest.approx(shared, abs=1e-4)
    whole = spearmanr(*(torch.pdist(x).numpy() for x in (space, coordinates))).statistic
    assert figures["distance_spearman"] == pytest.approx(whole, abs=0.02)


def test_the_label_knn_is_leave_one_out_or_of_the_training_points(digits: tuple[Tensor, Tensor, Tensor]) -> None:
    _, coordinates, classes = digits
    x, y = coordinates.float().numpy(), classes.numpy()
    figures = map_quality(coordinates, coordinates, classes)
    nearest = NearestNeighbors(n_neighbors=1).fit(x).kneighbors()[1][:, 0]  # of the points themselves: not oneself
    assert figures["knn_accuracy_1"] == pytest.approx(np.mean(y[nearest] == y))
    train = coordinates[:300], classes[:300]
    figures = map_quality(coordinates[300:], coordinates[300:], classes[300:], train)
    expected = KNeighborsClassifier(1).fit(x[:300], y[:300]).score(x[300:], y[300:])
    assert figures["knn_accuracy_1"] == pytest.approx(expected)
    ten = KNeighborsClassifier(10).fit(x[:300], y[:300]).score(x[300:], y[300:])
    assert figures["knn_accuracy_10"] == pytest.approx(ten, abs=0.03)  # ties are broken otherwise


def test_points_without_a_label_neither_vote_nor_count() -> None:
    line = torch.arange(12.0)[:, None]
    labels = torch.tensor([0] * 4 + [-1] * 4 + [1] * 4)
    assert map_quality(line, line, labels, k=2)["knn_accuracy_1"] == 1
    assert "knn_accuracy_10" not in map_quality(line, line, labels, k=2)
    assert "knn_accuracy_1" not in map_quality(line, line, torch.full((12,), -1), k=2)


def test_in_a_tie_the_nearest_wins() -> None:
    bank = torch.tensor([1.0, 2, 3, 4, 5, 6, 7, 8, 9, 10])[:, None]
    classes = torch.tensor([1, 0, 0, 1, 0, 1, 0, 1, 0, 1])
    points = torch.linspace(-1, 0, 5)[:, None]
    assert map_quality(points, points, torch.ones(5), (bank, classes), k=1)["knn_accuracy_10"] == 1


def test_maps_whose_worth_is_known() -> None:
    space = torch.randn(400, 3, generator=torch.Generator().manual_seed(0))
    perfect = map_quality(space, 5 * space - 2)
    assert set(perfect.values()) == {1.0} or min(perfect.values()) > 1 - 1e-6
    mirrored = map_quality(space, space * torch.tensor([-1.0, 1.0, 1.0]))
    assert mirrored["triplet_agreement"] == mirrored["trustworthiness_10"] == mirrored["knn_recall_100"] == 1
    for worthless in (torch.randn(400, 2, generator=torch.Generator().manual_seed(1)), torch.zeros(400, 2)):
        figures = map_quality(space, worthless)
        assert figures["trustworthiness_10"] == pytest.approx(0.5, abs=0.08)
        assert figures["continuity_10"] == pytest.approx(0.5, abs=0.04)
        assert figures["distance_spearman"] == pytest.approx(0, abs=0.02)
        assert figures["triplet_agreement"] == pytest.approx(0.5, abs=0.02)
        assert figures["knn_recall_100"] == pytest.approx(0.25, abs=0.02)


def test_a_sample_estimates_what_all_points_say(digits: tuple[Tensor, Tensor, Tensor]) -> None:
    space, coordinates, classes = digits
    exact = map_quality(space, coordinates, classes)
    sampled = map_quality(space, coordinates, classes, sample=200)
    assert sampled == map_quality(space, coordinates, classes, sample=200)
    assert sampled != map_quality(space, coordinates, classes, sample=200, seed=1)
    draws = [map_quality(space, coordinates, sample=100, seed=seed)["trustworthiness_10"] for seed in range(10)]
    assert np.mean(draws) == pytest.approx(exact["trustworthiness_10"], abs=0.006)
    assert exact.keys() == sampled.keys()


def test_wide_coordinates_are_measured_alike(digits: tuple[Tensor, Tensor, Tensor]) -> None:
    space, _, classes = digits
    rotated = space @ torch.linalg.qr(torch.randn(64, 64, dtype=torch.float64)).Q + 100
    figures = map_quality(space, rotated, classes, (rotated, classes))
    assert figures["trustworthiness_10"] > 0.99999 and figures["knn_recall_100"] > 0.999
    assert figures["knn_accuracy_1"] == 1


def test_neighbourhoods_that_do_not_fit_are_left_out() -> None:
    few = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    figures = map_quality(few, few[:, :2])
    assert "trustworthiness_10" in figures and "knn_recall_10" in figures
    assert "trustworthiness_15" not in figures and "knn_recall_100" not in figures
    assert list(map_quality(few[:5], few[:5])) == ["distance_spearman", "triplet_agreement"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"space": torch.zeros(4, 2), "coordinates": torch.zeros(4, 2)}, "at least 5 points"),
        ({"coordinates": torch.zeros(9, 2)}, "one row for each"),
        ({"coordinates": torch.full((10, 2), torch.nan)}, "10 of 10 rows of coordinates are not finite"),
        ({"space": torch.zeros(10)}, "must be vectors"),
        ({"labels": torch.zeros(3)}, "one each"),
        ({"labels": torch.zeros(10), "train": (torch.zeros(5, 3), torch.zeros(5))}, "of one reduction"),
        ({"k": 0}, "k must be 1 or more"),
        ({"sample": 0}, "sample must be"),
    ],
)
def test_mistakes_are_named(given: dict[str, object], message: str) -> None:
    usual: dict[str, object] = {"space": torch.rand(10, 3), "coordinates": torch.rand(10, 2)}
    with pytest.raises(ValueError, match=message):
        map_quality(**usual | given)  # type: ignore[arg-type]
