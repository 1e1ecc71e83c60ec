"""What every way of adapting to a domain without labels answers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ssl_transfer.data.views import Views

Map = tuple[Tensor, Tensor]  # weight (D, E) and shift (E,) of features: x @ weight + shift


@dataclass
class Reading:
    """What the network makes of one domain's half of a batch: features `(B, D)` and class logits `(B, K)`.

    plain: logits `(B, K)` of the images without `views`, through which no gradient flows; None unless asked for.
    """

    features: Tensor
    logits: Tensor
    plain: Tensor | None = None


class Adaptation:
    """Base of the methods: how images of the target, without labels, help.

    A method for training by gradient gives `loss`, one for frozen features `align`; some give both.

    Attributes:
        uses_target: whether target images go through the network in training.
        measures_norms: whether BatchNorm's statistics are measured anew on the target before the model is judged and
            kept.
        views: of target images in training, in place of the adapter's; None: the adapter's.
        reads_plain: whether target images also go through the network without `views`, for `Reading.plain`. Such a
            method needs views.
        cure: of a gradient that does not reach the encoder.
        spread: the cure of answers to the target that are of few classes.
    """

    uses_target: bool = True
    measures_norms: bool = True
    views: Views | None = None
    reads_plain: bool = False
    cure: str = "lower --model.optimisation.lr"
    spread: str = "take another --model.method"

    def heads(self, feature_dim: int, classes: int) -> nn.Module:
        """Networks of the method's own, beside the encoder and the classifier."""
        return nn.Identity()

    def loss(
        self, heads: nn.Module, source: Reading, target: Reading, progress: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """What is added to the source's classification loss, and figures to log. progress: share of the fit, 0 to 1."""
        raise ValueError(f"{type(self).__name__} works on frozen features: take tuning Frozen, or another method")

    def align(self, source: Tensor, target: Tensor) -> tuple[Map, Map]:
        """Affine maps of frozen features of the source and of the target into one space. `(N, D)`, `(M, D)`."""
        raise ValueError(f"{type(self).__name__} teaches the encoder: take a tuning such as Full, or another method")

    @property
    def trains(self) -> bool:
        """Whether it can train by gradient."""
        return type(self).loss is not Adaptation.loss

    @property
    def aligns(self) -> bool:
        """Whether it can align frozen features."""
        return type(self).align is not Adaptation.align


def identity(features: Tensor) -> Map:
    """The map that leaves features `(N, D)` as they are."""
    width = features.shape[1]
    return torch.eye(width, dtype=features.dtype), torch.zeros(width, dtype=features.dtype)


def folded(weight: Tensor, bias: Tensor, of: Map) -> tuple[Tensor, Tensor]:
    """A linear head `(K, E)`, `(K,)` on mapped features as one on the features themselves: `(K, D)`, `(K,)`.

    >>> weight, bias = folded(torch.tensor([[2.0]]), torch.tensor([1.0]), (torch.tensor([[3.0]]), torch.tensor([5.0])))
    >>> weight, bias
    (tensor([[6.]]), tensor([11.]))
    """
    matrix, shift = of
    return weight @ matrix.T, bias + weight @ shift


def mapped(features: Tensor, of: Map) -> Tensor:
    """Features `(N, D)` in the common space, float32 on the CPU."""
    matrix, shift = of
    return (features.double().cpu() @ matrix + shift).float()


def check_images(method: Adaptation, source: Tensor, target: Tensor) -> None:
    """ValueError where a domain's features do not vary."""
    for domain, features in (("source", source), ("target", target)):
        if len(features) < 2:
            raise ValueError(
                f"method {type(method).__name__} measures how images of a domain vary, and data.{domain} has "
                f"{len(features)} for training: give at least 2, better hundreds, or take SourceOnly"
            )
        least = 1e-5 * features.abs().max()
        if not bool((features - features[0]).abs().max() > least):  # as if one of them is not finite
            raise ValueError(
                f"method {type(method).__name__} measures how images of a domain vary, and the encoder gives all "
                f"training images of data.{domain} the same features, or some that are not finite: take another "
                "encoder, or look at the images"
            )
