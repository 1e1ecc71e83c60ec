"""How frequent the classes are in images without labels, if that is all that differs from labelled ones.

Both estimates assume label shift: p(image | class) is the same in both domains. Where the images themselves look
different, a classifier errs otherwise than where it was judged, and what comes out says little.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_transfer.evaluation.probes import select_logistic

LEVEL = 0.001  # of the test whether shares differ
RIDGE = 1e-4  # on the squared biases of a calibration
RAREST = 0.002  # share of a class that an estimate of less is taken for, lest the class be ruled out


@dataclass(frozen=True)
class ClassShares:
    """How frequent each class is, `(K,)` each; fractions.

    Args:
        source: in the labelled images.
        target: estimated for the others by black-box shift estimation.
        low, high: 95 % interval of that, by bootstrap.
        likeliest: the second estimate, by maximum likelihood.
        certain: whether the shares of source and target differ at the 0.1 % level, by the class that differs most; a
            strict one, as the bootstrap leaves the classifiers as they are.
    """

    source: tuple[float, ...]
    target: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    likeliest: tuple[float, ...]
    certain: bool

    @property
    def moved(self) -> float:
        """Total variation between source and target, 0 to 1: the share that would have to change its class."""
        return sum(abs(a - b) for a, b in zip(self.source, self.target, strict=True)) / 2

    @property
    def weights(self) -> tuple[float, ...]:
        """By how much a class is more frequent in the target, `(K,)`: factors for a source classifier's probabilities.

        p(class | image) ∝ weight · p_source(class | image) (Saerens et al. 2002); a share below `RAREST` counts as it.

        >>> ClassShares((0.5, 0.5), (0.75, 0.25), (0.7, 0.2), (0.8, 0.3), (0.75, 0.25), True).weights
        (1.5, 0.5)
        """
        return tuple(max(b, RAREST) / max(a, RAREST) for a, b in zip(self.source, self.target, strict=True))


def black_box_shares(confusion: Tensor, answered: Tensor, source: Tensor) -> Tensor:
    """Class shares of the target `(K,)` by black-box shift estimation.

    Solves Σ_j p(ŷ = i, y = j) w_j = q(ŷ = i) for the weights w of the classes; shares below 0 become 0 (Lipton et al.
    2018, Detecting and correcting for label shift with black box predictors, https://arxiv.org/abs/1802.03916).

    Args:
        confusion: `(K, K)`, share of held-out source images answered i (row) that are of class j (column).
        answered: `(K,)`, share of target images answered i.
        source: `(K,)`, class shares of the source.

    >>> confusion = torch.tensor([[0.45, 0.05], [0.05, 0.45]])
    >>> black_box_shares(confusion, torch.tensor([0.74, 0.26]), torch.tensor([0.5, 0.5]))
    tensor([0.8000, 0.2000])
    """
    weights = torch.linalg.lstsq(confusion.double().cpu(), answered.double().cpu()[:, None], driver="gelsd").solution
    shares = (weights[:, 0] * source.double().cpu()).clamp(min=0)
    total = shares.sum()
    return (shares / total if total > 0 else source.double().cpu()).to(source)


def likeliest_shares(answers: Tensor, source: Tensor, steps: int = 1000) -> Tensor:
    """Class shares of the target `(K,)` that make its images likeliest, by expectation maximisation.

    Saerens et al. 2002, Adjusting the outputs of a classifier to new a priori probabilities
    (https://doi.org/10.1162/089976602753284446). Needs well calibrated answers.

    Args:
        answers: `(N, K)` probabilities for target images, of a classifier that knows the source's class shares.
        source: `(K,)`, these.

    >>> likeliest_shares(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), torch.tensor([0.5, 0.5]))
    tensor([0.6667, 0.3333])
    """
    answers, known = answers.double(), source.double().clamp(min=1e-12)
    shares = known
    for _ in range(steps):
        weighted = answers * (shares / known)
        updated = (weighted / weighted.sum(1, keepdim=True).clamp(min=1e-300)).mean(0)
        moved = float((updated - shares).abs().max())
        shares = updated
        if moved < 1e-7:
            break
    return shares.to(source)


def class_shares(
    source: tuple[Tensor, Tensor], target: Tensor, classes: int, draws: int = 500, seed: int = 0
) -> ClassShares:
    """Estimate the class shares of target features `(M, D)` from source features `(N, D)` and classes `(N,)`.

    A linear classifier learns each half of the source and is judged on the other. The interval is over `draws`
    bootstrap draws of held-out source and target images, the classifiers as they are.

    >>> x = torch.randn(90, 1, generator=torch.Generator().manual_seed(0)) / 9
    >>> y = torch.arange(90) % 2
    >>> found = class_shares((x + y[:, None], y), x[:40] + (torch.arange(40) < 30)[:, None], 2)
    >>> [round(share, 2) for share in found.target]
    [0.25, 0.75]
    """
    features, targets = source
    shares = torch.bincount(targets, minlength=classes).double().cpu() / len(targets)
    half = _halves(targets, seed)
    own, others = features.new_zeros(len(features), classes), []
    for judged in (0, 1):
        teach, judge = half != judged, half == judged
        head, _ = select_logistic((features[teach], targets[teach]), (features[judge], targets[judge]), classes)
        own[judge] = head(features[judge])
        others.append(head(target))
    votes = torch.stack([logits.argmax(1) for logits in others]).cpu()  # (2, M)
    joint = (own.argmax(1) * classes + targets).cpu()  # the cell of the confusion matrix
    found = _solve(joint, votes, classes)
    generator = torch.Generator().manual_seed(seed)
    again, moves = [], []
    for _ in range(draws):
        rows = torch.randint(len(joint), (len(joint),), generator=generator)
        asked = torch.randint(len(target), (len(target),), generator=generator)
        again.append(_solve(joint[rows], votes[:, asked], classes))
        moves.append(again[-1] - torch.bincount(joint[rows] % classes, minlength=classes) / len(joint))
    low, high = torch.stack(again).quantile(torch.tensor([0.025, 0.975], dtype=torch.double), dim=0)
    temper = calibration(own, targets)
    answers = torch.stack([temper(logits).softmax(1) for logits in others]).mean(0).cpu()
    likeliest = likeliest_shares(answers, shares)
    told = [shares, found, torch.minimum(low, found), torch.maximum(high, found), likeliest]
    level = torch.special.ndtri(torch.tensor(1 - LEVEL / 2 / classes, dtype=torch.double))  # Bonferroni's
    certain = bool(((found - shares).abs() > level * torch.stack(moves).std(0).clamp(min=1e-9)).any())
    a, b, c, d, e = (tuple(part.tolist()) for part in told)
    return ClassShares(a, b, c, d, e, certain)


@dataclass(frozen=True)
class Calibration:
    """Logits `(N, K)` times a scale, plus a bias for each class `(K,)`."""

    scale: Tensor
    bias: Tensor

    def __call__(self, logits: Tensor) -> Tensor:
        return logits * self.scale + self.bias


def calibration(logits: Tensor, targets: Tensor) -> Calibration:
    """A temperature and a bias for each class that make logits `(N, K)` calibrated on held-out images `(N,)`.

    By least cross-entropy, the biases lightly held to 0 (Alexandari et al. 2020, Maximum likelihood with bias-corrected
    calibration is hard-to-beat at label shift adaptation, https://arxiv.org/abs/1901.06852).

    >>> logits = torch.tensor([[4.0, 0.0]] * 4)
    >>> temper = calibration(logits, torch.tensor([0, 0, 0, 1]))
    >>> temper(logits).softmax(1)[0].round(decimals=2).tolist()
    [0.75, 0.25]
    """
    with torch.inference_mode(False), torch.enable_grad():
        x, y = logits.detach().clone().float(), targets.clone()
        log_scale = torch.zeros((), device=x.device, requires_grad=True)
        bias = torch.zeros(x.shape[1], device=x.device, requires_grad=True)
        solver = torch.optim.LBFGS([log_scale, bias], max_iter=100, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            solver.zero_grad()
            value = F.cross_entropy(x * log_scale.exp() + bias, y) + RIDGE * bias.square().sum()
            value.backward()  # type: ignore[no-untyped-call]
            return value

        solver.step(loss)  # type: ignore[no-untyped-call]
        return Calibration(log_scale.detach().exp(), bias.detach())


def _solve(joint: Tensor, votes: Tensor, classes: int) -> Tensor:
    """Shares from the cells of the source's images `(N,)` and the answers to the target's `(2, M)`."""
    confusion = torch.bincount(joint, minlength=classes**2).double().view(classes, classes) / len(joint)
    answered = torch.bincount(votes.flatten(), minlength=classes).double() / votes.numel()
    return black_box_shares(confusion, answered, confusion.sum(0))


def _halves(targets: Tensor, seed: int) -> Tensor:
    """0 or 1 for each row, dealt in turn within each class after a shuffle."""
    shuffled = torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed)).to(targets.device)
    order = shuffled[targets[shuffled].argsort(stable=True)]
    half = torch.empty_like(targets)
    half[order] = torch.arange(len(targets), device=targets.device) % 2
    return half
