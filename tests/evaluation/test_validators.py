"""Each validator against a slow, obvious reference and a closed form, in one batch and in several."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torchmetrics
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from ssl_transfer.evaluation.domain_distance import domain_logits
from ssl_transfer.evaluation.target_risk import DeepEmbeddedValidation, controlled_risk, density_ratio
from ssl_transfer.evaluation.validators import (
    HIGHER_IS_BETTER,
    VALIDATORS,
    BatchNuclearNorm,
    InformationMaximisation,
    SoftNeighbourhoodDensity,
    SourceAccuracy,
    SourceRisk,
    TargetEntropy,
    validate,
)

OF_TARGET = (TargetEntropy, InformationMaximisation, SoftNeighbourhoodDensity, BatchNuclearNorm)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def softmax(logits: Tensor) -> list[list[float]]:
    rows = [[math.exp(x) for x in row] for row in logits.tolist()]
    return [[x / sum(row) for x in row] for row in rows]


def entropy(row: list[float]) -> float:
    return -sum(p * math.log(p) for p in row if p > 0)


def slow_entropy(logits: Tensor) -> float:
    answers = softmax(logits)
    return sum(map(entropy, answers)) / len(answers)


def slow_information(logits: Tensor) -> float:
    answers = softmax(logits)
    mean = [sum(column) / len(answers) for column in zip(*answers, strict=True)]
    return entropy(mean) - slow_entropy(logits)


def slow_density(logits: Tensor) -> float:
    answers = softmax(logits)
    total = 0.0
    for i, own in enumerate(answers):
        cosines = [
            sum(a * b for a, b in zip(own, other, strict=True)) / (math.hypot(*own) * math.hypot(*other))
            for j, other in enumerate(answers)
            if j != i
        ]
        shares = [math.exp(c / 0.05) for c in cosines]
        total += entropy([s / sum(shares) for s in shares])
    return total / len(answers)


def slow_norm(logits: Tensor) -> float:
    answers = np.array(softmax(logits))
    return float(np.linalg.norm(answers, "nuc")) / math.sqrt(len(answers) * min(answers.shape))


@pytest.mark.parametrize(
    ("kind", "slow"), list(zip(OF_TARGET, (slow_entropy, slow_information, slow_density, slow_norm), strict=True))
)
@pytest.mark.parametrize("count", [3, 40])
def test_against_a_slow_reference(kind: type[torchmetrics.Metric], slow: Callable[[Tensor], float], count: int) -> None:
    logits = 2 * noise(count, 5)
    metric = kind()
    for part in logits.split(7):
        metric.update(part)
    assert float(metric.compute()) == pytest.approx(slow(logits), rel=1e-4)
    metric.reset()
    metric.update(logits)
    assert float(metric.compute()) == pytest.approx(slow(logits), rel=1e-4)


def test_closed_forms() -> None:
    """Answers that are certain and balanced, certain and alike, and that know nothing."""
    balanced, alike, nothing = 200 * torch.eye(4).repeat(5, 1), 200 * torch.eye(4)[[0] * 20], torch.zeros(20, 4)

    def of(kind: type[torchmetrics.Metric], logits: Tensor) -> float:
        metric = kind()
        metric.update(logits)
        return float(metric.compute())

    found = {kind: [of(kind, logits) for logits in (balanced, alike, nothing)] for kind in OF_TARGET}
    assert found[TargetEntropy] == pytest.approx([0, 0, math.log(4)], abs=1e-6)
    assert found[InformationMaximisation] == pytest.approx([math.log(4), 0, 0], abs=1e-6)
    assert found[BatchNuclearNorm] == pytest.approx([1, 0.5, 0.25], abs=1e-6)
    # four others alike and fifteen at a right angle; nineteen alike
    assert found[SoftNeighbourhoodDensity] == pytest.approx([math.log(4), math.log(19), math.log(19)], abs=1e-4)


def test_blocks_of_the_density_do_not_show() -> None:
    logits, found = noise(50, 4), []
    for block in (1, 170, 2**20):
        metric = SoftNeighbourhoodDensity(block=block)
        metric.update(logits)
        found.append(float(metric.compute()))
    assert found == pytest.approx([found[0]] * 3, rel=1e-6)
    with pytest.raises(ValueError, match="temperature must be above 0, not 0"):
        SoftNeighbourhoodDensity(temperature=0)


def test_source_risk_and_accuracy_pass_what_has_no_label() -> None:
    logits, targets = noise(30, 3), torch.arange(30) % 4 - 1
    known = targets >= 0
    risk, right = SourceRisk(), SourceAccuracy()
    for part, own in zip(logits.split(8), targets.split(8), strict=True):
        risk.update(part, own)
        right.update(part, own)
    answers = softmax(logits)
    costs = [-math.log(answers[i][int(targets[i])]) for i in range(30) if known[i]]
    assert float(risk.compute()) == pytest.approx(sum(costs) / len(costs), rel=1e-5)
    assert float(right.compute()) == pytest.approx(float((logits.argmax(1) == targets)[known].float().mean()))


@pytest.mark.parametrize("name", list(VALIDATORS))
@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")  # that nothing was seen is the point
def test_nothing_seen_is_not_a_number(name: str) -> None:
    assert math.isnan(float(VALIDATORS[name]().compute()))


def test_a_constant_loss_is_its_own_risk_and_numpy_agrees() -> None:
    weights, losses = noise(50).exp().double(), noise(50, seed=1).square().double()
    assert float(controlled_risk(weights, torch.full((50,), 0.7).double())) == pytest.approx(0.7)
    assert float(controlled_risk(torch.ones(50).double(), losses)) == pytest.approx(float(losses.mean()))
    w, wl = weights.numpy(), (weights * losses).numpy()
    eta = -np.cov(wl, w, ddof=1)[0, 1] / np.var(w, ddof=1)
    assert float(controlled_risk(weights, losses)) == pytest.approx(wl.mean() + eta * w.mean() - eta)


def test_the_ratio_of_two_gaussians_is_known() -> None:
    """N(0, 1) and N(1, 1): p_t / p_s = exp(x − ½), also where one domain has more images."""
    source, target = noise(8000, 1), noise(4000, 1, seed=1) + 1
    found, exact = density_ratio(source, target), (source[:, 0] - 0.5).exp()
    assert float((found.log() - exact.log()).abs().max()) < 0.4
    assert float(found.mean()) == pytest.approx(1, abs=0.1)


def test_held_out_logits_are_scikit_learn_s() -> None:
    first, second = noise(60, 3), noise(40, 3, seed=1) + 0.7
    generator = torch.Generator().manual_seed(5)
    half = torch.cat([torch.randperm(n, generator=generator) % 2 for n in (60, 40)]).numpy()
    x, y = torch.cat([first, second]).numpy(), np.r_[np.zeros(60), np.ones(40)]
    logits = domain_logits(first, second, seed=5, grid=(1.0, 1e-2))
    for number, l2 in enumerate((1.0, 1e-2)):
        for judged in (0, 1):
            teach = half != judged
            mean, scale = x[teach].mean(0), x[teach].std(0)
            # two weight vectors of opposite sign share the penalty: l2/2 · 2 · ‖w/2‖² = l2/4 · ‖w‖²
            model = LogisticRegression(C=2 / (l2 * teach.sum()), tol=1e-8).fit((x[teach] - mean) / scale, y[teach])
            expected = model.decision_function((x[~teach] - mean) / scale)
            assert logits[number].numpy()[~teach] == pytest.approx(expected, abs=2e-3)


def test_deep_embedded_validation_finds_the_target_s_risk() -> None:
    """Labels depend on the features alone, and the losses grow along the shift: the source's mean is far too low."""
    source, target = noise(6000, 2), noise(6000, 2, seed=1) + torch.tensor([1.0, 0.0])

    def logits(x: Tensor) -> Tensor:
        return torch.stack([torch.zeros(len(x)), x[:, 0]], dim=1)  # sure of class 1 to the right; class 0 is true

    of_source, of_target = SourceRisk(), SourceRisk()
    of_source.update(logits(source), torch.zeros(6000, dtype=torch.long))
    of_target.update(logits(target), torch.zeros(6000, dtype=torch.long))
    deep = DeepEmbeddedValidation()
    deep.update(source[:4000], logits(source[:4000]), torch.zeros(4000, dtype=torch.long), target[:5000])
    deep.update(source[4000:], logits(source[4000:]), torch.zeros(2000, dtype=torch.long))
    deep.update(target=target[5000:])
    truth = float(of_target.compute())
    assert abs(float(deep.compute()) - truth) < 0.25 * abs(float(of_source.compute()) - truth)
    assert 500 < deep.effective_count() < 5000  # 6000 / E[w²] = 6000 / e


def test_unlabelled_source_images_do_not_count() -> None:
    x, targets = noise(20, 3), torch.arange(20) % 3
    one, other = DeepEmbeddedValidation(), DeepEmbeddedValidation()
    one.update(x, x, targets, x + 1)
    other.update(torch.cat([x, x + 9]), torch.cat([x, x]), torch.cat([targets, torch.full((20,), -1)]), x + 1)
    assert float(one.compute()) == pytest.approx(float(other.compute()))


def test_all_at_once() -> None:
    x = noise(60, 4)
    found = validate((x, x, x.argmax(1)), (x + 0.3, x + 0.3))
    assert list(found) == list(HIGHER_IS_BETTER) and all(math.isfinite(value) for value in found.values())
    assert found["source_accuracy"] == 1 and HIGHER_IS_BETTER["source_accuracy"]
    assert not HIGHER_IS_BETTER["target_entropy"] and not HIGHER_IS_BETTER["deep_embedded_validation"]
