"""The mirrored decoder of the autoencoders."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from ssl_transfer.encoders.network import Shape

NARROWEST = 16  # channels


class Decoder(nn.Module):
    """From maps, or from a bottleneck's features, back to normalised images `(B, C, H, W)`.

    Each block doubles the size by sub-pixel convolution (Shi et al., 2016) and halves the width, until the images'
    size is reached; what is not a power of two away is brought there by bilinear interpolation. The output is linear.

    Args:
        map_dim, map_size: channels and `(h, w)` of the encoder's maps.
        out_shape: `(C, H, W)` of the images.
        from_features: width of the features when the decoder reads those, not the maps.

    >>> import torch
    >>> Decoder(64, (7, 7), (1, 28, 28))(torch.zeros(2, 64, 7, 7)).shape
    torch.Size([2, 1, 28, 28])
    >>> Decoder(64, (3, 3), (3, 25, 25), from_features=10)(torch.zeros(2, 10)).shape
    torch.Size([2, 3, 25, 25])
    """

    def __init__(
        self, map_dim: int, map_size: tuple[int, int], out_shape: Shape, from_features: int | None = None
    ) -> None:
        super().__init__()
        self.in_shape = (map_dim, *map_size)
        self.size = out_shape[1:]
        self.expand = None if from_features is None else nn.Linear(from_features, math.prod(self.in_shape))
        ratio = max(out / size for out, size in zip(self.size, map_size, strict=True))
        self.blocks = nn.Sequential()
        width = map_dim
        for _ in range(max(0, round(math.log2(ratio)))):
            narrower = max(NARROWEST, width // 2)
            self.blocks.append(_block(width, narrower))
            width = narrower
        self.last = nn.Conv2d(width, out_shape[0], 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:  # (B, D, h, w), or (B, D) -> (B, C, H, W)
        """Reconstructed images, in normalised values."""
        if self.expand is not None:
            x = F.relu(self.expand(x)).view(-1, *self.in_shape)
        x = self.blocks(x)
        if x.shape[2:] != self.size:
            x = F.interpolate(x, size=self.size, mode="bilinear", align_corners=False)
        images: Tensor = self.last(x)
        return images


def _block(width: int, narrower: int) -> nn.Sequential:
    """`(B, width, h, w)` to `(B, narrower, 2h, 2w)`."""
    return nn.Sequential(
        nn.Conv2d(width, 4 * narrower, 3, padding=1, bias=False),
        nn.PixelShuffle(2),
        nn.BatchNorm2d(narrower),
        nn.ReLU(inplace=True),
    )
