"""The layer table: what a tuning does to each layer of an encoder."""

from __future__ import annotations

import re
from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ssl_transfer.downstream.tuning.base import Tuning
from ssl_transfer.encoders import Encoder
from ssl_transfer.encoders.output_shapes import output_shapes


@dataclass(frozen=True)
class Layer:
    """A layer that has parameters.

    Attributes:
        stage: of `encoder.stages()`; name: the module's, below the network.
        kind: class of the module; shape: of what it gives for one image, empty if it was not called.
        parameters: how many; learning: how many of them learn in the first epoch; later: how many join afterwards.
        lr: their learning rate, 0 where none ever learns.
        batch_norm: `train` or `frozen` of BatchNorm, else empty.
    """

    stage: str
    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    learning: int
    later: int
    lr: float
    batch_norm: str


def layers(encoder: Encoder, tuning: Tuning, lr: float, epochs: int = 10) -> list[Layer]:
    """The layers of an encoder, first to last, as `tuning` has them in the first of `epochs` epochs.

    Args:
        encoder: as `tuning.encoder` gave it; its modes change.
        lr: the learning rate of the optimisation.

    Example:
        >>> from ssl_transfer.downstream import Partial
        >>> encoder = Partial(1).encoder("small_resnet", (1, 28, 28), [0.5], [0.5])
        >>> [(layer.name, layer.learning, layer.lr) for layer in layers(encoder, Partial(1), 0.01)][:2]
        [('stem.0', 0, 0.0), ('stem.1', 0, 0.0)]
    """
    chosen, awake = tuning.chosen(encoder), tuning.awake(encoder, 0, epochs)
    shapes = output_shapes(encoder)
    tuning.set_modes(encoder.train(), awake)
    rates = {id(p): lr * group.lr_factor for group in tuning.groups(encoder) for p in group.parameters}
    stages = {id(p): stage for stage, module in encoder.stages() for p in module.parameters()}
    owned: dict[str, list[tuple[str, nn.Parameter]]] = {}
    for name, parameter in encoder.named_parameters():
        owned.setdefault(_owner(name), []).append((name, parameter))
    found = []
    for path, members in owned.items():
        module = encoder.get_submodule(path)
        normalises = isinstance(module, _BatchNorm)
        found.append(
            Layer(
                stage=stages[id(members[0][1])],
                name=_told(path),
                kind=type(module).__name__.removeprefix("Parametrized"),
                shape=shapes.get(path, ()),
                parameters=sum(p.numel() for _, p in members),
                learning=sum(p.numel() for name, p in members if name in awake),
                later=sum(p.numel() for name, p in members if name in chosen - awake),
                lr=max(rates.get(id(p), 0.0) for _, p in members),
                batch_norm=("train" if module.training else "frozen") if normalises else "",
            )
        )
    return found


def _told(path: str) -> str:
    """A module's path without what the encoder and its kind of network wrap around it."""
    return re.sub(r"^network\.((network|module|body)\.)?", "", path)


def _owner(parameter: str) -> str:
    """The module that a parameter belongs to; adapters belong to the module they adapt."""
    path = parameter.partition(".parametrizations.")[0]
    return path if path != parameter else parameter.rpartition(".")[0]
