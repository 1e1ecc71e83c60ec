"""Thumbnails of very many images on a few sheets, which a page decodes only where it shows them."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

from ssl_transfer.reporting.images import shrink, to_pixels

_PIXELS = 61_440_000  # of all thumbnails together: 60,000 of 32 px
_SIDES = (8, 96)  # px of the longer side of a thumbnail, at least and at most
_SHEET = 1_050_000  # px of one sheet: small enough to decode while a pointer moves
_LOSSLESS = 4_000_000  # px of all thumbnails up to which they are kept as they are
_QUALITIES = (85, 75, 65, 55, 45, 35, 25)


@dataclass(frozen=True, eq=False)
class Atlas:
    """Sheets of equal cells, filled row by row.

    Args:
        sheets: encoded pictures.
        kind: their format, "webp", "png" or "jpeg".
        columns, rows: cells of a sheet; the last sheet may have fewer rows.
        cell: width and height of a cell, px.
        places: (N,) the cell of each image, counted through all sheets.
        sizes: (N, 2) uint8, width and height of each image in the top left of its cell.
    """

    sheets: list[bytes]
    kind: str
    columns: int
    rows: int
    cell: tuple[int, int]
    places: NDArray[np.int64]
    sizes: NDArray[np.uint8]


def make_atlas(
    thumbnails: Iterable[NDArray[np.generic]], points: NDArray[np.floating], most_bytes: int = 16_000_000
) -> Atlas:
    """Reduce images `(C, H, W)`, one a row of `points`, to fit `most_bytes`, and pack them.

    What lies close together on the map shares a sheet, so that a lasso touches few. Small numbers of
    small images keep every pixel.
    """
    side = thumbnail_side(len(points))
    small = [_reduced(image, side) for image in thumbnails]
    assert len(small) == len(points), f"{len(small)} thumbnails for {len(points)} points"
    sizes = np.array([image.shape[1::-1] for image in small], np.uint8).reshape(-1, 2)
    width, height = (int(size) for size in sizes.max(axis=0)) if len(small) else (1, 1)
    columns = max(1, math.isqrt(_SHEET) // width)
    rows = max(1, min(math.isqrt(_SHEET) // height, -(-len(small) // columns)))
    order = hilbert_order(points)
    places = np.empty(len(small), np.int64)
    places[order] = np.arange(len(small))
    grey = all(image.ndim == 2 for image in small)

    def draw(start: int) -> Image.Image:
        chosen = order[start : start + columns * rows]
        used = min(rows, -(-len(chosen) // columns))
        canvas = np.zeros((used * height, columns * width) if grey else (used * height, columns * width, 3), np.uint8)
        for place, row in enumerate(chosen):
            y, x = place // columns * height, place % columns * width
            image = small[row] if grey or small[row].ndim == 3 else small[row][..., None]
            canvas[y : y + image.shape[0], x : x + image.shape[1]] = image
        return Image.fromarray(canvas)

    starts = range(0, len(small), columns * rows)
    kind, options = _encoding(draw, starts, int((sizes.astype(int).prod(axis=1)).sum()), most_bytes)
    sheets = [_encode(draw(start), kind, options) for start in starts]
    return Atlas(sheets, kind, columns, rows, (width, height), places, sizes)


def thumbnail_side(count: int) -> int:
    """Longest side of a thumbnail among `count`, px: as large as fits the pixels of all, from 8 to 96.

    The one rule for it: who holds thumbnails in memory reduces them to this side, and `make_atlas` leaves them so.

    >>> [thumbnail_side(count) for count in (1_000, 10_000, 60_000, 1_000_000)]
    [96, 78, 32, 8]
    """
    return min(_SIDES[1], max(_SIDES[0], math.isqrt(_PIXELS // max(1, count))))


def hilbert_order(points: NDArray[np.floating], bits: int = 12) -> NDArray[np.int64]:
    """Rows of `points` (N, 2) along a Hilbert curve: what is close in the order is close in the plane.

    >>> hilbert_order(np.array([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0], [0.0, 1.0]])).tolist()
    [1, 3, 2, 0]
    """
    if not len(points):
        return np.zeros(0, np.int64)
    low = points.min(axis=0)
    extent = float((points.max(axis=0) - low).max()) or 1.0
    x, y = ((points - low) / extent * (2**bits - 1)).astype(np.int64).T
    distance = np.zeros(len(points), np.int64)
    for bit in reversed(range(bits)):
        half = 1 << bit
        right, up = (x & half) > 0, (y & half) > 0
        distance += half * half * ((3 * right) ^ up)
        flip = right & ~up
        x, y = np.where(flip, 2**bits - 1 - x, x), np.where(flip, 2**bits - 1 - y, y)
        x, y = np.where(up, x, y), np.where(up, y, x)
    order: NDArray[np.int64] = np.argsort(distance, kind="stable")
    return order


def _reduced(image: NDArray[np.generic], side: int) -> NDArray[np.uint8]:
    """An image `(C, H, W)` as `(h, w, 3)`, or `(h, w)` where it is grey."""
    assert image.ndim == 3, f"a thumbnail is (C, H, W), got {image.shape}"
    pixels = shrink(to_pixels(image[None]), side)[0]
    return pixels[..., 0] if image.shape[0] < 3 else pixels


def _encoding(
    draw: Callable[[int], Image.Image], starts: range, pixels: int, most_bytes: int
) -> tuple[str, dict[str, int | bool]]:
    """Format and options that fit `most_bytes`, judged by the sheet in the middle."""
    webp = features.check("webp")
    if pixels <= _LOSSLESS or not starts:
        return ("webp", {"lossless": True}) if webp else ("png", {"optimize": True})
    kind = "webp" if webp else "jpeg"
    middle = draw(starts[len(starts) // 2])
    for quality in _QUALITIES:
        options: dict[str, int | bool] = {"quality": quality, **({"method": 4} if webp else {})}
        if len(_encode(middle, kind, options)) * len(starts) <= most_bytes:
            break
    return kind, options


def _encode(picture: Image.Image, kind: str, options: dict[str, int | bool]) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind.upper(), **options)
    return stream.getvalue()
