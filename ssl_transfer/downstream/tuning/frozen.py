"""Strategies that leave the encoder as it is."""

from __future__ import annotations

import warnings
from dataclasses import replace

from torch import nn

from ssl_transfer.downstream.tuning.base import Tuning, check_l2
from ssl_transfer.encoders import Encoder, EncoderSpec


class Frozen(Tuning):
    """Feature extraction: the encoder never changes, each image is encoded once, and only a head is fitted.

    Args:
        solve: solve a logistic regression on the cached features (L-BFGS, to convergence). With `False` a linear
            head is trained on them by gradient, for as many epochs as the trainer is given.
        l2: penalty of the solved head; `None` chooses it on the validation split, or by cross-validation on the
            training split where no validation labels exist.
        unlabelled: let the training split's unlabelled images teach too. Labels spread along the graph of nearest
            neighbours by the encoder's features (Zhou et al. 2004; Iscen et al. 2019,
            https://arxiv.org/abs/1904.04717), and the surer half of each class counts as labelled. It can
            pay with very few labels and harms with many: ask `ssl-transfer evidence`. `data.keep_unlabelled` keeps the
            images that a label budget leaves out.

    Example:
        >>> Frozen().trains_encoder
        False
    """

    trains_encoder = False

    def __init__(self, solve: bool = True, l2: float | None = None, unlabelled: bool = False) -> None:
        self.solve = solve
        self.l2 = check_l2(l2)
        self.unlabelled = unlabelled


class AsIs(Frozen):
    """The pretrained network used unchanged, its own head included where it has one: nothing is learned.

    A network with a head of its own (`EncoderSpec` with `weights`) answers in its own classes. Where these are the ones
    asked for, they are taken as they are; otherwise they are translated, by counting on the labelled images which of
    them goes with which (LEEP's predictor, Nguyen et al. 2020, https://arxiv.org/abs/2002.12462). An encoder without a
    head names the class whose mean features are nearest.

    Example:
        >>> AsIs().trains_encoder
        False
    """

    def __init__(self) -> None:
        super().__init__()

    def encoder(
        self,
        chosen: EncoderSpec | str | nn.Module,
        shape: tuple[int, int, int],
        mean: list[float],
        std: list[float],
    ) -> Encoder:
        if not isinstance(chosen, EncoderSpec) or chosen.own_head or not _pretrained(chosen):
            return super().encoder(chosen, shape, mean, std)
        try:
            return super().encoder(replace(chosen, own_head=True, pool=1, bottleneck=None), shape, mean, std)
        except ValueError as error:
            warnings.warn(f"tuning AsIs takes the nearest class mean, as no head can be used: {error}", stacklevel=2)
            return super().encoder(chosen, shape, mean, std)


def _pretrained(spec: EncoderSpec) -> bool:
    return spec.weights is not None or bool(spec.arguments.get("pretrained"))
