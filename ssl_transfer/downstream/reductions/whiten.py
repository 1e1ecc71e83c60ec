"""Features rotated to their principal directions and brought nearer to one another in variance, and the way back."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssl_transfer.downstream.reductions.networks import Standardise, Standardised

DIRECTIONS = 256  # at most, those of the largest variance
MEASURED_ON = 20_000  # vectors
FLOOR = 1e-4  # share of the largest variance that a direction counts as having at least


class Whiten(nn.Module):
    """Vectors `(B, D)` along their principal directions, `(B, R)`, each divided by its variance to the power `power`.

    0 only rotates, 0.5 gives all directions the variance one. R is `min(D, 256)`; the mean variance is one.
    """

    matrix: Tensor
    inverse: Tensor

    def __init__(self, width: int, power: float) -> None:
        super().__init__()
        self.power = power
        self.rank = min(width, DIRECTIONS)
        self.register_buffer("matrix", torch.eye(width, self.rank))
        self.register_buffer("inverse", torch.eye(self.rank, width))

    def measure(self, x: Tensor) -> None:
        """Take the principal directions of vectors `(N, D)` of mean zero, of 20,000 of them at most.

        Fewer vectors than R have fewer directions; the others stay empty.
        """
        with torch.random.fork_rng():
            torch.manual_seed(0)
            if len(x) > MEASURED_ON:
                x = x[torch.randperm(len(x))[:MEASURED_ON].to(x.device)]
            found = min(self.rank, len(x))
            _, values, axes = torch.pca_lowrank(x, found, center=False, niter=4)
        axes = axes * axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()  # the largest entry positive
        variance = values.square() / len(x)
        variance = variance.clamp_min(FLOOR * float(variance.max()))
        gain = variance.pow(-self.power)
        gain = gain / (variance * gain.square()).mean().sqrt()
        self.matrix.zero_()
        self.inverse.zero_()
        self.matrix[:, :found] = axes * gain
        self.inverse[:found] = (axes / gain).T

    def forward(self, x: Tensor) -> Tensor:  # (B, D) -> (B, R)
        """Vectors along the principal directions."""
        return x @ self.matrix


class Whitened(Standardised):
    """A network on vectors `(B, D)` that standardises and whitens them first; its steps take `min(D, 256)`."""

    def __init__(self, width: int, power: float, *steps: nn.Module) -> None:
        super().__init__(width, Whiten(width, power), *steps)

    def reading(self, x: Tensor) -> Tensor:  # (B, D) -> (B, R)
        """What the first layer is given of vectors: standardised and whitened."""
        read: Tensor = self[1](self[0](x))
        return read

    def measure(self, x: Tensor) -> None:
        """Take mean, scale and directions of vectors `(N, D)`."""
        super().measure(x)
        whiten = self[1]
        assert isinstance(whiten, Whiten)
        whiten.measure(self[0](x))


class Restore(nn.Module):
    """What a `Whitened` network reads, back as vectors in their own units: `(B, R)` to `(B, D)`."""

    mean: Tensor
    scale: Tensor
    inverse: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("inverse", torch.eye(min(width, DIRECTIONS), width))

    def adopt(self, network: Whitened) -> None:
        """Undo what `network` does first."""
        standardise, whiten = network[0], network[1]
        assert isinstance(standardise, Standardise) and isinstance(whiten, Whiten)
        for name, value in (("mean", standardise.mean), ("scale", standardise.scale), ("inverse", whiten.inverse)):
            getattr(self, name).copy_(value)

    def forward(self, x: Tensor) -> Tensor:  # (B, R) -> (B, D)
        """Vectors in their own units."""
        return x @ self.inverse * self.scale + self.mean
