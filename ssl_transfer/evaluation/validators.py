"""How well a classifier does on images without labels, guessed: validators, which choose a model for a new domain.

None sees a label of the target, and none is sure. They disagree, and to choose by one of them often costs more than
algorithms differ (Musgrave et al. 2022, Benchmarking validation methods for unsupervised domain adaptation,
https://arxiv.org/abs/2208.07360): show several.

| validator | reads | better |
| --- | --- | --- |
| `TargetEntropy` | logits of target images | lower |
| `InformationMaximisation` | logits of target images | higher |
| `SoftNeighbourhoodDensity` | logits of target images | higher |
| `BatchNuclearNorm` | logits of target images | higher |
| `DeepEmbeddedValidation` | features of both, logits and labels of held-out source images | lower |
| `SourceRisk` | logits and labels of held-out source images | lower |
| `SourceAccuracy` | logits and labels of held-out source images | higher |
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
import torchmetrics
from torch import Tensor
from torchmetrics.utilities import dim_zero_cat

from ssl_transfer.evaluation.target_risk import DeepEmbeddedValidation


class TargetEntropy(torchmetrics.Metric):
    """Mean entropy in nats of the answers to target images, 0 to ln K; lower is better.

    0 where each answer is certain, and so for one that answers all alike: it does not see a collapse. As a validator
    Morerio et al. 2018, Minimal-entropy correlation alignment (https://arxiv.org/abs/1711.10288). NaN without images.

    >>> entropy = TargetEntropy()
    >>> entropy.update(torch.zeros(3, 2))
    >>> round(float(entropy.compute()), 4)
    0.6931
    """

    higher_is_better = False
    full_state_update = False
    entropy: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("entropy", default=torch.zeros((), dtype=torch.double), dist_reduce_fx="sum")
        self.add_state("count", default=torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, logits: Tensor) -> None:
        """Logits `(B, K)` of target images."""
        self.entropy += entropies(logits).double().sum()
        self.count += len(logits)

    def compute(self) -> Tensor:
        return (self.entropy / self.count).float()


class InformationMaximisation(torchmetrics.Metric):
    """Entropy of the mean answer less the mean entropy of the answers, in nats, 0 to ln K; higher is better.

    The mutual information of image and answer: sure of each image, and of different classes over all. It takes the
    target's classes to be about equally frequent. Shi and Sha 2012 (https://arxiv.org/abs/1206.6438). NaN without
    images.

    >>> information = InformationMaximisation()
    >>> information.update(torch.tensor([[50.0, 0.0], [0.0, 50.0]]))
    >>> round(float(information.compute()), 4)
    0.6931
    """

    higher_is_better = True
    full_state_update = False
    total: Any
    entropy: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", default=torch.zeros(0, dtype=torch.double), dist_reduce_fx="sum")
        self.add_state("entropy", default=torch.zeros((), dtype=torch.double), dist_reduce_fx="sum")
        self.add_state("count", default=torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, logits: Tensor) -> None:
        """Logits `(B, K)` of target images."""
        own = logits.float().softmax(1).double().sum(0)
        self.total = own if not self.total.numel() else self.total + own
        self.entropy += entropies(logits).double().sum()
        self.count += len(logits)

    def compute(self) -> Tensor:
        mean = self.total / self.count
        return (torch.special.entr(mean).sum() - self.entropy / self.count).float()


class SoftNeighbourhoodDensity(torchmetrics.Metric):
    """Mean entropy in nats of each target image's similarities to the others, 0 to ln (N − 1); higher is better.

    Similarities are cosines of the answers (after softmax), through a softmax of their own: an image amid many that
    are answered alike has a high entropy. It does not see a collapse either. Saito et al. 2021, Tune it the right way
    (https://arxiv.org/abs/2108.10860). Depends on the number of images: compare models on the same ones. NaN with
    fewer than two.

    Args:
        temperature: of the softmax over the other images.
        block: similarities held at once.

    >>> density = SoftNeighbourhoodDensity()
    >>> density.update(torch.tensor([[9.0, 0.0], [9.0, 0.0], [9.0, 0.0]]))
    >>> round(float(density.compute()), 4)
    0.6931
    """

    higher_is_better = True
    full_state_update = False
    answers: Any

    def __init__(self, temperature: float = 0.05, block: int = 2**24) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature must be above 0, not {temperature}")
        self.temperature, self.block = temperature, block
        self.add_state("answers", default=[], dist_reduce_fx="cat")

    def update(self, logits: Tensor) -> None:
        """Logits `(B, K)` of target images."""
        self.answers.append(logits.detach().float().softmax(1))

    def compute(self) -> Tensor:
        answers = F.normalize(dim_zero_cat(self.answers), dim=1) if self.answers else torch.zeros(0, 1)
        if len(answers) < 2:
            return torch.tensor(torch.nan, device=answers.device)
        total = answers.new_zeros((), dtype=torch.double)
        for start in range(0, len(answers), rows := max(1, self.block // len(answers))):
            similar = answers[start : start + rows] @ answers.T / self.temperature  # (rows, N)
            own = torch.arange(len(similar), device=answers.device)
            similar[own, own + start] = -torch.inf  # no image is its own neighbour
            total += torch.special.entr(similar.softmax(1)).sum(dtype=torch.double)
        return (total / len(answers)).float()


class BatchNuclearNorm(torchmetrics.Metric):
    """Sum of the singular values of the answers `(N, K)`, as a share of the most there can be; higher is better.

    1 where all answers are certain and the classes equally frequent, √(1/K) where all are certain and alike. Cui et al.
    2020, Towards discriminability and diversity (https://arxiv.org/abs/2003.12237); there it is divided by N, here by
    √(N min(N, K)), so that sets of different sizes compare. NaN without images.

    >>> norm = BatchNuclearNorm()
    >>> norm.update(torch.tensor([[50.0, 0.0], [0.0, 50.0]]))
    >>> float(norm.compute())
    1.0
    """

    higher_is_better = True
    full_state_update = False
    gram: Any
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("gram", default=torch.zeros(0, 0, dtype=torch.double), dist_reduce_fx="sum")
        self.add_state("count", default=torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, logits: Tensor) -> None:
        """Logits `(B, K)` of target images."""
        answers = logits.double().softmax(1)
        own = answers.T @ answers
        self.gram = own if not self.gram.numel() else self.gram + own
        self.count += len(logits)

    def compute(self) -> Tensor:
        count = int(self.count)
        if not count:
            return torch.tensor(torch.nan, device=self.gram.device)
        norm = torch.linalg.eigvalsh(self.gram).clamp(min=0).sqrt().sum()
        return (norm / math.sqrt(count * min(count, len(self.gram)))).float()


class SourceRisk(torchmetrics.Metric):
    """Mean cross-entropy in nats of held-out source images; lower is better. Images without a label (−1) are passed.

    It says nothing of the target, and is what is left where the domains are one. NaN without labels.

    >>> risk = SourceRisk()
    >>> risk.update(torch.zeros(2, 4), torch.tensor([1, -1]))
    >>> round(float(risk.compute()), 4)
    1.3863
    """

    higher_is_better = False
    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", default=torch.zeros((), dtype=torch.double), dist_reduce_fx="sum")
        self.add_state("count", default=torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Logits `(B, K)` and classes `(B,)` of held-out source images."""
        known = targets >= 0
        self.total += self.figures(logits[known].float(), targets[known]).double().sum()
        self.count += known.sum()

    def figures(self, logits: Tensor, targets: Tensor) -> Tensor:
        """What is averaged, `(B,)`."""
        return F.cross_entropy(logits, targets, reduction="none")

    def compute(self) -> Tensor:
        return (self.total / self.count).float()


class SourceAccuracy(SourceRisk):
    """Share of held-out source images that are right; higher is better. Images without a label (−1) are passed.

    >>> right = SourceAccuracy()
    >>> right.update(torch.eye(2), torch.tensor([0, 0]))
    >>> float(right.compute())
    0.5
    """

    higher_is_better = True
    full_state_update = False

    def figures(self, logits: Tensor, targets: Tensor) -> Tensor:
        """1 where right, else 0, `(B,)`."""
        return (logits.argmax(1) == targets).float()


def validate(source: tuple[Tensor, Tensor, Tensor], target: tuple[Tensor, Tensor], seed: int = 0) -> dict[str, float]:
    """Every validator's figure, by its name in `HIGHER_IS_BETTER`.

    Args:
        source: features `(N, D)`, logits `(N, K)` and classes `(N,)`, −1 none, of held-out source images.
        target: features `(M, D)` and logits `(M, K)` of target images.

    >>> x = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    >>> sorted(validate((x, x, x.argmax(1)), (x, x)))[:3]
    ['batch_nuclear_norm', 'deep_embedded_validation', 'information_maximisation']
    """
    found: dict[str, float] = {}
    for name, kind in VALIDATORS.items():
        metric = (DeepEmbeddedValidation(seed) if kind is DeepEmbeddedValidation else kind()).to(target[1].device)
        if isinstance(metric, DeepEmbeddedValidation):
            metric.update(*source, target[0])
        elif isinstance(metric, SourceRisk):
            metric.update(*source[1:])
        else:
            metric.update(target[1])
        found[name] = float(metric.compute())
    return found


def entropies(logits: Tensor) -> Tensor:
    """Entropy in nats of each row's softmax, `(B,)`.

    >>> entropies(torch.zeros(1, 8)).exp().round()
    tensor([8.])
    """
    logarithms = logits.float().log_softmax(1)
    return -(logarithms.exp() * logarithms).sum(1)


VALIDATORS: dict[str, type[torchmetrics.Metric]] = {
    "target_entropy": TargetEntropy,
    "information_maximisation": InformationMaximisation,
    "soft_neighbourhood_density": SoftNeighbourhoodDensity,
    "batch_nuclear_norm": BatchNuclearNorm,
    "deep_embedded_validation": DeepEmbeddedValidation,
    "source_risk": SourceRisk,
    "source_accuracy": SourceAccuracy,
}
HIGHER_IS_BETTER = {name: bool(kind.higher_is_better) for name, kind in VALIDATORS.items()}
