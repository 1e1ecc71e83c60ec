"""Columns of other tables, brought to the images of a source by their paths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

Value = str | float | int | None
TAKEN = frozenset({"path", "label", "split", "mask", "status"})  # what the source itself tells


def joined_columns(table: str | Path, paths: Sequence[str]) -> dict[str, list[Value]]:
    """Columns of a CSV or Parquet table with a column `path`: one value for each of `paths`, None where it is silent.

    Paths are compared as they stand, and as relative to the table's folder. Text, numbers and truth values are taken;
    lists and bytes are not, nor what every source tells itself (label, split).

    Raises:
        ValueError: no such file, no column `path`, or none of the paths occurs.
    """
    file = Path(table).expanduser()
    read = _read(file)
    if "path" not in read.column_names:
        raise ValueError(f"--columns {table} has no column 'path'; it has {', '.join(read.column_names) or 'none'}")
    names = [str(name) for name in read["path"].to_pylist()]
    places = {str(file.parent / name): row for row, name in enumerate(names)}
    places |= {name: row for row, name in enumerate(names)}
    rows = [places.get(str(path)) for path in paths]
    if all(row is None for row in rows):
        raise ValueError(
            f"--columns {table} knows none of the {len(paths)} images: its first path is "
            f"{names[0] if names else '–'!r}, the first image's {str(paths[0])!r}"
        )
    return {name: _values(read[name].to_pylist(), rows) for name in read.column_names if _plain(name, read)}


def _read(file: Path) -> pa.Table:
    if not file.is_file():
        raise ValueError(f"--columns {file}: no such file; give a CSV or Parquet table with a column 'path'")
    try:
        return pq.read_table(file) if file.suffix == ".parquet" else pyarrow.csv.read_csv(file)
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"--columns {file} is neither a CSV table in UTF-8 nor Parquet ({reason})") from error


def _plain(name: str, table: pa.Table) -> bool:
    kind = table.schema.field(name).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    is_plain = (pa.types.is_string, pa.types.is_large_string, pa.types.is_boolean, pa.types.is_integer)
    return name not in TAKEN and (pa.types.is_floating(kind) or any(check(kind) for check in is_plain))


def _values(column: list[Any], rows: Sequence[int | None]) -> list[Value]:
    found = [None if row is None else column[row] for row in rows]
    return [str(value).lower() if isinstance(value, bool) else value for value in found]


def unique_names(groups: Mapping[str, Mapping[str, list[Value]]]) -> dict[str, list[Value]]:
    """The columns of several tables under one roof; a name that occurs again is told by its table's.

    >>> list(unique_names({"a": {"score": [1]}, "b": {"score": [2], "kind": ["x"]}}))
    ['score', 'score (b)', 'kind']
    """
    columns: dict[str, list[Value]] = {}
    for table, found in groups.items():
        for name, values in found.items():
            columns[name if name not in columns else f"{name} ({table})"] = values
    return columns
