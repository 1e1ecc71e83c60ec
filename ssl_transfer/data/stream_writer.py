"""Packing the images of any source into litdata shards."""

from __future__ import annotations

import json
import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.data.records import SPLITS
from ssl_transfer.data.stream_loader import shards_module
from ssl_transfer.files import whole_folder


def write_shards(
    data: ImageDataModule | str, out_dir: str | Path, split: str = "train", chunk_bytes: int | str = "64MB"
) -> int:
    """Pack a split of any source into litdata shards; returns the number of images.

    Files go in as they are, images of arrays as PNG, each with its class name ("" without; labels of other kinds are
    left out) and its path. They are written in a random order that is always the same, so that every stretch of a
    stream is a fair sample. Masks stay behind.

    Args:
        data: an `ImageDataModule`, which draws the splits and decides about unreadable files, or its source.
        out_dir: a new or empty folder; it appears when all is written.
        split: "train", "val" or "test".
        chunk_bytes: size of a shard.
    """
    shards_module()  # the line that says what is missing
    from litdata.streaming.writer import BinaryWriter

    out = Path(out_dir)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"out_dir {out} exists and is not an empty folder: name a new one")
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, not {split!r}")
    data = ImageDataModule(data) if isinstance(data, str) else data
    source, _, rows, table = data.survey()
    own = np.flatnonzero(table.splits == split)
    if not len(own):
        raise ValueError(f"split {split!r} of {data.source} holds no images")
    classes = table.classes if table.targets.ndim == 1 else None
    with whole_folder(out) as folder, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="An item was larger than the target chunk size")
        writer = BinaryWriter(str(folder), chunk_bytes=chunk_bytes)
        for number, row in enumerate(np.random.default_rng(0).permutation(own)):
            path, target = str(table.paths[row]), table.targets[row]
            label = classes[int(target)] if classes and target >= 0 else ""
            image = source.read(int(rows[row])) if source.arrays is None else _png(source.arrays[rows[row]], path)
            writer.add_item(number, (image, label.encode(), path.encode()))  # litdata would open what looks like a path
        writer.done()
        writer.merge(1)
        index = folder / "index.json"
        told = json.loads(index.read_text(encoding="utf-8"))
        told["config"]["ssl_transfer"] = {"classes": classes}
        index.write_text(json.dumps(told), encoding="utf-8")
    return len(own)


def _png(image: np.ndarray, path: str) -> bytes:
    """An array `(H, W, C)` as the bytes of a PNG."""
    if image.shape[2] not in (1, 3) or (image.dtype == np.uint16 and image.shape[2] == 3):
        raise ValueError(f"{path}: a stream holds images of 1 or 3 channels (16 bits: 1), not {image.shape[2]}")
    buffer = BytesIO()
    Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(buffer, "PNG")
    return buffer.getvalue()
