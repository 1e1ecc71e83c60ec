"""Parquet: a manifest, or the Hugging Face layout with the encoded images inside."""

from __future__ import annotations

import json
from bisect import bisect_right
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ssl_transfer.data.decode import BadImage
from ssl_transfer.data.records import Records, has_below_zero, make_targets, split_name
from ssl_transfer.data.sources.base import Source
from ssl_transfer.data.sources.manifest import open_manifest

_LABELS = ("label", "labels", "fine_label")


def open_parquet(files: list[Path], folder: Path | None = None, pattern: str = "*") -> Source:
    """One Parquet file, or those of `folder`, whose names or folders may state the split (train-00000.parquet)."""
    try:
        opened = [pq.ParquetFile(file) for file in files]
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"data.source: {error} ({', '.join(map(str, files[:3]))})") from error
    column = image_column(opened[0].schema_arrow)
    if column is None and len(files) == 1:
        table = opened[0].read()
        return open_manifest(files[0], {name: table[name].to_pylist() for name in table.column_names}, pattern)
    for file, parquet in zip(files, opened, strict=True):
        if column is None or image_column(parquet.schema_arrow) != column:
            held = ", ".join(parquet.schema_arrow.names)
            raise ValueError(f"data.source: {file} has no images (struct<bytes, path>) and no path; it has {held}")
    splits = [_split_of(file.relative_to(folder)) if folder else "" for file in files]
    return ParquetSource(files, opened, column or "", splits)


def image_column(schema: pa.Schema) -> str | None:
    """The column that holds encoded images: a struct with `bytes`, or plain bytes called image or img."""
    for entry in schema:
        if pa.types.is_struct(entry.type) and entry.type.get_field_index("bytes") >= 0:
            return str(entry.name)
        if entry.name in ("image", "img", "bytes") and (
            pa.types.is_binary(entry.type) or pa.types.is_large_binary(entry.type)
        ):
            return str(entry.name)
    return None


def class_names(schema: pa.Schema, label: str) -> list[str] | None:
    """The class names in the schema's Hugging Face metadata."""
    stored = (schema.metadata or {}).get(b"huggingface")
    feature = json.loads(stored).get("info", {}).get("features", {}).get(label) if stored else None
    names = feature.get("names") if isinstance(feature, dict) else None
    return [str(name) for name in names] if names else None


def _split_of(path: Path) -> str:
    """The split that a part of a relative path states, the file's name last."""
    return next((split for part in (*path.parts[:-1], path.stem) if (split := split_name(part))), "")


class ParquetSource(Source):
    """Encoded images in Parquet files, read a row group at a time; the last two groups are kept."""

    def __init__(self, files: list[Path], opened: list[pq.ParquetFile], column: str, splits: list[str]) -> None:
        self._opened, self._column, self._lock = opened, column, Lock()
        self._groups = [(i, g) for i, parquet in enumerate(opened) for g in range(parquet.num_row_groups)]
        sizes = [opened[i].metadata.row_group(g).num_rows for i, g in self._groups]
        self._starts = np.cumsum([0, *sizes]).tolist()
        self._kept: dict[int, pa.ChunkedArray] = {}
        counts = [parquet.metadata.num_rows for parquet in opened]
        targets, classes, below_zero = self._labels()
        groups = self._column_of("group")
        records = Records.of(
            [f"{file}#{row}" for file, count in zip(files, counts, strict=True) for row in range(count)],
            targets,
            np.repeat(np.array(splits, "U5"), counts),
            groups and ["" if group is None else str(group) for group in groups],
            classes,
            below_zero,
        )
        super().__init__(records)

    def _column_of(self, name: str) -> list[Any] | None:
        if any(name not in parquet.schema_arrow.names for parquet in self._opened):
            return None
        return [v for parquet in self._opened for v in parquet.read(columns=[name])[name].to_pylist()]

    def _labels(self) -> tuple[np.ndarray | None, list[str] | None, bool]:
        schema = self._opened[0].schema_arrow
        label = next((name for name in _LABELS if name in schema.names), None)
        values = None if label is None else self._column_of(label)
        if label is None or values is None:
            return None, None, False
        names = class_names(schema, label)
        if names and pa.types.is_integer(schema.field(label).type):
            return np.array([-1 if v is None else v for v in values], np.int64), names, False
        return *make_targets(values), has_below_zero(values)

    def read(self, row: int) -> bytes:
        """The encoded image of a row."""
        group = bisect_right(self._starts, row) - 1
        with self._lock:
            if group not in self._kept:
                if len(self._kept) > 1:
                    self._kept.pop(next(iter(self._kept)))
                file, number = self._groups[group]
                self._kept[group] = self._opened[file].read_row_group(number, columns=[self._column])[self._column]
            value = self._kept[group][row - self._starts[group]].as_py()
        data = value["bytes"] if isinstance(value, dict) else value
        if data is None:
            raise BadImage(str(self.records.paths[row]), "no bytes in this row")
        return bytes(data)
