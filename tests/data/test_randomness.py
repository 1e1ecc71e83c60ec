"""The keyed random numbers: uniform, normal, independent of each other and of the batch."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from ssl_transfer.data.randomness import KeyedRandom, mix, mix_integers


def _rng(count: int = 1000, **keys: int) -> KeyedRandom:
    return KeyedRandom(torch.arange(count), **{"seed": 0, **keys})


def test_mix_is_the_published_hash_and_a_bijection() -> None:
    def lowbias32(x: int) -> int:
        x = ((x ^ (x >> 16)) * 0x7FEB352D) & 0xFFFFFFFF
        x = ((x ^ (x >> 15)) * 0x846CA68B) & 0xFFFFFFFF
        return x ^ (x >> 16)

    values = torch.cat([torch.arange(100_000), 2**32 - 1 - torch.arange(100_000)])
    hashed = mix(values)
    assert hashed.unique().numel() == len(values)
    assert [int(h) for h in hashed[::9973]] == [lowbias32(int(v)) for v in values[::9973]]
    assert int(hashed.min()) >= 0 and int(hashed.max()) < 2**32


def test_integers_are_mixed_in_order() -> None:
    keys = {mix_integers(a, b, c) for a in range(10) for b in range(10) for c in range(10)}
    assert len(keys) == 1000
    assert mix_integers(1, 2) == mix_integers(1, 2) != mix_integers(1, 2, 0)


def test_an_image_s_numbers_do_not_depend_on_its_batch() -> None:
    index = torch.tensor([12, 7, 99, 0, 50_000])
    together = KeyedRandom(index, seed=3, epoch=2, stream=1)
    draws = [together.uniform(4), together.normal(3, 5), together.chance(0.3, 8), together.uniform()]
    order = torch.tensor([3, 0])
    apart = KeyedRandom(index[order], seed=3, epoch=2, stream=1)
    again = [apart.uniform(4), apart.normal(3, 5), apart.chance(0.3, 8), apart.uniform()]
    assert [tuple(draw.shape) for draw in draws] == [(5, 4), (5, 3, 5), (5, 8), (5,)]
    assert all(torch.equal(draw[order], other) for draw, other in zip(draws, again, strict=True))


@pytest.mark.parametrize("key", ["seed", "epoch", "stream"])
def test_every_key_gives_other_numbers(key: str) -> None:
    first, second = _rng(**{key: 1}).uniform(20), _rng(**{key: 2}).uniform(20)
    assert (first == second).float().mean() < 0.001
    correlation = torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1]
    assert abs(float(correlation)) < 4 / math.sqrt(first.numel())


def test_uniform_by_chi_square_along_images_and_along_draws() -> None:
    along_draws = _rng(2).uniform(50_000)
    along_images = _rng(50_000).uniform(2).T
    for row in [*along_draws, *along_images]:
        assert float(row.min()) >= 0 and float(row.max()) < 1
        counts = torch.histc(row, bins=100, min=0, max=1)
        assert stats.chisquare(counts.numpy()).pvalue > 1e-3
    wide = _rng().uniform(100, low=-2.0, high=6.0)
    assert float(wide.min()) >= -2 and float(wide.max()) < 6 and float(wide.mean()) == pytest.approx(2, abs=0.05)


def test_successive_draws_and_neighbouring_images_are_uncorrelated() -> None:
    values = _rng(2000).uniform(50)  # (2000, 50)
    bound = 4 / math.sqrt(values.numel())
    for first, second in ((values[:, :-1], values[:, 1:]), (values[:-1], values[1:])):
        pair = torch.stack([first.flatten(), second.flatten()])
        assert abs(float(torch.corrcoef(pair)[0, 1])) < bound
    correlations = torch.corrcoef(values.T) - torch.eye(50)
    assert float(correlations.abs().max()) < 5 / math.sqrt(2000)


def test_normal_moments_and_shape() -> None:
    values = _rng(1000).normal(7, 15)  # an odd number a row: the last of a pair is left over
    assert values.shape == (1000, 7, 15)
    flat = values.flatten().numpy()
    assert abs(flat.mean()) < 4 / math.sqrt(flat.size) and flat.std() == pytest.approx(1, abs=0.01)
    assert abs(stats.skew(flat)) < 0.03 and abs(stats.kurtosis(flat)) < 0.06
    assert stats.kstest(flat[:20_000], "norm").pvalue > 1e-3
    assert bool(torch.isfinite(values).all())


def test_chance_has_its_probability() -> None:
    assert float(_rng().chance(0.3, 100).float().mean()) == pytest.approx(0.3, abs=0.006)
    assert not _rng().chance(0.0, 100).any() and _rng().chance(1.0, 100).all()
