"""Columns of tables, such as a manifest's own, as text and numbers."""

from __future__ import annotations

import csv
import datetime
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Value = str | float | int | None


def read_table(path: Path) -> dict[str, list[Any]]:
    """The columns of a CSV or Parquet table. In a CSV every cell is text, and an empty one None.

    Raises:
        ValueError: no such file, neither of the two, or a column that occurs twice.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file; give a CSV or Parquet table with a column 'path'")
    return _read_parquet(path) if path.suffix.lower() == ".parquet" else read_csv(path)


def read_csv(path: Path) -> dict[str, list[str | None]]:
    """The columns of a CSV table in UTF-8; ValueError if it is none, or has a column twice."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            names = list(reader.fieldnames or [])
            rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is no CSV file in UTF-8 ({error})") from error
    _check_names(names, path)
    return {name: [row[name] or None for row in rows] for name in names}


def _read_parquet(path: Path) -> dict[str, list[Any]]:
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path} is no Parquet table ({str(error).splitlines()[0]})") from error
    _check_names(table.column_names, path)
    return {name: table[name].to_pylist() for name in table.column_names}


def _check_names(names: Sequence[str], path: Path) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{path} has {names.count(name)} columns called {name!r}: rename all but one")


def typed_cells(cells: Sequence[str | None]) -> list[Any]:
    """Cells of a CSV column as integers, floats, lists (JSON) or strings: the first that fits every cell.

    >>> typed_cells(["2", "10", None]), typed_cells(["2", "0.5"]), typed_cells(['["a", "b"]']), typed_cells(["07"])
    ([2, 10, None], [2.0, 0.5], [['a', 'b']], ['07'])
    """
    filled = [cell for cell in cells if cell is not None]
    if filled and all(cell.startswith("[") for cell in filled):
        return [None if cell is None else json.loads(cell) for cell in cells]
    try:
        if all(str(int(cell)) == cell for cell in filled):
            return [None if cell is None else int(cell) for cell in cells]
    except ValueError:
        pass
    try:
        numbers = [None if cell is None else float(cell) for cell in cells]
    except ValueError:
        return list(cells)
    return list(cells) if all(cell.isalnum() for cell in filled) else numbers


def plain_columns(columns: Mapping[str, list[Any]]) -> dict[str, list[Value]]:
    """Those columns that hold text, numbers, truth values or times, as text and numbers; lists and bytes are left out.

    >>> plain_columns({"a": ["1", None], "b": [True, False], "c": [[1], [2]], "d": [None, float("nan")]})
    {'a': [1, None], 'b': ['true', 'false']}
    """
    found = {}
    for name, values in columns.items():
        if all(value is None or isinstance(value, str) for value in values):
            values = _typed_text(values)
        plain = [_plain(value) for value in values]
        if all(isinstance(value, str | int | float | None) for value in plain) and any(v is not None for v in plain):
            found[name] = plain
    return found


def _typed_text(values: list[Any]) -> list[Any]:
    try:
        return typed_cells([value or None for value in values])
    except json.JSONDecodeError:
        return values


def _plain(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and math.isnan(value):
        return None
    return str(value) if isinstance(value, datetime.date | datetime.time | datetime.timedelta) else value
