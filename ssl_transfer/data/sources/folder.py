"""A folder of images: flat, class folders, or train/val/test holding either."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path

from ssl_transfer.data.records import Records, make_targets, split_name
from ssl_transfer.data.sources.base import FileSource

_KINDS = ("png", "jpg", "jpeg", "jfif", "bmp", "gif", "tif", "tiff", "webp", "pgm", "ppm", "pnm", "pbm", "jp2", "avif")
SUFFIXES = frozenset(f".{kind}" for kind in _KINDS)


def list_files(folder: Path) -> list[Path]:
    """Every file below a folder, relative to it, sorted; hidden ones left out."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in found if not any(part.startswith((".", "__MACOSX")) for part in path.parts))


def open_folder(folder: Path, pattern: str = "*", files: list[Path] | None = None) -> FileSource:
    """The images below a folder that match `pattern` (a file name, or a relative path if it holds a slash).

    The first folder below the (split) folder is the class; images in no such folder have none. `x.png` beside `x.jpg`
    is its mask, and `ground_truth/DEFECT/x_mask.png` is that of `test/DEFECT/x.png`. Splits are read from the first
    folder if train and another split are there, or nothing but splits.
    """
    files = list_files(folder) if files is None else files
    pictures = [path for path in files if path.suffix.lower() in SUFFIXES]
    truths = _ground_truths(pictures)
    masks = mask_files(path for path in pictures if path not in truths) | test_masks(pictures, truths)
    taken = truths | set(masks.values())
    if lost := sorted(truths - set(masks.values())):
        warnings.warn(
            f"data.source: {len(lost)} masks of {folder} belong to no image ({lost[0]}); that of test/DEFECT/x.png is "
            "ground_truth/DEFECT/x_mask.png",
            stacklevel=2,
        )
    chosen = [path for path in pictures if path not in taken and matches(path, pattern)]
    if not chosen:
        raise ValueError(f"data.source: {folder} holds no image that matches data.pattern {pattern!r}")
    splits, chosen = _splits(folder, chosen)
    inner = [path.parts[1:] if split else path.parts for split, path in zip(splits, chosen, strict=True)]
    targets, classes = make_targets([parts[0] if len(parts) > 1 else None for parts in inner])
    full = [folder / path for path in chosen]
    records = Records.of([str(path) for path in full], targets, splits, classes=classes)
    return FileSource(records, full, [folder / masks[p] if p in masks else None for p in chosen] if masks else None)


def mask_files(pictures: Iterable[Path]) -> dict[Path, Path]:
    """Image to mask: `x.jpg` to `x.png` of the same folder and stem.

    >>> mask_files([Path("a/x.jpg"), Path("a/x.png"), Path("b/x.png")])
    {PosixPath('a/x.jpg'): PosixPath('a/x.png')}
    """
    by_name: dict[Path, list[Path]] = {}
    for path in pictures:
        by_name.setdefault(path.with_suffix(""), []).append(path)
    masks = {}
    for same in by_name.values():
        mask = next((path for path in same if path.suffix.lower() == ".png"), None)
        image = next((path for path in same if path.suffix.lower() in (".jpg", ".jpeg")), None)
        if mask and image:
            masks[image] = mask
    return masks


def test_masks(pictures: Iterable[Path], truths: Iterable[Path]) -> dict[Path, Path]:
    """Image of a test folder to mask: the one of the same class and name below ground_truth, "_mask" left aside.

    >>> test_masks([Path("test/hole/7.png"), Path("train/hole/7.png")], [Path("ground_truth/hole/7_mask.png")])
    {PosixPath('test/hole/7.png'): PosixPath('ground_truth/hole/7_mask.png')}
    """
    by_place = {(*path.parts[1:-1], path.stem.removesuffix("_mask")): path for path in truths}
    images = [path for path in pictures if split_name(path.parts[0]) == "test"]
    places = {image: (*image.parts[1:-1], image.stem) for image in images}
    return {image: by_place[place] for image, place in places.items() if place in by_place}


def _ground_truths(pictures: Iterable[Path]) -> set[Path]:
    """What lies below `ground_truth` where a test folder stands beside it, as in MVTec AD: masks, never images."""
    tops = {path.parts[0] for path in pictures if len(path.parts) > 1}
    if not any(split_name(top) == "test" for top in tops):
        return set()
    return {path for path in pictures if path.parts[0] == "ground_truth" and len(path.parts) > 1}


def matches(path: Path, pattern: str) -> bool:
    """Whether a relative path matches a pattern.

    >>> matches(Path("a/x.png"), "x*"), matches(Path("a/x.png"), "b/*")
    (True, False)
    """
    return fnmatch(path.as_posix() if "/" in pattern else path.name, pattern)


def _splits(folder: Path, paths: list[Path]) -> tuple[list[str], list[Path]]:
    """The split of each path ("" for none) and the paths kept."""
    top = {path.parts[0]: split_name(path.parts[0]) for path in paths if len(path.parts) > 1}
    flat = any(len(path.parts) == 1 for path in paths)
    named = {split for split in top.values() if split}
    if not named or not (("train" in named and len(named) > 1) or (None not in top.values() and not flat)):
        return [""] * len(paths), paths
    kept = [path for path in paths if len(path.parts) > 1 and top[path.parts[0]]]
    if len(kept) < len(paths):
        warnings.warn(
            f"data.source: {len(paths) - len(kept)} images of {folder} lie outside its split folders "
            f"({', '.join(sorted(name for name in top if top[name]))}) and are left out",
            stacklevel=2,
        )
    return [top[path.parts[0]] or "" for path in kept], kept
