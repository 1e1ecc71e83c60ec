"""Optimiser and learning-rate schedule, shared by everything that trains by gradient."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn


def total_steps(trainer: Any) -> int:
    """The steps of a whole fit. Raises ValueError where the trainer was given no end that a schedule can know."""
    total = trainer.estimated_stepping_batches
    if not math.isfinite(total) or total < 0:
        raise ValueError("a fit needs an end that the schedule can know: give trainer.max_epochs or trainer.max_steps")
    return int(total)


@dataclass
class ParameterGroup:
    """Parameters that learn at one rate.

    Args:
        name: of the group.
        parameters: of which those that are frozen are left out.
        lr_factor: their learning rate as a share of the optimisation's.
    """

    name: str
    parameters: Iterable[nn.Parameter]
    lr_factor: float = 1.0


@dataclass
class Optimisation:
    """How weights are updated.

    Args:
        optimiser: `adamw`, or `sgd` (momentum 0.9, Nesterov).
        lr: peak learning rate, reached after the warm-up.
        weight_decay: for weight matrices and kernels; biases and normalisation parameters are never decayed.
        warmup: share of all steps over which the rate rises from zero.
        schedule: `cosine` falls to zero at the last step, `constant` stays, `inverse` falls as (1 + 10 p)^-0.75 with
            the share p of the steps (Ganin et al. 2016, https://arxiv.org/abs/1505.07818).

    >>> [round(Optimisation(warmup=0.2).factor(step, total=10), 2) for step in (0, 1, 2, 6, 9)]
    [0.5, 1.0, 1.0, 0.5, 0.04]
    """

    optimiser: Literal["adamw", "sgd"] = "adamw"
    lr: float = 2e-3
    weight_decay: float = 1e-4
    warmup: float = 0.05
    schedule: Literal["cosine", "constant", "inverse"] = "cosine"

    def __post_init__(self) -> None:
        if self.lr <= 0:
            raise ValueError(f"optimisation.lr must be above 0, not {self.lr}")
        if self.weight_decay < 0:
            raise ValueError(f"optimisation.weight_decay must be 0 or more, not {self.weight_decay}")
        for name, known in (("optimiser", ("adamw", "sgd")), ("schedule", ("cosine", "constant", "inverse"))):
            if getattr(self, name) not in known:
                raise ValueError(f"optimisation.{name} must be {' or '.join(known)}, not {getattr(self, name)!r}")
        if not 0 <= self.warmup < 1:
            raise ValueError(f"optimisation.warmup is a share of all steps, 0 <= warmup < 1, not {self.warmup}")

    def factor(self, step: int, total: int) -> float:
        """The learning rate of a step as a share of `lr`; steps count from 0."""
        warm = round(self.warmup * total)
        if step < warm:
            return (step + 1) / warm
        if self.schedule == "constant":
            return 1.0
        progress = (step - warm) / max(1, total - warm)
        if self.schedule == "inverse":
            return float((1 + 10 * progress) ** -0.75)
        return 0.5 * (1 + math.cos(math.pi * progress))

    def configure(self, parts: Sequence[nn.Module | ParameterGroup], total_steps: int) -> dict[str, Any]:
        """What `configure_optimizers` returns for the trainable parameters of `parts`.

        A module learns at the full rate. Raises ValueError if a parameter stands twice.
        """
        made: list[dict[str, Any]] = []
        for part in parts:
            group = ParameterGroup(type(part).__name__, part.parameters()) if isinstance(part, nn.Module) else part
            trainable = [p for p in group.parameters if p.requires_grad]
            for decay, kept in ((self.weight_decay, lambda p: p.ndim > 1), (0.0, lambda p: p.ndim <= 1)):
                if members := [p for p in trainable if kept(p)]:
                    lr = group.lr_factor * self.lr
                    made.append({"params": members, "weight_decay": decay, "lr": lr, "name": group.name})
        optimiser: torch.optim.Optimizer
        if self.optimiser == "sgd":
            optimiser = torch.optim.SGD(made, lr=self.lr, momentum=0.9, nesterov=True)
        else:
            optimiser = torch.optim.AdamW(made, lr=self.lr)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: self.factor(step, total_steps))
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
