"""A table of image files: CSV or Parquet with `path` and optionally `label`, `split`, `group`, `mask`, `status`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ssl_transfer.data.columns import plain_columns, read_csv, typed_cells
from ssl_transfer.data.records import Records, has_below_zero, make_targets, split_name
from ssl_transfer.data.sources.base import FileSource
from ssl_transfer.data.sources.folder import matches

OWN = ("path", "label", "split", "mask", "status")  # columns with a meaning; the rest only tells something


def open_csv(path: Path, pattern: str = "*") -> FileSource:
    """A CSV manifest. An empty cell is no value; labels that all are integers, or all numbers, are read as such."""
    try:
        columns: dict[str, list[Any]] = dict(read_csv(path))
    except ValueError as error:
        raise ValueError(f"data.source: {error}") from error
    if "label" in columns:
        columns["label"] = typed_cells(columns["label"])
    return open_manifest(path, columns, pattern)


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

    labels = column("label") or [None] * len(rows)
    targets, classes = make_targets(labels)
    files = [path.parent / names[row] for row in rows]
    groups = column("group")
    records = Records.of(
        [str(file) for file in files],
        targets,
        [_split(cell, path) for cell in column("split") or [None] * len(rows)],
        None if groups is None else ["" if cell is None else str(cell) for cell in groups],
        classes,
        has_below_zero(labels),
    )
    masks = column("mask")
    source = FileSource(records, files, masks and [path.parent / cell if cell else None for cell in masks])
    source.columns = plain_columns({name: column(name) or [] for name in columns if name not in OWN})
    return source


def _split(cell: Any, path: Path) -> str:
    if not cell:
        return ""
    split = split_name(str(cell))
    if split is None:
        raise ValueError(f"data.source: {path} names a split {cell!r}; it must be train, val, test or empty")
    return split
