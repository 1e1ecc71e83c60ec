"""`embed`: images to a Parquet of feature vectors, streaming."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from ssl_transfer.commands.sources import device_of, images_for
from ssl_transfer.data.batch import Batch
from ssl_transfer.files import whole_file
from ssl_transfer.memory import give_back_memory

TRIM = 16_384  # rows after which freed memory is given back
FEATURES = "features.list.element"  # what Parquet calls the numbers within


def embed(
    encoder: str,
    source: str,
    out: str = "features.parquet",
    root: str | None = None,
    size: int | None = None,
    resize: str | None = None,
    pattern: str = "*",
    on_bad_image: str = "refuse",
    batch_size: int = 512,
    device: str = "auto",
) -> int:
    """Encode every image of a source and write path, split, label and vector, one row an image.

    Example: ssl-transfer embed runs/a/encoder photos/ --out features.parquet

    Args:
        encoder: an encoder folder.
        source: a folder, manifest, Parquet, array file, torchvision data set or `digits`, as for `--data.source`.
        out: the Parquet file to write.
        root: where torchvision data sets lie.
        size: side in pixels; by default the one the encoder was trained on.
        resize: crop, pad or stretch; by default as the encoder was trained.
        pattern: which files of a folder, such as "*.jpg".
        on_bad_image: refuse, or skip and say which.
        batch_size: images at a time.
        device: cpu, cuda, mps, or auto.
    """
    from ssl_transfer.encoders import load_encoder
    from ssl_transfer.encoders.config import read_config

    network = load_encoder(encoder)
    trained_on = read_config(Path(encoder).expanduser())["data"]
    where = device_of(device)
    data = images_for(network, trained_on, source, root, size, resize, pattern, on_bad_image, batch_size)
    batches = data.stream()
    target = Path(out)
    schema = _schema(network.feature_dim)
    text = [name for name in schema.names if name != "features"]  # numbers gain nothing by either, and cost much time
    options: dict[str, Any] = {"use_dictionary": text, "compression": {**dict.fromkeys(text, "zstd"), FEATURES: "none"}}
    rows, started = 0, time.monotonic()
    with whole_file(target) as temporary, pq.ParquetWriter(temporary, schema, **options) as writer:
        for batch in _encoded(network.to(where), data, batches, where):
            writer.write_batch(batch)
            rows += len(batch)
            if rows % TRIM < len(batch):
                give_back_memory()
    seconds = time.monotonic() - started
    print(f"wrote {target}: {rows} images × {network.feature_dim} features, {rows / seconds:,.0f} images/s")
    return 0


@torch.inference_mode()
def _encoded(network: Any, data: Any, batches: Iterable[Batch], device: torch.device) -> Iterator[pa.RecordBatch]:
    schema = _schema(network.feature_dim)
    for batch in batches:
        features = network(batch.images.to(device)).float().cpu()
        rows = batch.index.tolist()
        labels = [data.classes[t] if data.classes and t >= 0 else None for t in _classes(batch.targets)]
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(features.flatten().numpy()), features.shape[1])
        texts = [[data.table.paths[r] for r in rows], [str(data.table.splits[r]) for r in rows], labels]
        columns = [*(pa.array(column, pa.string()) for column in texts), vectors]
        yield pa.record_batch(columns, schema=schema)


def _classes(targets: torch.Tensor) -> list[int]:
    return targets.tolist() if targets.ndim == 1 and not targets.is_floating_point() else [-1] * len(targets)


def _schema(width: int) -> pa.Schema:
    vector = pa.list_(pa.float32(), width)
    return pa.schema([("path", pa.string()), ("split", pa.string()), ("label", pa.string()), ("features", vector)])
