"""litdata's side of a stream: shards of encoded images, read in a stated order, decoded where they are read.

Importing this file imports litdata; `ssl_transfer.data.stream` does so when a stream is used.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

os.environ.setdefault("LITDATA_DISABLE_VERSION_CHECK", "1")  # before the import: no question to the package index

from litdata import StreamingDataLoader, StreamingDataset
from litdata.streaming.sampler import ChunkedIndex
from litdata.streaming.shuffle import FullShuffle, NoShuffle
from litdata.utilities.env import _DistributedEnv

from ssl_transfer.data.batch import Batch
from ssl_transfer.data.decode import BadImage, decode
from ssl_transfer.data.resize import resize, scale_to_uint8, to_channels
from ssl_transfer.data.store import Recipe

NOTE = "ssl_transfer"  # our entry in the configuration of index.json
_UNSAFE = {"pickle", "graph"}  # litdata's formats that run code when they are read
_EVERY_IMAGE = 0  # litdata's in-chunk window: 0 permutes the whole chunk


@dataclass(frozen=True)
class Rendered:
    """An image of the stream; `reason` says why there are no pixels."""

    index: int
    pixels: np.ndarray | None  # uint8 (C, H, W)
    label: str  # "" none
    path: str
    reason: str = ""


@dataclass(frozen=True)
class Shards:
    """Where the shards of a split lie and how their images become rows of a batch.

    Args:
        where: a folder, or an address that litdata knows (s3://, gs://).
        recipe: shape and decoding.
        offset: what is added to a position to make the image's index.
        cache_dir, cache_bytes: the local cache of shards that lie elsewhere, and its bound.
    """

    where: str
    recipe: Recipe
    offset: int
    cache_dir: str
    cache_bytes: int


class ShardStream(StreamingDataset):  # type: ignore[misc]
    """Yields every image of a process's share as `Rendered`.

    Args:
        seed: of the order; `None` is the order of the shards, and each image goes to exactly one process.
        limit: only the first so many images.
        everywhere: every process gets every image.
    """

    def __init__(
        self, shards: Shards, seed: int | None = None, limit: int | None = None, everywhere: bool = False
    ) -> None:
        self.shards, self.limit = shards, limit
        super().__init__(
            shards.where,
            cache_dir=shards.cache_dir,
            shuffle=seed is not None,
            seed=seed or 0,
            max_cache_size=shards.cache_bytes,
            item_shuffle_window=_EVERY_IMAGE,
            batch_decode=0,  # one by one: its windows of 256 are of no use to an order across the shard
        )
        self.drop_last = seed is not None
        found = _DistributedEnv.detect()
        # As one node: litdata's order within nodes gives them unequal numbers of steps.
        world, rank = (1, 0) if everywhere else (found.world_size, found.global_rank)
        self.distributed_env = _DistributedEnv(world, rank, 1)

    def _create_shuffler(self, cache: Any) -> Any:
        if self.shuffle:
            return FullShuffle(cache, self.seed, self.drop_last, item_window=_EVERY_IMAGE)
        return InOrder(cache, self.limit)

    def __getitem__(self, index: Any) -> Rendered:
        position = int(index.index if isinstance(index, ChunkedIndex) else index)
        return render(super().__getitem__(index), position + self.shards.offset, self.shards.recipe)

    def look(self) -> dict[str, Any]:
        """What index.json tells: `count`, `classes` (None where it does not say) and `chunks`."""
        self.get_len(1, 1)
        config = self.shuffler.cache._reader.config
        formats = [str(name).split(":")[0] for name in config.config.get("data_format") or []]
        if _UNSAFE & set(formats):
            raise ValueError(
                "their samples are pickled, and unpickling may run any code: write them with bytes and text"
            )
        if config.config.get("compression") and "://" not in self.shards.where:
            raise ValueError(
                "they are compressed, and litdata would unpack and delete them where they lie: "
                "name them by an address (local:FOLDER), or write them without compression"
            )
        count = sum(high - low for _, low, high, _ in self.shuffler.cache.get_chunk_intervals())
        return {"count": count, "classes": config.config.get(NOTE, {}).get("classes"), "chunks": config._chunks}


class ShardLoader(StreamingDataLoader):  # type: ignore[misc]
    """litdata's loader with as many workers as asked for: the order depends on them."""

    def check_worker_number_rationality(self) -> None:
        """No advice."""


class InOrder(NoShuffle):  # type: ignore[misc]
    """The first images in order, shared so that processes differ by one image at most."""

    def __init__(self, cache: Any, limit: int | None) -> None:
        super().__init__(cache, seed=0, drop_last=False)
        self.limit = limit

    def get_chunks_and_intervals_per_workers(
        self, distributed_env: Any, num_workers: int, batch_size: int, current_epoch: int
    ) -> tuple[list[list[int]], list[list[list[int]]]]:
        intervals = self.cache.get_chunk_intervals()
        count = sum(high - low for _, low, high, _ in intervals)
        count = count if self.limit is None else min(count, self.limit)
        chunks: list[list[int]] = []
        pieces: list[list[list[int]]] = []
        for low, high in shares(count, distributed_env.world_size, num_workers, batch_size):
            cut = [(i, [s, max(a, low), min(b, high), e]) for i, (s, a, b, e) in enumerate(intervals)]
            mine = [(i, piece) for i, piece in cut if piece[1] < piece[2]]
            chunks.append([i for i, _ in mine])
            pieces.append([piece for _, piece in mine])
        return chunks, pieces


def shares(count: int, world: int, workers: int, batch_size: int) -> list[tuple[int, int]]:
    """The bounds of every worker of every process: whole batches to all workers but the one that comes last.

    >>> shares(10, world=2, workers=2, batch_size=2)
    [(0, 3), (3, 5), (5, 8), (8, 10)]
    """
    bounds, low = [], 0
    for rank in range(world):
        own = count // world + (rank < count % world)
        batches = -(-own // batch_size)
        for worker in range(workers):
            size = batch_size * len(range(worker, batches, workers))
            if batches and worker == (batches - 1) % workers:
                size -= batches * batch_size - own
            bounds.append((low, low + size))
            low += size
    return bounds


def render(sample: Any, index: int, recipe: Recipe) -> Rendered:
    """A sample as pixels; what cannot be read comes with its reason.

    Samples are (image, label, path), all bytes, as `write_shards` writes them, or `{"image": bytes, "label": …,
    "path": …}`, where the image may also be `{"bytes": …}`, as Hugging Face writes it, and label and path be missing.
    """
    fields = sample if isinstance(sample, dict) else dict(zip(("image", "label", "path"), sample, strict=False))
    image, label, path = (fields.get(name) for name in ("image", "label", "path"))
    data = image.get("bytes") if isinstance(image, dict) else image
    path = _text(path) or f"image {index}"
    named = (index, _text(label), path)
    if not isinstance(data, bytes | bytearray | memoryview):
        return Rendered(named[0], None, *named[1:], reason="the sample holds no bytes under 'image'")
    try:
        pixels = decode(bytes(data), path, recipe.max_pixels)
        if pixels.dtype == np.uint16 and recipe.value_range is None:
            raise BadImage(path, "16 bits need --data.value_range LOW HIGH")
        pixels = to_channels(scale_to_uint8(pixels, recipe.value_range), recipe.channels, path)
        pixels = resize(pixels, recipe.height, recipe.width, recipe.resize)
    except BadImage as error:
        return Rendered(named[0], None, *named[1:], reason=error.reason)
    return Rendered(named[0], pixels.transpose(2, 0, 1), *named[1:])


def _text(value: Any) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode("utf-8", "replace")
    return "" if value is None else str(value)


@dataclass(frozen=True)
class Collate:
    """Images to a `Batch`, and what could not be read beside it; labels that `classes` does not hold are −1."""

    classes: Sequence[str]

    def __call__(self, images: list[Rendered]) -> tuple[Batch | None, list[tuple[int, str, str]], list[str]]:
        """(batch, None without any image; [(index, path, reason)]; labels)."""
        bad = [(image.index, image.path, image.reason) for image in images if image.pixels is None]
        good = [(image, image.pixels) for image in images if image.pixels is not None]
        if not good:
            return None, bad, []
        known = {name: k for k, name in enumerate(self.classes)}
        batch = Batch(
            images=torch.from_numpy(np.stack([pixels for _, pixels in good])),
            targets=torch.tensor([known.get(image.label, -1) for image, _ in good]),
            index=torch.tensor([image.index for image, _ in good]),
        )
        return batch, bad, [image.label for image, _ in good]
