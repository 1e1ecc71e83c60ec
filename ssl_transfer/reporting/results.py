"""One measured result with its spread, and the table that a list of them makes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ssl_transfer.reporting.formats import number, percent

Kind = Literal["ours", "floor", "peer", "limit"]
_KIND_WORDS = {"ours": "pretrained", "floor": "floor", "peer": "peer", "limit": "limit"}


@dataclass(frozen=True)
class ResultRow:
    """One method's result on one split.

    Args:
        name: the method, as a reader should see it ("SimCLR", "Raw pixels").
        value: the mean over seeds; a fraction in [0, 1] where it is an accuracy.
        low, high: the interval around it, low <= value <= high.
        kind: "ours" (pretrained here), "floor" (what any encoder must beat), "peer" or "limit".
        seeds: how many seeds the mean is over.
        note: one clause of explanation.
    """

    name: str
    value: float
    low: float
    high: float
    kind: Kind = "ours"
    seeds: int = 1
    note: str = ""

    def __post_init__(self) -> None:
        assert self.low <= self.value <= self.high, f"{self.name}: {self.low} <= {self.value} <= {self.high} is wrong"


def by_value(rows: Sequence[ResultRow]) -> list[ResultRow]:
    """The rows from the highest value to the lowest."""
    return sorted(rows, key=lambda row: -row.value)


def result_cells(rows: Sequence[ResultRow], as_percent: bool = True) -> tuple[list[str], list[list[str]], list[int]]:
    """Column names, cells and the positions of our rows, for `Page.table`; best first.

    >>> result_cells([ResultRow("PCA", 0.5, 0.4, 0.6, "floor", 3)])[1][0][:2]
    ['PCA', 'floor']
    """
    show = percent if as_percent else number
    ordered = by_value(rows)
    cells = [
        [
            row.name,
            _KIND_WORDS[row.kind],
            show(row.value),
            f"{show(row.low)} to {show(row.high)}",
            str(row.seeds),
            row.note,
        ]
        for row in ordered
    ]
    names = ["Method", "Kind", "Accuracy" if as_percent else "Value", "Interval", "Seeds", "Note"]
    return names, cells, [position for position, row in enumerate(ordered) if row.kind == "ours"]
