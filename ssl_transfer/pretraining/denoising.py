"""Denoising autoencoder: the undamaged image is restored from a damaged one."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ssl_transfer.data.batch import Batch
from ssl_transfer.data.corruptions import Corruption
from ssl_transfer.encoders import EncoderSpec
from ssl_transfer.encoders.reconstruction import mirrored_decoder, reconstruct
from ssl_transfer.optimisation import Optimisation
from ssl_transfer.pretraining.base import Objective


class DenoisingAutoencoder(Objective):
    """Restoration of corrupted images (Vincent et al. 2008, https://doi.org/10.1145/1390156.1390294).

    The corruption keeps the encoder from learning the identity, so that no bottleneck is needed: the decoder reads
    the feature maps.

    Args:
        encoder: see `Objective`; by default the small residual network with features pooled to 3 × 3.
        corruption: Gaussian noise, masked patches, salt and pepper, or several.
        optimisation: optimiser, learning rate and schedule.

    Example:
        >>> DenoisingAutoencoder(corruption=Corruption(gaussian=0.0, masking=0.75)).corruption.masking
        0.75
    """

    def __init__(
        self,
        encoder: EncoderSpec | str | nn.Module | None = None,
        corruption: Corruption | None = None,
        optimisation: Optimisation | None = None,
    ) -> None:
        super().__init__(encoder or EncoderSpec(pool=3), optimisation)
        self.corruption = corruption or Corruption()

    def build_heads(self) -> None:
        self.decoder = mirrored_decoder(self.encoder)

    def corrupt(self, batch: Batch, epoch: int) -> Tensor:
        """The batch's images damaged, floats `(B, C, H, W)`; masked patches take the mean colour of the data."""
        rng = self.random(batch, epoch, stream=3)
        return self.corruption(batch.images, rng, fill=self.encoder.mean)[0]

    def reconstruct(self, images: Tensor) -> Tensor:
        """Restored images, in [0, 1] up to over- and undershoot, `(B, C, H, W)`."""
        return reconstruct(self.encoder, self.decoder, images)

    def loss(self, batch: Batch, epoch: int) -> tuple[Tensor, dict[str, Tensor]]:
        restored = self.reconstruct(self.corrupt(batch, epoch))
        error = F.mse_loss(self.encoder.normalise(restored), self.encoder.normalise(batch.images))
        return error, {}
