"""Held-out readings and learning curves on the pixels of the digits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from ssl_transfer.evaluation.cross_validation import held_out_right, knn_probe, learning_curve, linear_probe
from ssl_transfer.evaluation.folds import stratified_folds
from ssl_transfer.evaluation.probes import knn_scores


@pytest.fixture(scope="module")
def pixels() -> tuple[Tensor, Tensor]:
    x, y = load_digits(return_X_y=True)
    return torch.from_numpy(x[:300]).float() / 16, torch.from_numpy(y[:300])


def test_each_image_is_judged_by_the_other_folds(pixels: tuple[Tensor, Tensor]) -> None:
    x, y = pixels
    fold = stratified_folds(y, 3)

    def nearest(features: Tensor, targets: Tensor, asked: Tensor, classes: int) -> Tensor:
        return knn_scores(features, targets, asked, classes, k=1)

    right = held_out_right(nearest, x, y, 10, fold)
    splits = [(np.flatnonzero(fold != f), np.flatnonzero(fold == f)) for f in range(3)]
    model = KNeighborsClassifier(1, metric="cosine", algorithm="brute")
    expected = cross_val_predict(model, x.numpy(), y.numpy(), cv=splits) == y.numpy()
    assert (right.numpy() == expected).mean() > 0.99  # but for ties


def test_rows_of_no_fold_are_only_learned_from(pixels: tuple[Tensor, Tensor]) -> None:
    x, y = pixels
    fold = stratified_folds(y, 3)
    never = (y == 7).numpy()
    never[:30] = True
    fold[never] = -1
    right = held_out_right(linear_probe, x, y, 10, fold)
    assert not right[never].any() and right[~never].float().mean() > 0.8
    (point,) = learning_curve(linear_probe, "p", x, y, 10, fold, [100])
    assert point.labels == pytest.approx((never.sum() + (~never).sum() * 2 / 3) / 10)


@pytest.mark.parametrize("probe", [linear_probe, knn_probe])
def test_a_curve_rises_and_ends_with_all_labels(pixels: tuple[Tensor, Tensor], probe: object) -> None:
    x, y = pixels
    fold = stratified_folds(y, 3)
    points = learning_curve(probe, "p", x, y, 10, fold, [1, 5, 100])  # type: ignore[arg-type]
    accuracies = [point.accuracy for point in points]
    assert accuracies[0] + 0.1 < accuracies[1] < accuracies[2]
    assert [point.labels for point in points] == [1, 5, pytest.approx(20)]
    whole = held_out_right(probe, x, y, 10, fold).float().mean()  # type: ignore[arg-type]
    assert accuracies[2] == pytest.approx(float(whole), abs=0.01)
    assert all(0 < point.error < 0.1 for point in points)
