"""Images that fit no disk: pretraining from litdata shards, decoded by worker processes while they are read."""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch
from PIL import Image

from ssl_transfer.data.batch import Batch
from ssl_transfer.data.contents import listed
from ssl_transfer.data.decode import MAX_PIXELS
from ssl_transfer.data.hashing import content_hash
from ssl_transfer.data.loader import EpochOrder, _process
from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.data.resize import Resize
from ssl_transfer.data.store import Recipe
from ssl_transfer.files import whole_folder

MEASURED = 4096  # training images that mean, std and class names are read from
_MEASURING_BATCH = 64
_SPLITS = ("train", "val", "test")

Bad = list[tuple[int, str, str]]  # (index, path, reason)


class StreamDataModule(pl.LightningDataModule):
    """Batches for pretraining from litdata shards: local folders, or addresses in a cloud (s3://, gs://).

    Nothing is decoded ahead: worker processes decode each image whenever an epoch comes to it, by the decoder of
    `ImageDataModule`. Shards that lie elsewhere pass through a local cache of bounded size. `write_shards` makes them.

    An image's `index` is its position: those of train count from 0, those of val go on from there, then test. The order
    of an epoch is a function of seed, epoch, batch size, workers and processes; keep these to repeat a run. Processes
    share the images: in training each gets equally many whole batches, in validation every image goes to one of them.
    A batch is drawn from a shard or two, so write shards of many batches.

    A run that is gone on with starts behind the last batch it saw, in the order it had; with another batch size or
    other numbers of workers or processes it starts that epoch anew.

    Args:
        train: shards to train on.
        val, test: shards of the other splits, if there are any; nothing is drawn from train.
        size: side in pixels of the images.
        channels: 1 or 3.
        resize: crop (centre), pad (with black) or stretch to a square.
        batch_size: images a batch and process.
        num_workers: decoding processes of each training process; 0 decodes in the training process.
        on_bad_image: refuse an image that cannot be read when the stream comes to it, or skip it (its batch is smaller
            by one; one process only) and list it in `rejected`.
        cache_dir: where shards from elsewhere are kept; SSL_TRANSFER_CACHE or ~/.cache/ssl_transfer by default.
        cache_budget: GiB that they may take there, for each split.
        max_pixels: images above are rejected unread (decompression bombs); at most 89,478,485.
        value_range: the (low, high) of 16-bit images that become 0 and 255.

    After `setup()`: as `ImageDataModule`, but `mean` and `std` are measured on the first 4,096 training images; classes
    are those that `write_shards` noted, or else the labels of these images; duplicates are not looked for; `table`
    holds no rows. So what needs all labels at once, as a Classifier does, takes an `ImageDataModule`.
    """

    shape: tuple[int, int, int]
    classes: list[str] | None
    mean: list[float]
    std: list[float]
    fingerprint: str
    label_budget: int | None = None
    duplicates_across_splits = 0
    stated_splits = ("val", "test")

    def __init__(
        self,
        train: str,
        size: int,
        val: str | None = None,
        test: str | None = None,
        channels: int = 3,
        resize: Resize = "crop",
        batch_size: int = 256,
        num_workers: int = 2,
        on_bad_image: Literal["refuse", "skip"] = "refuse",
        cache_dir: str | None = None,
        cache_budget: float = 50.0,
        max_pixels: int = MAX_PIXELS,
        value_range: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.source = train
        self.places = {name: place for name, place in zip(_SPLITS, (train, val, test), strict=True) if place}
        self.size, self.channels, self.resize = size, channels, resize
        self.batch_size, self.num_workers = batch_size, num_workers
        self.on_bad_image = on_bad_image
        self.cache_dir, self.cache_budget = cache_dir, cache_budget
        self.max_pixels, self.value_range = max_pixels, value_range
        self._check()
        self.table = NoTable()
        self.rejected: list[tuple[str, str]] = []
        self._seen_bad: set[int] = set()
        self._counts: dict[str, int] = {}

    def _check(self) -> None:
        """The ranges of the arguments."""
        for name in ("size", "batch_size", "max_pixels"):
            if getattr(self, name) < 1:
                raise ValueError(f"data.{name} must be at least 1, not {getattr(self, name)}")
        if self.channels not in (1, 3):
            raise ValueError(f"data.channels must be 1 or 3, not {self.channels}")
        if self.num_workers < 0:
            raise ValueError(f"data.num_workers must not be negative, not {self.num_workers}")
        if self.cache_budget <= 0:
            raise ValueError(f"data.cache_budget is in GiB and must be above 0, not {self.cache_budget}")
        if self.max_pixels > MAX_PIXELS:
            raise ValueError(f"data.max_pixels must not exceed {MAX_PIXELS}, Pillow's own limit, not {self.max_pixels}")
        for name, known in (("resize", ("crop", "pad", "stretch")), ("on_bad_image", ("refuse", "skip"))):
            if getattr(self, name) not in known:
                raise ValueError(f"data.{name} must be {' or '.join(known)}, not {getattr(self, name)!r}")

    def setup(self, stage: str | None = None) -> None:
        """Read the shards' indices and measure the first training images; a second call does nothing."""
        if self._counts:
            return
        self.shape = (self.channels, self.size, self.size)
        found = {split: self._look(split) for split in self.places}
        counts = {split: found[split]["count"] if split in found else 0 for split in _SPLITS}
        if not counts["train"]:
            raise ValueError(f"data.train: {self.source} holds no images")
        self._counts = counts
        self.classes = found["train"]["classes"]
        labels = self._measure()
        if self.classes is None:
            self.classes = sorted(labels) or None
        facts = [[found[split]["chunks"] for split in found], self.shape, self.resize, self.value_range, self.mean]
        self.fingerprint = content_hash(repr(facts).encode())

    def _look(self, split: str) -> dict[str, Any]:
        """Number of images, classes and chunks that a split's index.json tells."""
        place, cure = self.places[split], "write them with ssl_transfer.data.stream.write_shards"
        stream = _shards_module().ShardStream
        if "://" not in place and not place.startswith("local:") and not (Path(place) / "index.json").is_file():
            raise ValueError(f"data.{split}: {place} has no index.json, so it holds no litdata shards; {cure}")
        try:
            found: dict[str, Any] = stream(self._shards(split)).look()
        except Exception as error:  # whatever litdata and the cloud's client raise
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(f"data.{split}: the shards of {place} cannot be read: {reason}") from error
        return found

    def _shards(self, split: str) -> Any:
        recipe = Recipe(*self.shape, self.resize, self.value_range, False, self.max_pixels)
        offset = sum(self._counts.get(earlier, 0) for earlier in _SPLITS[: _SPLITS.index(split)])
        home = self.cache_dir or os.environ.get("SSL_TRANSFER_CACHE") or "~/.cache/ssl_transfer"
        folder = Path(home).expanduser() / "shards"
        folder.mkdir(parents=True, exist_ok=True)
        return _shards_module().Shards(self.places[split], recipe, offset, str(folder), int(self.cache_budget * 2**30))

    def _measure(self) -> set[str]:
        """Set mean and std from the first training images; the labels met."""
        labels: set[str] = set()
        total, squares, count = torch.zeros(self.channels), torch.zeros(self.channels), 0
        total, squares = total.double(), squares.double()
        loader = self.loader("train", limit=MEASURED, everywhere=True, labels=labels)
        loader.batch_size = _MEASURING_BATCH
        for batch in loader:
            values = batch.images.double() / 255
            total += values.sum((0, 2, 3))
            squares += values.square().sum((0, 2, 3))
            count += len(batch.index)
        if not count:
            raise ValueError(f"data.train: none of the first {MEASURED} images can be read: {self._rejected_list()}")
        mean = total / (count * self.size**2)
        std = (squares / (count * self.size**2) - mean.square()).clamp(min=0).sqrt()
        self.mean, self.std = mean.tolist(), std.clamp(min=1e-3).tolist()
        return labels - {""}

    @property
    def num_classes(self) -> int:
        """How many classes; 0 without."""
        return len(self.classes or [])

    def indices(self, split: str) -> range:
        """The indices of "train", "val", "test" or "all"."""
        if split not in (*_SPLITS, "all") or not self._counts:
            raise ValueError(f"split {split!r} must be one of {', '.join(_SPLITS)}, all, known after setup()")
        if split == "all":
            return range(sum(self._counts.values()))
        low = sum(self._counts[earlier] for earlier in _SPLITS[: _SPLITS.index(split)])
        return range(low, low + self._counts[split])

    def loader(
        self,
        split: str,
        shuffle: bool = False,
        drop_last: bool = False,
        limit: int | None = None,
        everywhere: bool = False,
        labels: set[str] | None = None,
    ) -> StreamLoader:
        """Batches of a split, or of its first `limit` images; `labels` collects the labels met."""
        if split == "all":
            raise ValueError("a stream is read split by split: train, val or test")
        count = len(self.indices(split))
        count = count if limit is None else min(count, limit)
        if shuffle != drop_last or (shuffle and limit is not None):
            raise ValueError("a stream is shuffled for training (drop_last, all images) and in order for all else")
        note = StreamNotes(self._note_bad, labels)
        workers = self.num_workers if count > self.batch_size else 0
        source = self._shards(split) if count else None
        return StreamLoader(source, count, self.batch_size, workers, self.classes or [], shuffle, everywhere, note)

    def _note_bad(self, bad: Bad) -> None:
        """Refuse images that cannot be read, or note what is left out."""
        new = [entry for entry in bad if entry[0] not in self._seen_bad]
        self._seen_bad |= {index for index, _, _ in new}
        self.rejected += [(path, reason) for _, path, reason in new]
        if bad and self.on_bad_image == "refuse":
            index, path, reason = bad[0]
            raise ValueError(
                f"data.{self._split_of(index)}: image {index} ({path}) cannot be read: {reason}; leave such images out "
                "with --data.on_bad_image skip"
            )
        if bad and _process()[1] > 1:
            raise ValueError(
                f"data.on_bad_image=skip works in one process, as all need batches of one size, and image {bad[0][0]} "
                f"({bad[0][1]}) cannot be read: use --trainer.devices 1, or write shards without it"
            )
        if new:
            told = listed(f"{path} ({reason})" for _, path, reason in new)
            warnings.warn(f"{len(new)} unreadable images are left out: {told}", stacklevel=2)

    def _split_of(self, index: int) -> str:
        return next(split for split in _SPLITS if index in self.indices(split))

    def _rejected_list(self) -> str:
        return listed(f"{path} ({reason})" for path, reason in self.rejected)

    def images(self, index: Any) -> np.ndarray:
        """The images of some indices, uint8 `(N, C, H, W)`, read one by one."""
        wanted = np.asarray(index)
        pixels = np.zeros((len(wanted), *self.shape), np.uint8)
        for split in self.places:
            own = self.indices(split)
            rows = [row for row in np.argsort(wanted) if wanted[row] in own]
            if not rows:
                continue
            stream = _shards_module().ShardStream(self._shards(split), everywhere=True)
            for row in rows:
                image = stream[int(wanted[row]) - own.start]
                assert image.pixels is not None, image.reason
                pixels[row] = image.pixels
        return pixels

    def train_dataloader(self) -> StreamLoader:
        """Train, in an order of seed and epoch, whole batches only."""
        return self.loader("train", shuffle=True, drop_last=True)

    def val_dataloader(self) -> StreamLoader:
        """Validation, every image once."""
        return self.loader("val")

    def test_dataloader(self) -> StreamLoader:
        """Test, every image once."""
        return self.loader("test")

    def predict_dataloader(self) -> StreamLoader:
        """Refused: predictions are a table of all images."""
        raise ValueError(f"predict writes a table of all images, and {self.source} is a stream: use ImageDataModule")

    def describe(self) -> dict[str, Any]:
        """What metrics.json and the model card say of the data: plain types."""
        channels, height, width = self.shape
        return {
            "source": self.source,
            "counts": dict(self._counts),
            "classes": self.classes,
            "channels": channels,
            "height": height,
            "width": width,
            "resize": self.resize,
            "mean": self.mean,
            "std": self.std,
            "measured_on": min(MEASURED, self._counts["train"]),
            "value_range": None if self.value_range is None else list(self.value_range),
            "label_budget": None,
            "seed": None,
            "rejected": [list(entry) for entry in self.rejected],
            "duplicates_across_splits": None,
            "fingerprint": self.fingerprint,
        }


class NoTable:
    """Stands where an `ImageDataModule` has its table of all images: one class an image, and no rows to read."""

    @property
    def targets(self) -> NoTable:
        """Says that there is one label an image; reading them is refused."""
        return self

    ndim = 1

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        raise ValueError(
            "a StreamDataModule keeps no table of all labels, so it pretrains and does no more: "
            "give a classifier its labelled images by --data ImageDataModule"
        )


@dataclass
class StreamNotes:
    """What a loader tells beside its batches: images that cannot be read, and labels if someone collects them."""

    bad: Callable[[Bad], None]
    labels: set[str] | None = None


class StreamLoader:
    """An iterable of `Batch` read from shards; its state is the epoch and the number of batches yielded.

    `seconds_waited` adds up the time until batches came.
    """

    def __init__(
        self,
        shards: Any,
        count: int,
        batch_size: int,
        num_workers: int,
        classes: list[str],
        shuffle: bool,
        everywhere: bool,
        notes: StreamNotes,
    ) -> None:
        self.shards, self.count = shards, count
        self.batch_size, self.num_workers = batch_size, num_workers
        self.classes, self.shuffle, self.everywhere, self.notes = classes, shuffle, everywhere, notes
        self.seconds_waited = 0.0
        self.sampler = EpochOrder(0, shuffle=False)  # keeps the epoch that Lightning sets
        self.batch_sampler = self.sampler
        self._yielded = 0
        self._resume: dict[str, int] | None = None

    def __len__(self) -> int:
        rank, world = self._share()
        if not self.shuffle:
            return -(-len(range(rank, self.count, world)) // self.batch_size)
        return self.count // world // self._batch(world)

    def __iter__(self) -> Iterator[Batch]:
        start = self._take_start()
        if not len(self):
            return
        batches = iter(self._open(start))
        for number in range(start, len(self)):
            asked = time.perf_counter()
            batch, bad, labels = next(batches)
            self.seconds_waited += time.perf_counter() - asked
            self._yielded = number + 1
            self.notes.bad(bad)
            if self.notes.labels is not None:
                self.notes.labels.update(labels)
            if batch is not None:
                yield batch

    def _open(self, start: int) -> Any:
        """litdata's loader of this epoch, from batch `start` on."""
        shards = _shards_module()
        epoch, batch_size = self.sampler.epoch + 1, self._batch(self._share()[1])  # litdata counts from 1
        limit = None if self.shuffle else self.count
        stream = shards.ShardStream(self.shards, _seed() if self.shuffle else None, limit, self.everywhere)
        collate = shards.Collate(self.classes)
        loader = shards.ShardLoader(stream, batch_size=batch_size, num_workers=self.num_workers, collate_fn=collate)
        loader.current_epoch = epoch - 1
        if start:
            stream.set_epoch(epoch)
            yielded = start * batch_size
            state = stream.state_dict(yielded, self.num_workers, batch_size)
            latest = (start - 1) % max(1, self.num_workers)
            place = {"current_epoch": epoch, "num_samples_yielded": yielded, "latest_worker_idx": latest}
            loader.load_state_dict({"dataset": state, **place})
        return loader

    def _batch(self, world: int) -> int:
        """Images a batch: in training fewer where a process has less than a whole batch."""
        return max(1, min(self.batch_size, self.count // world)) if self.shuffle else self.batch_size

    def _share(self) -> tuple[int, int]:
        return (0, 1) if self.everywhere else _process()

    def _layout(self) -> dict[str, int]:
        """What an order depends on beside seed and epoch."""
        return {"batch_size": self.batch_size, "workers": self.num_workers, "processes": self._share()[1]}

    def _take_start(self) -> int:
        """The batch to start with: 0, or once after `load_state_dict` where that epoch was left."""
        state, self._resume = self._resume, None
        self._yielded = 0
        if state is None or state["epoch"] != self.sampler.epoch or state["batches"] >= len(self):
            return 0
        if state["batches"] and any(state[name] != value for name, value in self._layout().items()):
            warnings.warn(
                "this epoch starts anew: its order depends on batch size, workers and processes, which have changed",
                stacklevel=2,
            )
            return 0
        return state["batches"]

    def state_dict(self) -> dict[str, int]:
        """Epoch, batches already yielded in it, and what the order depends on."""
        return {"epoch": self.sampler.epoch, "batches": self._yielded, **self._layout()}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue where `state` was taken: its epoch, after its batches."""
        self.sampler.set_epoch(state["epoch"])
        self._resume = state
        self._yielded = state["batches"]


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
    _shards_module()  # the line that says what is missing
    from litdata.streaming.writer import BinaryWriter

    out = Path(out_dir)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"out_dir {out} exists and is not an empty folder: name a new one")
    if split not in _SPLITS:
        raise ValueError(f"split must be one of {', '.join(_SPLITS)}, not {split!r}")
    data = ImageDataModule(data) if isinstance(data, str) else data
    source, _, rows, table = data._survey()
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


def _seed() -> int:
    """The run's seed, 0 without one."""
    return int(os.environ.get("PL_GLOBAL_SEED", "0"))


def _shards_module() -> Any:
    """`ssl_transfer.data.shards`, and with it litdata, or the line that says how to get it."""
    try:
        return import_module("ssl_transfer.data.shards")
    except ModuleNotFoundError as error:
        raise ValueError("a stream of shards needs litdata: pip install 'ssl_transfer[stream]'") from error
