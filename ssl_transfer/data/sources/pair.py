"""Two sources as one: the rows of the first, then those of the second."""

from __future__ import annotations

import numpy as np

from ssl_transfer.data.columns import Value
from ssl_transfer.data.records import Records
from ssl_transfer.data.sources.base import Source


class Pair(Source):
    """The images of two sources in one table.

    Arrays of one height, width and depth get the same channels, grey repeated where the other has three, and are one
    array where that takes at most `memory_budget` bytes. The second source's classes become those of the first, by name
    or by what precedes " - " in it (MNIST's "7 - seven").

    Attributes:
        count: rows of the first.
        lacking: classes of the first that the second, which has classes, does not have.

    Raises ValueError where the first has no classes, or the second has one that the first lacks.
    """

    def __init__(self, first: Source, second: Source, memory_budget: float = np.inf) -> None:
        self.count = len(first)
        self.lacking: list[str] = []
        records = self._joined(first.records, second.records)
        parts = _alike(first, second)
        super().__init__(records, _together(*parts, memory_budget))
        self.parts = parts
        self.columns = _joined_columns(first, second)

    def pixels(self, row: int) -> np.ndarray | None:
        """The image of a row, where its source holds it as an array."""
        part, own = self._place(row)
        return part.pixels(own)

    def read(self, row: int) -> bytes:
        """The encoded image of a row of files."""
        part, own = self._place(row)
        return part.read(own)

    def mask_path(self, row: int) -> str | None:
        """No domain brings masks."""
        return None

    def _place(self, row: int) -> tuple[Source, int]:
        first, second = self.parts
        return (first, row) if row < self.count else (second, row - self.count)

    def _joined(self, first: Records, second: Records) -> Records:
        if first.classes is None or first.targets.ndim != 1:
            raise ValueError(
                "data.source has no class labels, and what is learnt there is a class: give labelled images"
            )
        targets = second.targets
        if second.classes is None or targets.ndim != 1:
            targets = np.full(len(second), -1, np.int64)
        else:
            order = _order(first.classes, second.classes)
            self.lacking = [name for k, name in enumerate(first.classes) if k not in order]
            targets = np.where(targets >= 0, order[targets], -1)
        return Records(
            paths=np.concatenate([first.paths, second.paths]),
            targets=np.concatenate([first.targets, targets]).astype(np.int64),
            splits=np.concatenate([first.splits, second.splits]),
            groups=np.concatenate([_named(first.groups, "source"), _named(second.groups, "target")]),
            classes=first.classes,
            below_zero=first.below_zero or second.below_zero,
        )


def _named(groups: np.ndarray, domain: str) -> np.ndarray:
    """Groups of different domains are different groups."""
    return np.array([f"{domain}/{group}" if group else "" for group in groups.tolist()], dtype=str)


def _order(first: list[str], second: list[str]) -> np.ndarray:
    """The position in `first` of each class of `second`, `(K,)`.

    >>> _order(["0 - zero", "1 - one", "2 - two"], ["1", "0"]).tolist()
    [1, 0]
    """
    for names, others in ((first, second), (_short(first), _short(second))):
        if len(set(names)) == len(names) and len(set(others)) == len(others) and set(others) <= set(names):
            return np.array([names.index(name) for name in others], np.int64)
    odd = sorted(set(_short(second)) - set(_short(first))) or sorted(set(second) - set(first))
    raise ValueError(
        f"data.target has {'a class' if len(odd) == 1 else 'classes'} that data.source does not have: "
        f"{', '.join(map(repr, odd[:5]))}{' …' if len(odd) > 5 else ''}; rename the class or leave its images out"
    )


def _short(classes: list[str]) -> list[str]:
    return [name.split(" - ")[0] for name in classes]


def _joined_columns(first: Source, second: Source) -> dict[str, list[Value]]:
    """What the manifests tell, by name: None for the rows of a source that has no such column."""
    names = [*first.columns, *(name for name in second.columns if name not in first.columns)]
    nothing: tuple[list[Value], list[Value]] = ([None] * len(first), [None] * len(second))
    return {name: first.columns.get(name, nothing[0]) + second.columns.get(name, nothing[1]) for name in names}


def _alike(first: Source, second: Source) -> tuple[Source, Source]:
    """Both; of arrays of one height, width and depth, grey ones seen in the other's three channels, without a copy."""
    arrays = first.arrays, second.arrays
    if arrays[0] is None or arrays[1] is None or {a.shape[3] for a in arrays if a is not None} != {1, 3}:
        return first, second
    if arrays[0].shape[1:3] != arrays[1].shape[1:3] or arrays[0].dtype != arrays[1].dtype:
        return first, second
    wide = [np.broadcast_to(own, (*own.shape[:3], 3)) for own in (arrays[0], arrays[1])]
    return Source(first.records, wide[0]), Source(second.records, wide[1])


def _together(first: Source, second: Source, memory_budget: float) -> np.ndarray | None:
    """Both arrays in one, where they are alike and fit."""
    if first.arrays is None or second.arrays is None:
        return None
    if first.arrays.shape[1:] != second.arrays.shape[1:] or first.arrays.dtype != second.arrays.dtype:
        return None
    if first.arrays.nbytes + second.arrays.nbytes > memory_budget:
        return None
    return np.concatenate([first.arrays, second.arrays])
