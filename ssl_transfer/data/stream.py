"""Images that fit no disk: pretraining from litdata shards, decoded by worker processes while they are read."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch

from ssl_transfer.data.arguments import check_decoding
from ssl_transfer.data.contents import listed
from ssl_transfer.data.decode import MAX_PIXELS
from ssl_transfer.data.hashing import content_hash
from ssl_transfer.data.loader import process_rank
from ssl_transfer.data.records import SPLITS
from ssl_transfer.data.resize import Resize
from ssl_transfer.data.store import Recipe
from ssl_transfer.data.stream_loader import Bad, StreamLoader, StreamNotes, shards_module
from ssl_transfer.data.stream_writer import write_shards

__all__ = ["StreamDataModule", "write_shards"]

MEASURED = 4096  # training images that mean, std and class names are read from
_MEASURING_BATCH = 64


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
        self.train, self.val, self.test = train, val, test
        self.places = {name: place for name, place in zip(SPLITS, (train, val, test), strict=True) if place}
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
        check_decoding(self.max_pixels, self.resize, self.on_bad_image)

    def setup(self, stage: str | None = None) -> None:
        """Read the shards' indices and measure the first training images; a second call does nothing."""
        if self._counts:
            return
        self.shape = (self.channels, self.size, self.size)
        found = {split: self._look(split) for split in self.places}
        counts = {split: found[split]["count"] if split in found else 0 for split in SPLITS}
        if not counts["train"]:
            raise ValueError(f"data.train: {self.source} holds no images")
        self._counts = counts
        self.classes = found["train"]["classes"]
        try:
            labels = self._measure()
        except BaseException:
            self._counts = {}  # not ready
            raise
        if self.classes is None:
            self.classes = sorted(labels) or None
        facts = [[found[split]["chunks"] for split in found], self.shape, self.resize, self.value_range]
        self.fingerprint = content_hash(repr(facts).encode())

    def _look(self, split: str) -> dict[str, Any]:
        """Number of images, classes and chunks that a split's index.json tells."""
        place, cure = self.places[split], "write them with ssl_transfer.data.stream.write_shards"
        stream = shards_module().ShardStream
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
        offset = sum(self._counts.get(earlier, 0) for earlier in SPLITS[: SPLITS.index(split)])
        home = self.cache_dir or os.environ.get("SSL_TRANSFER_CACHE") or "~/.cache/ssl_transfer"
        folder = Path(home).expanduser() / "shards"
        folder.mkdir(parents=True, exist_ok=True)
        return shards_module().Shards(self.places[split], recipe, offset, str(folder), int(self.cache_budget * 2**30))

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

    def named(self, split: str) -> str:
        """The argument that a split comes from, and its value, for a message."""
        return f"data.source {self.source}"

    def indices(self, split: str) -> range:
        """The indices of "train", "val", "test" or "all"."""
        if split not in (*SPLITS, "all") or not self._counts:
            raise ValueError(f"split {split!r} must be one of {', '.join(SPLITS)}, all, known after setup()")
        if split == "all":
            return range(sum(self._counts.values()))
        low = sum(self._counts[earlier] for earlier in SPLITS[: SPLITS.index(split)])
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
        if bad and process_rank()[1] > 1:
            raise ValueError(
                f"data.on_bad_image=skip works in one process, as all need batches of one size, and image {bad[0][0]} "
                f"({bad[0][1]}) cannot be read: use --trainer.devices 1, or write shards without it"
            )
        if new:
            told = listed(f"{path} ({reason})" for _, path, reason in new)
            warnings.warn(f"{len(new)} unreadable images are left out: {told}", stacklevel=2)

    def _split_of(self, index: int) -> str:
        return next(split for split in SPLITS if index in self.indices(split))

    def _rejected_list(self) -> str:
        return listed(f"{path} ({reason})" for path, reason in self.rejected)

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
