"""The optimiser's groups and the schedule, against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from ssl_transfer.optimisation import Optimisation, ParameterGroup


def test_the_schedule_rises_linearly_and_falls_by_a_cosine() -> None:
    schedule = Optimisation(warmup=0.1)
    values = [schedule.factor(step, 100) for step in range(100)]
    assert values[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert values[10:] == pytest.approx([0.5 * (1 + math.cos(math.pi * k / 90)) for k in range(90)])
    assert values[10] == 1.0 and values[55] == pytest.approx(0.5) and 0 < values[99] < 0.001
    assert [Optimisation(warmup=0.0, schedule="constant").factor(step, 5) for step in range(5)] == [1.0] * 5
    assert Optimisation(warmup=0.05).factor(0, 1) == 1.0  # a single step


def test_only_matrices_decay_and_only_the_trainable_learn() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 3))
    network[2].bias.requires_grad_(False)
    head = nn.Linear(3, 1)
    parts = [head, ParameterGroup("network", network.parameters(), 0.5)]
    made = Optimisation(lr=0.1, weight_decay=0.3, warmup=0).configure(parts, 10)
    groups = made["optimizer"].param_groups
    found = {id(p): (group["initial_lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert found == {
        id(head.weight): (0.1, 0.3),
        id(head.bias): (0.1, 0.0),
        id(network[0].weight): (0.05, 0.3),
        id(network[0].bias): (0.05, 0.0),
        id(network[1].weight): (0.05, 0.0),
        id(network[1].bias): (0.05, 0.0),
        id(network[2].weight): (0.05, 0.3),
    }
    assert made["lr_scheduler"]["interval"] == "step"


@pytest.mark.parametrize(("name", "kind"), [("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)])
def test_a_few_steps_find_a_minimum(name: str, kind: type[torch.optim.Optimizer]) -> None:
    torch.manual_seed(0)
    line = nn.Linear(2, 1)
    x = torch.randn(64, 2)
    y = x @ torch.tensor([[2.0], [-1.0]]) + 0.5
    made = Optimisation(optimiser=name, lr=0.1, weight_decay=0.0).configure([line], 200)  # type: ignore[arg-type]
    optimiser, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    assert isinstance(optimiser, kind)
    for _ in range(200):
        optimiser.zero_grad()
        loss = ((line(x) - y) ** 2).mean()
        loss.backward()
        optimiser.step()
        schedule.step()
    assert loss.item() < 1e-3 and optimiser.param_groups[0]["lr"] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"lr": 0.0}, "lr must be above 0"),
        ({"warmup": 1.0}, "warmup is a share"),
        ({"weight_decay": -1.0}, "weight_decay must be 0 or more"),
        ({"optimiser": "adm"}, "optimiser must be adamw or sgd"),
        ({"schedule": "linear"}, "schedule must be cosine or constant"),
    ],
)
def test_bad_arguments(arguments: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=rf"optimisation\.{words}"):
        Optimisation(**arguments)  # type: ignore[arg-type]


def test_the_inverse_schedule_is_the_domain_adversarial_papers() -> None:
    made = Optimisation(lr=0.01, warmup=0.0, schedule="inverse")
    rates = [0.01 * made.factor(step, 100) for step in (0, 50, 100)]
    assert rates == pytest.approx([0.01, 0.01 / 6**0.75, 0.01 / 11**0.75])
