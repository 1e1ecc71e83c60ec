"""Heat maps of anomalies over their images, as arrays and as PNG files at the images' own size."""

from __future__ import annotations

import csv
import math
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ssl_transfer.files import whole_folder
from ssl_transfer.reporting.images import to_pixels

INDEX = "index.csv"  # which file shows which image; also the mark of a folder that may be replaced
# The upper two thirds of matplotlib's "inferno": lightness rises evenly, and none is dark enough for a shadow
_STOPS = np.array(
    [(120, 28, 109), (165, 44, 96), (207, 68, 70), (237, 105, 37), (251, 155, 6), (247, 209, 61), (252, 255, 164)],
    dtype=float,
)
_TABLE = np.stack(  # (1024, 3)
    [np.interp(np.linspace(0, len(_STOPS) - 1, 1024), np.arange(len(_STOPS)), channel) for channel in _STOPS.T], axis=1
).astype(np.float32)
_MOST_OPAQUE = 0.82  # the image stays visible below the hottest spot
_UNSEEN = 0.6  # share of grey where the encoder saw nothing
_LONGEST_NAME = 150  # bytes of a file name before its suffix


def colours(share: NDArray[np.floating]) -> NDArray[np.float32]:
    """The colour of each share in [0, 1], any shape `(...)`: RGB `(..., 3)` in [0, 255], purple over red to yellow.

    >>> colours(np.array([0.0, 1.0])).astype(int).tolist()
    [[120, 28, 109], [252, 255, 164]]
    """
    coloured: NDArray[np.float32] = _TABLE[np.rint(np.asarray(share) * (len(_TABLE) - 1)).astype(np.int64)]
    return coloured


def overlay(image: NDArray[np.uint8], heat: NDArray[np.floating], low: float, high: float) -> NDArray[np.uint8]:
    """Lay a heat map over its image.

    Args:
        image: uint8 `(H, W, C)`; one or two channels show the first as grey, more show the first three.
        heat: `(H, W)`, higher is more anomalous; NaN where the encoder saw nothing, which is greyed.
        low: up to this heat the image shows unchanged.
        high: from this heat the colour is full. Give all images the same `low` and `high`, such as a high quantile of
            the heat on normal images and the threshold: normal images then stay calm.

    Returns:
        uint8 `(H, W, 3)`.

    Raises:
        ValueError: for heat of another size than the image, or a scale that is not finite and ascending.
    """
    _check_scale(low, high)
    _check_size(image, heat)
    pixels = to_pixels(image.transpose(2, 0, 1)[None])[0].astype(np.float32)  # (H, W, 3)
    seen = ~np.isnan(heat)
    above = np.where(seen, heat, low).astype(float) - low  # (H, W)
    share = np.clip(above / (high - low), 0, 1) if high > low else (above > 0).astype(float)
    opacity = _MOST_OPAQUE * share * (2 - share)  # (H, W); rises fast, so that purple soon reads as purple
    opacity = np.where(seen, opacity, _UNSEEN).astype(np.float32)[..., None]
    paint = np.where(seen[..., None], colours(share), np.float32(128))
    blended: NDArray[np.uint8] = np.rint(pixels + opacity * (paint - pixels)).astype(np.uint8)
    return blended


def write_overlays(
    folder: str | Path,
    items: Iterable[tuple[str, NDArray[np.uint8], NDArray[np.floating]]],
    low: float,
    high: float,
) -> list[Path]:
    """Write one PNG an image, at the image's size; the folder appears whole or not at all.

    The name of a file is that of the image and of the folder it lies in, made safe and unique; `index.csv` beside
    the PNGs says which file shows which image.

    Args:
        folder: of the files; replaced if it is empty or was written by this function.
        items: `(path of the image, image, heat)` as `overlay` takes them; may be a generator, one is held at a time.
        low, high: the scale of all images, see `overlay`.

    Returns:
        The files, in the order of `items`.

    Raises:
        ValueError: for a folder that holds anything else, and what `overlay` raises, with the image's path.
    """
    target = Path(folder)
    _check_scale(low, high)
    _check_replaceable(target)
    taken: set[str] = {INDEX}
    rows: list[tuple[str, str]] = []
    with whole_folder(target) as unfinished:
        for path, image, heat in items:
            _check_size(image, heat, path)
            name = safe_name(path, taken)
            Image.fromarray(overlay(image, heat, low, high)).save(unfinished / name, "PNG")
            rows.append((name, path))
        with (unfinished / INDEX).open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
            csv.writer(stream, lineterminator="\n").writerows([("file", "image"), *rows])
    return [target / name for name, _ in rows]


def safe_name(path: str, taken: set[str]) -> str:
    """A PNG's name for the image at `path`: letters, digits, `_`, `-` and `.`; unique, and added to `taken`.

    >>> taken = set()
    >>> [safe_name(path, taken) for path in ("a/b/tile 1.jpg", "c/b/Tile 1.png", "../.x")]
    ['b__tile_1.png', 'b__Tile_1-2.png', 'x.png']
    """
    parts = [part for part in re.split(r"[\\/]+", unicodedata.normalize("NFC", path)) if part not in ("", ".", "..")]
    stem = re.sub(r"(?<=.)\.[^.]*$", "", parts[-1]) if parts else ""
    clean = [re.sub(r"[^\w.-]+", "_", part).strip("._ ") for part in (*parts[-2:-1], stem)]
    whole = "__".join(part for part in clean if part) or "image"
    whole = whole.encode()[-_LONGEST_NAME:].decode(errors="ignore").lstrip(".-")
    count, name = 1, f"{whole}.png"
    while name.casefold() in taken:  # some file systems ignore case
        count += 1
        name = f"{whole}-{count}.png"
    taken.add(name.casefold())
    return name


def _check_scale(low: float, high: float) -> None:
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ValueError(
            f"heat scale: low and high must be finite, low at most high, got {low:g} and {high:g}; "
            "take quantiles of the heat on normal images"
        )


def _check_size(image: NDArray[np.uint8], heat: NDArray[np.floating], path: str = "") -> None:
    of = f" of {path}" if path else ""
    if image.ndim != 3 or image.dtype != np.uint8:
        raise ValueError(
            f"image{of}: expected uint8 (H, W, C), got {image.dtype} {image.shape}; convert it, or add the channel axis"
        )
    if heat.shape != image.shape[:2]:
        raise ValueError(
            f"heat map{of}: must have the image's size {image.shape[:2]}, got {heat.shape}; "
            "resize the heat map to the image first"
        )


def _check_replaceable(folder: Path) -> None:
    """Only a folder that holds overlays and nothing else is replaced: an image folder named by mistake survives."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"overlays: {folder} is a file, a folder is needed; name a new folder")
    if not folder.exists():
        return
    index = folder / INDEX
    ours = {INDEX}
    if index.is_file():
        with index.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
            ours |= {row[0] for row in csv.reader(stream) if row}
    foreign = sorted(entry.name for entry in folder.iterdir() if entry.name not in ours)
    if foreign:
        raise ValueError(
            f"overlays: the folder {folder} holds {foreign[0]}, which is no overlay and would be lost; "
            "name a new folder"
        )
