"""Images encoded once, for everything that reads frozen features."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ssl_transfer.data.batch import Batch
from ssl_transfer.evaluation.pixels import pixel_vectors


@dataclass
class Features:
    """Features of a set of images: `features (N, D)` float32, `targets (N, …)` and `index (N,)` rows of the store.

    `common_scale`: all features are of one unit, as pixels and principal components are, so that a linear head takes
    them at one scale; scaled one by one, those that hardly vary are blown up.
    """

    features: Tensor
    targets: Tensor
    index: Tensor
    common_scale: bool = False

    def labelled(self) -> Features:
        """Only the images that have a class (target ≥ 0)."""
        keep = self.targets >= 0
        return replace(self, features=self.features[keep], targets=self.targets[keep], index=self.index[keep])


@torch.inference_mode()
def encode(encoder: nn.Module, batches: Iterable[Batch], device: torch.device | str = "cpu") -> Features:
    """Encode batches with `encoder` in evaluation mode, on `device`; the results stay there.

    The modes of its parts are given back afterwards; its BatchNorm statistics do not move.
    """
    modes = [(part, part.training) for part in encoder.modules()]
    encoder.eval()
    try:
        parts = [
            (encoder(batch.images.to(device)).float(), batch.targets.to(device), batch.index.to(device))
            for batch in batches
        ]
    finally:
        for part, training in modes:
            part.training = training
    if not parts:
        raise ValueError("no images to encode: the split is empty")
    features, targets, index = (torch.cat(column) for column in zip(*parts, strict=True))
    return Features(features, targets, index)


def pixel_features(data: Any, rows: Any) -> Tensor:
    """The images of some rows of a DataModule as vectors of pixels `(N, P)`, on the CPU; some hundred at a time."""
    parts = [rows[start : start + 512] for start in range(0, len(rows), 512)]
    return torch.cat([pixel_vectors(torch.from_numpy(data.images(part))) for part in parts])
