"""Images as vectors of pixels."""

from __future__ import annotations

import pytest
import torch

from ssl_transfer.evaluation import pixels
from ssl_transfer.evaluation.pixels import pixel_vectors

IMAGES = torch.randint(256, (7, 3, 8, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_small_images_are_their_pixels() -> None:
    assert torch.equal(pixel_vectors(IMAGES), IMAGES.flatten(1).float() / 255)
    assert pixel_vectors(IMAGES[:0]).shape == (0, 96)


def test_large_images_are_averaged() -> None:
    mean = IMAGES.float().unflatten(2, (4, 2)).unflatten(4, (2, 2)).mean((3, 5)) / 255  # (7, 3, 4, 2)
    torch.testing.assert_close(pixel_vectors(IMAGES, side=4), mean.flatten(1))


@pytest.mark.parametrize("block", [1, 200])
def test_blocks_change_nothing(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = pixel_vectors(IMAGES, side=4)
    monkeypatch.setattr(pixels, "BLOCK", block)
    assert torch.equal(pixel_vectors(IMAGES, side=4), whole)
