"""The diagnosis of MNIST against itself, unchanged, dimmed and inverted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ssl_transfer.encoders import build_encoder
from ssl_transfer.evaluation.shift_verdict import judge
from ssl_transfer.running.shift import Comparison, Side, compare


@pytest.mark.parametrize(
    ("gain", "offset", "kinds"),
    [(1.0, 0, ("none", "slight")), (0.35, 0, ("style",)), (-1.0, 255, ("inverted",))],
)
def test_mnist_against_mnist(real_data: Path, gain: float, offset: int, kinds: tuple[str, ...]) -> None:
    """Other digits of the same data set are no reason to adapt; and what was done to them is what is named."""
    from torchvision.datasets import MNIST

    images = MNIST(str(real_data), train=True).data[:600, None].numpy()
    source, target = images[:300], (images[300:] * gain + offset).astype(np.uint8)
    encoder = build_encoder("oriented_gradients", (1, 28, 28), [0.13], [0.31])
    size = (28, 28)
    asked = Comparison(Side("source", source, size), Side("target", target, size), encoder, device=torch.device("cpu"))
    shift, pairs = compare(asked, say=lambda _: None)
    assert judge(shift).kind in kinds and not shift.identical and pairs.source.shape == (8, 1, 28, 28)
