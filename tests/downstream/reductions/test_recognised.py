"""Fitted vectors are known again, in spite of rounding, and others are not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from ssl_transfer.downstream.reductions import PCA, TSNE, BottleneckAutoencoder, ParametricMap, Reduction
from ssl_transfer.downstream.reductions.recognised import Recognised

DIGITS = torch.from_numpy(load_digits().data).float()
SMALL_TSNE = TSNE(perplexity=3, iterations=20)


def test_vectors_given_again_are_known_in_spite_of_rounding() -> None:
    for x in (DIGITS, DIGITS[:, :40] + 100, DIGITS[:1, :2] + torch.rand(1000, 2), DIGITS / 1e6):
        known = Recognised(x)
        assert torch.equal(known.rows(x), torch.arange(len(x)))
        near = x * (1 + 1e-6 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)))
        assert (known.rows(near) == torch.arange(len(x))).float().mean() > 0.99
        assert (known.rows(x + 0.05 * x.std()) == -1).float().mean() > 0.95


def test_of_equals_the_first_is_meant() -> None:
    assert Recognised(DIGITS[:9].repeat(3, 1)).rows(DIGITS[:9]).tolist() == list(range(9))
    found = Recognised(DIGITS).rows(DIGITS[:0])
    assert found.shape == (0,) and found.dtype == torch.int64


def test_a_map_keeps_the_places_of_the_fitted_whatever_the_rounding() -> None:
    x = torch.cat([DIGITS[:60], DIGITS[:3]])
    fitted = TSNE(perplexity=3, iterations=20).fit(x)
    assert np.array_equal(fitted.transform(x), fitted.coordinates_)
    assert np.array_equal(fitted.transform(x * (1 + 1e-6)), fitted.coordinates_)
    assert np.array_equal(fitted.coordinates_[60:], fitted.coordinates_[:3])


@pytest.mark.parametrize(
    "reduction", [SMALL_TSNE, PCA(), BottleneckAutoencoder(hidden_dim=8, epochs=1), ParametricMap(epochs=1)]
)
def test_of_no_vectors_there_are_no_coordinates(reduction: Reduction) -> None:
    found = reduction.fit(DIGITS[:100]).transform(DIGITS[:0])
    assert found.shape == (0, 2) and found.dtype == np.float32
