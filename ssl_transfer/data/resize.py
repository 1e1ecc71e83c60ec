"""Channels and sizes: every image of a store gets the same."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ssl_transfer.data.decode import BadImage
from ssl_transfer.data.placement import Resize, place


def scale_to_uint8(image: np.ndarray, value_range: tuple[int, int] | None) -> np.ndarray:
    """uint16 to uint8, `low` to 0 and `high` to 255, clipped; uint8 passes through.

    >>> scale_to_uint8(np.array([0, 100, 200, 999], np.uint16), (100, 200)).tolist()
    [0, 0, 255, 255]
    """
    if image.dtype == np.uint8:
        return image
    if value_range is None:
        raise ValueError("a 16-bit image needs a value_range (low, high), and this data or model has 8-bit images")
    low, high = value_range
    scaled = (image.astype(np.float32) - low) * (255 / max(1, high - low))
    rounded: np.ndarray = np.rint(scaled.clip(0, 255)).astype(np.uint8)
    return rounded


def to_channels(image: np.ndarray, channels: int, path: str) -> np.ndarray:
    """`(H, W, c)` uint8 to `(H, W, channels)`: grey is repeated, RGB to grey is the luminance (ITU-R 601)."""
    have = image.shape[2]
    if have == channels:
        return image
    if have == 1:
        return np.repeat(image, channels, axis=2)
    if have == 3 and channels == 1:
        return np.asarray(Image.fromarray(image).convert("L"))[:, :, None]
    raise BadImage(path, f"{have} channels cannot become data.channels={channels}")


def resize(image: np.ndarray, height: int, width: int, how: Resize, nearest: bool = False) -> np.ndarray:
    """`(H, W, C)` uint8 to `(height, width, C)`, bilinear and antialiased; `nearest` is for masks.

    crop: the largest centred part of the right shape; pad: the whole image, centred on black; stretch: the whole image.

    >>> resize(np.full((4, 8, 1), 9, np.uint8), 4, 4, "pad")[:, 0, 0].tolist()
    [0, 9, 9, 0]
    """
    have_h, have_w, channels = image.shape
    if (have_h, have_w) == (height, width):
        return image
    box, (left, top, right, bottom) = place((have_h, have_w), (height, width), how)
    inner_w, inner_h = right - left, bottom - top
    filter_ = Image.Resampling.NEAREST if nearest else Image.Resampling.BILINEAR
    planes = [image] if channels == 3 else [image[:, :, c] for c in range(channels)]
    resized = [np.asarray(Image.fromarray(plane).resize((inner_w, inner_h), filter_, box)) for plane in planes]
    inner = resized[0] if channels == 3 else np.stack(resized, axis=2)
    if (inner_h, inner_w) == (height, width):
        return inner
    padded = np.zeros((height, width, channels), np.uint8)
    padded[top:bottom, left:right] = inner
    return padded
