"""Oriented gradients: against a loop, on edges whose direction is known, and as an encoder like any other."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from ssl_transfer.encoders import EncoderSpec, build_encoder, load_encoder, save_encoder
from ssl_transfer.encoders.oriented_gradients import CONTRAST, ROOT, Cells, OrientedGradients, gradients, strengths


def slow(image: np.ndarray, cells: Cells) -> np.ndarray:
    """Strengths of one grey image `(H, W)`, a pixel at a time."""
    side, margin, reach = len(image), cells.stride // 2, 2 * cells.stride
    count = (side + 2 * margin - reach) // cells.stride + 1
    found = np.zeros((cells.directions, count, count))
    for y in range(side):
        for x in range(side):
            across = (image[y, min(x + 1, side - 1)] - image[y, max(x - 1, 0)]) / 2
            down = (image[min(y + 1, side - 1), x] - image[max(y - 1, 0), x]) / 2
            for d in range(cells.directions):
                turn = 2 * math.pi if cells.signed else math.pi
                cosine = math.cos(math.atan2(down, across) - d * turn / cells.directions)
                cosine = max(cosine, 0.0) if cells.signed else abs(cosine)
                for row in range(count):
                    for column in range(count):
                        top, left = row * cells.stride - margin, column * cells.stride - margin
                        if top <= y < top + reach and left <= x < left + reach:
                            found[d, row, column] += cosine**cells.sharpness * math.hypot(across, down)
    return (found / (np.sqrt((found**2).sum(0)) + CONTRAST)) ** ROOT


@pytest.mark.parametrize("cells", [Cells(2, 6, False, 6, 1.0), Cells(3, 8, True, 4, 1.5)])
def test_strengths_are_those_of_the_loop(cells: Cells) -> None:
    image = np.random.default_rng(0).random((12, 12))
    ours = strengths(*gradients(torch.from_numpy(image)[None, None].float()), cells)[0]
    np.testing.assert_allclose(ours.numpy(), slow(image, cells), atol=1e-5)


def test_an_edge_counts_for_its_direction_and_signs_are_told_apart_where_asked() -> None:
    rising = torch.linspace(0, 1, 28).expand(1, 1, 28, 28)
    network = OrientedGradients(2, 7)
    inner = network.maps(rising)[0, :, 5:9, 5:9]
    assert bool((inner.argmax(0) == 0).all())
    assert bool((network.maps(rising.mT)[0, :, 5:9, 5:9].argmax(0) == 3).all())  # a quarter turn: of six, the fourth
    torch.testing.assert_close(network.maps(rising), network.maps(rising.flip(3)).flip(3), atol=1e-5, rtol=0)
    signed = Cells(7, 8, True, 4, 1.0)
    assert int(strengths(*gradients(rising), signed)[0, :, 1, 1].argmax()) == 0
    assert int(strengths(*gradients(rising.flip(3)), signed)[0, :, 1, 1].argmax()) == 4


def test_the_strongest_channel_decides() -> None:
    flat = torch.full((1, 1, 8, 8), 0.5)
    rising = torch.linspace(0, 1, 8).expand(1, 1, 8, 8)
    colour = gradients(torch.cat([flat, rising, flat], dim=1))
    assert all(torch.equal(a, b) for a, b in zip(colour, gradients(rising), strict=True))


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (1, 28, 20), (3, 96, 96)])
def test_it_is_an_encoder_like_any_other(shape: tuple[int, int, int], tmp_path: Path) -> None:
    encoder = build_encoder("oriented_gradients", shape, [0.3] * shape[0], [0.2] * shape[0])
    images = torch.randint(0, 256, (3, *shape), dtype=torch.uint8)
    features = encoder(images)
    assert features.shape == (3, encoder.feature_dim) and bool(features.isfinite().all())
    alike = torch.cosine_similarity(encoder(images.float() / 255), features)  # of equal channels, another may be taken
    assert float(alike.min()) > 0.999
    save_encoder(encoder, tmp_path / "encoder", objective="none", data={})
    assert torch.equal(load_encoder(tmp_path / "encoder")(images), features)
    pooled = build_encoder(EncoderSpec("oriented_gradients", pool=2), shape, [0.3] * shape[0], [0.2] * shape[0])
    assert pooled(images).shape == (3, 24)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (EncoderSpec("oriented_gradients", {"bins": 3}), "has no argument 'bins': it takes fine and coarse"),
        (EncoderSpec("oriented_gradients", {"fine": 0}), "cells must be of 1 to 28 pixels"),
        (EncoderSpec("oriented_gradients", weights="DEFAULT"), "oriented_gradients has no weights"),
    ],
)
def test_what_it_refuses(spec: EncoderSpec, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        build_encoder(spec, (1, 28, 28), [0.5], [0.5])
