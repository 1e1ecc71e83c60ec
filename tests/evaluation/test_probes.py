"""The probes against scikit-learn and closed forms, on the pixels of the digits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from ssl_transfer.evaluation.probes import accuracy, knn_scores, select_logistic, solve_logistic, solve_ridge

Split = tuple[Tensor, Tensor]


@pytest.fixture(scope="module")
def digits() -> tuple[Split, Split]:
    x, y = load_digits(return_X_y=True)
    features, targets = torch.from_numpy(x).float() / 16, torch.from_numpy(y)
    return (features[:900], targets[:900]), (features[900:], targets[900:])


def test_knn_is_scikit_learn_s_with_cosine_weights(digits: tuple[Split, Split]) -> None:
    (bank, targets), (queries, truth) = digits
    ours = knn_scores(bank, targets, queries, classes=10, k=20, temperature=0.1, chunk=128)
    reference = KNeighborsClassifier(
        20, metric="cosine", algorithm="brute", weights=lambda distance: np.exp((1 - distance) / 0.1)
    ).fit(bank.numpy(), targets.numpy())
    np.testing.assert_allclose(ours.numpy(), reference.predict_proba(queries.numpy()), atol=1e-4)
    assert accuracy(ours, truth) == pytest.approx(reference.score(queries.numpy(), truth.numpy()), abs=1e-3)
    assert accuracy(ours, truth) > 0.93


def test_knn_by_hand() -> None:
    """Two votes for class 1 at similarity 0 weigh against one for class 0 at similarity 1 as 2 to exp(1/t)."""
    bank, targets = torch.tensor([[1.0, 0.0], [0.0, 3.0], [0.0, 0.5]]), torch.tensor([0, 1, 1])
    scores = knn_scores(bank, targets, torch.tensor([[7.0, 0.0]]), classes=3, k=3, temperature=1.0)
    e = float(np.e)
    torch.testing.assert_close(scores, torch.tensor([[e / (e + 2), 2 / (e + 2), 0.0]]))
    few = knn_scores(bank, targets, torch.tensor([[0.0, 1.0]]), classes=3, k=50, temperature=0.01)
    assert few.shape == (1, 3) and float(few.sum()) == pytest.approx(1)  # k beyond the bank


def test_logistic_is_scikit_learn_s(digits: tuple[Split, Split]) -> None:
    (train, targets), (test, truth) = digits
    l2 = 1e-2
    head = solve_logistic(train, targets, 10, l2=l2, steps=500)
    scaler = StandardScaler().fit(train.numpy())
    # scikit-learn: C · Σ cross-entropy + ‖W‖²/2, so C = 1 / (N · l2)
    reference = LogisticRegression(C=1 / (len(train) * l2), tol=1e-6, max_iter=2000)
    reference.fit(scaler.transform(train.numpy()), targets.numpy())
    ours = head(test).softmax(1).numpy()
    np.testing.assert_allclose(ours, reference.predict_proba(scaler.transform(test.numpy())), atol=2e-2)
    assert accuracy(head(test), truth) > 0.92
    assert head.weight.shape == (10, 64) and head.bias.shape == (10,)


def test_logistic_s_gradient_vanishes_at_its_solution(digits: tuple[Split, Split]) -> None:
    (train, targets), _ = digits
    l2 = 1e-1
    head = solve_logistic(train, targets, 10, l2=l2, steps=500)
    mean, scale = train.mean(0), train.std(0, correction=0).clamp(min=1e-4)
    x, weight = (train - mean) / scale, head.weight * scale
    residual = head(train).softmax(1) - torch.nn.functional.one_hot(targets, 10)
    gradient = residual.T @ x / len(x) + l2 * weight
    assert float(gradient.abs().max()) < 1e-3
    assert float((residual.sum(0) / len(x)).abs().max()) < 1e-3


def test_logistic_of_balanced_classes_without_signal_is_the_prior() -> None:
    features = torch.ones(90, 4)
    head = solve_logistic(features, torch.arange(90) % 3, 3)
    torch.testing.assert_close(head(features[:1]).softmax(1), torch.full((1, 3), 1 / 3))


def test_a_warm_start_leads_to_the_same_head(digits: tuple[Split, Split]) -> None:
    (train, targets), _ = digits
    start = solve_logistic(train, targets, 10, l2=1e-1)
    cold, warm = (solve_logistic(train, targets, 10, l2=3e-2, start=s, steps=500) for s in (None, start))
    torch.testing.assert_close(cold(train).softmax(1), warm(train).softmax(1), rtol=0, atol=5e-3)


def test_solving_works_within_inference_mode(digits: tuple[Split, Split]) -> None:
    (train, targets), _ = digits
    with torch.inference_mode():
        inside = solve_logistic(train[:200] * 1, targets[:200] * 1, 10)
    outside = solve_logistic(train[:200], targets[:200], 10)
    torch.testing.assert_close(inside.weight.clone(), outside.weight)


def test_ridge_is_scikit_learn_s(digits: tuple[Split, Split]) -> None:
    (train, targets), (test, truth) = digits
    head = solve_ridge(train, targets, 10, l2=1e-2)
    x = ((train - train.mean(0)) / train.std(0, correction=0).clamp(min=1e-4)).double()
    reference = Ridge(alpha=1e-2 * len(train)).fit(x.numpy(), np.eye(10)[targets.numpy()])
    np.testing.assert_allclose(head(train).numpy(), reference.predict(x.numpy()), atol=1e-4)
    assert accuracy(head(test), truth) > 0.88


def test_the_penalty_is_chosen_on_held_out_images(digits: tuple[Split, Split]) -> None:
    (train, targets), (held, truth) = digits
    few = (train[:40], targets[:40])
    head, l2 = select_logistic(few, (held, truth), 10)
    scores = {
        value: accuracy(solve_logistic(*few, 10, value, steps=500)(held), truth) for value in (0.1, 1e-2, 1e-3, 1e-4)
    }
    assert scores[l2] >= max(scores.values()) - 0.01
    assert accuracy(head(held), truth) == pytest.approx(scores[l2], abs=0.01)


def test_without_held_out_images_it_is_chosen_by_cross_validation(digits: tuple[Split, Split]) -> None:
    (train, targets), (held, truth) = digits
    empty = (train[:0], targets[:0])
    first, l2 = select_logistic((train[:100], targets[:100]), None, 10, grid=(10.0, 1e-2))
    second, again = select_logistic((train[:100], targets[:100]), empty, 10, grid=(10.0, 1e-2))
    assert l2 == again == 1e-2 and torch.equal(first.weight, second.weight)
    assert accuracy(first(held), truth) > 0.75


def test_one_image_a_class_is_enough() -> None:
    features = torch.eye(4)
    head, _ = select_logistic((features, torch.arange(4)), None, 4)
    assert accuracy(head(features), torch.arange(4)) == 1.0


def test_on_a_common_scale_features_keep_their_proportions() -> None:
    """As scikit-learn has it, to whose logistic regression our penalty translates as C = 1 / (N l2)."""
    torch.manual_seed(0)
    targets = torch.arange(60) % 3
    features = torch.randn(60, 4) * torch.tensor([3.0, 1.0, 0.1, 0.01]) + torch.eye(3, 4)[targets] + 5
    head, l2 = select_logistic((features, targets), None, 3, grid=[1e-2], common_scale=True)
    scale = features.var(0, correction=0).mean().sqrt()
    peer = LogisticRegression(C=1 / (60 * l2), tol=1e-8, max_iter=10_000).fit(((features - 5) / scale).numpy(), targets)
    expected = torch.from_numpy(peer.predict_proba(((features - 5) / scale).numpy())).float()
    assert torch.allclose(head(features).softmax(1), expected, atol=2e-3)
