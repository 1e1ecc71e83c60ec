"""The decoded store: every image once, uint8 `(N, C, H, W)`, in memory or in a memory-mapped file for later runs."""

from __future__ import annotations

import json
import math
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

from ssl_transfer.data.cache import cache_folder
from ssl_transfer.data.decode import BadImage, decode
from ssl_transfer.data.hashing import content_hash
from ssl_transfer.data.parallel import at_once, in_order
from ssl_transfer.data.resize import Resize, resize, scale_to_uint8, to_channels
from ssl_transfer.data.room import check_disk, check_memory
from ssl_transfer.data.sources.base import Source, read_file

_DAY = 86_400  # seconds
_VERSION = 1  # raise it when the same recipe gives other pixels


@dataclass(frozen=True)
class Recipe:
    """How an encoded image becomes a row of the store.

    Args:
        channels, height, width: of the row.
        resize: how other sizes get there.
        value_range: the (low, high) that 16-bit values are scaled by; None where all images have 8 bits.
        masks: whether masks are stored.
        max_pixels: the decoder's cap.
    """

    channels: int
    height: int
    width: int
    resize: Resize
    value_range: tuple[int, int] | None
    masks: bool
    max_pixels: int

    @property
    def planes(self) -> tuple[int, int, int]:
        """Height, width and number of planes of a row, its mask included."""
        return self.height, self.width, self.channels + self.masks

    @property
    def bytes_per_image(self) -> int:
        """What a row takes, its mask included."""
        return math.prod(self.planes)


@dataclass
class Store:
    """Images `(N, C, H, W)` and masks `(N, 1, H, W)`, uint8; `rejected` gives the reason by position left out."""

    images: np.ndarray
    masks: np.ndarray | None
    rejected: dict[int, str]


def build_store(
    source: Source, rows: np.ndarray, recipe: Recipe, memory_budget: int, cache_dir: Path | None, contents: str
) -> Store:
    """Decode the `rows` of a source, in memory where that takes at most `memory_budget` bytes, else on disk.

    Args:
        cache_dir: where stores on disk live; None is the environment's SSL_TRANSFER_CACHE or ~/.cache/ssl_transfer.
        contents: a hash of the rows' contents; with the recipe it names the store on disk.

    Raises ValueError where there is no room for it.
    """
    if source.arrays is not None and _as_is(source.arrays, recipe):
        every = len(rows) == len(source.arrays)
        return Store((source.arrays if every else source.arrays[rows]).transpose(0, 3, 1, 2), None, {})
    check_memory(at_once(len(rows)), *recipe.planes)
    if len(rows) * recipe.bytes_per_image <= memory_budget:
        check_memory(len(rows), *recipe.planes)
        images = np.empty((len(rows), recipe.channels, recipe.height, recipe.width), np.uint8)
        masks = np.zeros((len(rows), 1, recipe.height, recipe.width), np.uint8) if recipe.masks else None
        return _cut(images, masks, _fill(source, rows, recipe, images, masks))
    key = content_hash(json.dumps([_VERSION, contents, asdict(recipe)]).encode())
    folder = cache_folder(cache_dir) / key
    if not folder.exists():
        check_disk(folder.parent, len(rows), *recipe.planes)
        _build_on_disk(source, rows, recipe, folder)
    return _open_folder(folder)


def stream_images(
    source: Source, rows: np.ndarray, recipe: Recipe, batch_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray, dict[int, str]]]:
    """Decode the `rows` of a source batch by batch, keeping none, masks left out.

    Yields positions in `rows`, their images `(B, C, H, W)`, and the positions rejected on the way with their reasons.
    Threads decode ahead while the caller works.
    """
    if source.arrays is not None and _as_is(source.arrays, recipe):
        for low in range(0, len(rows), batch_size):
            positions = np.arange(low, min(low + batch_size, len(rows)))
            yield positions, np.ascontiguousarray(source.arrays[rows[positions]].transpose(0, 3, 1, 2)), {}
        return
    check_memory(max(at_once(len(rows)), min(batch_size, len(rows))), *recipe.planes)
    images: dict[int, np.ndarray] = {}
    rejected: dict[int, str] = {}
    for position, result in enumerate(in_order(lambda row: _try(source, row, recipe), rows, "Encoding")):
        if isinstance(result, str):
            rejected[position] = result
        else:
            images[position] = result[0]
        if len(images) == batch_size or position + 1 == len(rows):
            none = np.empty((0, recipe.channels, recipe.height, recipe.width), np.uint8)
            yield np.fromiter(images, np.int64), np.stack([*images.values()]) if images else none, rejected
            images, rejected = {}, {}


def _as_is(arrays: np.ndarray, recipe: Recipe) -> bool:
    return arrays.dtype == np.uint8 and arrays.shape[1:] == (recipe.height, recipe.width, recipe.channels)


def _fill(
    source: Source, rows: np.ndarray, recipe: Recipe, images: np.ndarray, masks: np.ndarray | None
) -> dict[int, str]:
    """Decode into the front of `images` and `masks`; the positions in `rows` that were rejected, with reasons."""

    rejected: dict[int, str] = {}
    for position, result in enumerate(in_order(lambda row: _try(source, row, recipe), rows, "Decoding")):
        if isinstance(result, str):
            rejected[position] = result
            continue
        kept = position - len(rejected)
        images[kept] = result[0]
        if masks is not None and result[1] is not None:
            masks[kept] = result[1]
    return rejected


def _try(source: Source, row: int, recipe: Recipe) -> tuple[np.ndarray, np.ndarray | None] | str:
    """The rendered row, or why there is none."""
    try:
        return render(source, row, recipe)
    except BadImage as error:
        return error.reason


def _cut(images: np.ndarray, masks: np.ndarray | None, rejected: dict[int, str]) -> Store:
    kept = len(images) - len(rejected)
    return Store(images[:kept], None if masks is None else masks[:kept], rejected)


def render(source: Source, row: int, recipe: Recipe) -> tuple[np.ndarray, np.ndarray | None]:
    """One row of the store: the image `(C, H, W)` and its mask `(1, H, W)`, 1 where marked. Raises BadImage."""
    path = str(source.records.paths[row])
    pixels = read_pixels(source, row, recipe.max_pixels)
    image = to_channels(scale_to_uint8(pixels, recipe.value_range), recipe.channels, path)
    image = resize(image, recipe.height, recipe.width, recipe.resize)
    mask = read_mask(source, row, pixels.shape, recipe.max_pixels) if recipe.masks else None
    if mask is not None:
        mask = resize(mask, recipe.height, recipe.width, recipe.resize, nearest=True).transpose(2, 0, 1)
    return image.transpose(2, 0, 1), mask


def read_mask(source: Source, row: int, shape: tuple[int, ...], max_pixels: int) -> np.ndarray | None:
    """The mask of a row whose image has `shape` (H, W, ...): `(H, W, 1)` uint8, 1 where marked, or None without one.

    Raises BadImage where it cannot be read, has another size than the image, or is no mask.
    """
    mask = source.mask_path(row)
    if mask is None:
        return None
    path, data = str(source.records.paths[row]), read_file(mask)
    values = decode(data, mask, max_pixels).max(axis=2, keepdims=True)
    if values.shape[:2] != shape[:2]:
        sizes = f"{values.shape[1]}×{values.shape[0]}, the image {shape[1]}×{shape[0]}"
        raise BadImage(path, f"its mask {mask} is {sizes}")
    if fault := _mask_fault(values, data):
        raise BadImage(path, f"its mask {mask} {fault}")
    return (values > 0).astype(np.uint8)


def _mask_fault(values: np.ndarray, data: bytes) -> str:
    """Why an image's values make no mask; "" if they do: 0 and one other value, perhaps with grey edges between.

    Grey edges: the other value is at least 128, at most a tenth of the pixels lie between, and the file is no JPEG,
    whose ripples would count as marked far around.
    """
    top = values.max()
    between = np.mean((values > 0) & (values < top))
    if not between:
        return ""
    if data.startswith(b"\xff\xd8"):
        return "is a JPEG with values other than 0 and one more: save it as PNG"
    if top < 128 or between > 0.1:
        return f"is not binary ({len(np.unique(values))} values up to {top}): make it 0, and 255 where marked"
    return ""


def read_pixels(source: Source, row: int, max_pixels: int) -> np.ndarray:
    """The decoded image of a row, `(H, W, C)` uint8 or uint16. Raises BadImage."""
    pixels = source.pixels(row)
    return pixels if pixels is not None else decode(source.read(row), str(source.records.paths[row]), max_pixels)


def measure_range(source: Source, rows: Sequence[int], max_pixels: int) -> tuple[int, int]:
    """The values that bound all but a ten-thousandth of the pixels of 16-bit images at either end.

    So a dead or hot pixel does not squeeze the rest; values beyond are clipped. Unreadable images are passed over here.
    """

    def count(row: int) -> np.ndarray:
        try:
            return np.bincount(read_pixels(source, row, max_pixels).ravel(), minlength=65536)
        except BadImage:
            return np.zeros(65536, np.int64)

    total = np.zeros(65536, np.int64)
    for counts in in_order(count, rows, "Measuring"):
        total += counts
    below = total.cumsum()
    outside = below[-1] * 1e-4
    return int(np.searchsorted(below, outside, "right")), int(np.searchsorted(below, below[-1] - outside))


def _build_on_disk(source: Source, rows: np.ndarray, recipe: Recipe, folder: Path) -> None:
    """Build beside `folder` and rename: nobody sees half a store, and of two builders the first wins."""
    _sweep(folder.parent)
    building = folder.with_name(f"{folder.name}.building-{os.getpid()}-{uuid.uuid4().hex[:8]}")
    building.mkdir(parents=True)
    try:
        shape = (len(rows), recipe.channels, recipe.height, recipe.width)
        images = open_memmap(building / "images.npy", "w+", np.uint8, shape)
        masks = None
        if recipe.masks:
            masks = open_memmap(building / "masks.npy", "w+", np.uint8, (len(rows), 1, *shape[2:]))
        rejected = _fill(source, rows, recipe, images, masks)
        for array in (images, masks):
            if array is not None:
                array.flush()
        (building / "rejected.json").write_text(json.dumps(rejected), encoding="utf-8")
        try:
            building.rename(folder)
        except OSError:
            if not folder.exists():
                raise
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _sweep(stores: Path) -> None:
    """Remove what builders that were killed left behind: half a store that nobody has written to for a day."""
    for building in stores.glob("*.building-*"):
        written = max((path.stat().st_mtime for path in (building, *building.glob("*")) if path.exists()), default=0)
        if written < time.time() - _DAY:
            shutil.rmtree(building, ignore_errors=True)


def _open_folder(folder: Path) -> Store:
    images = np.load(folder / "images.npy", mmap_mode="r", allow_pickle=False)
    masks_file = folder / "masks.npy"
    masks = np.load(masks_file, mmap_mode="r", allow_pickle=False) if masks_file.exists() else None
    rejected = json.loads((folder / "rejected.json").read_text(encoding="utf-8"))
    return _cut(images, masks, {int(position): reason for position, reason in rejected.items()})
