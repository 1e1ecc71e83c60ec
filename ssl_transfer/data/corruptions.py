"""The damage that a denoising objective undoes, batched on the device with randomness per image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ssl_transfer.data.randomness import KeyedRandom
from ssl_transfer.data.views import to_float


@dataclass(frozen=True)
class Corruption:
    """What is done to an image before it is to be restored. The three kinds may be combined; they act in this order.

    Args:
        gaussian: standard deviation of additive noise, in units of the full value range (0.5 is strong).
        masking: share of square patches replaced by `fill` (masked noise: Vincent et al. 2010,
            https://jmlr.org/papers/v11/vincent10a.html; patches as in He et al. 2021, https://arxiv.org/abs/2111.06377).
        patch: side of these patches in pixels; `None`: about a seventh of the image.
        salt_and_pepper: share of pixels set to black or white.

    >>> images = torch.full((2, 1, 8, 8), 128, dtype=torch.uint8)
    >>> masked, mask = Corruption(gaussian=0.0, masking=0.5)(images, KeyedRandom(torch.arange(2), seed=0), fill=0.0)
    >>> bool((masked[mask.bool()] == 0).all())
    True
    """

    gaussian: float = 0.3
    masking: float = 0.5
    patch: int | None = None
    salt_and_pepper: float = 0.0

    def __post_init__(self) -> None:
        if self.gaussian < 0:
            raise ValueError(f"corruption.gaussian is a standard deviation and must not be negative: {self.gaussian}")
        for name in ("masking", "salt_and_pepper"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"corruption.{name} must be a share between 0 and 1, not {getattr(self, name)}")
        if self.patch is not None and self.patch < 1:
            raise ValueError(f"corruption.patch must be at least 1 pixel, not {self.patch}")

    def __call__(self, images: Tensor, rng: KeyedRandom, fill: Tensor | float = 0.0) -> tuple[Tensor, Tensor]:
        """Corrupt images `(B, C, H, W)`, uint8 or float in [0, 1].

        fill: value of masked patches, a number or one per channel `(C,)`.
        Returns the corrupted images as floats (Gaussian noise may leave [0, 1]) and the mask `(B, C, H, W)`:
        0 keep, 1 replaced by masking or by salt and pepper.
        """
        x = to_float(images)
        batch, channels, height, width = x.shape
        if self.gaussian:
            x = x + self.gaussian * rng.normal(channels, height, width)
        replaced = torch.zeros(batch, 1, height, width, dtype=torch.bool, device=x.device)
        if self.masking:
            replaced = self._patches(rng, height, width)
            values = torch.as_tensor(fill, dtype=x.dtype, device=x.device).view(-1, 1, 1)
            x = torch.where(replaced, values, x)
        if self.salt_and_pepper:
            hit = rng.chance(self.salt_and_pepper, 1, height, width)
            x = torch.where(hit, rng.chance(0.5, 1, height, width).to(x.dtype), x)
            replaced = replaced | hit
        return x, replaced.expand_as(x).to(torch.uint8)

    def _patches(self, rng: KeyedRandom, height: int, width: int) -> Tensor:
        """Exactly the stated share (rounded) of a grid of patches, at random, as a mask `(B, 1, H, W)`."""
        side = self.patch or max(1, round(min(height, width) / 7))
        rows, columns = -(-height // side), -(-width // side)
        order = rng.uniform(rows * columns).argsort(dim=1).argsort(dim=1)  # (B, rows · columns), ranks
        chosen = (order < round(self.masking * rows * columns)).view(-1, 1, rows, columns)
        full = chosen.repeat_interleave(side, 2).repeat_interleave(side, 3)
        return full[:, :, :height, :width]
