"""Standard errors of a comparison against the bootstrap, which draws the images of both domains anew."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_transfer.evaluation.label_shift import calibration
from ssl_transfer.evaluation.target_risk import controlled_risk, controlled_risk_influence
from ssl_transfer.evaluation.validator_errors import Estimate, calibration_influence, estimates
from ssl_transfer.evaluation.validators import BatchNuclearNorm, InformationMaximisation

CLASSES = 4
Domain = tuple[Tensor, Tensor]


def network(count: int, seed: int, own: int, sharpness: float = 2.0) -> Domain:
    """Logits `(N, K)` and classes of images that a seed draws, by a network that errs by another seed."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(CLASSES, (count,), generator=generator)
    shared = torch.randn(count, CLASSES, generator=generator)
    noise = torch.randn(count, CLASSES, generator=torch.Generator().manual_seed(1000 * seed + own))
    return sharpness * F.one_hot(targets, CLASSES) + shared + 0.5 * noise, targets


def figures(source: Domain, target: Domain, weights: Tensor) -> dict[str, float]:
    """As users are told them, of calibrated answers: the slow way."""
    fitted = calibration(*source)
    told = {}
    for name, metric in (("information_maximisation", InformationMaximisation()), ("bnm", BatchNuclearNorm())):
        metric.update(fitted(target[0]))
        told[name] = float(metric.compute())
    losses = F.cross_entropy(fitted(source[0]), source[1], reduction="none").double()
    return told | {"dev": -float(controlled_risk(weights, losses))}


def both(own: int, sharpness: float = 2.0, counts: tuple[int, int] = (300, 400)) -> tuple[Domain, Domain]:
    return network(counts[0], 1, own, sharpness), network(counts[1], 2, own, sharpness)


def test_values_are_those_of_the_validators() -> None:
    source, target = both(0)
    weights = torch.rand(300, generator=torch.Generator().manual_seed(0)).double() + 0.5
    found = estimates(*source, target[0], weights)
    assert {name: own.value for name, own in found.items()} == pytest.approx(figures(source, target, weights), abs=1e-5)
    for own in found.values():
        assert abs(float(own.of_target.mean())) < 1e-9 and abs(float(own.of_source.mean())) < 1e-6


def test_a_difference_varies_as_the_bootstrap_says() -> None:
    """Two networks on the same images, calibrated anew in each draw."""
    first, second = both(0), both(1, 2.4)
    weights = torch.rand(300, generator=torch.Generator().manual_seed(0)).double() + 0.5
    found = [estimates(*source, target[0], weights) for source, target in (first, second)]
    generator, drawn = torch.Generator().manual_seed(3), []
    for _ in range(250):
        rows = [torch.randint(count, (count,), generator=generator) for count in (300, 400)]
        told = [
            figures((s[0][rows[0]], s[1][rows[0]]), (t[0][rows[1]], t[1][rows[1]]), weights[rows[0]])
            for s, t in (first, second)
        ]
        drawn.append({name: told[0][name] - told[1][name] for name in told[0]})
    for name in drawn[0]:
        difference, error = found[0][name].minus(found[1][name])
        spread = np.std([one[name] for one in drawn])
        assert error == pytest.approx(spread, rel=0.2), name
        assert difference == pytest.approx(np.mean([one[name] for one in drawn]), abs=spread), name


def test_calibration_moves_as_when_an_image_counts_more() -> None:
    logits, targets = network(120, 5, 0)
    moves = calibration_influence(calibration(logits.double(), targets), logits.double(), targets)
    for row in (3, 50, 119):
        rows = torch.cat([torch.arange(120).repeat(20), torch.tensor([row])])
        before, after = calibration(logits.double(), targets), calibration(logits.double()[rows], targets[rows])
        moved = torch.cat([(after.scale / before.scale).log()[None], after.bias - before.bias]) * len(rows)
        assert torch.allclose(moved.double(), moves[row], rtol=0.3, atol=0.3), row


def test_equal_networks_are_seldom_told_apart() -> None:
    """Few source images fit a temperature badly, which moves all answers to the target together."""
    clear = 0
    for seed in range(40):
        pair = [(network(60, seed, own), network(2_000, seed + 500, own)) for own in (0, 1)]
        first, second = (estimates(*source, target[0])["bnm"] for source, target in pair)
        difference, error = first.minus(second)
        clear += abs(difference) > 2 * error
    assert clear <= 6  # of 40, where two are expected


@pytest.mark.parametrize("mean", [0.5, 1.0, 2.0])
def test_of_a_weighted_risk(mean: float) -> None:
    generator = torch.Generator().manual_seed(2)
    weights, losses = 2 * mean * torch.rand(2, 400, generator=generator).double()
    losses = losses + weights
    draws = [torch.randint(400, (400,), generator=generator) for _ in range(600)]
    found = [float(controlled_risk(weights[rows], losses[rows])) for rows in draws]
    error = float(controlled_risk_influence(weights, losses).std(correction=0)) / 20
    assert error == pytest.approx(np.std(found), rel=0.15)


def test_few_target_images_make_weights_less_sure() -> None:
    source, target = network(200, 1, 0), network(50, 2, 0)
    weights = torch.rand(200, generator=torch.Generator().manual_seed(0)) + 0.5
    flat = Estimate(0.0, torch.zeros(200), torch.zeros(50))
    few = estimates(*source, target[0], weights)["dev"].minus(flat)[1]
    many = estimates(*source, target[0].repeat(4, 1), weights)["dev"].minus(
        Estimate(0.0, torch.zeros(200), torch.zeros(200))
    )[1]
    assert few > 1.5 * many


@pytest.mark.parametrize("logits", [torch.tensor([[30.0, 0.0, 0.0]]).expand(20, 3), torch.zeros(20, 3)])
def test_answers_that_are_all_alike_do_not_vary(logits: Tensor) -> None:
    targets = torch.zeros(20, dtype=torch.long)
    for own in estimates(logits, targets, logits).values():
        assert torch.isfinite(own.of_target).all() and torch.isfinite(own.of_source).all()
        assert float(own.of_target.abs().max()) < 1e-6


def test_answers_that_are_all_right_and_sure() -> None:
    """The temperature has no finite optimum there."""
    targets = torch.arange(30) % 3
    logits = 8.0 * F.one_hot(targets, 3)
    for own in estimates(logits, targets, logits).values():
        assert own.value == pytest.approx(1.0 if own.value < 1.05 else np.log(3), abs=1e-3)
        assert torch.isfinite(own.of_source).all() and float(own.of_source.abs().max()) < 0.1
