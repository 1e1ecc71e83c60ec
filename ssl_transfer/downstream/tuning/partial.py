"""Strategies by which a part of the encoder learns, chosen by place, by pattern or by the clock."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Literal, get_args

import numpy as np

from ssl_transfer.downstream.tuning.base import BatchNorm, Tuning, of_stages, stage_names
from ssl_transfer.encoders import Encoder

Part = Literal["first", "middle", "last"]


class Partial(Tuning):
    """The last stages learn, the rest stays as it is.

    What the frozen front of the network gives is encoded once and kept, where no augmentation is asked for, so that an
    epoch costs the last stages alone.

    Args:
        n_stages: how many of the encoder's last stages learn (`ssl-transfer inspect` lists them); 1 unless `layers`
            is given.
        layers: instead, the names of stages, or patterns of parameters' names such as `*.layer4.*`.
        encoder_lr, layer_decay, batch_norm, l2_sp: as of `Full`.

    Example:
        >>> Partial(n_stages=2).n_stages
        2
    """

    def __init__(
        self,
        n_stages: int | None = None,
        layers: list[str] | None = None,
        encoder_lr: float = 0.1,
        layer_decay: float = 1.0,
        batch_norm: BatchNorm = "train",
        l2_sp: float = 0.0,
    ) -> None:
        if n_stages is not None and layers is not None:
            raise ValueError("tuning.n_stages and tuning.layers say the same in two ways: give one of them")
        if n_stages is not None and n_stages < 1:
            raise ValueError(f"tuning.n_stages must be at least 1, not {n_stages}; for none use Frozen, for all Full")
        self._set_rates(encoder_lr, layer_decay, batch_norm, l2_sp)
        self.n_stages = n_stages
        self.layers = check_layers(layers)

    def describe(self) -> str:
        return f"Partial({', '.join(self.layers) if self.layers else self.n_stages or 1})"

    def chosen(self, encoder: Encoder) -> set[str]:
        if self.layers is not None:
            return named(encoder, self.layers)
        stages = stage_names(encoder)
        count = 1 if self.n_stages is None else self.n_stages
        if count > len(stages):
            raise ValueError(
                f"tuning.n_stages is {count} and encoder {encoder.spec.name} has {len(stages)} stages "
                f"({', '.join(stages)}): give fewer, or use Full"
            )
        return of_stages(encoder, stages[-count:])


class Surgical(Tuning):
    """One part of the encoder learns: which one pays depends on how the new images differ.

    New looks (noise, another camera) ask for the first layers, new features for the middle, new classes for the last
    (Lee et al. 2023, https://arxiv.org/abs/2210.11466).

    Args:
        part: `first`, `middle` or `last` third of the stages.
        encoder_lr, batch_norm, l2_sp: as of `Full`.

    Example:
        >>> Surgical("first").part
        'first'
    """

    def __init__(
        self, part: Part = "last", encoder_lr: float = 0.1, batch_norm: BatchNorm = "train", l2_sp: float = 0.0
    ) -> None:
        if part not in get_args(Part):
            raise ValueError(f"tuning.part must be first, middle or last, not {part!r}")
        self._set_rates(encoder_lr, batch_norm=batch_norm, l2_sp=l2_sp)
        self.part = part

    def chosen(self, encoder: Encoder) -> set[str]:
        stages = stage_names(encoder)
        if len(stages) < 3:
            raise ValueError(
                f"tuning Surgical needs an encoder of three stages at least, and {encoder.spec.name} has "
                f"{len(stages)}: use Partial"
            )
        thirds = np.array_split(np.array(stages), 3)
        return of_stages(encoder, thirds[get_args(Part).index(self.part)].tolist())

    def describe(self) -> str:
        return f"Surgical({self.part})"


class Gradual(Tuning):
    """The head learns first, and then the stages join from the last to the first, one after another.

    After ULMFiT (Howard and Ruder 2018, https://arxiv.org/abs/1801.06146). Which stages learn is a function of the
    epoch, so a resumed run goes on with the same ones.

    Args:
        every: epochs between two stages. By default the stages are spread over the first half of the epochs.
        first: how many stages learn from the very first epoch on; 0: the head alone.
        encoder_lr, layer_decay, batch_norm, l2_sp: as of `Full`.

    Example:
        >>> [Gradual(every=2).count(4, epoch, 10) for epoch in range(6)]
        [0, 0, 1, 1, 2, 2]
    """

    def __init__(
        self,
        every: int | None = None,
        first: int = 0,
        encoder_lr: float = 0.1,
        layer_decay: float = 0.8,
        batch_norm: BatchNorm = "train",
        l2_sp: float = 0.0,
    ) -> None:
        if every is not None and every < 1:
            raise ValueError(f"tuning.every must be at least 1 epoch, not {every}")
        if first < 0:
            raise ValueError(f"tuning.first must be 0 or more, not {first}")
        self._set_rates(encoder_lr, layer_decay, batch_norm, l2_sp)
        self.every = every
        self.first = first

    def count(self, stages: int, epoch: int, epochs: int) -> int:
        """How many of so many stages learn in an epoch, counted from 0, of `epochs` (-1: not known)."""
        if self.every is None and epochs < 0:
            raise ValueError(
                "tuning Gradual spreads its stages over the epochs, and none are stated: give trainer.max_epochs, or "
                "tuning.every"
            )
        if self.every is not None:
            return min(stages, self.first + epoch // self.every)
        spread = int(2 * epoch * max(0, stages - self.first) / max(1, epochs))  # all by half the epochs
        return min(stages, self.first + spread)

    def awake(self, encoder: Encoder, epoch: int, epochs: int) -> set[str]:
        stages = stage_names(encoder)
        count = self.count(len(stages), epoch, epochs)
        return of_stages(encoder, stages[len(stages) - count :])


def check_layers(layers: list[str] | None) -> list[str] | None:
    """Names of layers, if there are some; ValueError for an empty list."""
    if layers == []:
        raise ValueError("tuning.layers must name a stage or a pattern at least; for none use Frozen")
    return layers


def named(encoder: Encoder, patterns: Sequence[str]) -> set[str]:
    """The parameters of the stages, or by the patterns, that are named. ValueError for one that fits nothing."""
    stages, names = stage_names(encoder), [name for name, _ in encoder.named_parameters()]
    found: set[str] = set()
    for pattern in patterns:
        fitting = of_stages(encoder, [pattern]) | {name for name in names if fnmatchcase(name, pattern)}
        if not fitting:
            raise ValueError(
                f"tuning.layers: {pattern!r} fits no stage and no parameter of encoder {encoder.spec.name}; its stages "
                f"are {', '.join(stages)}, a parameter is {names[-1]}"
            )
        found |= fitting
    return found
