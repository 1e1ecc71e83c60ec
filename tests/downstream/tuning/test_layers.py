"""The layer table's names."""

from __future__ import annotations

import pytest
from torch import Tensor, nn

from ssl_transfer.downstream import Full
from ssl_transfer.downstream.tuning.layers import layers
from ssl_transfer.encoders import build_encoder


class Wrapped(nn.Module):
    """A foreign network that has a `network` of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.network = nn.Conv2d(4, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.network(self.stem(x))


@pytest.mark.parametrize(
    ("network", "names"),
    [
        (Wrapped(), ["stem", "network"]),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)), ["0", "1"]),
        ("resnet18", ["conv1", "bn1"]),
        ("small_resnet", ["stem.0", "stem.1"]),
    ],
)
def test_a_layer_is_called_what_its_network_calls_it(network: nn.Module | str, names: list[str]) -> None:
    encoder = build_encoder(network, (3, 32, 32), [0.5] * 3, [0.5] * 3)
    assert [layer.name for layer in layers(encoder, Full(), 0.01)][:2] == names
