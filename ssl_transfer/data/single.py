"""Image files prepared for a fitted model exactly as its training images were."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ssl_transfer.data.decode import MAX_PIXELS, decode
from ssl_transfer.data.resize import Resize, resize, scale_to_uint8, to_channels


def read_images(
    paths: Sequence[str | Path],
    shape: tuple[int, int, int],
    how: Resize = "crop",
    value_range: tuple[int, int] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> np.ndarray:
    """Images `(N, C, H, W)` uint8 of `shape`, decoded, scaled and resized as a store's rows are.

    value_range: of 16-bit images, as measured in training. Raises BadImage, naming the path, for a file that cannot be
    read.
    """
    channels, height, width = shape
    images = np.empty((len(paths), *shape), np.uint8)
    for row, path in enumerate(paths):
        pixels = decode(Path(path).read_bytes(), str(path), max_pixels)
        image = to_channels(scale_to_uint8(pixels, value_range), channels, str(path))
        images[row] = resize(image, height, width, how).transpose(2, 0, 1)
    return images
