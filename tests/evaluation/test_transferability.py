"""LogME, the H-score and LEEP against slow references, limits and each other."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from scipy.stats import multivariate_normal
from sklearn.covariance import LedoitWolf
from sklearn.datasets import load_digits
from torch import Tensor

from ssl_transfer.evaluation.transferability import h_score, leep, log_me


def problem(count: int = 40, width: int = 5, noise: float = 1.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(count) % 3
    centres = torch.randn(3, width, generator=generator)
    return centres[targets] + noise * torch.randn(count, width, generator=generator), targets


def greatest_evidence(x: np.ndarray, y: np.ndarray) -> float:
    """The evidence is a Gaussian density with covariance 1/β + x xᵀ/α: the largest, by a search."""

    def minus_log(logs: np.ndarray) -> float:
        alpha, beta = np.exp(logs)
        covariance = np.eye(len(y)) / beta + x @ x.T / alpha
        return -float(multivariate_normal(np.zeros(len(y)), covariance).logpdf(y))

    return -min(
        float(minimize(minus_log, start, method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-9}).fun)
        for start in ([0.0, 0.0], [3.0, 1.0])
    )


@pytest.mark.parametrize(("count", "width"), [(40, 5), (12, 20)])
def test_log_me_is_the_greatest_evidence(count: int, width: int) -> None:
    features, targets = problem(count, width)
    x, y = features.double().numpy(), F.one_hot(targets, 3).double().numpy()
    expected = np.mean([greatest_evidence(x, y[:, k]) for k in range(3)]) / count
    assert log_me(features, targets, 3) == pytest.approx(expected, abs=2e-3)


def test_log_me_of_features_that_tell_nothing() -> None:
    """Without weights the labels are noise about zero of their own mean square."""
    targets = torch.arange(60) % 2
    expected = -0.5 * (math.log(2 * math.pi * 0.5) + 1)
    assert log_me(torch.zeros(60, 4), targets, 2) == pytest.approx(expected, abs=1e-4)


def test_better_features_have_more_evidence() -> None:
    scores = [log_me(*problem(300, 8, noise), 3) for noise in (0.3, 1.0, 4.0)]
    assert scores == sorted(scores, reverse=True)
    x, y = load_digits(return_X_y=True)
    pixels, targets = torch.from_numpy(x) / 16, torch.from_numpy(y)
    assert log_me(pixels, targets, 10) > log_me(pixels[:, :20], targets, 10) > log_me(pixels[:, :1], targets, 10)


def test_log_me_does_not_see_a_rotation() -> None:
    features, targets = problem(50, 6)
    turn = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(1)))[0]
    assert log_me(features @ turn, targets, 3) == pytest.approx(log_me(features, targets, 3), abs=1e-6)


def test_h_score_by_its_definition() -> None:
    features, targets = problem(90, 5)
    x = features.double().numpy()
    means = np.stack([x[targets.numpy() == k].mean(0) for k in targets.tolist()])
    between = np.cov(means.T, bias=True)
    expected = np.trace(np.linalg.inv(np.cov(x.T, bias=True)) @ between)
    assert h_score(features, targets, 3, shrinkage=0.0) == pytest.approx(expected, rel=1e-9)
    shrunk = LedoitWolf().fit(x)
    expected = (1 - shrunk.shrinkage_) * np.trace(np.linalg.inv(shrunk.covariance_) @ between)
    assert h_score(features, targets, 3) == pytest.approx(expected, rel=1e-9)


def test_h_score_s_limits() -> None:
    targets = torch.arange(400) % 4
    noise = torch.randn(400, 6, generator=torch.Generator().manual_seed(0))
    assert h_score(F.one_hot(targets).float(), targets, 4, shrinkage=0.0) == pytest.approx(3)
    assert h_score(noise, targets, 4, shrinkage=0.0) < 0.1
    assert h_score(torch.zeros(8, 3), torch.arange(8) % 2, 2, shrinkage=0.0) == 0


def test_shrinkage_keeps_few_images_of_wide_features_from_looking_perfect() -> None:
    noise, targets = torch.randn(30, 200, generator=torch.Generator().manual_seed(0)), torch.arange(30) % 3
    assert h_score(noise, targets, 3, shrinkage=0.0) == pytest.approx(2)  # as if they told the classes apart
    assert h_score(noise, targets, 3) < 0.8


def test_leep_by_its_definition() -> None:
    theta = torch.rand(20, 4, generator=torch.Generator().manual_seed(0)).softmax(1)
    targets = torch.arange(20) % 3
    total = 0.0
    for i in range(20):
        told = 0.0
        for z in range(4):
            among = [n for n in range(20) if targets[n] == targets[i]]
            told += float(theta[among, z].sum() / theta[:, z].sum() * theta[i, z])
        total += math.log(told)
    assert leep(theta, targets, 3) == pytest.approx(total / 20, rel=1e-5)


def test_leep_s_limits() -> None:
    targets = torch.tensor([0, 0, 0, 1])
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert leep(torch.full((4, 5), 0.2), targets, 2) == pytest.approx(-entropy)
    assert leep(F.one_hot(1 - targets, 5).float(), targets, 2) == pytest.approx(0)
