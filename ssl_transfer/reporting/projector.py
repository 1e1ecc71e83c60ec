"""TensorBoard's embedding projector: vectors, their metadata and their thumbnails in a folder that it opens."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from ssl_transfer.files import whole_folder
from ssl_transfer.reporting.images import shrink, to_pixels

MOST_POINTS = 100_000  # the projector reads no more
SPRITE = 8192  # its largest sprite, pixels a side
CONFIG, NAME = "projector_config.pbtxt", "vectors"
_EMPTY = "–"  # the projector drops a line that is empty


def write_projector(
    folder: str | Path,
    vectors: ArrayLike,
    columns: Mapping[str, Sequence[object]] | None = None,
    thumbnails: NDArray[np.generic] | None = None,
) -> NDArray[np.int64]:
    """Write the folder that `tensorboard --logdir FOLDER` shows under Projector, and return the rows in it.

    It holds `projector_config.pbtxt`, `vectors.bytes` (or `vectors.tsv`), `metadata.tsv` and `sprite.png`. The viewer
    computes PCA, UMAP and t-SNE of the vectors in the browser; coordinates may be given as vectors too.

    Args:
        folder: a new one, or one of an earlier projector, which is replaced.
        vectors: `(N, D)`, of which 100,000 at most are shown: of more, as many evenly spaced rows are written, with a
            warning.
        columns: N values each, such as paths and labels; tabs and line breaks become spaces, and nothing is "–".
        thumbnails: `(N, C, H, W)`, uint8 or float in [0, 1]; reduced so that all fit into 8192 × 8192 pixels.

    Raises:
        ValueError: vectors of another shape, a length that differs from theirs, or a folder that holds something else.
    """
    x = np.asarray(vectors, dtype="<f4")
    columns = columns or {}
    if x.ndim != 2 or not x.size:
        raise ValueError(f"the projector shows vectors (N, D), not an array of shape {x.shape}")
    lengths = {f"the column {name}": len(values) for name, values in columns.items()}
    lengths |= {"thumbnails": len(thumbnails)} if thumbnails is not None else {}
    for name, length in lengths.items():
        if length != len(x):
            raise ValueError(f"{name} has {length} rows and there are {len(x)} vectors: give one for each")
    target = Path(folder)
    if target.exists() and not (target / CONFIG).is_file() and (target.is_file() or any(target.iterdir())):
        raise ValueError(f"{target} holds something else than a projector: name a new folder")
    rows = _shown(len(x))
    with whole_folder(target) as new:
        shape = len(rows), x.shape[1]
        config = [f'tensor_name: "{NAME}"', *(f"tensor_shape: {number}" for number in shape)]
        config.append(f"tensor_path: {json.dumps(_write_vectors(new, x[rows]))}")
        if columns:
            _write_metadata(new / "metadata.tsv", columns, rows)
            config.append('metadata_path: "metadata.tsv"')
        if thumbnails is not None:
            width, height = _write_sprite(new / "sprite.png", thumbnails, rows)
            dimensions = f"single_image_dim: {width} single_image_dim: {height}"
            config.append(f'sprite {{ image_path: "sprite.png" {dimensions} }}')
        lines = "".join(f"  {line}\n" for line in config)
        (new / CONFIG).write_text(f"embeddings {{\n{lines}}}\n", encoding="utf-8")
    return rows


def _shown(count: int) -> NDArray[np.int64]:
    if count <= MOST_POINTS:
        return np.arange(count)
    warnings.warn(
        f"the projector shows {MOST_POINTS:,} points at most: {count - MOST_POINTS:,} of {count:,}, evenly spaced, are "
        "left out",
        stacklevel=3,
    )
    return np.arange(MOST_POINTS) * count // MOST_POINTS


def _write_vectors(folder: Path, x: NDArray[np.float32]) -> str:
    """The vectors as bytes; as text if the bytes could be read as text, for the projector tries that first."""
    content = x.tobytes()
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        (folder / "vectors.bytes").write_bytes(content)
        return "vectors.bytes"
    np.savetxt(folder / "vectors.tsv", x, fmt="%.9g", delimiter="\t")
    return "vectors.tsv"


def _write_metadata(path: Path, columns: Mapping[str, Sequence[object]], rows: NDArray[np.int64]) -> None:
    """A line for each row below one of names; a single column has none, as the projector wants it."""
    lines = [list(columns)] if len(columns) > 1 else []
    lines += [[values[row] for values in columns.values()] for row in rows.tolist()]
    text = "".join("\t".join(map(_cell, line)) + "\n" for line in lines)
    path.write_text(text, encoding="utf-8", newline="\n")


def _cell(value: object) -> str:
    """A value as a cell: no tab, line break or other control character, and never empty.

    >>> _cell("a\\tb\\nc"), _cell(None), _cell(3)
    ('a b c', '–', '3')
    """
    text = "" if value is None or (isinstance(value, float) and math.isnan(value)) else str(value)
    text = "".join(letter if letter.isprintable() else " " for letter in text).strip()
    return text.encode("utf-8", "replace").decode("utf-8") or _EMPTY


def _write_sprite(path: Path, thumbnails: NDArray[np.generic], rows: NDArray[np.int64]) -> tuple[int, int]:
    """All thumbnails in rows of as many as the root of their number; returns the width and height of each."""
    across = math.ceil(math.sqrt(len(rows)))
    side = SPRITE // across
    first = shrink(to_pixels(thumbnails[:1]), side)
    height, width = first.shape[1:3]
    canvas = np.zeros((math.ceil(len(rows) / across) * height, across * width, 3), np.uint8)
    for line, start in enumerate(range(0, len(rows), across)):
        tiles = shrink(to_pixels(thumbnails[rows[start : start + across]]), side)  # (n, h, w, 3)
        strip = tiles.transpose(1, 0, 2, 3).reshape(height, -1, 3)
        canvas[line * height : (line + 1) * height, : strip.shape[1]] = strip
    Image.fromarray(canvas).save(path, compress_level=4)
    return width, height
