"""Reductions that are a network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ssl_transfer.downstream.reductions.base import Coordinates, Reduction, coordinates
from ssl_transfer.downstream.reductions.networks import Standardised

BLOCK = 2**14  # points placed at once


class LearnedReduction(Reduction):
    """Base of the reductions that are a network, `network_`, from vectors `(B, D)` as they are to coordinates.

    A subclass gives `build`, and ends its `fit` with `adopt`.
    """

    network_: Standardised

    def build(self, width: int) -> Standardised:
        """The network, untrained: vectors `(B, width)` to `(B, n_components)`. Its `measure` gives it its scale."""
        raise NotImplementedError

    def adopt(self, network: Standardised) -> Self:
        """Be fitted: take a trained network of `build`."""
        self.network_ = network.eval()
        self.n_features_in_, self._n_features_out = len(network.state_dict()["0.mean"]), self.n_components
        return self

    def transform(self, X: ArrayLike | Tensor) -> Coordinates:
        x = self.read(X)
        device = next(self.network_.parameters()).device
        with torch.inference_mode(), torch.autocast(device.type, enabled=False):
            return coordinates(torch.cat([self.network_(part.to(device)) for part in x.split(BLOCK)]))

    def to(self, device: str | torch.device) -> Self:
        self.network_.to(device)
        return self

    def state(self) -> dict[str, Tensor]:
        return {name: value.detach().cpu().contiguous() for name, value in self.network_.state_dict().items()}

    def load_state(self, state: Mapping[str, Tensor]) -> Self:
        network = self.build(len(state["0.mean"]))
        network.load_state_dict(dict(state))
        return self.adopt(network)
