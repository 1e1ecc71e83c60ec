"""The frozen front of a partly tuned encoder, run once an image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from ssl_transfer.data.batch import Batch
from ssl_transfer.encoders import Encoder
from ssl_transfer.encoders.split import back, front


class CachedFront:
    """What the stage `stage` of an encoder receives of each image, as the rest of the network trains on it.

    Args:
        encoder: in the modes in which it trains.
        stage: the first that learns; one of `encoders.split.cut_points`.
        batches: the images; rows of the store in ascending order.
        device: on which they are encoded. The results are kept in main memory.
        count: how many images there are.
    """

    def __init__(
        self, encoder: Encoder, stage: str, batches: Iterable[Batch], device: torch.device, count: int
    ) -> None:
        self.encoder, self.stage = encoder, stage
        parts = ((front(encoder, batch.images.to(device), stage), batch.index.cpu()) for batch in batches)
        self.received, self.index = _filled(parts, count)

    def features(self, index: Tensor) -> Tensor:
        """Features `(B, D)` of rows `(B,)` of the store, with gradients for the stages that learn."""
        rows = torch.searchsorted(self.index, index.cpu())
        return back(self.encoder, self.received[rows].to(index.device, non_blocking=True), self.stage)


def _filled(parts: Iterator[tuple[Tensor, Tensor]], count: int) -> tuple[Tensor, Tensor]:
    """The parts one after another in tensors of `count` rows."""
    received, index, start = torch.empty(0), torch.empty(count, dtype=torch.int64), 0
    for part, rows in parts:
        if not start:
            maps = part.ndim == 4 and part.is_contiguous(memory_format=torch.channels_last)
            layout = torch.channels_last if maps else torch.contiguous_format
            received = torch.empty(count, *part.shape[1:], dtype=part.dtype, memory_format=layout)
        received[start : start + len(rows)], index[start : start + len(rows)] = part, rows
        start += len(rows)
    assert start == count, f"{start} images came, not {count}"
    return received, index


def cached_bytes(encoder: Encoder, stage: str, images: int, example: Tensor) -> int:
    """What keeping the front of so many images takes; example: a batch of them."""
    received = front(encoder, example, stage)
    return received[0].numel() * received.element_size() * images
