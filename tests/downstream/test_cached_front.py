"""The frozen front, kept: the same features as without, and memory taken once."""

from __future__ import annotations

import pytest
import torch

from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.downstream.cached_front import CachedFront, cached_bytes
from ssl_transfer.encoders import build_encoder

CPU = torch.device("cpu")


def test_features_are_those_of_the_whole_encoder(digits: ImageDataModule, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = build_encoder("small_resnet", digits.shape, digits.mean, digits.std).eval()
    rows = digits.indices("train")
    monkeypatch.setattr(torch, "cat", None)  # parts beside the whole would be memory twice
    kept = CachedFront(encoder, "stage2", digits.loader("train"), CPU, len(rows))
    monkeypatch.undo()
    some = torch.from_numpy(rows[[5, 900, 3, 3, -1]])
    images = torch.from_numpy(digits.images(some))
    with torch.inference_mode():
        torch.testing.assert_close(kept.features(some), encoder(images))
    assert kept.index.tolist() == rows.tolist()
    assert kept.received.numel() * 4 == cached_bytes(encoder, "stage2", len(rows), images)
    assert kept.received.is_contiguous(memory_format=torch.channels_last)
