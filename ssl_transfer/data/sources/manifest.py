"""A table of image files: CSV or Parquet with `path` and optionally `label`, `split`, `group`, `mask`, `status`."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from ssl_transfer.data.records import Records, make_targets, split_name
from ssl_transfer.data.sources.base import FileSource
from ssl_transfer.data.sources.folder import matches


def open_csv(path: Path, pattern: str = "*") -> FileSource:
    """A CSV manifest. An empty cell is no value; labels that all are integers, or all numbers, are read as such."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            names = list(reader.fieldnames or [])
            rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"data.source: {path} is no CSV file in UTF-8 ({error})") from error
    columns: dict[str, list[Any]] = {name: [row[name] or None for row in rows] for name in names}
    if "label" in columns:
        columns["label"] = typed_labels(columns["label"])
    return open_manifest(path, columns, pattern)


def typed_labels(cells: list[str | None]) -> list[Any]:
    """Labels of a CSV column as integers, floats, lists (JSON) or strings: the first that fits every cell.

    >>> typed_labels(["2", "10", None]), typed_labels(["2", "0.5"]), typed_labels(['["a", "b"]']), typed_labels(["07"])
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
        return cells
    return cells if all(cell.isalnum() for cell in filled) else numbers


def open_manifest(path: Path, columns: dict[str, list[Any]], pattern: str = "*") -> FileSource:
    """A source from the columns of a manifest; relative paths start at the manifest's folder.

    Where there is a column `status`, as `ssl-transfer scan` writes it, only "ok" and "converted" rows are taken.
    """
    if "path" not in columns:
        raise ValueError(f"data.source: {path} has no column 'path'; it has {', '.join(columns) or 'no columns'}")
    names = columns["path"]
    status = columns.get("status", [None] * len(names))
    rows = [
        row
        for row, name in enumerate(names)
        if name and matches(Path(name), pattern) and status[row] in (None, "ok", "converted")
    ]
    if not rows:
        raise ValueError(f"data.source: no row of {path} names a usable image that matches data.pattern {pattern!r}")

    def column(name: str) -> list[Any] | None:
        return [columns[name][row] for row in rows] if name in columns else None

    targets, classes = make_targets(column("label") or [None] * len(rows))
    files = [path.parent / names[row] for row in rows]
    groups = column("group")
    records = Records.of(
        [str(file) for file in files],
        targets,
        [_split(cell, path) for cell in column("split") or [None] * len(rows)],
        None if groups is None else ["" if cell is None else str(cell) for cell in groups],
        classes,
    )
    masks = column("mask")
    return FileSource(records, files, masks and [path.parent / cell if cell else None for cell in masks])


def _split(cell: Any, path: Path) -> str:
    if not cell:
        return ""
    split = split_name(str(cell))
    if split is None:
        raise ValueError(f"data.source: {path} names a split {cell!r}; it must be train, val, test or empty")
    return split
