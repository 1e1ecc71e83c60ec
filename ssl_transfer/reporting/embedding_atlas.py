"""A table that Apple's Embedding Atlas opens, https://apple.github.io/embedding-atlas."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from ssl_transfer.files import whole_file
from ssl_transfer.reporting.images import shrink, to_pixels

AXES = ("x", "y", "z")
SIDE = 96  # pixels of the longer side of a thumbnail, at the most
_GROUP = 8192  # rows at a time


def write_atlas_table(
    path: str | Path,
    points: ArrayLike,
    columns: Mapping[str, Sequence[object]] | None = None,
    paths: Sequence[str] | None = None,
    thumbnails: NDArray[np.generic] | None = None,
    neighbours: tuple[ArrayLike, ArrayLike] | None = None,
) -> Path:
    """Write a Parquet table of a map, and return its path. With embedding-atlas installed (it is no part of this
    package), `path` called map.parquet is opened by

        embedding-atlas map.parquet --x x --y y --neighbors neighbors --image image

    less the options of what was not given; `--export-application map.zip` makes a page of it. The browser needs WebGPU.

    Args:
        path: the table.
        points: coordinates `(N, 2)` or more: columns x, y and z; further ones are left out.
        columns: N values each, such as labels, clusters and scores. A name that is taken (x, y, z, path, neighbors,
            image) gets an underscore, and a column of mixed types becomes text.
        paths: of the images, for the column path.
        thumbnails: `(N, C, H, W)`, uint8 or float in [0, 1], for the column image: PNG files of 96 pixels at most.
        neighbours: distances and indices `(N, k)` of the nearest rows, as `nearest` gives them.

    Raises:
        ValueError: fewer than two coordinates, or a length that differs from theirs.
    """
    xy = np.asarray(points, dtype=np.float32)
    if xy.ndim != 2 or xy.shape[1] < 2:
        raise ValueError(f"a map needs points (N, 2) or more, not of shape {xy.shape}; reduce with n_components=2")
    count = len(xy)
    table: dict[str, pa.Array] = {name: pa.array(xy[:, axis]) for axis, name in enumerate(AXES[: xy.shape[1]])}
    if paths is not None:
        table["path"] = pa.array(map(str, paths), pa.string())
    taken = {*AXES, "path", "neighbors", "image"}
    for name, values in (columns or {}).items():
        while name in taken:
            name += "_"
        taken.add(name)
        table[name] = _column(values)
    if neighbours is not None:
        table["neighbors"] = _neighbours(*neighbours)
    for name, values in table.items():
        _same_length(name, len(values), count)
    if thumbnails is not None:
        _same_length("thumbnails", len(thumbnails), count)
    target = Path(path)
    with whole_file(target) as part:
        _write(part, pa.table(table), thumbnails)
    return target


def _same_length(name: str, length: int, count: int) -> None:
    if length != count:
        raise ValueError(f"{name} has {length} rows and there are {count} points: give one for each")


def _column(values: Sequence[object]) -> pa.Array:
    """Values as one type that Arrow has, or as text."""
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([None if value is None else str(value) for value in values], pa.string())


def _neighbours(distances: ArrayLike, indices: ArrayLike) -> pa.StructArray:
    """`{"ids": [row, …], "distances": [distance, …]}` for each row, nearest first."""
    near, rows = np.asarray(distances, dtype=np.float32), np.asarray(indices, dtype=np.int64)
    offsets = np.arange(len(rows) + 1, dtype=np.int32) * rows.shape[1]
    parts = [pa.ListArray.from_arrays(offsets, pa.array(values.ravel())) for values in (rows, near)]
    return pa.StructArray.from_arrays(parts, ["ids", "distances"])


def _write(path: Path, table: pa.Table, thumbnails: NDArray[np.generic] | None) -> None:
    """The table in groups of rows, with the thumbnails encoded a group at a time."""
    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = table.schema if thumbnails is None else table.schema.append(pa.field("image", picture))
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, table.num_rows, _GROUP):
            part = table.slice(start, _GROUP)
            if thumbnails is not None:
                pixels = shrink(to_pixels(thumbnails[start : start + _GROUP]), SIDE)
                files = [{"bytes": _png(image), "path": None} for image in pixels]
                part = part.append_column(schema.field("image"), pa.array(files, picture))
            writer.write_table(part)


def _png(image: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()
