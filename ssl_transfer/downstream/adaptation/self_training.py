"""Self-training: what the network is sure of in the target teaches it the rest."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_transfer.data.views import Views
from ssl_transfer.downstream.adaptation.base import Adaptation, Reading


class SelfTraining(Adaptation):
    """Confident answers to target images as they are become labels of their changed views.

    FixMatch (Sohn et al. 2020, https://arxiv.org/abs/2001.07685) between domains: the adapter's `views` are the strong
    changes; the answer that becomes a label is given to the unchanged image, without a gradient, by the average of the
    weights where the adapter keeps one (mean teacher, Tarvainen and Valpola 2017, https://arxiv.org/abs/1703.01780).
    Set `weight_average`, such as 0.99: a network that teaches itself can drift away from some classes. Answers are
    first rescaled so that the target's classes become as frequent as `balance` says, and the threshold is a share of
    how sure the network is of the source, both as in AdaMatch (Berthelot et al. 2021, https://arxiv.org/abs/2106.04732).
    Where classes are lost, because one that is learnt first swallows another, begin later (`warmup`) and lower the
    threshold of the others (`curriculum`, after FlexMatch, Zhang et al. 2021, https://arxiv.org/abs/2110.08263).
    Compare: where the network was nearly always right from the start, both did harm.

    Args:
        threshold: the least probability that becomes a label, as a share of the mean on source images.
        weight: of the loss on target images, against 1 of the source's.
        warmup: share of the fit before target images teach; their weight rises over as much again.
        balance: frequencies that the target's classes are drawn to: `uniform`, those of the `source`, or `none`.
        memory: share of the old frequencies, and of how often each class was sure, kept in a step.
        curriculum: lower the threshold of classes with fewer sure answers than the surest, measured by what `balance`
            asks for; so not with `none`.
        views: of target images, where these suit other changes than the source's. None: the adapter's. One of the two
            is needed: without a change a label only confirms what the network says.

    >>> round(SelfTraining(warmup=0.2).rise(0.3), 3)
    0.5
    """

    reads_plain = True
    spread = "try --model.method.warmup 0.3 with --model.method.curriculum true, and keep balance uniform"
    cure = "hardly an answer is sure enough to become a label: lower --model.method.threshold"

    def __init__(
        self,
        threshold: float = 0.9,
        weight: float = 1.0,
        warmup: float = 0.1,
        balance: Literal["uniform", "source", "none"] = "uniform",
        memory: float = 0.99,
        curriculum: bool = False,
        views: Views | None = None,
    ) -> None:
        if not 0 <= threshold <= 1:
            raise ValueError(f"method.threshold is a share between 0 and 1, not {threshold}")
        if weight <= 0:
            raise ValueError(f"method.weight must be above 0, not {weight}: for none take SourceOnly")
        if not 0 <= warmup < 0.5:
            raise ValueError(f"method.warmup is a share of the fit from 0 to below 0.5, not {warmup}")
        if balance not in ("uniform", "source", "none"):
            raise ValueError(f"method.balance must be uniform, source or none, not {balance!r}")
        if not 0 <= memory < 1:
            raise ValueError(f"method.memory is a share from 0 to below 1, not {memory}")
        if curriculum and balance == "none":
            raise ValueError(
                "method.curriculum needs to know how frequent classes should be: set method.balance uniform or source"
            )
        self.threshold, self.weight, self.warmup = threshold, weight, warmup
        self.balance, self.memory, self.curriculum, self.views = balance, memory, curriculum, views

    def heads(self, feature_dim: int, classes: int) -> nn.Module:
        """No network, but how frequent the classes are among the answers."""
        return Frequencies(classes)

    def rise(self, progress: float) -> float:
        """The weight at a share of the fit, as a share of its end."""
        return min(1.0, max(0.0, (progress - self.warmup) / self.warmup)) if self.warmup else 1.0

    def loss(
        self, heads: nn.Module, source: Reading, target: Reading, progress: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        assert isinstance(heads, Frequencies) and target.plain is not None, "the adapter reads the images as they are"
        known = source.logits.detach().float().softmax(1)
        answers = target.plain.detach().float().softmax(1)
        heads.update(known.mean(0), answers.mean(0), self.memory)
        wanted = self._wanted(heads)
        sure, labels = rebalanced(answers, heads.target, wanted).max(1)
        threshold = self.threshold * known.amax(1).mean()
        if self.curriculum:
            heads.count_sure(labels[sure >= threshold], len(labels), self.memory)
            threshold = threshold * eased(heads.sure, wanted)[labels]
        taken = (sure >= threshold).float()
        losses = F.cross_entropy(target.logits.float(), labels, reduction="none")
        figures = {"taken": taken.mean(), "target_loss": (losses.detach() * taken).mean()}
        return self.weight * self.rise(progress) * (losses * taken).mean(), figures

    def _wanted(self, heads: Frequencies) -> Tensor:
        """The frequencies `(K,)` that the target's classes are drawn to."""
        if self.balance == "none":
            return heads.target
        return heads.source if self.balance == "source" else torch.full_like(heads.source, 1 / len(heads.source))


class Frequencies(nn.Module):
    """How frequent the classes are among the network's answers to either domain, and among the sure ones to the
    target, as shares of all answers; moving averages `(K,)`.

    >>> frequencies = Frequencies(2)
    >>> frequencies.update(torch.tensor([0.5, 0.5]), torch.tensor([1.0, 0.0]), memory=0.5)
    >>> frequencies.target
    tensor([0.7500, 0.2500])
    """

    source: Tensor
    target: Tensor
    sure: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.register_buffer("source", torch.full((classes,), 1 / classes))
        self.register_buffer("target", torch.full((classes,), 1 / classes))
        self.register_buffer("sure", torch.full((classes,), 1 / classes))

    @torch.no_grad()
    def update(self, source: Tensor, target: Tensor, memory: float) -> None:
        """Take the mean answers of a batch in."""
        self.source.lerp_(source, 1 - memory)
        self.target.lerp_(target, 1 - memory)

    @torch.no_grad()
    def count_sure(self, labels: Tensor, count: int, memory: float) -> None:
        """Take in the sure answers among `count`."""
        self.sure.lerp_(torch.bincount(labels, minlength=len(self.sure)) / count, 1 - memory)


def rebalanced(answers: Tensor, frequencies: Tensor, wanted: Tensor) -> Tensor:
    """Probabilities `(B, K)` of answers of these class frequencies `(K,)`, rescaled to the `wanted` ones.

    >>> rebalanced(torch.tensor([[0.5, 0.5]]), torch.tensor([0.8, 0.2]), torch.tensor([0.5, 0.5]))
    tensor([[0.2000, 0.8000]])
    """
    scaled = answers * (wanted / frequencies.clamp(min=1e-6))
    return scaled / scaled.sum(1, keepdim=True)


def eased(sure: Tensor, wanted: Tensor) -> Tensor:
    """What each class's threshold is multiplied by `(K,)`: less, the fewer sure answers it has of those `wanted` of it.

    As in FlexMatch, x / (2 - x) of a class's sure answers beside those of the surest class, but of the latter no more
    than are wanted. FlexMatch begins with low thresholds for all; between domains the first answers are the worst, and
    the thresholds begin high.

    >>> eased(torch.tensor([0.5, 0.3]), torch.tensor([0.5, 0.5]))
    tensor([1.0000, 0.4286])
    """
    learnt = (sure / wanted.clamp(min=1e-6)).clamp(max=1)
    learnt = learnt / learnt.max().clamp(min=1e-6)
    return learnt / (2 - learnt)
