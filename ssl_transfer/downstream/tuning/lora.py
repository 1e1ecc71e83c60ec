"""Low-rank adapters on convolutions and linear layers."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ssl_transfer.downstream.tuning.base import Tuning
from ssl_transfer.downstream.tuning.partial import check_layers, named
from ssl_transfer.encoders import Encoder, EncoderSpec


class LowRank(nn.Module):
    """Adds `up @ down` of a small rank to a weight, which itself stays; begins with adding nothing.

    Args:
        weight: `(R, …)`; adapted as a matrix of R rows.
        rank: of what is added.
        scale: of what is added.
    """

    def __init__(self, weight: Tensor, rank: int, scale: float) -> None:
        super().__init__()
        rows, columns = weight.shape[0], weight[0].numel()
        self.scale = scale
        self.down = nn.Parameter(torch.randn(rank, columns, device=weight.device) / math.sqrt(columns))
        self.up = nn.Parameter(torch.zeros(rows, rank, device=weight.device))

    def forward(self, weight: Tensor) -> Tensor:
        """The adapted weight."""
        with torch.autocast(weight.device.type, enabled=False):
            return weight + (self.scale * (self.up @ self.down)).view_as(weight)


class LoRA(Tuning):
    """Low-rank adaptation: every weight stays, and a learned matrix of low rank is added to it.

    Hu et al. 2021, https://arxiv.org/abs/2106.09685, for linear layers, attention and convolutions alike (a kernel
    `(O, I, h, w)` counts as a matrix of O rows). Adapters are merged into the weights when the encoder is saved, so
    what is left is a plain network of the same architecture. Biases and normalisation stay as they are.

    Args:
        rank: of what is added; layers too small for it get less.
        alpha: what is added is scaled by alpha / rank; `None`: by 1.
        layers: names of stages, or patterns of parameters' names, that get adapters; `None`: all.
        encoder_lr: the learning rate of the adapters as a share of the head's.

    Example:
        >>> LoRA(rank=4).rank
        4
    """

    def __init__(
        self, rank: int = 8, alpha: float | None = None, layers: list[str] | None = None, encoder_lr: float = 1.0
    ) -> None:
        if rank < 1:
            raise ValueError(f"tuning.rank must be at least 1, not {rank}")
        if alpha is not None and alpha <= 0:
            raise ValueError(f"tuning.alpha must be above 0, not {alpha}")
        self._set_rates(encoder_lr)
        self.rank = rank
        self.alpha = alpha
        self.layers = check_layers(layers)

    def describe(self) -> str:
        return f"LoRA(rank {self.rank})"

    def encoder(
        self,
        chosen: EncoderSpec | str | nn.Module,
        shape: tuple[int, int, int],
        mean: list[float],
        std: list[float],
    ) -> Encoder:
        encoder = super().encoder(chosen, shape, mean, std)
        if any(isinstance(module, LowRank) for module in encoder.modules()):
            raise ValueError("tuning LoRA: this encoder has adapters already: give a new one, or its folder")
        wanted = {name for name, _ in encoder.named_parameters()}
        if self.layers is not None:
            wanted = named(encoder, self.layers)
        found = [site for site in adaptable(encoder) if site[0] in wanted]
        if not found:
            raise ValueError(
                f"tuning LoRA adapts convolutions and linear layers, and {encoder.spec.name} has none of them"
                f"{'' if self.layers is None else f' in {self.layers}'}: use Partial"
            )
        for _, module, name in found:
            self._adapt(module, name)
        return encoder

    def _adapt(self, module: nn.Module, name: str) -> None:
        weight = getattr(module, name)
        rank = max(1, min(self.rank, min(weight.shape[0], weight[0].numel()) - 1))
        scale = 1.0 if self.alpha is None else self.alpha / rank
        parametrize.register_parametrization(module, name, LowRank(weight, rank, scale))

    def chosen(self, encoder: Encoder) -> set[str]:
        return {
            f"{path}.{name}"
            for path, module in encoder.named_modules()
            if isinstance(module, LowRank)
            for name in ("down", "up")
        }

    def finished(self, encoder: Encoder) -> Encoder:
        merged = copy.deepcopy(encoder)
        for module in list(merged.modules()):
            if parametrize.is_parametrized(module):
                _merge(module)
        return merged


def _merge(module: nn.Module) -> None:
    """Make a module of a copy plain again. `remove_parametrizations` would change the class, which the original has."""
    with torch.no_grad():
        weights = {name: getattr(module, name).clone() for name in module.parametrizations}  # type: ignore[union-attr]
    module.__class__ = parametrize.type_before_parametrizations(module)
    del module.parametrizations
    for name, weight in weights.items():
        module.register_parameter(name, nn.Parameter(weight))


def adaptable(encoder: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    """The weights that can be adapted: name of the parameter, its module, and its name there."""
    for path, module in list(encoder.named_modules()):
        names = ["weight"] if isinstance(module, nn.Linear | nn.Conv2d) else []
        if isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
            names = ["in_proj_weight"]
        for name in names:
            yield f"{path}.{name}", module, name
