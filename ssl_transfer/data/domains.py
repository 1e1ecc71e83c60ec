"""Two domains: one with labels to learn from, one without to work in."""

from __future__ import annotations

import re
from typing import Any, Literal, Self

import numpy as np

from ssl_transfer.data.decode import MAX_PIXELS
from ssl_transfer.data.halves import HalvedLoader
from ssl_transfer.data.loader import BatchLoader
from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.data.records import Records, hide_labels
from ssl_transfer.data.resize import Resize
from ssl_transfer.data.sources import Source, open_source
from ssl_transfer.data.sources.pair import Pair
from ssl_transfer.data.splits import assign_splits
from ssl_transfer.data.store import Store


class DomainDataModule(ImageDataModule):
    """A source domain with labels and a target domain whose labels nothing reads but `test`.

    Training batches are half source, half target, each domain shuffled by itself; an epoch goes once through the
    larger one. The validation split holds images of both, the test split of the target alone: a test split that the
    source states is not used. Images of both get the same size (`size`, needed where they differ) and channels (three
    where one of them is in colour, grey repeated).

    Args:
        source: the labelled domain, whatever `ImageDataModule` takes.
        target: the other. Labels that it has are hidden but for the test split, which only a test asks for; their
            names must be among the source's.
        target_root: where the target's torchvision data set lies; by default `root`.
        target_pattern: which files of the target; by default `pattern`.
        val_fraction: drawn from each domain that does not state such a split.
        test_fraction: drawn from the target, if it does not state such a split; null: no test.
        batch_size: images of both domains together, even and at least 4.
        label_budget: learn from this many labelled source images a class. The others stay, their labels hidden; half of
            a batch's source images are then labelled ones.

    The other arguments are those of `ImageDataModule`.

    After `setup()`: `is_target`, boolean `(N,)` by row of the store; `hidden_labels`, how many the target has outside
    its test split; `remarks`, what a user should know of the two.

    >>> data = DomainDataModule("digits", "digits")
    >>> data.setup()
    >>> batch = next(iter(data.train_dataloader()))
    >>> int((batch.targets < 0).sum()), int(data.is_target[batch.index].sum())
    (128, 128)
    """

    is_target: np.ndarray
    hidden_labels: int
    remarks: list[str]

    def __init__(
        self,
        source: str,
        target: str,
        root: str | None = None,
        target_root: str | None = None,
        size: int | None = None,
        channels: int | None = None,
        resize: Resize = "crop",
        pattern: str = "*",
        target_pattern: str | None = None,
        batch_size: int = 256,
        val_fraction: float = 0.1,
        test_fraction: float | None = None,
        label_budget: int | None = None,
        on_bad_image: Literal["refuse", "skip"] = "refuse",
        seed: int = 0,
        memory_budget: float = 4.0,
        cache_dir: str | None = None,
        max_pixels: int = MAX_PIXELS,
        value_range: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(
            source,
            root,
            size,
            channels,
            resize,
            pattern,
            batch_size,
            val_fraction,
            test_fraction,
            label_budget,
            keep_unlabelled=True,
            on_bad_image=on_bad_image,
            seed=seed,
            memory_budget=memory_budget,
            cache_dir=cache_dir,
            max_pixels=max_pixels,
            value_range=value_range,
        )
        if batch_size % 2 or batch_size < 4:
            raise ValueError(
                f"data.batch_size is half source and half target, and must be even and at least 4, not {batch_size}"
            )
        self.target, self.target_root, self.target_pattern = target, target_root, target_pattern
        self._count = 0  # rows of the source domain, before any is rejected
        self._truth: np.ndarray  # (N,) with the target's labels, for the test split

    def setup(self, stage: str | None = None) -> None:
        """Read, check, split and decode both domains; a second call does nothing."""
        super().setup(stage)
        if stage == "fit":
            self._check_training()

    def _check_training(self) -> None:
        for name in ("source", "target"):
            if not len(self.domain("train", name == "target")):
                raise ValueError(f"data.{name}: {getattr(self, name)} has no training images: give a training split")

    def _open(self) -> Source:
        first = open_source(self.source, self.root, self.pattern, self.cache_dir)
        try:
            second = open_source(
                self.target, self.target_root or self.root, self.target_pattern or self.pattern, self.cache_dir
            )
        except ValueError as error:
            raise ValueError(_of_target(str(error))) from error
        for name, part in (("source", first), ("target", second)):
            if not len(part):
                raise ValueError(f"data.{name}: {getattr(self, name)} holds no images: give another folder or data set")
        self._count = len(first)
        pair = Pair(first, second, self.memory_budget * 2**30)
        self.remarks = []
        if pair.lacking:
            listed = ", ".join(map(repr, pair.lacking[:5])) + (" …" if len(pair.lacking) > 5 else "")
            self.remarks.append(f"data.target {self.target} does not have the classes {listed} of data.source")
        return pair

    def _refusal(self, records: Records, reasons: dict[int, str]) -> str:
        """Of the source's images, or else of the target's; nothing was left out of `records` before."""
        first = {row: reason for row, reason in reasons.items() if row < self._count}
        if first:
            return super()._refusal(records.select(np.arange(self._count)), first)
        own = {row - self._count: reason for row, reason in reasons.items()}
        return _of_target(super()._refusal(records.select(np.arange(self._count, len(records))), own))

    def _choose_splits(self, table: Records, rows: np.ndarray) -> tuple[np.ndarray, list[int] | None]:
        splits = table.splits.copy()
        is_target = rows >= self._count
        self._check_readable(is_target)
        for domain, test in ((~is_target, 0.0), (is_target, self.test_fraction or 0.0)):
            splits[domain] = assign_splits(table.select(domain), self.val_fraction, test, self.seed)
        return splits, None

    def _check_readable(self, is_target: np.ndarray) -> None:
        """No domain may have been skipped to its last image."""
        for name, rows in (("source", ~is_target), ("target", is_target)):
            if not rows.any():
                raise ValueError(f"data.{name}: no image of {getattr(self, name)} can be read: {self._rejected_list()}")

    def _finish(self, store: Store) -> None:
        self.is_target = self._origin[1] >= self._count
        self._check_readable(self.is_target)
        self._truth = self.table.targets
        self.table.targets = hide_labels(self.table.targets, self.is_target)
        in_test = self.table.splits == "test"
        self.hidden_labels = int((self._truth[self.is_target & ~in_test] >= 0).sum())
        self.unused = int((in_test & ~self.is_target).sum())
        self._remark()
        super()._finish(store)
        self.hidden = self.hidden | self.is_target
        self._indices["test"] = np.flatnonzero(in_test & self.is_target)
        self._take_fingerprint()

    def _remark(self) -> None:
        if self.unused:
            self.remarks.append(f"{self.unused:,} test images of data.source {self.source} are not used")
        blank = int((self.table.targets[(self.table.splits == "train") & ~self.is_target] < 0).sum())
        if blank:
            self.remarks.append(f"{blank:,} training images of data.source {self.source} have no label")

    @property
    def _keeps_unlabelled(self) -> bool:
        """Whether a label budget hides the labels of source images."""
        return bool(self.hidden[self.domain("train", False)].any())

    def few(self, budget: int | None, seed: int) -> Self:
        """A copy that reads `budget` labels a class of the source, drawn by `seed`; all its images and the target's
        stay. None: all labels that this one reads."""
        drawn = super().few(budget, seed).indices("train")
        other = self._with_rows("train", self._pool)
        other.label_budget = budget
        if budget is not None:
            other._hide(np.setdiff1d(self._pool, drawn))
            other._take_fingerprint()
        return other

    def domain(self, split: str, target: bool) -> np.ndarray:
        """Rows of the store of a split's images of one domain."""
        rows = self.indices(split)
        return rows[self.is_target[rows] == target]

    def domain_loader(self, split: str, target: bool, limit: int | None = None) -> BatchLoader:
        """Batches of a split's images of one domain, in order, or of at most `limit` of them spread evenly, those first
        whose labels may be read."""
        rows = self.domain(split, target)
        if limit is not None and len(rows) > limit:
            blank = self.hidden[rows]
            labelled = _spread(rows[~blank], limit)
            rows = np.sort(np.concatenate([labelled, _spread(rows[blank], limit - len(labelled))]))
        assert self._store is not None
        return BatchLoader(self._store.images, self.table.targets, rows, self.batch_size)

    def named(self, split: str) -> str:
        """The argument that a split comes from, and its value."""
        return f"data.target {self.target}" if split == "test" else super().named(split)

    def train_dataloader(self) -> BatchLoader:
        """Half source, half target, shuffled by seed and epoch."""
        assert self._store is not None
        self._check_training()
        halves = self.domain("train", False), self.domain("train", True)
        labelled = halves[0][~self.hidden[halves[0]]] if self._keeps_unlabelled else None
        return HalvedLoader(self._store.images, self.table.targets, halves, self.batch_size, labelled)

    def test_dataloader(self) -> BatchLoader:
        """The target's test images, in order, with their labels."""
        assert self._store is not None
        return BatchLoader(self._store.images, self._truth, self.indices("test"), self.batch_size)

    def describe(self) -> dict[str, Any]:
        counts = {
            domain: {split: len(self.domain(split, domain == "target")) for split in ("train", "val", "test")}
            for domain in ("source", "target")
        }
        counts["source"]["unused"] = self.unused  # its test split
        return super().describe() | {"target": self.target, "domains": counts}


def _of_target(message: str) -> str:
    """A message about a source as one about the target.

    >>> _of_target("data.source: x holds no image that matches data.pattern '*.jpg'")
    "data.target: x holds no image that matches data.target_pattern '*.jpg'"
    """
    own = {"source": "target", "root": "target_root", "pattern": "target_pattern"}
    return re.sub(r"(?<![\w/.])data\.(source|root|pattern)\b", lambda found: f"data.{own[found[1]]}", message)


def _spread(rows: np.ndarray, limit: int) -> np.ndarray:
    """At most `limit` rows, spread evenly."""
    return rows if len(rows) <= limit else rows[np.linspace(0, len(rows) - 1, limit).round().astype(np.int64)]
