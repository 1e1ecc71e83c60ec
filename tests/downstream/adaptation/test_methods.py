"""The methods' mathematics against finite differences, slow references and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_transfer.downstream.adaptation import (
    CDAN,
    CORAL,
    DANN,
    Adaptation,
    BatchNormStatistics,
    SourceOnly,
    SubspaceAlignment,
)
from ssl_transfer.downstream.adaptation.base import Reading, folded, mapped
from ssl_transfer.downstream.adaptation.coral import shrinkage
from ssl_transfer.downstream.adaptation.joint import OuterProduct, RandomProduct
from ssl_transfer.downstream.adaptation.reversal import reverse
from ssl_transfer.downstream.adaptation.subspace_alignment import principal


def readings(seed: int = 0, dim: int = 4, classes: int = 3) -> tuple[Reading, Reading]:
    generator = torch.Generator().manual_seed(seed)

    def reading(count: int) -> Reading:
        features = torch.randn(count, dim, generator=generator, dtype=torch.double)
        return Reading(features, torch.randn(count, classes, generator=generator, dtype=torch.double))

    return reading(5), reading(5)


@pytest.mark.parametrize("strength", [0.0, 0.3, 2.0])
def test_the_reversed_gradient_is_minus_strength_times_the_true_one(strength: float) -> None:
    weight = torch.randn(3, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    x = torch.randn(4, 3, dtype=torch.double, generator=torch.Generator().manual_seed(1), requires_grad=True)

    def cost(values: Tensor) -> Tensor:
        return torch.tanh(values @ weight).square().sum()

    cost(reverse(x, strength)).backward()  # type: ignore[no-untyped-call]
    assert torch.equal(reverse(x, strength), x)
    true = torch.zeros_like(x)
    step = 1e-6
    with torch.no_grad():
        for place in np.ndindex(4, 3):
            moved = [x.detach().clone() for _ in range(2)]
            moved[0][place] += step
            moved[1][place] -= step
            true[place] = (cost(moved[0]) - cost(moved[1])) / (2 * step)
    assert torch.allclose(x.grad, -strength * true, atol=1e-8)  # type: ignore[arg-type]


def test_danns_encoder_learns_against_its_domain_classifier() -> None:
    source, target = readings()
    method = DANN(hidden=8)
    torch.manual_seed(0)
    heads = method.heads(4, 3).double()
    grads = []
    for reversed_ in (True, False):
        x = source.features.clone().requires_grad_(True)
        if reversed_:
            loss, figures = method.loss(heads, Reading(x, source.logits), target, 0.5)
        else:
            logits = heads(torch.cat([x, target.features]))[:, 0]
            loss = F.binary_cross_entropy_with_logits(logits, torch.tensor([0.0] * 5 + [1.0] * 5).double())
        heads.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        grads.append((x.grad, heads[0].weight.grad.clone()))
    assert torch.allclose(grads[0][0], -method.schedule(0.5) * grads[1][0], atol=1e-7)  # type: ignore[operator]
    assert torch.allclose(grads[0][1], grads[1][1], atol=1e-7)  # the domain classifier itself learns to tell them apart
    assert 0 <= float(figures["domain_accuracy"]) <= 1


@pytest.mark.parametrize(
    ("progress", "expected"), [(0.0, 0.0), (0.1, 0.46211716), (0.5, 0.98661430), (1.0, 0.99990920)]
)
def test_the_schedule_is_the_papers(progress: float, expected: float) -> None:
    assert DANN().schedule(progress) == pytest.approx(expected, abs=1e-7)
    assert DANN(strength=0.5).schedule(progress) == pytest.approx(expected / 2, abs=1e-7)


def test_cdan_sees_outer_products_and_weighs_by_certainty() -> None:
    source, target = readings()
    method = CDAN(hidden=6)
    torch.manual_seed(0)
    heads = method.heads(4, 3)
    loss, _ = method.loss(heads, source, target, 0.3)
    total = 0.0
    for number, reading in enumerate((source, target)):
        weights, losses = [], []
        for x, z in zip(reading.features, reading.logits, strict=True):
            p = z.softmax(0)
            weights.append(1 + math.exp(float((p * p.log()).sum())))
            joint = torch.stack([p[k] * x[d] for k in range(3) for d in range(4)])
            logit = heads["classifier"](joint.float())[0]  # type: ignore[index]
            losses.append(float(F.softplus(-logit if number else logit).detach()))
        total += sum(w * own for w, own in zip(weights, losses, strict=True)) / sum(weights) / 2
    assert loss.item() == pytest.approx(total, rel=1e-5)


def test_a_sure_image_weighs_twice_a_doubtful_one_at_the_most() -> None:
    """1 + exp(−entropy): 2 of a certain answer, 1 + 1/K where all classes are as likely."""
    logits = torch.tensor([[100.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    half = Reading(torch.zeros(2, 3), logits)
    found = [float(CDAN().mean(torch.eye(4)[place], half, half)) for place in range(4)]
    assert found == pytest.approx([2 / 3.25 / 2, 1.25 / 3.25 / 2] * 2)


def test_a_wide_product_becomes_a_random_one_with_the_same_inner_products() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(1, 6, generator=generator) for _ in range(2))
    own, other = (torch.randn(1, 3, generator=generator) for _ in range(2))
    exact = OuterProduct(6, 3)
    wanted = float((exact(first, own) * exact(second, other)).sum())
    found = []
    for seed in range(200):
        torch.manual_seed(seed)
        random = RandomProduct(6, 3)
        found.append(float((random(first, own) * random(second, other)).sum()))
    error = np.std(found) / math.sqrt(len(found))
    assert np.mean(found) == pytest.approx(wanted, abs=4 * error) and error < 0.02 * abs(wanted) + 0.02


def test_the_random_product_is_the_runs_and_stays() -> None:
    made = []
    for _ in range(2):
        torch.manual_seed(5)
        made.append(CDAN(hidden=4).heads(500, 10))
    states = [heads.state_dict() for heads in made]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert states[0]["joint.of_features"].shape == (500, 1024) and len(list(made[0].parameters())) == 4
    assert states[0]["classifier.0.weight"].shape == (4, 1024)
    assert CDAN().heads(409, 10)["joint"].width == 4090  # type: ignore[index]


@pytest.mark.parametrize("method", [CORAL(), CDAN(hidden=4)], ids=["CORAL", "CDAN"])
def test_differences_of_large_numbers_are_not_rounded_in_mixed_precision(method: Adaptation) -> None:
    """Features far from zero that vary little: bfloat16 has three digits."""
    generator = torch.Generator().manual_seed(0)
    halves = [Reading(10 + 0.1 * torch.randn(64, 8, generator=generator), torch.zeros(64, 3)) for _ in range(2)]
    torch.manual_seed(0)
    heads = method.heads(8, 3)
    if isinstance(heads, nn.ModuleDict):
        heads = heads["joint"]
        told = [heads(own.features, own.logits) for own in halves]
        with torch.autocast("cpu", torch.bfloat16):
            again = [heads(own.features, own.logits) for own in halves]
        assert all(torch.equal(a, b) and b.dtype == torch.float32 for a, b in zip(told, again, strict=True))
        return
    exact, _ = method.loss(heads, *halves, 1.0)
    with torch.autocast("cpu", torch.bfloat16):
        mixed, _ = method.loss(heads, *halves, 1.0)
    assert torch.equal(exact, mixed)


def test_no_gradient_through_cdans_probabilities() -> None:
    source, target = readings()
    logits = source.logits.clone().requires_grad_(True)
    features = source.features.clone().requires_grad_(True)
    method = CDAN(hidden=6)
    method.loss(method.heads(4, 3), Reading(features, logits), target, 0.3)[0].backward()  # type: ignore[no-untyped-call]
    assert logits.grad is None and features.grad is not None


def test_the_entropy_term_is_that_of_the_target() -> None:
    source, target = readings()
    torch.manual_seed(0)
    heads = DANN(hidden=4).heads(4, 3).double()
    plain, _ = DANN(hidden=4).loss(heads, source, target, 1.0)
    more, _ = DANN(hidden=4, entropy=0.5).loss(heads, source, target, 1.0)
    p = target.logits.softmax(1)
    expected = 0.5 * DANN().schedule(1.0) * float(-(p * p.log()).sum(1).mean())
    assert (more - plain).item() == pytest.approx(expected, rel=1e-5)


def aligned_slowly(source: np.ndarray, target: np.ndarray, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Subspace Alignment in numpy, as the paper writes it: X_S P_S P_Sᵀ P_T and X_T P_T."""
    bases = []
    for x in (source, target):
        values, vectors = np.linalg.eigh(np.cov(x.T))
        bases.append(vectors[:, np.argsort(values)[::-1][:d]])
    p_s, p_t = bases
    return (source - source.mean(0)) @ p_s @ p_s.T @ p_t, (target - target.mean(0)) @ p_t


def test_subspace_alignment_against_numpy() -> None:
    rng = np.random.default_rng(0)
    source = rng.normal(size=(60, 6)) * [5, 4, 3, 1, 0.5, 0.2] + 3
    target = (rng.normal(size=(50, 6)) * [4, 5, 2, 1, 0.4, 0.1]) @ np.linalg.qr(rng.normal(size=(6, 6)))[0]
    maps = SubspaceAlignment(3).align(torch.from_numpy(source), torch.from_numpy(target))
    found = [mapped(torch.from_numpy(x), of).numpy() for x, of in zip((source, target), maps, strict=True)]
    expected = aligned_slowly(source, target, 3)
    for own, other in zip(found, expected, strict=True):
        signs = np.sign((own * other).sum(0))  # a direction's sign is free, and the same for both domains
        assert np.allclose(own, other * signs, atol=1e-4)
    first, second = (np.sign((a * b).sum(0)) for a, b in zip(found, expected, strict=True))
    assert (first == second).all()


@pytest.mark.parametrize("count", [5, 6, 7, 200], ids=str)
def test_principal_directions_against_a_decomposition(count: int) -> None:
    features = torch.randn(count, 6, dtype=torch.float64) @ torch.diag(torch.arange(1.0, 7, dtype=torch.float64)) + 3
    directions, variances = principal(features)
    _, singular, expected = torch.linalg.svd(features - features.mean(0), full_matrices=False)
    assert directions.shape == (6, min(count, 6))
    assert torch.allclose(variances, singular.square() / (count - 1), atol=1e-9)
    kept = min(count - 1, 6)  # the last is arbitrary where the images span fewer
    overlap = (directions * expected.T).sum(0).abs()[:kept]
    assert torch.allclose(overlap, torch.ones(kept, dtype=torch.float64), atol=1e-6)


def test_the_number_of_directions_asks_for_no_label() -> None:
    generator = torch.Generator().manual_seed(0)
    scale = torch.tensor([10.0, 10.0, 10.0, 0.1, 0.1])
    source, target = (torch.randn(200, 5, generator=generator).double() * scale for _ in range(2))
    (matrix, _), _ = SubspaceAlignment().align(source, target)
    assert matrix.shape == (5, 3)
    with pytest.raises(ValueError, match=r"method.n_components is 9, and 200 images of 5 features have at most 5"):
        SubspaceAlignment(9).align(source, target)


def test_corals_loss_in_closed_form() -> None:
    source, target = readings()
    method = CORAL(weight=2.0)
    loss, figures = method.loss(nn.Identity(), source, target, 0.25)
    gap = np.cov(source.features.numpy().T) - np.cov(target.features.numpy().T)
    distance = (gap**2).sum() / (4 * 4**2)
    assert float(figures["covariance_distance"]) == pytest.approx(distance, rel=1e-5)
    assert float(loss) == pytest.approx(2 * 0.25 * distance, rel=1e-5)


def test_corals_map_gives_the_targets_mean_and_covariance() -> None:
    generator = torch.Generator().manual_seed(0)
    source = torch.randn(400, 3, generator=generator).double() * torch.tensor([1.0, 5.0, 0.2]) + 7
    target = torch.randn(300, 3, generator=generator).double() @ torch.randn(3, 3, generator=generator).double()
    (matrix, shift), (same, nothing) = CORAL(ridge=1e-9).align(source, target)
    moved = source @ matrix + shift
    assert torch.allclose(torch.cov(moved.T), torch.cov(target.T), atol=1e-6)
    assert torch.allclose(moved.mean(0), target.mean(0), atol=1e-8)
    assert torch.equal(same, torch.eye(3).double()) and not nothing.any()


@pytest.mark.parametrize("count", [2, 20, 400])
def test_the_shrinkage_in_closed_form(count: int) -> None:
    """Oracle approximating shrinkage, as scikit-learn has it: (tr S² + tr² S) / ((N + 1)(tr S² − tr² S / D))."""
    x = np.random.default_rng(count).normal(size=(count, 5)) * [3, 2, 1, 0.5, 0.1]
    covariance = np.cov(x.T, ddof=0)
    of_square, squared = np.trace(covariance @ covariance), np.trace(covariance) ** 2
    expected = (of_square + squared) / ((count + 1) * (of_square - squared / 5))
    assert shrinkage(torch.from_numpy(x)) == pytest.approx(min(1, expected))


def test_with_few_images_corals_map_tends_to_a_change_of_mean_and_scale() -> None:
    generator = torch.Generator().manual_seed(0)
    source = torch.randn(4, 40, generator=generator).double()
    target = 3 * torch.randn(500, 40, generator=generator).double() + 7
    (matrix, _), _ = CORAL().align(source, target)
    spread = torch.linalg.svdvals(matrix)
    assert spread[0] < 2 * spread[-1]
    (matrix, _), _ = CORAL(ridge=1e-3).align(source, target)
    assert torch.linalg.svdvals(matrix)[0] > 10 * spread[-1]


@pytest.mark.parametrize("method", [CORAL(), SubspaceAlignment()], ids=["CORAL", "SubspaceAlignment"])
def test_features_that_do_not_vary_are_refused(method: Adaptation) -> None:
    varied = torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
    alike = torch.full((8, 3), 5.0)
    for poor in (alike, alike + 1e-6 * varied[:8], alike * torch.nan, torch.zeros(8, 3)):
        for features, domain in (((poor, varied), "source"), ((varied, poor), "target")):
            with pytest.raises(ValueError, match=rf"training images of data\.{domain} the same features, or some that"):
                method.align(*features)


@pytest.mark.parametrize("method", [CORAL(), SubspaceAlignment()], ids=["CORAL", "SubspaceAlignment"])
@pytest.mark.parametrize(("counts", "domain"), [((1, 9), "source has 1"), ((9, 1), "target has 1")])
def test_one_image_does_not_vary(method: Adaptation, counts: tuple[int, int], domain: str) -> None:
    with pytest.raises(ValueError, match=f"measures how images of a domain vary, and data.{domain} for training"):
        method.align(*(torch.arange(3.0 * count).reshape(count, 3).double() for count in counts))


def test_a_folded_head_answers_as_the_head_on_mapped_features() -> None:
    source, target = readings()
    maps = SubspaceAlignment(2).align(source.features, target.features)
    weight, bias = torch.randn(3, 2).double(), torch.randn(3).double()
    for features, of in zip((source.features, target.features), maps, strict=True):
        own = folded(weight, bias, of)
        assert torch.allclose((features @ of[0] + of[1]) @ weight.T + bias, features @ own[0].T + own[1])


@pytest.mark.parametrize(
    ("method", "trains", "aligns"),
    [
        (SourceOnly(), True, True),
        (BatchNormStatistics(), True, False),
        (CORAL(), True, True),
        (SubspaceAlignment(), False, True),
        (DANN(), True, False),
        (CDAN(), True, False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Adaptation) else "",
)
def test_what_each_can_do(method: Adaptation, trains: bool, aligns: bool) -> None:
    assert (method.trains, method.aligns) == (trains, aligns)
    source, target = readings()
    if not trains:
        with pytest.raises(ValueError, match="take tuning Frozen"):
            method.loss(nn.Identity(), source, target, 0.5)
    if not aligns:
        with pytest.raises(ValueError, match="teaches the encoder"):
            method.align(source.features, target.features)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: DANN(hidden=0), "method.hidden must be at least 1, not 0"),
        (lambda: DANN(strength=0.0), "for none take SourceOnly"),
        (lambda: CDAN(entropy=-1.0), "method.entropy must be 0 or more"),
        (lambda: CORAL(weight=0.0), "method.weight must be above 0"),
        (lambda: CORAL(ridge=0.0), "method.ridge must be above 0"),
        (lambda: SubspaceAlignment(0), "method.n_components must be at least 1"),
    ],
)
def test_out_of_range(make: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()  # type: ignore[operator]
