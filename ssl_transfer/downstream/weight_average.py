"""An exponential moving average of a module's weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class WeightAverage:
    """Moving average of the weights that learn and of the statistics that move with them.

    The share of the old values is min(decay, (1 + n) / (10 + n)) at update n, counted from 0: a short memory at first,
    as in TensorFlow and timm, and then an exponential average (Polyak and Juditsky 1992).

    Args:
        decay: share of the old values an update, in (0, 1).
        module: whose trainable parameters and floating buffers are averaged.

    >>> line = nn.Linear(1, 1, bias=False)
    >>> average = WeightAverage(0.5, line)
    >>> _ = line.weight.data.add_(1)
    >>> average.update(line)
    >>> before = line.weight.item()
    >>> average.swap(line)
    >>> round(before - line.weight.item(), 2)  # a tenth of the first value is kept
    0.1
    """

    def __init__(self, decay: float, module: nn.Module) -> None:
        self.decay = decay
        self.updates = 0
        self.swapped = False  # whether the module holds the average and `values` the weights that train
        self.values = {name: tensor.detach().clone() for name, tensor in averaged(module).items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take the module's weights into the average: to be called after each step of the optimiser."""
        kept = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        for name, tensor in averaged(module).items():
            self.values[name] = self.values[name].to(tensor.device).lerp(tensor, 1 - kept)

    @torch.no_grad()
    def swap(self, module: nn.Module) -> None:
        """Exchange the average and the weights that train."""
        for name, tensor in averaged(module).items():
            own = tensor.clone()
            tensor.copy_(self.values[name])
            self.values[name] = own
        self.swapped = not self.swapped

    def save(self, checkpoint: dict[str, object]) -> None:
        """Let the checkpoint's state hold the average, which is to be used, and keep the weights that train aside."""
        state: dict[str, Tensor] = checkpoint["state_dict"]  # type: ignore[assignment]
        names = [name for name in self.values if name in state]
        raw = {name: (self.values[name] if self.swapped else state[name]).clone() for name in names}
        if not self.swapped:
            state.update({name: self.values[name].clone() for name in names})
        checkpoint["weight_average"] = {"raw": raw, "updates": self.updates}

    def resume(self, checkpoint: dict[str, object]) -> None:
        """Go on from what `save` left: the average becomes this one's, the state holds the weights that train."""
        state: dict[str, Tensor] = checkpoint["state_dict"]  # type: ignore[assignment]
        kept: dict[str, object] = checkpoint["weight_average"]  # type: ignore[assignment]
        raw: dict[str, Tensor] = kept["raw"]  # type: ignore[assignment]
        self.updates = int(kept["updates"])  # type: ignore[call-overload]
        for name in raw:
            self.values[name] = state[name].to(self.values[name].device, copy=True)
        state.update(raw)


def averaged(module: nn.Module) -> dict[str, Tensor]:
    """What is averaged of a module, by name."""
    found: dict[str, Tensor] = {name: p for name, p in module.named_parameters() if p.requires_grad}
    return found | {name: b for name, b in module.named_buffers() if b.is_floating_point() and "metrics" not in name}
