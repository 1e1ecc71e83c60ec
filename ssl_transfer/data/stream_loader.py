"""Batches from litdata shards, with a place that can be gone on from."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from ssl_transfer.data.batch import Batch
from ssl_transfer.data.loader import EpochOrder, process_rank

Bad = list[tuple[int, str, str]]  # (index, path, reason)


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
        shards = shards_module()
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
        return (0, 1) if self.everywhere else process_rank()

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


def _seed() -> int:
    """The run's seed, 0 without one."""
    return int(os.environ.get("PL_GLOBAL_SEED", "0"))


def shards_module() -> Any:
    """`ssl_transfer.data.shards`, and with it litdata, or the line that says how to get it."""
    try:
        return import_module("ssl_transfer.data.shards")
    except ModuleNotFoundError as error:
        raise ValueError("a stream of shards needs litdata: pip install 'ssl_transfer[stream]'") from error
