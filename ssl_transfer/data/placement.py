"""Where a stored image lies in its original, and the way back: maps of the stored image at the original's size."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

Resize = Literal["crop", "pad", "stretch"]
Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels


class Placement(NamedTuple):
    """`box` of the original is what fills `inner` of the stored image; the rest of the stored image is padding."""

    box: Box
    inner: tuple[int, int, int, int]


def place(original: tuple[int, int], stored: tuple[int, int], how: Resize) -> Placement:
    """The placement of an image of size (H, W) in a stored one of size (height, width).

    >>> place((100, 200), (50, 50), "crop").box, place((100, 200), (50, 50), "pad").inner
    ((50.0, 0.0, 150.0, 100.0), (0, 12, 50, 37))
    """
    (have_h, have_w), (height, width) = original, stored
    box, inner = (0.0, 0.0, float(have_w), float(have_h)), (0, 0, width, height)
    scales = (height / have_h, width / have_w)
    if original == stored or how == "stretch":
        return Placement(box, inner)
    if how == "crop":
        left, top = (have_w - width / max(scales)) / 2, (have_h - height / max(scales)) / 2
        box = (max(0.0, left), max(0.0, top), min(float(have_w), have_w - left), min(float(have_h), have_h - top))
    else:
        inner_h, inner_w = max(1, round(have_h * min(scales))), max(1, round(have_w * min(scales)))
        left, top = (width - inner_w) // 2, (height - inner_h) // 2
        inner = (left, top, left + inner_w, top + inner_h)
    return Placement(box, inner)


def to_original(
    values: np.ndarray, original: tuple[int, int], how: Resize, stored: tuple[int, int] | None = None
) -> np.ndarray:
    """A map `(h, w)` of a stored image as float32 `(H, W)` of its original: bilinear, NaN outside what a crop took.

    Args:
        values: spread evenly over the stored image, padding included; h, w may be less than its height and width.
        original: (H, W).
        how: the images were resized.
        stored: (height, width) of the stored image, by default that of the map.
    """
    assert values.ndim == 2
    stored = values.shape if stored is None else stored
    box, inner = place(original, stored, how)
    values = values.astype(np.float32)
    for axis in (0, 1):  # rows, then columns
        low, high = box[1 - axis], box[3 - axis]
        first, last = inner[1 - axis], inner[3 - axis]
        centres = np.arange(original[axis]) + 0.5
        within = first + (centres - low) * (last - first) / (high - low)  # in the stored image
        values = _sample(values, within * values.shape[axis] / stored[axis] - 0.5, axis)
        outside = (centres < low) | (centres > high)
        values[(slice(None), outside) if axis else outside] = np.nan
    return values


def _sample(values: np.ndarray, at: np.ndarray, axis: int) -> np.ndarray:
    """Linear interpolation along an axis at positions counted in its elements, constant beyond the ends."""
    at = at.clip(0, values.shape[axis] - 1)
    lower = np.floor(at).astype(np.int64)
    upper = np.minimum(lower + 1, values.shape[axis] - 1)
    share = (at - lower).astype(np.float32)
    share = share if axis else share[:, None]
    sampled: np.ndarray = values.take(lower, axis) * (1 - share) + values.take(upper, axis) * share
    return sampled
