"""What a set of images looks like before anything is recognised in it: brightness, contrast, colour."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]  # (N, C, H, W)
PART = 256  # images as float32 at once
_NOTABLE = 0.05  # a difference of brightness, contrast or colour that is worth a word


@dataclass(frozen=True)
class Style:
    """Means over images, of values in [0, 1].

    Args:
        brightness: of all pixels and channels.
        contrast: deviation of an image's pixels from its mean.
        colour: largest less smallest channel of a pixel; 0 is grey.
        height, width: medians of the images as they came, in pixels.
    """

    brightness: float
    contrast: float
    colour: float
    height: int
    width: int


def style(images: Images, size: tuple[int, int] | None = None) -> Style:
    """The style of images `(N, C, H, W)`; `size` (height, width) as they came, by default their own.

    >>> style(np.full((2, 3, 4, 4), 255, np.uint8))
    Style(brightness=1.0, contrast=0.0, colour=0.0, height=4, width=4)
    """
    told: NDArray[np.float64] = np.zeros(3)
    for start in range(0, len(images), PART):
        x = images[start : start + PART].astype(np.float32) / 255
        apart = x.max(1) - x.min(1)  # 0 for one channel
        each = (x.mean((1, 2, 3)), x.mean(1).std((1, 2)), apart.mean((1, 2)))
        told += [values.sum(dtype=np.float64) for values in each]
    height, width = size or images.shape[2:]
    brightness, contrast, colour = (told / max(1, len(images))).tolist()
    return Style(brightness, contrast, colour, int(height), int(width))


def differences(source: Style, target: Style) -> list[str]:
    """What differs, in words, the most notable first; empty where nothing does.

    >>> differences(Style(0.2, 0.3, 0, 28, 28), Style(0.5, 0.3, 0.2, 28, 28))
    ['brighter (0.50 against 0.20)', 'in colour (0.20 against 0.00)']
    """
    words = {
        "brightness": ("brighter", "darker"),
        "contrast": ("richer in contrast", "poorer in contrast"),
        "colour": ("in colour" if source.colour < 0.01 else "more colourful", "less colourful"),
    }
    found = []
    for name, (more, less) in words.items():
        own, other = getattr(target, name), getattr(source, name)
        if abs(own - other) >= _NOTABLE:
            word = more if own > other else ("grey" if name == "colour" and own < 0.01 else less)
            found.append((abs(own - other), f"{word} ({own:.2f} against {other:.2f})"))
    told = [text for _, text in sorted(found, reverse=True)]
    if (source.height, source.width) != (target.height, target.width):
        told.append(f"of another size ({target.width}×{target.height} pixels against {source.width}×{source.height})")
    return told


def evened_out(images: Images, like: Images) -> Images:
    """Images with the mean and deviation of each channel that other images have, clipped to 0…255.

    So much of a shift can be undone without knowing what the images show, as re-estimating the statistics of
    normalisation layers does.

    >>> images, like = np.array([[[[0, 100]]]], np.uint8), np.array([[[[50, 100]]]], np.uint8)
    >>> evened_out(images, like).tolist()
    [[[[50, 100]]]]
    """
    mean, deviation = channel_statistics(images)
    wanted_mean, wanted = channel_statistics(like)
    gain = wanted / np.maximum(deviation, 1e-6)
    evened = np.empty_like(images)
    for start in range(0, len(images), PART):
        part = images[start : start + PART].astype(np.float32)
        x = (part - mean[:, None, None]) * gain[:, None, None] + wanted_mean[:, None, None]
        evened[start : start + PART] = np.rint(x.clip(0, 255)).astype(np.uint8)
    return evened


def channel_statistics(images: Images) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and deviation of each channel over all pixels, `(C,)` each, of 0…255.

    >>> [values.tolist() for values in channel_statistics(np.array([[[[0, 100]]]], np.uint8))]
    [[50.0], [50.0]]
    """
    shares, values = histograms(images, 256), np.arange(256)
    mean = shares @ values
    return mean.astype(np.float32), np.sqrt(np.maximum(0, shares @ values**2 - mean**2)).astype(np.float32)


def histograms(images: Images, bins: int = 32) -> NDArray[np.float64]:
    """The share of pixels in `bins` equal ranges of 0…255 by channel, `(C, bins)`.

    >>> histograms(np.array([[[[0, 255]]]], np.uint8), 4).tolist()
    [[0.5, 0.0, 0.0, 0.5]]
    """
    channels = images.shape[1]
    counts = [np.bincount(images[:, c].reshape(-1), minlength=256) for c in range(channels)]
    return np.stack(counts).reshape(channels, bins, -1).sum(2) / max(1, images[:, 0].size)
