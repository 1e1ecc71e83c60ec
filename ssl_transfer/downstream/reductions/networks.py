"""Small networks on vectors, and the loop that trains them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from rich import get_console
from rich.progress import track
from torch import Tensor, nn

from ssl_transfer.optimisation import Optimisation


class Standardised(nn.Sequential):
    """A network on vectors `(B, D)` that standardises them first: `measure` before it learns."""

    def __init__(self, width: int, *steps: nn.Module) -> None:
        super().__init__(Standardise(width), *steps)

    def measure(self, x: Tensor) -> None:
        """Take the mean and the scale of vectors `(N, D)`."""
        standardise = self[0]
        assert isinstance(standardise, Standardise)
        standardise.measure(x)


class StandardisedMLP(Standardised):
    """Vectors `(B, D)` to `(B, out)`: standardised, then `layers` hidden layers with BatchNorm and ReLU.

    >>> StandardisedMLP(8, 16, 2, 2)(torch.zeros(3, 8)).shape
    torch.Size([3, 2])
    """

    def __init__(self, width: int, hidden_dim: int, layers: int, out: int) -> None:
        steps: list[nn.Module] = []
        last = width
        for _ in range(layers):
            steps += [nn.Linear(last, hidden_dim, bias=False), nn.BatchNorm1d(hidden_dim), nn.ReLU(inplace=True)]
            last = hidden_dim
        super().__init__(width, *steps, nn.Linear(last, out))


class Standardise(nn.Module):
    """Mean taken away a feature, and one scale for all: features keep their weight relative to each other."""

    mean: Tensor
    scale: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(()))

    def measure(self, x: Tensor) -> None:
        """Take mean and scale of vectors `(N, D)`."""
        self.mean.copy_(x.mean(0))
        self.scale.copy_((x - self.mean).square().mean().sqrt().clamp_min(1e-12))

    def forward(self, x: Tensor) -> Tensor:  # (B, D) -> (B, D)
        """Standardised vectors."""
        return (x - self.mean) / self.scale


def train(
    modules: Sequence[nn.Module],
    loss_of: Callable[[Tensor], Tensor],
    count: int,
    optimisation: Optimisation,
    epochs: int,
    batch_size: int,
    seed: int,
    what: str,
) -> None:
    """Train modules by the loss of batches of rows out of `count`, in float32; rows are shuffled by `seed`.

    loss_of: from rows `(B,)` int64 to a loss. what: the name of the progress line, shown on a terminal only.
    The last rows of an epoch that make no whole batch wait for another epoch.
    """
    batch_size = min(batch_size, count)
    steps = count // batch_size
    device = next(modules[0].parameters()).device
    configured = optimisation.configure(modules, epochs * steps)
    optimiser, schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    order = torch.Generator().manual_seed(seed)
    for module in modules:
        module.train()
    hidden = not get_console().is_terminal
    with torch.enable_grad(), torch.autocast(device.type, enabled=False):
        for _ in track(range(epochs), what, transient=True, disable=hidden):
            rows = torch.randperm(count, generator=order).to(device)
            for batch in rows[: steps * batch_size].split(batch_size):
                loss = loss_of(batch)
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                optimiser.step()
                schedule.step()
    for module in modules:
        module.eval()
