"""The table of a source: one row an image, without its pixels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

SPLITS = ("train", "val", "test")
_SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}


def split_name(text: str) -> str | None:
    """The split that a folder, a file or a column means, or None.

    >>> split_name("Validation"), split_name("train-00001-of-00004"), split_name("trains")
    ('val', 'train', None)
    """
    match = re.fullmatch(r"([a-z]+)(?:[-_.\d].*)?", text.lower())
    return _SPLIT_NAMES.get(match[1]) if match else None


@dataclass
class Records:
    """One row an image; every column is an array of length N, classes excepted.

    Args:
        paths: what to call the image in messages and predictions.
        targets: int64 `(N,)` classes, -1 none; float32 `(N,)`, NaN none; or float32 `(N, K)` multi-hot, NaN none.
        splits: "train", "val" or "test"; "" where the source does not say.
        groups: images of one group never straddle splits; "" is no group.
        hashes: of the contents (ASCII hex), filled in when the source is read.
        classes: names, index = target; None without classes.
        below_zero: whether whole numbers below zero were taken for no label.

    >>> Records.of(["a.png", "b.png"]).targets.tolist()
    [-1, -1]
    """

    paths: np.ndarray
    targets: np.ndarray
    splits: np.ndarray
    groups: np.ndarray
    hashes: np.ndarray = field(default_factory=lambda: np.zeros(0, "S32"))
    classes: list[str] | None = None
    below_zero: bool = False

    @classmethod
    def of(
        cls,
        paths: Sequence[str],
        targets: np.ndarray | None = None,
        splits: Sequence[str] | np.ndarray | str = "",
        groups: Sequence[str] | None = None,
        classes: list[str] | None = None,
        below_zero: bool = False,
    ) -> Records:
        """Records from plain sequences; what is not given is empty."""
        count = len(paths)
        return cls(
            paths=np.array(list(paths), dtype=object),
            targets=np.full(count, -1, np.int64) if targets is None else targets,
            splits=np.full(count, splits, "U5") if isinstance(splits, str) else np.array(splits, "U5"),
            groups=np.full(count, "", "U1") if groups is None else np.array(groups, dtype=str),
            classes=classes,
            below_zero=below_zero,
        )

    def __len__(self) -> int:
        return len(self.paths)

    def select(self, rows: np.ndarray) -> Records:
        """The records of some rows (indices or a boolean mask), in that order."""
        columns = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("classes", "below_zero")}
        return replace(self, **{name: column[rows] for name, column in columns.items() if len(column) == len(self)})


def make_targets(values: np.ndarray | Sequence[Any]) -> tuple[np.ndarray, list[str] | None]:
    """Targets and class names from a column of labels; None, "" and negative integers are no label.

    Strings and integers are classes in sorted order, floats are regression targets, lists of classes (or an `(N, K)`
    array of 0 and 1) become multi-hot rows.

    >>> make_targets(["cat", None, "ant"])
    (array([ 1, -1,  0]), ['ant', 'cat'])
    >>> make_targets([0.5, None])
    (array([0.5, nan], dtype=float32), None)
    >>> make_targets([["a", "b"], ["b"]])[0].tolist()
    [[1.0, 1.0], [0.0, 1.0]]
    """
    if isinstance(values, np.ndarray) and values.ndim == 2:
        return _multi_hot_rows(values)
    if isinstance(values, np.ndarray) and values.dtype.kind in "iub" and values.ndim == 1:
        return _classes_of_integers(values.astype(np.int64))
    items = list(values.tolist() if isinstance(values, np.ndarray) else values)
    items = [None if isinstance(v, str) and not v else v for v in items]
    kinds = {type(v) for v in items if v is not None}
    if not kinds:
        return np.full(len(items), -1, np.int64), None
    if kinds <= {list, tuple}:
        return _multi_hot_lists(items)
    if kinds <= {float, int} and float in kinds:
        return np.array([np.nan if v is None else v for v in items], np.float32), None
    if kinds == {int}:
        return _classes_of_integers(np.array([-1 if v is None else v for v in items], np.int64))
    if not kinds <= {str, bool, int}:
        names = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise ValueError(f"labels must be strings, integers, floats or lists of these, not {names}")
    classes = sorted({str(v) for v in items if v is not None})
    index = {name: i for i, name in enumerate(classes)}
    return np.array([-1 if v is None else index[str(v)] for v in items], np.int64), classes


def has_below_zero(values: np.ndarray | Sequence[Any]) -> bool:
    """Whether a column of labels holds whole numbers below zero, which `make_targets` takes for no label.

    >>> has_below_zero([-5, None, 3]), has_below_zero(np.array([-5.0, 3.0]))
    (True, False)
    """
    if isinstance(values, np.ndarray):
        return values.dtype.kind == "i" and bool((values < 0).any())
    return any(isinstance(value, int) and value < 0 for value in values)


def is_labelled(targets: np.ndarray) -> np.ndarray:
    """Which targets are a label, `(N,)`: classes from 0, numbers that are none.

    >>> is_labelled(np.array([0, -1])).tolist(), is_labelled(np.array([[1.0, 0.0], [np.nan, np.nan]])).tolist()
    ([True, False], [True, False])
    """
    if targets.dtype.kind == "i":
        return targets >= 0
    return ~np.isnan(targets).reshape(len(targets), -1).any(1)


def hide_labels(targets: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Targets of which those of some rows (indices or a boolean mask) are no label any more.

    >>> hide_labels(np.array([0, 1]), np.array([1])).tolist()
    [0, -1]
    """
    hidden = targets.copy()
    hidden[rows] = -1 if targets.dtype.kind == "i" else np.nan
    return hidden


def _classes_of_integers(values: np.ndarray) -> tuple[np.ndarray, list[str] | None]:
    present = np.unique(values[values >= 0])
    if not len(present):
        return np.full(len(values), -1, np.int64), None
    targets = np.where(values >= 0, np.searchsorted(present, values), -1)
    return targets.astype(np.int64), [str(v) for v in present]


def _multi_hot_rows(values: np.ndarray) -> tuple[np.ndarray, list[str]]:
    if not np.isin(values, (0, 1)).all():
        raise ValueError("labels of shape (N, K) are multi-hot and must be 0 or 1")
    return values.astype(np.float32), [str(k) for k in range(values.shape[1])]


def _multi_hot_lists(items: Sequence[Sequence[Any] | None]) -> tuple[np.ndarray, list[str]]:
    present = {v for item in items if item is not None for v in item}
    ordered = sorted(present) if all(isinstance(v, int) for v in present) else sorted(map(str, present))
    classes = [str(v) for v in ordered]
    index = {name: i for i, name in enumerate(classes)}
    targets = np.zeros((len(items), len(classes)), np.float32)
    for row, item in enumerate(items):
        if item is None:
            targets[row] = np.nan
        else:
            targets[row, [index[str(v)] for v in item]] = 1
    return targets, classes
