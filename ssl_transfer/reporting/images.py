"""Arrays of images as data URIs and as labelled rows on a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

_LARGE = 120_000  # bytes of PNG above which a picture is stored as WebP where that is smaller


def to_pixels(images: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Images `(N, C, H, W)`, uint8 or float in [0, 1] (clipped; NaN is black), as uint8 `(N, H, W, 3)`.

    Three channels and more show the first three, one or two the first as grey.

    Raises:
        ValueError: for another shape or type.
    """
    array = np.asarray(images)
    if array.ndim != 4:
        raise ValueError(f"images: expected the shape (N, C, H, W), got {array.shape}; add the missing axis")
    if np.issubdtype(array.dtype, np.floating):
        array = np.round(np.clip(np.nan_to_num(array), 0, 1) * 255).astype(np.uint8)
    if array.dtype != np.uint8:
        raise ValueError(f"images: expected uint8 or float in [0, 1], got {array.dtype}; convert them first")
    shown = array[:, :3] if array.shape[1] >= 3 else np.repeat(array[:, :1], 3, axis=1)
    return np.ascontiguousarray(shown.transpose(0, 2, 3, 1))


def data_uri(picture: Image.Image) -> str:
    """A picture as a data URI: PNG, or WebP where the PNG is large and WebP is smaller."""
    kind, content = "png", _encode(picture, "PNG", optimize=True)
    if len(content) > _LARGE and features.check("webp"):
        smaller = _encode(picture, "WEBP", quality=85, method=4)
        if len(smaller) < len(content):
            kind, content = "webp", smaller
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _encode(picture: Image.Image, kind: str, **options: int | bool) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def shrink(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Pixels `(N, H, W, 3)` reduced so that no side exceeds `side`; smaller images stay as they are."""
    height, width = pixels.shape[1:3]
    if max(height, width) <= side:
        return pixels
    scale = side / max(height, width)
    target = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = [np.asarray(Image.fromarray(image).resize(target, Image.Resampling.BOX)) for image in pixels]
    return np.stack(small)


def sheet(images: NDArray[np.generic], columns: int | None = None, side: int = 96, gap: float = 0.08) -> Image.Image:
    """Tile images `(N, C, H, W)` on one transparent sheet, `columns` a row (all in one by default).

    Small images are enlarged by whole factors without smoothing, large ones reduced to `side`; `gap` is the distance
    between tiles as a share of a tile.
    """
    pixels = shrink(to_pixels(images), side)
    factor = max(1, (side * 2 // 3) // max(pixels.shape[1:3]))
    pixels = pixels.repeat(factor, axis=1).repeat(factor, axis=2)
    count, height, width = pixels.shape[:3]
    columns = max(1, min(count, columns or count))
    rows = -(-count // columns) if count else 1
    space = round(gap * max(height, width))
    size = (columns * (width + space) - space, rows * (height + space) - space)
    canvas = Image.new("RGBA", (max(1, size[0]), max(1, size[1])), (0, 0, 0, 0))
    for position, image in enumerate(pixels):
        row, column = divmod(position, columns)
        canvas.paste(Image.fromarray(image), (column * (width + space), row * (height + space)))
    return canvas


def image_row(images: NDArray[np.generic], alt: str, columns: int | None = None) -> str:
    """Images `(N, C, H, W)` side by side as one `<img>`.

    >>> image_row(np.zeros((4, 1, 8, 8), np.uint8), "four black squares")[:28]
    '<img class="sheet pixelated"'
    """
    picture = sheet(images, columns)
    small = " pixelated" if max(np.asarray(images).shape[2:]) <= 48 else ""
    return (
        f'<img class="sheet{small}" width="{picture.width}" height="{picture.height}" '
        f'alt="{escape(alt, quote=True)}" src="{data_uri(picture)}">'
    )


def image_grid(rows: Mapping[str, NDArray[np.generic]], caption: str = "", what: str = "images") -> str:
    """Labelled rows of images `(N, C, H, W)`; the same column is the same image throughout.

    Args:
        rows: label of the row, its images; such as "original", "corrupted", "restored".
        caption: a sentence below.
        what: the plural noun for the alternative text.
    """
    lines = []
    for label, images in rows.items():
        picture = image_row(images, f"{label}: {len(images)} {what}")
        lines.append(f'<div class="image-row"><span class="row-label">{escape(label)}</span>{picture}</div>')
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure class="image-grid">{"".join(lines)}{below}</figure>'
