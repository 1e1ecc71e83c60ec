"""Class shares against closed forms, and against the truth where nothing but the classes' frequency differs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from ssl_transfer.evaluation.label_shift import black_box_shares, class_shares, likeliest_shares

CENTRES = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]])


def drawn(shares: list[float], count: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    targets = torch.multinomial(torch.tensor(shares), count, replacement=True, generator=generator)
    return CENTRES[targets] + 0.7 * torch.randn(count, 2, generator=generator), targets


def test_what_is_counted_exactly_is_found_exactly() -> None:
    answer = np.array([[0.8, 0.1, 0.2], [0.1, 0.7, 0.2], [0.1, 0.2, 0.6]])  # p(answer i | class j)
    source, target = np.array([0.2, 0.3, 0.5]), np.array([0.6, 0.1, 0.3])
    found = black_box_shares(torch.tensor(answer * source), torch.tensor(answer @ target), torch.tensor(source))
    assert found.tolist() == pytest.approx(target.tolist())


def test_shares_are_shares_and_a_class_never_seen_has_none() -> None:
    confusion = torch.tensor([[0.5, 0.1, 0.0], [0.1, 0.3, 0.0], [0.0, 0.0, 0.0]])
    found = black_box_shares(confusion, torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.6, 0.4, 0.0]))
    assert float(found.sum()) == pytest.approx(1) and (found >= 0).all() and found[1:].tolist() == [0, 0]


def test_maximum_likelihood_against_a_grid() -> None:
    answers = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.95, 0.05]])
    source = torch.tensor([0.4, 0.6])
    grid = torch.linspace(0, 1, 100_001, dtype=torch.double)
    shares = torch.stack([grid, 1 - grid], dim=1)
    likelihood = (answers.double() / source.double() @ shares.T).log().sum(0)
    assert float(likeliest_shares(answers, source)[0]) == pytest.approx(float(grid[likelihood.argmax()]), abs=1e-3)


def test_the_truth_lies_in_the_interval() -> None:
    truth = [0.7, 0.2, 0.1]
    source, target = drawn([1 / 3] * 3, 900, 0), drawn(truth, 900, 1)[0]
    found = class_shares(source, target, 3)
    assert found.certain and found.moved == pytest.approx(0.37, abs=0.06)
    for k in range(3):
        assert found.low[k] <= truth[k] <= found.high[k] and found.low[k] <= found.target[k] <= found.high[k]
        assert found.high[k] - found.low[k] < 0.15
    assert list(found.likeliest) == pytest.approx(truth, abs=0.06)


def test_one_distribution_moves_little() -> None:
    found = class_shares(drawn([0.2, 0.3, 0.5], 900, 0), drawn([0.2, 0.3, 0.5], 900, 1)[0], 3)
    assert found.moved < 0.05
    assert class_shares(drawn([0.5, 0.5, 0.0], 90, 0), CENTRES[:1].repeat(9, 1), 3).target[2] == 0
