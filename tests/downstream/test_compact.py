"""Compactness tuning: its loss, its made-up anomalies, and which stages learn."""

from __future__ import annotations

import pytest
import torch

from ssl_transfer.data.randomness import KeyedRandom
from ssl_transfer.downstream.compact import Compact, distance_to_centre, pasted
from ssl_transfer.encoders import build_encoder


def test_the_distance_against_a_loop() -> None:
    features, centre = torch.randn(5, 3), torch.randn(3)
    slow = sum(float(((row - centre) ** 2).sum()) for row in features) / 5
    assert float(distance_to_centre(features, centre)) == pytest.approx(slow, rel=1e-5)


def test_a_pasted_patch_is_a_rectangle_of_the_neighbour() -> None:
    images = torch.arange(200, dtype=torch.uint8).view(200, 1, 1, 1).expand(200, 1, 28, 28).contiguous()
    made = pasted(images, KeyedRandom(torch.arange(200), seed=0))
    other = made != images
    assert torch.equal(made[other], images.roll(1, 0)[other])
    shares = other.flatten(1).float().mean(1)
    assert float(shares.min()) > 0.08 and float(shares.max()) < 0.32
    for patch in other[:, 0]:
        rows, columns = patch.any(1), patch.any(0)
        assert int(patch.sum()) == int(rows.sum()) * int(columns.sum())


def test_the_patch_of_an_image_is_its_own() -> None:
    images = torch.randint(0, 255, (4, 3, 16, 16), dtype=torch.uint8)
    first = pasted(images, KeyedRandom(torch.tensor([3, 5, 7, 9]), seed=1))
    second = pasted(images, KeyedRandom(torch.tensor([3, 5, 7, 9]), seed=1))
    assert torch.equal(first, second)
    assert torch.equal(pasted(images[:1], KeyedRandom(torch.tensor([3]), seed=1)), images[:1])  # nobody to take from


@pytest.mark.parametrize(("stages", "learning"), [(1, {"body"}), (None, {"stem", "body"})])
def test_the_last_stages_learn(stages: int | None, learning: set[str]) -> None:
    encoder = build_encoder("small_resnet", (1, 28, 28), [0.5], [0.5])
    chosen = Compact(n_stages=stages).chosen(encoder)
    assert {name.split(".")[1] for name in chosen} == learning
    if stages == 1:
        assert not any("body.stage1" in name for name in chosen)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n_stages": 0}, "tuning.n_stages must be at least 1"),
        ({"encoder_lr": 0}, "tuning.encoder_lr must be above 0"),
        ({"patience": 0}, "tuning.patience must be at least 1"),
    ],
)
def test_what_it_refuses(options: dict[str, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Compact(**options)  # type: ignore[arg-type]
