"""Whitening: closed forms, fewer vectors than directions, and the way back."""

from __future__ import annotations

import pytest
import torch

from ssl_transfer.downstream.reductions.whiten import Restore, Whiten, Whitened

AXES = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0))).Q


@pytest.mark.parametrize(("power", "expected"), [(0.0, [16.0, 4.0, 1.0]), (0.25, [4.0, 2.0, 1.0]), (0.5, [1.0] * 3)])
def test_variance_is_divided_by_twice_the_power(power: float, expected: list[float]) -> None:
    """Six points at ± 4, 2 and 1 along three directions."""
    x = torch.cat([torch.diag(torch.tensor([4.0, 2.0, 1.0])), -torch.diag(torch.tensor([4.0, 2.0, 1.0]))]) @ AXES
    whiten = Whiten(3, power)
    whiten.measure(x)
    variance = whiten(x).var(0, correction=0)
    torch.testing.assert_close(variance, torch.tensor(expected) / torch.tensor(expected).mean())
    torch.testing.assert_close(whiten(x) @ whiten.inverse, x)


@pytest.mark.parametrize("count", [5, 400])
def test_restoring_undoes_it(count: int) -> None:
    x = 3 * torch.randn(count, 20, generator=torch.Generator().manual_seed(1)) + 7
    network, restore = Whitened(20, 0.25), Restore(20)
    network.measure(x)
    restore.adopt(network)
    torch.testing.assert_close(restore(network.reading(x)), x, rtol=1e-3, atol=1e-2)


def test_at_most_256_directions() -> None:
    x = torch.randn(300, 400, generator=torch.Generator().manual_seed(2))
    network = Whitened(400, 0.5)
    network.measure(x)
    torch.testing.assert_close(network(x).var(0, correction=0), torch.ones(256), rtol=0.1, atol=0.1)
