"""How sure a comparison of two networks by validators is: figures with the influence that each image has on them.

The figures are of calibrated answers, so that source images, on whose labels temperature and biases are fitted, move
those of the target too. Influence functions (Hampel 1974, https://doi.org/10.1080/01621459.1974.10482962) carry both
into the standard error of a difference of two networks on the same images.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_transfer.evaluation.label_shift import RIDGE, Calibration, calibration
from ssl_transfer.evaluation.target_risk import controlled_risk, controlled_risk_influence


@dataclass(frozen=True)
class Estimate:
    """A figure of a network, and its influence functions, whose mean squares over N are variances.

    Args:
        value: the figure; higher is better.
        of_source, of_target: the influence of each source image `(N,)` and of each target image `(M,)`, about mean 0.
    """

    value: float
    of_source: Tensor
    of_target: Tensor

    def minus(self, other: Estimate) -> tuple[float, float]:
        """The difference to a figure on the same images, and its standard error.

        >>> a, b = (Estimate(v, torch.zeros(1), torch.tensor([1.0, -1.0])) for v in (0.9, 0.7))
        >>> difference, error = a.minus(b)
        >>> round(difference, 3), error
        (0.2, 0.0)
        """
        pairs = (self.of_source, other.of_source), (self.of_target, other.of_target)
        variance = sum(float((own - its).var(correction=0)) / len(own) for own, its in pairs)
        return self.value - other.value, math.sqrt(variance)


def estimates(source: Tensor, targets: Tensor, target: Tensor, weights: Tensor | None = None) -> dict[str, Estimate]:
    """Information maximisation, nuclear norm and, of weighted source images, deep embedded validation.

    Args:
        source, targets: logits `(N, K)` and classes `(N,)` of held-out source images.
        target: logits `(M, K)` of target images.
        weights: how much more frequent each source image is in the target, `(N,)`, taken as they are; None: no `dev`.

    The last has its sign turned, so that higher is better.

    >>> logits = torch.tensor([[3.0, 0.0], [0.0, 3.0], [1.0, 0.0]])
    >>> sorted(estimates(logits, torch.tensor([0, 1, 1]), logits))
    ['bnm', 'information_maximisation']
    """
    with torch.inference_mode(False), torch.no_grad():
        source, target = source.double().clone(), target.double().clone()  # which may have been made in inference mode
        targets = targets.clone()
        fitted = calibration(source, targets)
        moves = calibration_influence(fitted, source, targets)  # (N, 1 + K)
        told = _of_answers(fitted, moves, target)
        if weights is not None:
            told["dev"] = _of_risk(fitted, moves, source, targets, weights.double().clone(), len(target))
    return told


def _of_answers(fitted: Calibration, moves: Tensor, target: Tensor) -> dict[str, Estimate]:
    """The figures of calibrated answers to target images."""
    answers = fitted(target).softmax(1)
    directions, most = norm_directions(answers), math.sqrt(len(answers) * min(answers.shape))

    def norm(own: Tensor) -> Tensor:
        return (directions * own).sum() / most

    figures: dict[str, tuple[Callable[[Tensor], Tensor], Tensor]] = {
        "information_maximisation": (information, information_influence(answers)),
        "bnm": (norm, len(answers) * (directions * answers).sum(1) / (2 * most)),
    }
    told = {}
    for name, (figure, influence) in figures.items():
        slope = _slope(fitted, target, lambda logits, of=figure: of(logits.softmax(1)))  # type: ignore[misc]
        told[name] = Estimate(float(figure(answers)), moves @ slope, influence - influence.mean())
    return told


def _of_risk(
    fitted: Calibration, moves: Tensor, source: Tensor, targets: Tensor, weights: Tensor, count: int
) -> Estimate:
    """Deep embedded validation. Fewer target images make the weights less sure, by no less than their share."""

    def risk(logits: Tensor) -> Tensor:
        return controlled_risk(weights, F.cross_entropy(logits, targets, reduction="none"))

    own = controlled_risk_influence(weights, F.cross_entropy(fitted(source), targets, reduction="none"))
    own = (own - own.mean()) * math.sqrt(max(1.0, len(source) / count))
    of_source = own + moves @ _slope(fitted, source, risk)
    return Estimate(-float(risk(fitted(source))), -of_source, torch.zeros(count).to(own))


def information(answers: Tensor) -> Tensor:
    """The mutual information of image and class, in nats, of probabilities `(N, K)`."""
    return torch.special.entr(answers.mean(0)).sum() - torch.special.entr(answers).sum(1).mean()


def information_influence(answers: Tensor) -> Tensor:
    """KL(p_i ‖ mean p) of each image `(N,)`, whose mean is the mutual information itself."""
    mean = answers.mean(0).clamp(min=torch.finfo(answers.dtype).tiny).log()
    return -torch.special.entr(answers).sum(1) - (answers * mean).sum(1)


def norm_directions(answers: Tensor) -> Tensor:
    """The slope of the nuclear norm of A `(N, K)` by each of its numbers, A (Aᵀ A)^(-½); Σ (slope · A) is the norm."""
    values, vectors = torch.linalg.eigh(answers.T @ answers)
    keep = values > values[-1] * len(values) * torch.finfo(values.dtype).eps
    directions: Tensor = (answers @ vectors[:, keep]) / values[keep].sqrt() @ vectors[:, keep].T
    return directions


def calibration_influence(fitted: Calibration, logits: Tensor, targets: Tensor) -> Tensor:
    """How far each image moves the logarithm of the scale and the biases that are fitted on it, `(N, 1 + K)`."""
    scaled, classes = logits * fitted.scale, logits.shape[1]
    answers = fitted(logits).softmax(1)
    residual = answers - F.one_hot(targets, classes)
    scores = torch.cat([(residual * scaled).sum(1, keepdim=True), residual], dim=1)  # slopes of each image's loss
    mean = (answers * scaled).sum(1, keepdim=True)
    curvature = logits.new_zeros(1 + classes, 1 + classes)
    curvature[0, 0] = (answers * (scaled - mean).square()).sum(1).mean() + (residual * scaled).sum(1).mean()
    curvature[0, 1:] = curvature[1:, 0] = (answers * (scaled - mean)).mean(0)
    curvature[1:, 1:] = torch.diag(answers.mean(0) + 2 * RIDGE) - answers.T @ answers / len(answers)
    moves: Tensor = -torch.linalg.lstsq(curvature, (scores - scores.mean(0)).T, driver="gelsd").solution.T
    return moves


def _slope(fitted: Calibration, logits: Tensor, figure: Callable[[Tensor], Tensor]) -> Tensor:
    """The slope of a figure of calibrated logits by the logarithm of the scale and the biases, `(1 + K,)`."""
    with torch.enable_grad():
        log_scale = fitted.scale.double().log().clone().requires_grad_()
        bias = fitted.bias.double().clone().requires_grad_()
        of_scale, of_bias = torch.autograd.grad(figure(logits * log_scale.exp() + bias), (log_scale, bias))
    return torch.cat([of_scale[None], of_bias])
