"""A column of labels, and how one kind of label is read as another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ssl_transfer.data.records import hide_labels, is_labelled, make_targets

Kind = Literal["class", "multi_label", "regression"]
OWN_LABEL = "label"  # what the source itself says of an image, whatever its column is called


@dataclass
class Column:
    """The labels of all images of a source, one column of them.

    Args:
        name: of the column; "label" is the source's own.
        values: int64 `(N,)` classes, -1 none; float32 `(N,)`, NaN none; or float32 `(N, K)` multi-hot, NaN none.
        classes: the names of the classes or labels; None of numbers.

    >>> Column("age", *make_targets([3, 4, None])).as_kind("regression").values.tolist()
    [3.0, 4.0, nan]
    """

    name: str
    values: np.ndarray
    classes: list[str] | None

    @classmethod
    def read(cls, data: Any, name: str, kind: Kind | None = None) -> Column:
        """A column of the source of `data`, an `ImageDataModule` that has been set up, as a kind of label.

        Images in `data.hidden` have none. Raises ValueError where the source has no such column, and says which it
        has, or for another kind of label.
        """
        if name == OWN_LABEL:
            own = cls(name, np.asarray(data.table.targets), data.classes)
            if kind == "regression" and own.kind == "class" and data.table.below_zero:
                raise ValueError(
                    f"data.source {data.source}: its own label holds whole numbers below zero, which count as no "
                    "label; to learn them as numbers write them with a point (-5.0), or rename the column"
                )
            return own.as_kind(kind)
        columns = data.columns(np.arange(len(data.table)))
        if name not in columns:
            known = ", ".join([OWN_LABEL, *columns])
            raise ValueError(
                f"model.targets names {name!r} and data.source {data.source} has no such column of text or numbers: "
                f"known are {known} (lists of labels are read in the column 'label')"
            )
        cells = columns[name]
        if kind == "regression" and all(isinstance(cell, int | float | None) for cell in cells):
            cells = [None if cell is None else float(cell) for cell in cells]  # below zero is a number here
        column = cls(name, *make_targets(cells)).as_kind(kind)
        column.values = hide_labels(column.values, data.hidden)
        return column

    @property
    def kind(self) -> Kind:
        """What it holds: integers and text are classes, numbers with a point a regression's, lists several labels."""
        if self.values.ndim == 2:
            return "multi_label"
        return "class" if self.values.dtype.kind == "i" else "regression"

    @property
    def present(self) -> np.ndarray:
        """Which images have a label here, `(N,)`."""
        return is_labelled(self.values)

    def as_kind(self, kind: Kind | None) -> Column:
        """The same labels read as another kind; None: as they are.

        Class names that are numbers become these, whole numbers classes, and a class the one label that is there.
        Raises ValueError where that is not possible.
        """
        if kind is None or kind == self.kind:
            return self
        reading = _READINGS.get((self.kind, kind))
        if reading is None:
            raise ValueError(f"target {self.name!r} cannot be {kind}: its column holds {_HELD[self.kind]}")
        return reading(self)


def _numbers_of_classes(column: Column) -> Column:
    try:
        numbers = np.array([*map(float, column.classes or []), np.nan], np.float32)  # -1, no class, is the last
    except ValueError:
        odd = next(name for name in column.classes or [] if not _is_number(name))
        raise ValueError(f"target {column.name!r} cannot be regression: its column holds {odd!r}, no number") from None
    return Column(column.name, numbers[column.values], None)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _classes_of_numbers(column: Column) -> Column:
    present = column.values[column.present]
    if (present != present.round()).any():
        odd = float(present[present != present.round()][0])
        raise ValueError(f"target {column.name!r} cannot be class: its column holds {odd:g}, no whole number")
    whole = [None if np.isnan(value) else int(value) for value in column.values]
    return Column(column.name, *make_targets(whole))


def _labels_of_classes(column: Column) -> Column:
    rows = np.eye(max(1, len(column.classes or [])), dtype=np.float32)[column.values]
    rows[~column.present] = np.nan
    return Column(column.name, rows, column.classes)


_READINGS: dict[tuple[str, str], Callable[[Column], Column]] = {
    ("class", "regression"): _numbers_of_classes,
    ("regression", "class"): _classes_of_numbers,
    ("class", "multi_label"): _labels_of_classes,
}
_HELD = {"class": "one class an image", "multi_label": "several labels an image", "regression": "numbers"}
