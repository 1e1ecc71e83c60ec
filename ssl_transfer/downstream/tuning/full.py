"""Strategies by which every weight learns."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from ssl_transfer.downstream.tuning.base import BatchNorm, Tuning, check_l2
from ssl_transfer.encoders import Encoder, EncoderSpec, build_encoder, load_encoder
from ssl_transfer.encoders.build import is_folder_name
from ssl_transfer.encoders.config import rebuild_spec


class Full(Tuning):
    """Fine-tuning: every weight learns.

    Args:
        encoder_lr: the learning rate of the encoder's last stage as a share of the head's.
        layer_decay: each stage learns at this share of the rate of the stage behind it (Clark et al. 2020,
            https://arxiv.org/abs/2003.10555; as for images in BEiT, Bao et al. 2021); 1 is no decay.
        batch_norm: `train` (statistics of the batch) or `frozen` (those of pretraining).
        l2_sp: penalty for leaving the pretrained weights (L2-SP, Li et al. 2018, https://arxiv.org/abs/1802.01483).

    Example:
        >>> Full(encoder_lr=0.1, layer_decay=0.5).layer_decay
        0.5
    """

    def __init__(
        self, encoder_lr: float = 0.1, layer_decay: float = 0.8, batch_norm: BatchNorm = "train", l2_sp: float = 0.0
    ) -> None:
        self._set_rates(encoder_lr, layer_decay, batch_norm, l2_sp)


class LinearThenFull(Tuning):
    """LP-FT: the head is solved on the frozen features first, and then every weight learns from there.

    A head that starts at random sends large gradients through the encoder, which distort what pretraining has
    learned before the head fits; one that is solved does not (Kumar et al. 2022, https://arxiv.org/abs/2202.10054).

    Args:
        encoder_lr: the learning rate of the encoder's last stage as a share of the optimisation's; head_lr: the head's.
        layer_decay, batch_norm, l2_sp: as of `Full`.
        l2: penalty of the solved head; unlabelled: whether unlabelled images teach too; see `Frozen`.

    Example:
        >>> LinearThenFull().solves_head
        True
    """

    solves_head = True

    def __init__(
        self,
        encoder_lr: float = 1.0,
        head_lr: float = 1.0,
        layer_decay: float = 1.0,
        batch_norm: BatchNorm = "train",
        l2_sp: float = 0.0,
        l2: float | None = None,
        unlabelled: bool = False,
    ) -> None:
        self._set_rates(encoder_lr, layer_decay, batch_norm, l2_sp, head_lr)
        self.l2 = check_l2(l2)
        self.unlabelled = unlabelled


class Scratch(Tuning):
    """The architecture alone, with fresh weights: the floor that pretraining has to beat, or a source task's start."""

    def encoder(
        self,
        chosen: EncoderSpec | str | nn.Module,
        shape: tuple[int, int, int],
        mean: list[float],
        std: list[float],
    ) -> Encoder:
        if isinstance(chosen, nn.Module):
            raise ValueError("tuning Scratch needs an EncoderSpec, a network name or an encoder folder, not a module")
        if isinstance(chosen, str):
            chosen = load_encoder(chosen).spec if is_folder_name(chosen) else EncoderSpec(chosen)
        return build_encoder(replace(rebuild_spec(chosen), own_head=False), shape, mean, std)
