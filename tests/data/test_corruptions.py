"""The corruptions: shares and deviations are those asked for, and masks say where."""

from __future__ import annotations

import math

import pytest
import torch

from ssl_transfer.data.corruptions import Corruption
from ssl_transfer.data.randomness import KeyedRandom


def _rng(count: int = 64, epoch: int = 0) -> KeyedRandom:
    return KeyedRandom(torch.arange(count), seed=0, epoch=epoch)


def _grey(count: int = 64, channels: int = 1, size: int = 28) -> torch.Tensor:
    return torch.full((count, channels, size, size), 128, dtype=torch.uint8)


def test_nothing_asked_nothing_done() -> None:
    images = torch.randint(0, 256, (8, 3, 12, 12), dtype=torch.uint8)
    same, mask = Corruption(gaussian=0.0, masking=0.0)(images, _rng(8))
    assert torch.equal(same, images.float() / 255) and not mask.any()


def test_gaussian_noise_has_its_deviation_and_is_independent() -> None:
    noisy, mask = Corruption(gaussian=0.3, masking=0.0)(_grey(channels=3), _rng())
    noise = noisy - 128 / 255
    assert float(noise.std()) == pytest.approx(0.3, rel=0.01) and abs(float(noise.mean())) < 0.004
    assert not mask.any() and float(noisy.max()) > 1  # not clamped: the deviation would shrink
    first, second = noise[:, 0].flatten(), noise[:, 1].flatten()
    assert abs(float(torch.corrcoef(torch.stack([first, second]))[0, 1])) < 0.02


@pytest.mark.parametrize(("patch", "share"), [(None, 0.5), (4, 0.75), (2, 0.1), (7, 1.0), (14, 0.25)])
def test_masking_takes_exactly_its_share_of_patches(patch: int | None, share: float) -> None:
    fill = torch.tensor([0.1, 0.2, 0.3])
    masked, mask = Corruption(gaussian=0.0, masking=share, patch=patch)(_grey(channels=3), _rng(), fill=fill)
    side = patch or 4  # a seventh of 28
    cells = (28 // side) ** 2
    assert mask.shape == masked.shape and mask.dtype == torch.uint8
    assert (mask[:, :1] == mask).all()  # all channels of a pixel together
    assert (mask[:, 0].sum((1, 2)) == round(share * cells) * side**2).all()
    blocks = mask[:, 0].unfold(1, side, side).unfold(2, side, side)  # (B, cells, cells, side, side)
    assert (blocks.amax((3, 4)) == blocks.amin((3, 4))).all()  # patches are whole
    expected = torch.where(mask.bool(), fill.view(3, 1, 1), torch.tensor(128 / 255))
    assert torch.equal(masked, expected)
    choices = math.comb(cells, round(share * cells))
    assert len(mask[:, 0].flatten(1).unique(dim=0)) >= min(choices, 32)  # another choice for each image


def test_patches_that_do_not_divide_the_image() -> None:
    masked, mask = Corruption(gaussian=0.0, masking=0.5, patch=3)(_grey(size=8), _rng())
    assert masked.shape == (64, 1, 8, 8)
    corners = mask[:, 0, ::3, ::3]
    assert (corners.sum((1, 2)) == round(0.5 * 9)).all()


def test_salt_and_pepper_share_and_values() -> None:
    spoilt, mask = Corruption(gaussian=0.0, masking=0.0, salt_and_pepper=0.2)(_grey(200, 3), _rng(200))
    assert float(mask[:, 0].float().mean()) == pytest.approx(0.2, abs=0.005)
    hit = spoilt[mask.bool()]
    assert set(hit.unique().tolist()) == {0.0, 1.0} and float(hit.mean()) == pytest.approx(0.5, abs=0.02)
    assert torch.equal(spoilt[~mask.bool()].unique(), torch.tensor([128 / 255]))
    assert (spoilt == spoilt[:, :1]).all()  # black or white, never coloured


def test_kinds_combine_and_depend_on_the_image_alone() -> None:
    images = torch.randint(0, 256, (16, 3, 16, 16), dtype=torch.uint8)
    corruption = Corruption(gaussian=0.2, masking=0.5, patch=4, salt_and_pepper=0.1)
    whole, mask = corruption(images, _rng(16))
    order = torch.tensor([5, 2, 11])
    part, part_mask = corruption(images[order], KeyedRandom(order, seed=0))
    assert torch.equal(part, whole[order]) and torch.equal(part_mask, mask[order])
    assert not torch.equal(whole, corruption(images, _rng(16, epoch=1))[0])
    assert torch.equal(whole, corruption(images.float() / 255, _rng(16))[0])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"gaussian": -0.1}, "gaussian"),
        ({"masking": 1.5}, "masking"),
        ({"salt_and_pepper": -0.1}, "salt_and_pepper"),
        ({"patch": 0}, "patch"),
    ],
)
def test_bad_arguments(arguments: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=f"corruption.{words}"):
        Corruption(**arguments)  # type: ignore[arg-type]
