"""Columns of other tables, brought to the images of a source by their paths."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from ssl_transfer.data.columns import Value, plain_columns, read_table


def joined_columns(table: str | Path, paths: Sequence[str], known: Collection[str] = ()) -> dict[str, list[Value]]:
    """Columns of a CSV or Parquet table with a column `path`: one value for each of `paths`, None where it is silent.

    Paths are compared as they stand, and as relative to the table's folder. Text, numbers, truth values and times are
    taken; lists and bytes are not, nor the columns that are `known` already.

    Raises:
        ValueError: no such file, no column `path`, none of the paths occurs, or nothing is left to tell.
    """
    file = Path(table).expanduser()
    read = read_table(file)
    if "path" not in read:
        raise ValueError(f"{table} has no column 'path'; it has {', '.join(read) or 'none'}")
    names = [str(name) for name in read.pop("path")]
    places = {str(file.parent / name): row for row, name in enumerate(names)}
    places |= {name: row for row, name in enumerate(names)}
    rows = [places.get(str(path)) for path in paths]
    if all(row is None for row in rows):
        raise ValueError(
            f"{table} knows none of the {len(paths)} images: its first path is {names[0] if names else '–'!r}, "
            f"the first image's {str(paths[0])!r}"
        )
    found = plain_columns({name: values for name, values in read.items() if name not in known})
    if not found:
        raise ValueError(f"{table} tells nothing new: beside the path it has {', '.join(read) or 'no columns'}")
    return {name: [None if row is None else values[row] for row in rows] for name, values in found.items()}


def unique_names(groups: Iterable[tuple[str, Mapping[str, list[Value]]]]) -> dict[str, list[Value]]:
    """The columns of several named tables under one roof; a name that occurs again is told by its table's.

    >>> list(unique_names([("a", {"score": [1]}), ("b", {"score": [2], "kind": ["x"]}), ("b", {"score": [3]})]))
    ['score', 'score (b)', 'kind', 'score (b, 2)']
    """
    columns: dict[str, list[Value]] = {}
    for table, found in groups:
        for name, values in found.items():
            told, count = name, 1
            while told in columns:
                told = f"{name} ({table})" if count == 1 else f"{name} ({table}, {count})"
                count += 1
            columns[told] = values
    return columns
