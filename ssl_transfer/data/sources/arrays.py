"""Images that already are arrays: `.npy`, `.npz`, and scikit-learn's digits."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ssl_transfer.data.hashing import array_hashes
from ssl_transfer.data.records import SPLITS, Records, has_below_zero, make_targets
from ssl_transfer.data.sources.base import Source
from ssl_transfer.data.splits import draw_fraction

_IMAGES = ("images", "image", "x", "X", "data", "arr_0")
_LABELS = ("labels", "label", "y", "Y", "targets", "target")


def open_arrays(path: Path) -> Source:
    """The images of a `.npy` or `.npz` file, `(N, H, W)` or `(N, H, W, C)`; `.npz` may hold labels and splits.

    Names in a `.npz`: `images`, `x` or `X` with `labels` or `y`; or one pair a split, `x_train`, `y_train`, `x_test`,
    `y_test`, or `train_images`, `train_labels` and so on. Never unpickles.
    """
    try:
        loaded = np.load(path, mmap_mode="r" if path.suffix == ".npy" else None, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return from_arrays({"": (loaded, None)}, path.name)
        with loaded as file:
            return from_arrays(_pairs({name: file[name] for name in file.files}, path), path.name)
    except (OSError, EOFError) as error:
        raise ValueError(f"data.source: {path} is no readable NumPy file ({error})") from error
    except ValueError as error:
        reason = str(error)
        if "pickle" in reason or "Python objects" in reason:  # NumPy's two ways to say so
            reason = "holds pickled objects, which are never loaded"
        raise ValueError(f"data.source: {path} {reason}") from error


def _pairs(file: dict[str, np.ndarray], path: Path) -> dict[str, tuple[np.ndarray, np.ndarray | None]]:
    """Images and labels by split ("" where the file does not say)."""
    pairs: dict[str, tuple[np.ndarray, np.ndarray | None]] = {}
    for split in ("", *SPLITS):
        pattern = ("{0}_{1}", "{1}_{0}") if split else ("{0}",)
        images = [p.format(name, split) for name in _IMAGES for p in pattern]
        labels = [p.format(name, split) for name in _LABELS for p in pattern]
        found = next((file[name] for name in images if name in file), None)
        if found is not None:
            pairs[split] = (found, next((file[name] for name in labels if name in file), None))
    if not pairs:
        raise ValueError(f"has no array named images or x (or x_train …); it holds {', '.join(sorted(file)) or 'none'}")
    return pairs


def from_arrays(
    pairs: dict[str, tuple[np.ndarray, np.ndarray | None]], name: str, classes: list[str] | None = None
) -> Source:
    """A source from images and labels by split; rows are called `name/split/00017`."""
    images = {split: as_images(pair[0]) for split, pair in pairs.items()}
    shapes = {array.shape[1:] for array in images.values()}
    if len(shapes) > 1:
        raise ValueError(f"holds images of different shapes: {', '.join(map(str, sorted(shapes)))}")
    paths, splits, labels = [], [], []
    for split, array in images.items():
        paths += ["/".join(filter(None, (name, split, f"{i:05d}"))) for i in range(len(array))]
        splits.append(np.full(len(array), split, "U5"))
        labels.append(_labels(pairs[split][1], len(array)))
    known = [column for column in labels if column is not None]
    if classes is not None:
        targets: np.ndarray = np.concatenate(known).astype(np.int64)
    elif len(known) == len(labels):
        targets, classes = make_targets(np.concatenate(known))
    else:
        columns = [[None] * len(a) if c is None else c.tolist() for a, c in zip(images.values(), labels, strict=True)]
        targets, classes = make_targets([label for column in columns for label in column])
    together = next(iter(images.values())) if len(images) == 1 else np.concatenate(list(images.values()))
    below_zero = any(has_below_zero(column) for column in known)
    return Source(Records.of(paths, targets, np.concatenate(splits), None, classes, below_zero), together)


def _labels(labels: np.ndarray | None, count: int) -> np.ndarray | None:
    if labels is None:
        return None
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if len(labels) != count:
        raise ValueError(f"has {count} images but {len(labels)} labels")
    return labels


def as_images(array: np.ndarray) -> np.ndarray:
    """Images as uint8 or uint16 `(N, H, W, C)`; arrays already so are not copied.

    Accepts `(N, H, W)`, `(N, H, W, C)`, and `(N, C, H, W)` where C is 1 or 3 and the last axis is no channel axis.
    Booleans become 0 and 255; floats must lie in [0, 1] and are multiplied by 255; integers must lie in 0…65535.

    >>> as_images(np.ones((2, 4, 4), bool)).max(), as_images(np.full((1, 2, 2), 0.5)).max()
    (np.uint8(255), np.uint8(128))
    """
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or 0 in array.shape[1:]:
        raise ValueError(f"has images of shape {array.shape}; expected (N, H, W) or (N, H, W, C)")
    if array.shape[1] in (1, 3) and array.shape[3] > 4:
        array = array.transpose(0, 2, 3, 1)
    if array.dtype in (np.uint8, np.uint16):
        return array.view(np.ndarray) if not isinstance(array, np.memmap) else array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if not len(array) or array.dtype.kind not in "iuf":
        raise ValueError(f"has images of type {array.dtype}; expected uint8, uint16, or floats in [0, 1]")
    low, high = array.min(), array.max()
    if array.dtype.kind == "f":
        if not (low >= 0 and high <= 1):
            raise ValueError(f"has floats from {low:g} to {high:g}; scale them to [0, 1] or store uint8")
        scaled: np.ndarray = np.rint(array * 255).astype(np.uint8)
        return scaled
    if low < 0 or high > 65535:
        raise ValueError(f"has integers from {low} to {high}; they must lie in 0…65535")
    return array.astype(np.uint8 if high <= 255 else np.uint16)


def open_digits() -> Source:
    """scikit-learn's 1,797 digits, 8×8, their 0…16 scaled to 0…255; a fixed 30 % by content is the test split."""
    from sklearn.datasets import load_digits  # costs a second

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    source = from_arrays({"train": (images, digits.target)}, "digits", classes=[str(k) for k in range(10)])
    source.records.splits[draw_fraction(array_hashes(images), 0.3, seed=0, purpose="test")] = "test"
    return source
