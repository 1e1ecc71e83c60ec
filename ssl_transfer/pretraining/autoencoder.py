"""Autoencoders: an image is squeezed into features and restored from them."""

from __future__ import annotations

from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor, nn

from ssl_transfer.data.batch import Batch
from ssl_transfer.encoders import EncoderSpec
from ssl_transfer.encoders.build import is_folder_name
from ssl_transfer.encoders.reconstruction import code, mirrored_decoder, reconstruct
from ssl_transfer.optimisation import Optimisation
from ssl_transfer.pretraining.base import Objective


class Autoencoder(Objective):
    """Reconstruction (Hinton and Salakhutdinov 2006, https://doi.org/10.1126/science.1127647).

    Args:
        encoder: see `Objective`. A `bottleneck` of its own wins over the next argument.
        bottleneck: width of the code. Below the number of pixels the autoencoder is undercomplete. `None` decodes
            from the feature maps themselves, which are usually wider than the image: overcomplete, and then best
            with `sparsity`.
        sparsity: weight of the mean absolute activation of the code (an L1 penalty), 0 or more.
        optimisation: optimiser, learning rate and schedule.

    Example:
        >>> Autoencoder(bottleneck=16).bottleneck
        16
    """

    def __init__(
        self,
        encoder: EncoderSpec | str | nn.Module | None = None,
        bottleneck: int | None = 64,
        sparsity: float = 0.0,
        optimisation: Optimisation | None = None,
    ) -> None:
        super().__init__(with_bottleneck(encoder, bottleneck), optimisation)
        if bottleneck is not None and bottleneck < 1:
            raise ValueError(f"model.bottleneck must be at least 1 or null, not {bottleneck}")
        if sparsity < 0:
            raise ValueError(f"model.sparsity must be 0 or more, not {sparsity}")
        self.bottleneck = bottleneck
        self.sparsity = sparsity

    def build_heads(self) -> None:
        self.decoder = mirrored_decoder(self.encoder)

    def code(self, images: Tensor) -> Tensor:
        """What the decoder sees: the bottleneck `(B, K)`, or the maps `(B, D, h, w)` without one."""
        return code(self.encoder, images)

    def reconstruct(self, images: Tensor) -> Tensor:
        """Images restored from their code, in [0, 1] up to over- and undershoot, `(B, C, H, W)`."""
        return reconstruct(self.encoder, self.decoder, images)

    def loss(self, batch: Batch, epoch: int) -> tuple[Tensor, dict[str, Tensor]]:
        code = self.code(batch.images)
        error = F.mse_loss(self.decoder(code).float(), self.encoder.normalise(batch.images))
        penalty = code.float().abs().mean()
        return error + self.sparsity * penalty, {"reconstruction_error": error, "mean_activation": penalty}


def with_bottleneck(
    encoder: EncoderSpec | str | nn.Module | None, bottleneck: int | None
) -> EncoderSpec | str | nn.Module:
    """The encoder given, or the small network, with a bottleneck where none is set; modules and folders pass."""
    if isinstance(encoder, str) and not is_folder_name(encoder):
        encoder = EncoderSpec(encoder)
    spec = EncoderSpec() if encoder is None else encoder
    if isinstance(spec, EncoderSpec) and spec.bottleneck is None and bottleneck is not None:
        return replace(spec, bottleneck=bottleneck, pool=1)
    return spec
