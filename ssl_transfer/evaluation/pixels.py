"""Images as plain vectors of pixels: the space that every map can be compared with."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SIDE = 32  # larger images are averaged down to it
BLOCK = 2**24  # pixels as float32 at once, 64 MiB


def pixel_vectors(images: Tensor, side: int = SIDE) -> Tensor:
    """Images uint8 `(N, C, H, W)` as float32 vectors `(N, C·h·w)` in [0, 1]; those larger than `side` are averaged.

    >>> pixel_vectors(torch.full((2, 1, 64, 32), 255, dtype=torch.uint8)).shape
    torch.Size([2, 512])
    """
    height, width = images.shape[2:]
    scale = max(1.0, max(height, width) / side)
    size = (max(1, round(height / scale)), max(1, round(width / scale)))
    parts = []
    for part in images.split(max(1, BLOCK // images[:1].numel() if len(images) else 1)):
        pixels = part.float().div_(255)
        parts.append((F.adaptive_avg_pool2d(pixels, size) if scale > 1 else pixels).flatten(1))
    return torch.cat(parts)
