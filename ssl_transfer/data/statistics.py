"""Mean and standard deviation of the channels, for normalisation."""

from __future__ import annotations

import numpy as np

_ENOUGH = 100_000  # images: more are sampled evenly
_CHUNK_BYTES = 2**23


def mean_and_std(images: np.ndarray, rows: np.ndarray) -> tuple[list[float], list[float]]:
    """Per channel over the `rows` of uint8 images `(N, C, H, W)`, of values in [0, 1]; std is at least 1e-3.

    Beyond 100,000 rows an even sample of that many is used.

    >>> mean_and_std(np.full((2, 1, 2, 2), 51, np.uint8), np.arange(2))
    ([0.2], [0.001])
    """
    if len(rows) > _ENOUGH:
        rows = rows[np.linspace(0, len(rows) - 1, _ENOUGH).astype(np.int64)]
    channels = images.shape[1]
    total, squares = np.zeros(channels), np.zeros(channels)
    chunk = max(1, _CHUNK_BYTES // max(1, images[0].size))
    for start in range(0, len(rows), chunk):
        for c in range(channels):
            counts = np.bincount(images[rows[start : start + chunk], c].ravel(), minlength=256)
            total[c] += counts @ np.arange(256.0)
            squares[c] += counts @ np.arange(256.0) ** 2
    pixels = len(rows) * images.shape[2] * images.shape[3]
    mean = total / pixels
    std = np.sqrt(np.maximum(squares / pixels - mean**2, 0))
    return (mean / 255).tolist(), np.maximum(std / 255, 1e-3).tolist()
