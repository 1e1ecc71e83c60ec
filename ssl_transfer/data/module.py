"""The DataModule: a source, decoded once, split, and served in batches of uint8."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pytorch_lightning as pl
import torch

from ssl_transfer.data.arguments import check_image_arguments
from ssl_transfer.data.batch import Batch
from ssl_transfer.data.contents import Contents, count_duplicates, examine, listed
from ssl_transfer.data.decode import MAX_PIXELS
from ssl_transfer.data.hashing import content_hash
from ssl_transfer.data.loader import BatchLoader
from ssl_transfer.data.normal import Fractions, choose_splits
from ssl_transfer.data.records import SPLITS, Records, hide_labels, is_labelled
from ssl_transfer.data.resize import Resize, scale_to_uint8
from ssl_transfer.data.shape import choose_shape
from ssl_transfer.data.sources import Source, open_source
from ssl_transfer.data.splits import draw_label_budget
from ssl_transfer.data.statistics import mean_and_std
from ssl_transfer.data.store import Recipe, Store, build_store, measure_range, read_pixels, stream_images


class ImageDataModule(pl.LightningDataModule):
    """Images of any source as batches of uint8, the same on the command line and in a notebook.

    Args:
        source: a folder, a CSV or Parquet manifest, Parquet with images, `.npz`, `.npy`, a torchvision data set's name,
            or "digits".
        root: where torchvision data sets lie or are downloaded to ("data" by default).
        size: side in pixels of the stored images; needed where sizes differ, else they keep theirs.
        channels: 1, 3 or the images' own number; by default 1 where all are grey, else 3.
        resize: crop (centre), pad (with black) or stretch to a square.
        pattern: which files of a folder or manifest, e.g. "*.jpg".
        batch_size: images a batch and process.
        val_fraction, test_fraction: share of train drawn for a split that the source does not have, in [0, 1). By
            default no test split is drawn, but 0.2 with `normal`.
        label_budget: train on this many labelled images a class.
        keep_unlabelled: with a label budget, keep the other training images, their labels of all columns hidden.
        normal: for anomaly detection, the class or classes that are normal: train and val then hold no other. All
            anomalies are test, unless the source states a test split: then those outside are left out. By default the
            one class of the training images, if they have but one.
        anomaly_val_fraction: share of the test split's anomalies moved to val, in [0, 1).
        on_bad_image: refuse a source with unreadable files, or skip these and list them in `rejected`.
        seed: of the splits and the label budget.
        memory_budget: GiB that the decoded images may take in memory; larger stores are memory-mapped files.
        cache_dir: where those files lie; SSL_TRANSFER_CACHE or ~/.cache/ssl_transfer by default.
        max_pixels: images above are rejected unread (decompression bombs); at most 89,478,485.
        value_range: the (low, high) of 16-bit images that become 0 and 255; measured on train by default. To predict
            other images, give the range that the model was fitted with (`data.value_range` of its config.json).

    After `setup()`: `shape` (C, H, W); `classes` and `num_classes`; `mean` and `std` per channel over train, of values
    in [0, 1]; `fingerprint`; `table`, one row an image of the store; `rejected` [(path, reason)];
    `duplicates_across_splits`; `value_range` of 16-bit images; `normal_targets`, the normal classes (None: not known);
    `hidden`, `(N,)` by row of the store: images of which no label, in whatever column, may be learnt.

    >>> data = ImageDataModule("digits")
    >>> data.setup()
    >>> data.shape, data.num_classes, len(data.indices("test"))
    ((1, 8, 8), 10, 539)
    """

    shape: tuple[int, int, int]
    classes: list[str] | None
    mean: list[float]
    std: list[float]
    fingerprint: str
    table: Records
    hidden: np.ndarray
    rejected: list[tuple[str, str]]
    duplicates_across_splits: int
    normal_targets: list[int] | None
    value_range: tuple[int, int] | None

    def __init__(
        self,
        source: str,
        root: str | None = None,
        size: int | None = None,
        channels: int | None = None,
        resize: Resize = "crop",
        pattern: str = "*",
        batch_size: int = 256,
        val_fraction: float = 0.1,
        test_fraction: float | None = None,
        label_budget: int | None = None,
        keep_unlabelled: bool = False,
        normal: str | int | list[str | int] | None = None,
        anomaly_val_fraction: float = 0.0,
        on_bad_image: Literal["refuse", "skip"] = "refuse",
        seed: int = 0,
        memory_budget: float = 4.0,
        cache_dir: str | None = None,
        max_pixels: int = MAX_PIXELS,
        value_range: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.source, self.root, self.pattern = source, root, pattern
        self.size, self.channels, self.resize = size, channels, resize
        self.batch_size = batch_size
        self.val_fraction, self.test_fraction = val_fraction, test_fraction
        self.label_budget, self.keep_unlabelled = label_budget, keep_unlabelled
        self.normal, self.anomaly_val_fraction = normal, anomaly_val_fraction
        self.on_bad_image = on_bad_image
        self.seed = seed
        self.memory_budget, self.cache_dir = memory_budget, cache_dir
        self.max_pixels = max_pixels
        self.value_range = value_range
        check_image_arguments(self)
        self._store: Store | None = None
        self._origin: tuple[Source, np.ndarray]  # rows of the source by row of the store
        self._indices: dict[str, np.ndarray] = {}
        self._pool: np.ndarray  # rows that a label budget draws from

    def setup(self, stage: str | None = None) -> None:
        """Read, check, split and decode the source; a second call does nothing.

        Only `stage="fit"` asks for training images: others may embed or predict a source that has none.
        """
        if self._store is None:
            source, contents, rows, table = self.survey()
            store = self._decode(source, contents, rows, table)
            self._reject(table, store.rejected)
            kept = np.setdiff1d(np.arange(len(table)), list(store.rejected))
            self.table, self._origin = table.select(kept), (source, rows[kept])
            self._finish(store)
        if stage == "fit" and not len(self._indices["train"]):
            kind = "training images" if self.normal is None else f"normal image (data.normal={self.normal!r}) in train"
            raise ValueError(f"data.source: {self.source} has no {kind} ({self._counts()})")

    def stream(self) -> Iterator[Batch]:
        """Every image once, in the order of the source, decoded when it is asked for and kept nowhere.

        For a pass over more images than fit in memory; `setup()` is not needed, and `index` counts rows of `table`,
        which says path, split and target of each. Unreadable images stop it or are left out, as in `setup()`.
        """
        source, contents, rows, table = self.survey()
        self.table, self.classes = table, table.classes
        recipe = replace(self._recipe(source, contents, rows, table), masks=False)

        def batches() -> Iterator[Batch]:
            for kept, images, rejected in stream_images(source, rows, recipe, self.batch_size):
                self._reject(table, rejected)
                if len(kept):
                    targets = torch.from_numpy(table.targets[kept])
                    yield Batch(torch.from_numpy(images), targets, torch.from_numpy(kept))

        return batches()

    def survey(self) -> tuple[Source, Contents, np.ndarray, Records]:
        """The source, what a first look finds, its readable rows, and the table of these with their splits."""
        source = self._open()
        if not len(source):
            raise ValueError(f"data.source: {self.source} holds no images")
        contents = examine(source, self.max_pixels)
        source.records.hashes = contents.hashes
        self.rejected = []
        self._reject(source.records, contents.rejected)
        rows = np.array([row for row in range(len(source)) if row not in contents.rejected], np.int64)
        if not len(rows):
            raise ValueError(f"data.source: no image of {self.source} can be read: {self._rejected_list()}")
        table = source.records.select(rows) if contents.rejected else source.records
        self.duplicates_across_splits = count_duplicates(table, self.source)
        self.stated_splits = [split for split in ("val", "test") if (table.splits == split).any()]
        table.splits, self.normal_targets = self._choose_splits(table, rows)
        return source, contents, rows, table

    def _open(self) -> Source:
        return open_source(self.source, self.root, self.pattern, self.cache_dir)

    def _choose_splits(self, table: Records, rows: np.ndarray) -> tuple[np.ndarray, list[int] | None]:
        """Every row's split, and the normal classes; `rows` are those of the source."""
        fractions = Fractions(self.val_fraction, self.test_fraction, self.anomaly_val_fraction)
        return choose_splits(table, self.normal, fractions, self.seed)

    def _decode(self, source: Source, contents: Contents, rows: np.ndarray, table: Records) -> Store:
        """Choose shape and range, then decode `rows`, of which `table` is the table."""
        recipe = self._recipe(source, contents, rows, table)
        masks = "/".join(contents.masks[row] for row in rows)
        key = content_hash(b"".join(table.hashes.tolist()) + masks.encode())
        budget = int(self.memory_budget * 2**30)
        return build_store(source, rows, recipe, budget, Path(self.cache_dir) if self.cache_dir else None, key)

    def _recipe(self, source: Source, contents: Contents, rows: np.ndarray, table: Records) -> Recipe:
        """Shape, range and all else that decoding needs to know."""
        headers = [header for header in contents.headers if header is not None]
        self.shape = choose_shape(headers, table.paths.tolist(), self.size, self.channels)
        deep = np.fromiter((header.bits == 16 for header in headers), bool, len(headers))
        if deep.any() and self.value_range is None:
            in_train = deep & (table.splits == "train")
            measured = rows[in_train if in_train.any() else deep]
            self.value_range = measure_range(source, measured.tolist(), self.max_pixels)
        return Recipe(*self.shape, self.resize, self.value_range, any(contents.masks), self.max_pixels)

    def _finish(self, store: Store) -> None:
        """What follows from the store and the final table."""
        rows = {split: np.flatnonzero(self.table.splits == split) for split in SPLITS}
        self._pool = rows["train"]
        self.hidden = np.zeros(len(self.table), bool)
        if self.label_budget is not None:
            drawn = draw_label_budget(self.table, rows["train"], self.label_budget, self.seed)
            if self.keep_unlabelled:
                self._hide(np.setdiff1d(self._pool, drawn))
            else:
                rows["train"] = drawn
        self._indices = rows | {"all": np.arange(len(self.table))}
        self.classes = self.table.classes
        measured = self._pool if len(self._pool) else np.arange(len(self.table))
        self.mean, self.std = mean_and_std(store.images, measured)
        self._store = store
        self._take_fingerprint()

    def _hide(self, rows: np.ndarray) -> None:
        """Hide the labels of some rows of the store from training, leaving those of other copies as they are."""
        hidden = self.hidden.copy()
        hidden[rows] = True
        self.hidden = hidden
        self.table = replace(self.table, targets=hide_labels(self.table.targets, rows))

    @property
    def _keeps_unlabelled(self) -> bool:
        """Whether the training split holds images of which the labels are hidden."""
        return bool(self.hidden[self._indices["train"]].any())

    def _take_fingerprint(self) -> None:
        splits = [self._indices[split].tolist() for split in SPLITS]
        facts: list[Any] = [self.shape, self.resize, self.value_range, splits]
        if self._keeps_unlabelled:
            train = self._indices["train"]
            facts.append(train[~self.hidden[train]].tolist())
        self.fingerprint = content_hash(b"".join(self.table.hashes.tolist()) + repr(facts).encode())

    def _reject(self, records: Records, reasons: dict[int, str]) -> None:
        """Refuse the source, or note what is left out."""
        new = [(str(records.paths[row]), reason) for row, reason in sorted(reasons.items())]
        self.rejected += new
        if new and self.on_bad_image == "refuse":
            raise ValueError(self._refusal(records, reasons))
        if new:
            warnings.warn(f"{len(new)} unreadable images are left out: {self._rejected_list(10)}", stacklevel=4)

    def _refusal(self, records: Records, reasons: dict[int, str]) -> str:
        """The message for rows of `records` that cannot be read, and are not to be skipped."""
        unreadable = listed(f"{records.paths[row]} ({reason})" for row, reason in sorted(reasons.items()))
        return (
            f"data.source: {len(reasons)} of {len(records)} images cannot be read: {unreadable}; "
            "leave them out with --data.on_bad_image skip, or see them all with ssl-transfer scan"
        )

    def _rejected_list(self, limit: int = 3) -> str:
        return listed((f"{path} ({reason})" for path, reason in self.rejected), limit)

    def _counts(self) -> str:
        return ", ".join(f"{split} {len(self._indices[split])}" for split in SPLITS)

    @property
    def num_classes(self) -> int:
        """How many classes; 0 without."""
        return len(self.classes or [])

    def named(self, split: str) -> str:
        """The argument that a split comes from, and its value, for a message."""
        return f"data.source {self.source}"

    def indices(self, split: str) -> np.ndarray:
        """Rows of the store of "train" (within the label budget), "val", "test" or "all", int64 ascending."""
        if split not in self._indices:
            hint = f"one of {', '.join(self._indices)}" if self._indices else "known after setup()"
            raise ValueError(f"split {split!r} must be {hint}")
        return self._indices[split]

    def few(self, budget: int | None, seed: int) -> Self:
        """A copy that trains on `budget` labelled images a class, drawn by `seed`; None: on all labelled ones.

        It shares the decoded images, and its splits, mean and deviation are those of this one. Raises ValueError
        without class labels, or naming the classes that have fewer distinct images.

        >>> data = ImageDataModule("digits")
        >>> data.setup()
        >>> [len(data.few(budget, seed=1).indices("train")) for budget in (2, None)]
        [20, 1132]
        """
        if budget is None:
            rows = self._pool[is_labelled(self.table.targets[self._pool])]
        else:
            rows = draw_label_budget(self.table, self._pool, budget, seed)
        other = self._with_rows("train", rows)
        other.label_budget, other._pool = budget, self._pool
        return other

    def with_unlabelled(self, limit: int | None = None) -> Self:
        """A copy that trains on the images too that a label budget left out, their labels hidden.

        limit: at most so many of them, spread evenly.

        >>> data = ImageDataModule("digits", label_budget=2)
        >>> data.setup()
        >>> more = data.with_unlabelled(limit=100)
        >>> len(more.indices("train")), int((more.table.targets[more.indices("train")] >= 0).sum())
        (120, 20)
        """
        own = self.indices("train")
        others = np.setdiff1d(self._pool, own)
        if limit is not None and len(others) > limit:
            others = others[np.linspace(0, len(others) - 1, limit).round().astype(np.int64)]
        other = self._with_rows("train", np.concatenate([own, others]))
        other._hide(others)
        other._take_fingerprint()
        return other

    def with_train(self, rows: Any) -> Self:
        """A copy with these rows of the store as its training split, such as a fold; it shares the decoded images."""
        return self._with_rows("train", rows)

    def without_val(self) -> Self:
        """A copy without a validation split, for fits that must choose nothing on its labels."""
        return self._with_rows("val", [])

    def _with_rows(self, split: str, rows: Any) -> Self:
        assert self._store is not None, "setup() comes first"
        other = copy(self)
        other._indices = self._indices | {split: np.sort(np.asarray(rows, np.int64))}
        if split == "train":
            other._pool = other._indices["train"]
        other.trainer = None
        other._take_fingerprint()
        return other

    def loader(
        self,
        split: str,
        shuffle: bool = False,
        drop_last: bool = False,
        limit: int | None = None,
        everywhere: bool = False,
    ) -> BatchLoader:
        """Batches of a split, or of at most `limit` of its images spread evenly over it; see BatchLoader."""
        rows = self.indices(split)
        if limit is not None and len(rows) > limit:
            rows = rows[np.linspace(0, len(rows) - 1, limit).round().astype(np.int64)]
        assert self._store is not None
        store = (self._store.images, self.table.targets, rows, self.batch_size, self._store.masks)
        return BatchLoader(*store, shuffle, drop_last, everywhere)

    def images(self, index: Any) -> np.ndarray:
        """The images of some rows of the store, uint8 `(N, C, H, W)`."""
        assert self._store is not None
        return np.ascontiguousarray(self._store.images[np.asarray(index)])

    def columns(self, index: Any) -> dict[str, list[Any]]:
        """What else a manifest tells of some rows of the store: text and numbers by the names of its columns."""
        source, rows = self._origin
        return {name: [values[row] for row in rows[np.asarray(index)]] for name, values in source.columns.items()}

    def original(self, row: int) -> np.ndarray:
        """The image of a row of the store at its full size, uint8 `(H, W, C)`, read and decoded anew.

        Its channels are its own; 16-bit values are scaled as in the store. Raises BadImage if it can be read no more.
        """
        source, rows = self._origin
        return scale_to_uint8(read_pixels(source, int(rows[row]), self.max_pixels), self.value_range)

    def train_dataloader(self) -> BatchLoader:
        """Train, shuffled by seed and epoch, without the last incomplete batch."""
        return self.loader("train", shuffle=True, drop_last=True)

    def val_dataloader(self) -> BatchLoader:
        """Validation, in order."""
        return self.loader("val")

    def test_dataloader(self) -> BatchLoader:
        """Test, in order."""
        return self.loader("test")

    def predict_dataloader(self) -> BatchLoader:
        """Every image, in order."""
        return self.loader("all")

    def describe(self) -> dict[str, Any]:
        """What metrics.json and the model card say of the data: plain types."""
        channels, height, width = self.shape
        return {
            "source": self.source,
            "counts": {split: len(rows) for split, rows in self._indices.items() if split != "all"},
            "classes": self.classes,
            "channels": channels,
            "height": height,
            "width": width,
            "resize": self.resize,
            "mean": self.mean,
            "std": self.std,
            "value_range": None if self.value_range is None else list(self.value_range),
            "label_budget": self.label_budget,
            "keep_unlabelled": self._keeps_unlabelled,
            "normal": None if self.normal_targets is None else [(self.classes or [])[k] for k in self.normal_targets],
            "anomaly_val_fraction": self.anomaly_val_fraction,
            "seed": self.seed,
            "rejected": [list(entry) for entry in self.rejected],
            "duplicates_across_splits": self.duplicates_across_splits,
            "fingerprint": self.fingerprint,
        }
