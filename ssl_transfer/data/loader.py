"""Batches gathered from the store, in an order that is a function of seed and epoch."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import numpy as np
import torch
import torch.distributed

from ssl_transfer.data.batch import Batch


class EpochOrder:
    """The order of `count` images: shuffled by (seed, epoch), or as they come. Lightning calls `set_epoch`.

    >>> order = EpochOrder(5, shuffle=True)
    >>> first = order()
    >>> order.set_epoch(1)
    >>> bool((first == order()).all()), sorted(order().tolist())
    (False, [0, 1, 2, 3, 4])
    """

    def __init__(self, count: int, shuffle: bool) -> None:
        self.count = count
        self.shuffle = shuffle
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next."""
        self.epoch = epoch

    def __call__(self) -> np.ndarray:
        """Positions `(count,)`. The seed is the run's (`PL_GLOBAL_SEED`), 0 without one."""
        if not self.shuffle:
            return np.arange(self.count)
        seed = int(os.environ.get("PL_GLOBAL_SEED", "0"))
        return np.random.default_rng([seed, self.epoch]).permutation(self.count)


class BatchLoader:
    """An iterable of `Batch`, in place of a torch DataLoader: the images lie decoded in one array.

    Its state is the epoch and the number of batches yielded, so a run resumes in the middle of an epoch. Across
    processes `batch_size` is per process: with `drop_last` (training) every process gets equally many batches, without
    it (evaluation) every image goes to exactly one process.

    Args:
        images, masks, targets: the whole store; `rows` those of this loader.
        batch_size: images a batch and process.
        shuffle: a new order every epoch (`loader.sampler.set_epoch`).
        drop_last: leave out the last incomplete batch, unless it is the only one.
        everywhere: every process gets every image.

    `seconds_waited` adds up what gathering has cost.
    """

    def __init__(
        self,
        images: np.ndarray,
        targets: np.ndarray,
        rows: np.ndarray,
        batch_size: int,
        masks: np.ndarray | None = None,
        shuffle: bool = False,
        drop_last: bool = False,
        everywhere: bool = False,
    ) -> None:
        self.images, self.targets, self.masks, self.rows = images, targets, masks, rows
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.everywhere = everywhere
        self.seconds_waited = 0.0
        self.sampler = EpochOrder(len(rows), shuffle)
        self.batch_sampler = self.sampler  # Lightning looks at both
        self._yielded = 0
        self._resume: tuple[int, int] | None = None  # epoch, batches to skip

    def __len__(self) -> int:
        return len(self._bounds(*self._share()))

    def __iter__(self) -> Iterator[Batch]:
        # A generator: nothing here runs before the first batch is asked for, by when Lightning has set the epoch.
        start = self._take_start()
        order = self.rows[self.sampler()]
        for number, (low, high, step) in enumerate(self._bounds(*self._share())[start:], start):
            self._yielded = number + 1
            asked = time.perf_counter()
            batch = self.gather(order[low:high:step])
            self.seconds_waited += time.perf_counter() - asked
            yield batch

    def gather(self, rows: np.ndarray) -> Batch:
        """The batch of some rows of the store."""
        return Batch(
            images=torch.from_numpy(np.ascontiguousarray(self.images[rows])),
            targets=torch.from_numpy(self.targets[rows]),
            index=torch.from_numpy(rows.astype(np.int64)),
            masks=None if self.masks is None else torch.from_numpy(np.ascontiguousarray(self.masks[rows])),
        )

    def _bounds(self, rank: int, world: int) -> list[tuple[int, int, int]]:
        """Slices (low, high, step) of the global order, one a batch of this process."""
        count, size = self.sampler.count, self.batch_size
        if not self.drop_last:
            own = len(range(rank, count, world))
            return [(rank + low * world, rank + min(low + size, own) * world, world) for low in range(0, own, size)]
        whole = count // (size * world)
        if whole:
            return [((step * world + rank) * size, (step * world + rank + 1) * size, 1) for step in range(whole)]
        each = count // world
        return [(rank * each, (rank + 1) * each if world > 1 else count, 1)] if each else []

    def _take_start(self) -> int:
        """The batch to start with: 0, or once after `load_state_dict` where that epoch was left."""
        resume, self._resume = self._resume, None
        self._yielded = 0
        if resume is None or resume[0] != self.sampler.epoch or resume[1] >= len(self):
            return 0
        return resume[1]

    def state_dict(self) -> dict[str, int]:
        """Epoch and batches already yielded in it."""
        return {"epoch": self.sampler.epoch, "batches": self._yielded}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue where `state` was taken: its epoch, after its batches."""
        self.sampler.set_epoch(state["epoch"])
        self._resume = (state["epoch"], state["batches"])
        self._yielded = state["batches"]

    def _share(self) -> tuple[int, int]:
        """This process's rank among those that share the images, and how many they are."""
        return (0, 1) if self.everywhere else process_rank()


def process_rank() -> tuple[int, int]:
    """This process's rank and how many there are."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
