"""How downstream training treats the encoder."""

from __future__ import annotations

from torch import nn

from ssl_transfer.encoders import Encoder, EncoderSpec, build_encoder, load_encoder
from ssl_transfer.encoders.build import is_folder_name
from ssl_transfer.encoders.config import rebuild_spec


class Tuning:
    """Base of the tuning strategies: gives the encoder to start from and says whether it learns."""

    trains_encoder: bool = True
    encoder_lr: float = 1.0

    def encoder(
        self,
        chosen: EncoderSpec | str | nn.Module,
        shape: tuple[int, int, int],
        mean: list[float],
        std: list[float],
    ) -> Encoder:
        """The encoder in the state in which training begins."""
        return build_encoder(chosen, shape, mean, std)


class Frozen(Tuning):
    """Feature extraction: the encoder never changes, each image is encoded once, and only a head is fitted.

    Args:
        solve: solve a logistic regression on the cached features (L-BFGS, to convergence). With `False` a linear
            head is trained on them by gradient, for as many epochs as the trainer is given.
        l2: penalty of the solved head; `None` chooses it on the validation split, or by cross-validation on the
            training split where no validation labels exist.

    Example:
        >>> Frozen().trains_encoder
        False
    """

    trains_encoder = False

    def __init__(self, solve: bool = True, l2: float | None = None) -> None:
        if l2 is not None and l2 < 0:
            raise ValueError(f"tuning.l2 must be 0 or more, or null to choose it on held-out images, not {l2}")
        self.solve = solve
        self.l2 = l2


class Full(Tuning):
    """Fine-tuning: every weight learns.

    Args:
        encoder_lr: the encoder's learning rate as a share of the head's.
    """

    def __init__(self, encoder_lr: float = 0.1) -> None:
        if encoder_lr <= 0:
            raise ValueError(f"tuning.encoder_lr must be above 0, not {encoder_lr}; for 0 use Frozen")
        self.encoder_lr = encoder_lr


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
        return build_encoder(rebuild_spec(chosen), shape, mean, std)
