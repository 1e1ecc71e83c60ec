"""Batches that are half of one domain and half of another."""

from __future__ import annotations

import numpy as np

from ssl_transfer.data.loader import BatchLoader, EpochOrder


class HalvedOrder(EpochOrder):
    """An order in which each batch is half of one part, half of another; the smaller part comes round again.

    Args:
        counts: images of the two parts.
        batch_size: of both together.
        labelled: the first so many of the first part have labels: half of its images in a batch are of these. None:
            no difference is made.

    >>> order = HalvedOrder((4, 2), batch_size=4)
    >>> len(order()), sorted(order()[[0, 1, 4, 5]].tolist()), sorted(set(order()[[2, 3, 6, 7]].tolist()))
    (8, [0, 1, 2, 3], [4, 5])
    """

    def __init__(self, counts: tuple[int, int], batch_size: int, labelled: int | None = None) -> None:
        half = batch_size // 2
        self.steps = max(1, max(counts) // half)
        super().__init__(2 * half * self.steps, shuffle=True)
        first, second = counts
        if labelled is None or labelled in (0, first):
            self.parts = [(0, first, half, 0), (first, second, half, 1)]
        else:  # (start, count, images a batch, stream of random numbers)
            few = half // 2
            unlabelled = (labelled, first - labelled, half - few, 2)
            self.parts = [(0, labelled, few, 0), unlabelled, (first, second, half, 1)]

    def __call__(self) -> np.ndarray:
        """Positions `(count,)` in the first part followed by the second."""
        sides = [
            start + self._cycled(count, each * self.steps, stream).reshape(-1, each)
            for start, count, each, stream in self.parts
        ]
        order: np.ndarray = np.concatenate(sides, axis=1).ravel()
        return order

    def _cycled(self, count: int, needed: int, stream: int) -> np.ndarray:
        """`needed` positions of a part, in as many shuffled rounds as it takes."""
        rounds = -(-needed // count)
        one = EpochOrder(count, shuffle=True)
        orders = []
        for number in range(rounds):
            one.set_epoch(self.epoch * rounds + number + (stream << 20))
            orders.append(one())
        return np.concatenate(orders)[:needed]


class HalvedLoader(BatchLoader):
    """Batches of which the first half is of one domain and the second of the other.

    Args:
        images, targets: the whole store; `halves` the rows of the two domains.
        batch_size: images of both together.
        labelled: those rows of the first that have labels, where a label budget hides the others: half of its images in
            a batch are of these.
    """

    def __init__(
        self,
        images: np.ndarray,
        targets: np.ndarray,
        halves: tuple[np.ndarray, np.ndarray],
        batch_size: int,
        labelled: np.ndarray | None = None,
    ) -> None:
        first, second = halves
        if labelled is not None:
            first = np.concatenate([labelled, np.setdiff1d(first, labelled)])
        super().__init__(images, targets, np.concatenate([first, second]), batch_size, drop_last=True)
        count = None if labelled is None else len(labelled)
        self.sampler = HalvedOrder((len(first), len(second)), batch_size, count)
        self.batch_sampler = self.sampler
