"""Heads for several labels and for numbers, against scikit-learn and slow references, on the pixels of the digits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression, Ridge, RidgeCV
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from ssl_transfer.evaluation.probes import Rotated, accuracy, select_logistic, solve_logistic
from ssl_transfer.evaluation.solvers import (
    leave_one_out,
    select_binary_logistic,
    select_regression,
    solve_binary_logistic,
    solve_regression,
)

Split = tuple[Tensor, Tensor]


@pytest.fixture(scope="module")
def digits() -> tuple[Split, Split]:
    x, y = load_digits(return_X_y=True)
    features, targets = torch.from_numpy(x).float() / 16, torch.from_numpy(y)
    return (features[:900], targets[:900]), (features[900:], targets[900:])


def labels_of(targets: Tensor) -> Tensor:
    """Even, above four, seven."""
    return torch.stack([targets % 2 == 0, targets > 4, targets == 7], dim=1).float()


def test_binary_logistic_is_scikit_learn_s_label_by_label(digits: tuple[Split, Split]) -> None:
    (train, targets), (test, truth) = digits
    labels, l2 = labels_of(targets), 1e-2
    head = solve_binary_logistic(train, labels, l2=l2, steps=500)
    assert head.weight.shape == (3, 64) and head.bias.shape == (3,)
    scaler = StandardScaler().fit(train.numpy())
    for k in range(3):
        reference = LogisticRegression(C=1 / (len(train) * l2), tol=1e-6, max_iter=2000)
        reference.fit(scaler.transform(train.numpy()), labels[:, k].numpy())
        expected = reference.predict_proba(scaler.transform(test.numpy()))[:, 1]
        np.testing.assert_allclose(head(test)[:, k].sigmoid().numpy(), expected, atol=2e-2)
    right = (head(test) > 0) == (labels_of(truth) > 0)
    assert (right.float().mean(0) > torch.tensor([0.85, 0.8, 0.97])).all()


def test_a_weighted_label_is_one_repeated(digits: tuple[Split, Split]) -> None:
    """Three times the weight of the images that have a label is three copies of each."""
    (train, targets), (test, _) = digits
    labels = (targets == 7).float()[:, None]
    weighted = solve_binary_logistic(train, labels, l2=1e-2, weights=torch.tensor([3.0]), steps=500)
    scaler = StandardScaler().fit(train.numpy())
    weight = np.where(labels[:, 0].numpy() == 1, 3.0, 1.0)
    reference = LogisticRegression(C=1 / (len(train) * 1e-2), tol=1e-6, max_iter=2000)
    reference.fit(scaler.transform(train.numpy()), labels[:, 0].numpy(), sample_weight=weight)
    expected = reference.predict_proba(scaler.transform(test.numpy()))[:, 1]
    np.testing.assert_allclose(weighted(test)[:, 0].sigmoid().numpy(), expected, atol=2e-2)


def test_weighted_classes_are_scikit_learn_s(digits: tuple[Split, Split]) -> None:
    (train, targets), (test, truth) = digits
    rows = torch.arange(len(train))[(targets < 2) | (torch.arange(len(train)) % 5 == 0)]  # zeros and ones prevail
    x, y = train[rows], targets[rows]
    weights = len(y) / (10 * torch.bincount(y, minlength=10).float())
    head = solve_logistic(x, y, 10, l2=1e-2, steps=500, weights=weights)
    scaler = StandardScaler().fit(x.numpy())
    reference = LogisticRegression(C=1 / (len(x) * 1e-2), tol=1e-6, max_iter=2000, class_weight="balanced")
    reference.fit(scaler.transform(x.numpy()), y.numpy())
    expected = reference.predict_proba(scaler.transform(test.numpy()))
    np.testing.assert_allclose(head(test).softmax(1).numpy(), expected, atol=3e-2)
    chosen, l2 = select_logistic((x, y), (test, truth), 10, weights=weights)
    assert accuracy(chosen(test), truth, weights) >= accuracy(head(test), truth, weights) - 0.02 and l2 > 0


def test_weighted_accuracy_by_hand() -> None:
    scores, targets = torch.eye(3), torch.tensor([0, 1, 0])
    assert accuracy(scores, targets) == pytest.approx(2 / 3)
    assert accuracy(scores, targets, torch.tensor([1.0, 4.0, 9.0])) == pytest.approx(5 / 6)


def test_regression_is_scikit_learn_s(digits: tuple[Split, Split]) -> None:
    (train, targets), (test, truth) = digits
    values = 3.0 * targets + 10
    head = solve_regression(train, values, l2=1e-2)
    assert head.weight.shape == (1, 64) and head.bias.shape == (1,)
    x = ((train - train.mean(0)) / train.std(0, correction=0).clamp(min=1e-4)).double()
    reference = Ridge(alpha=1e-2 * len(train)).fit(x.numpy(), values.numpy())
    np.testing.assert_allclose(head(train)[:, 0].numpy(), reference.predict(x.numpy()), atol=1e-3)
    assert float((head(test)[:, 0] / 3 - 10 / 3 - truth).square().mean()) < 0.6 * float(truth.float().var())


@pytest.mark.parametrize("count", [20, 60, 200])  # less and more images than coordinates
def test_leaving_one_out_is_solving_without_it(count: int, digits: tuple[Split, Split]) -> None:
    """On features already standardised, the closed form is N ridge regressions, each without one image."""
    (train, targets), _ = digits
    rotated = Rotated.of(train[:count])
    x, y, l2 = rotated.x.double(), targets[:count].double(), 0.05
    expected = []
    for row in range(count):
        others = [i for i in range(count) if i != row]
        reference = Ridge(alpha=l2 * count).fit(x[others].numpy(), y[others].numpy())
        expected.append(float(y[row]) - reference.predict(x[row : row + 1].numpy())[0])
    np.testing.assert_allclose(leave_one_out(rotated, y, l2).numpy(), expected, rtol=1e-3, atol=1e-3)


def test_the_penalty_of_a_regression_is_scikit_learn_s_choice(digits: tuple[Split, Split]) -> None:
    (train, targets), (held, truth) = digits
    few, y = train[:80], targets[:80].float()
    grid = (10.0, 1.0, 0.1, 0.01, 0.001)
    x = Rotated.of(few).x.double().numpy()
    reference = RidgeCV(alphas=[l2 * len(few) for l2 in grid]).fit(x, y.numpy())
    head, l2 = select_regression((few, y), None, grid)
    assert l2 * len(few) == pytest.approx(reference.alpha_)
    np.testing.assert_allclose(head(few)[:, 0].numpy(), reference.predict(x), atol=1e-2)
    held_out, by_held_out = select_regression((few, y), (held, truth.float()), grid)
    errors = {p: float((solve_regression(few, y, p)(held)[:, 0] - truth).square().mean()) for p in grid}
    assert by_held_out == min(errors, key=lambda p: errors[p])
    assert held_out.weight.shape == (1, 64)


def test_the_penalty_of_labels_is_chosen_on_held_out_images(digits: tuple[Split, Split]) -> None:
    (train, targets), (held, truth) = digits
    few, labels, y = train[:60], labels_of(targets[:60]), labels_of(truth)
    grid = (10.0, 1e-1, 1e-2, 1e-4)
    _, l2 = select_binary_logistic((few, labels), (held, y), grid)
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    losses = {p: float(bce(solve_binary_logistic(few, labels, p)(held), y)) for p in grid}
    assert l2 == min(losses, key=lambda p: losses[p])
    _, by_folds = select_binary_logistic((few, labels), None, grid)
    assert by_folds in grid[1:]


def test_few_images_are_enough() -> None:
    features = torch.eye(4)
    head, _ = select_regression((features, torch.arange(4.0)), None)
    assert head(features).shape == (4, 1)
    for count in (1, 2, 3):
        labels = torch.ones(count, 2)
        head, l2 = select_binary_logistic((features[:count], labels), None)
        assert torch.isfinite(head(features)).all() and l2 in (1e-1, 1e-2, 1e-3, 1e-4)
    constant = solve_regression(features, torch.full((4,), 2.5))
    torch.testing.assert_close(constant(features), torch.full((4, 1), 2.5))


def test_solving_works_within_inference_mode(digits: tuple[Split, Split]) -> None:
    (train, targets), _ = digits
    labels = labels_of(targets[:200])
    with torch.inference_mode():
        inside = solve_binary_logistic(train[:200] * 1, labels * 1)
        number = solve_regression(train[:200] * 1, targets[:200] * 1.0)
    torch.testing.assert_close(inside.weight.clone(), solve_binary_logistic(train[:200], labels).weight)
    torch.testing.assert_close(number.weight.clone(), solve_regression(train[:200], targets[:200] * 1.0).weight)
