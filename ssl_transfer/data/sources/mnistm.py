"""MNIST-M: grey images over patches of photographs, a second domain of the same classes.

Ganin et al., Domain-adversarial training of neural networks, 2016, section 5.2.4 (https://arxiv.org/abs/1505.07818),
in the form that everybody compares with: the image is made black and white before it is blended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ssl_transfer.data.cache import made_once
from ssl_transfer.data.decode import MAX_PIXELS, BadImage, decode
from ssl_transfer.data.hashing import array_hashes, content_hash, hash_order
from ssl_transfer.data.resize import scale_to_uint8, to_channels
from ssl_transfer.data.sources.arrays import open_digits
from ssl_transfer.data.sources.base import Source, read_file
from ssl_transfer.data.sources.folder import open_folder
from ssl_transfer.data.sources.named import NAMES, open_named
from ssl_transfer.data.splits import draw_fraction

_VERSION = 1  # raise it when the same images and photographs give other pixels
_TEST = 0.5  # share of the photographs for the test split, where their folder does not say
_SPLITS = ("train", "test")


def is_blended(source: str) -> bool:
    """Whether a source is a data set over photographs: its name with an M, a colon and their folder.

    >>> is_blended("MNISTM:bsds500"), is_blended("FashionMNISTM"), is_blended("MNIST")
    (True, True, False)
    """
    return _foreground(source) is not None


def open_blended(source: str, root: str | None = None, cache_dir: str | Path | None = None) -> Source:
    """The images of a grey data set over photographs, `(N, H, W, 3)`, e.g. "MNISTM:bsds500" or "FashionMNISTM:photos".

    In each channel |p − 255 · [x > 0]|, of the grey image x and a patch p of its size, which is drawn by the image's
    contents and its row. Photographs in folders `train` and `test` serve the split of that name; of others a half,
    chosen by content, serves the test split. Blended once and kept in the cache.

    root: where the torchvision data set lies; cache_dir: see `cache_folder`.

    Raises ValueError without photographs for a split, for one that is smaller than the images or cannot be read, and
    for a data set in colour.
    """
    name, _, folder = source.partition(":")
    under = _foreground(source)
    assert under is not None
    if not folder:
        folder_of_images = f"; write ./{name} for the folder of that name" if Path(name).is_dir() else ""
        raise ValueError(
            f"data.source: {name} needs photographs as backgrounds: write {name}:FOLDER, with their folder"
            f"{folder_of_images}"
        )
    photographs = _open_photographs(Path(folder).expanduser(), name)
    grey = open_digits() if under == "digits" else open_named(under, root)
    if grey.arrays is None or grey.arrays.shape[3] != 1:
        raise ValueError(f"data.source: {name} cannot be made, as {under} is not grey (1 channel); take MNISTM")
    images = grey.arrays[..., 0]
    hashes = array_hashes(images)
    parts = [part for split in _SPLITS for part in (content_hash(split.encode()), *map(_hash, photographs[split]))]
    key = content_hash(b"".join(hashes.tolist()) + "".join([str(_VERSION), *parts]).encode())

    def make() -> np.ndarray:
        blended = np.empty((*images.shape, 3), np.uint8)
        for split in _SPLITS:
            rows = np.flatnonzero(grey.records.splits == split)
            keys = np.array([digest + str(row).encode() for digest, row in zip(hashes[rows], rows, strict=True)])
            blended[rows] = blend(images[rows], photographs[split], hash_order(keys, 0, "background"))
        return blended

    paths = np.array([str(path).replace(under, name, 1) for path in grey.records.paths], dtype=object)
    return Source(replace(grey.records, paths=paths), made_once(key, make, cache_dir))


def blend(images: np.ndarray, photographs: Sequence[np.ndarray | Path], draws: np.ndarray) -> np.ndarray:
    """Images `(N, H, W)` over patches of photographs `(height, width, 3)`, uint8 `(N, H, W, 3)`.

    Photographs are arrays, or files that are read one after the other. A draw, of uint64 `(N,)`, says photograph, row
    and column of the patch's corner, all equally likely.
    Raises ValueError for a photograph smaller than the images.

    >>> photograph = np.full((2, 2, 3), 200, np.uint8)
    >>> blend(np.array([[[0, 1], [255, 0]]]), [photograph], np.zeros(1, np.uint64))[0, :, :, 0].tolist()
    [[200, 55], [55, 200]]
    """
    height, width = images.shape[1:]
    blended = np.empty((*images.shape, 3), np.uint8)
    which, places = (draws % len(photographs)).astype(np.int64), draws // len(photographs)
    for number, given in enumerate(photographs):
        photograph = _decode(given) if isinstance(given, Path) else given
        down, across = photograph.shape[0] - height + 1, photograph.shape[1] - width + 1
        if min(down, across) < 1:
            raise ValueError(
                f"data.source: a photograph of {photograph.shape[1]}×{photograph.shape[0]} pixels is no background of "
                f"{width}×{height} images: leave such out"
            )
        rows = np.flatnonzero(which == number)
        top, left = (places[rows] % down).astype(np.int64), (places[rows] // down % across).astype(np.int64)
        patches = np.lib.stride_tricks.sliding_window_view(photograph, (height, width), axis=(0, 1))  # (…, 3, H, W)
        blended[rows] = patches[top, left].transpose(0, 2, 3, 1)
    return blended ^ np.where(images > 0, 255, 0).astype(np.uint8)[..., None]  # |p − 255| of a byte: its bits turned


def _foreground(source: str) -> str | None:
    """The data set whose images lie over photographs, None if the source is of another kind."""
    name = source.partition(":")[0]
    return name[:-1] if name.endswith("M") and name[:-1] in ("digits", *NAMES) else None


def _open_photographs(folder: Path, name: str) -> dict[str, list[Path]]:
    """Photographs by split."""
    if not folder.is_dir():
        raise ValueError(f"data.source: {name} needs photographs, and {folder} is no folder: write {name}:FOLDER")
    try:
        found = open_folder(folder)
    except ValueError as error:
        raise ValueError(f"data.source: {name} needs photographs, and {folder} holds no image") from error
    splits = found.records.splits
    if not splits.any():
        hashes = np.array([_hash(path).encode() for path in found.files])
        splits = np.where(draw_fraction(hashes, _TEST, seed=0, purpose="backgrounds"), "test", "train")
    photographs = {s: [path for path, own in zip(found.files, splits, strict=True) if own == s] for s in _SPLITS}
    for split, files in photographs.items():
        if not files:
            raise ValueError(
                f"data.source: {name} needs {split} photographs, and {folder} has none: give it two folders, train "
                "and test, or two photographs at least in no such folder"
            )
    return photographs


def _hash(path: Path) -> str:
    return content_hash(_read(path))


def _read(path: Path) -> bytes:
    try:
        return read_file(path)
    except BadImage as error:
        raise _unusable(error) from error


def _decode(path: Path) -> np.ndarray:
    """A photograph `(height, width, 3)`, grey repeated."""
    data = _read(path)
    try:
        return to_channels(scale_to_uint8(decode(data, str(path), MAX_PIXELS), (0, 65535)), 3, str(path))
    except BadImage as error:
        raise _unusable(error) from error


def _unusable(error: BadImage) -> ValueError:
    return ValueError(f"data.source: the photograph {error}; leave it out")
