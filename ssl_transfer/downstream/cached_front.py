"""The frozen front of a partly tuned encoder, run once an image."""

from __future__ import annotations

from collections.abc import Iterable

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
    """

    def __init__(self, encoder: Encoder, stage: str, batches: Iterable[Batch], device: torch.device) -> None:
        self.encoder, self.stage = encoder, stage
        parts = [(front(encoder, batch.images.to(device), stage).cpu(), batch.index.cpu()) for batch in batches]
        self.received = torch.cat([part for part, _ in parts])
        self.index = torch.cat([index for _, index in parts])

    def features(self, index: Tensor) -> Tensor:
        """Features `(B, D)` of rows `(B,)` of the store, with gradients for the stages that learn."""
        rows = torch.searchsorted(self.index, index.cpu())
        return back(self.encoder, self.received[rows].to(index.device, non_blocking=True), self.stage)


def cached_bytes(encoder: Encoder, stage: str, images: int, example: Tensor) -> int:
    """What keeping the front of so many images takes; example: a batch of them."""
    received = front(encoder, example, stage)
    return received[0].numel() * received.element_size() * images
