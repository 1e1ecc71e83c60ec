"""What learns by place, by pattern and by the clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ssl_transfer.downstream import Gradual, Partial, Surgical
from ssl_transfer.encoders import Encoder, build_encoder


@pytest.fixture(scope="module")
def resnet() -> Encoder:
    return build_encoder("resnet18", (3, 32, 32), [0.5] * 3, [0.5] * 3)


def stages(names: set[str]) -> set[str]:
    return {name.split(".")[2] for name in names}


def test_stages_by_name_and_parameters_by_pattern(resnet: Encoder) -> None:
    by_number, by_name = Partial(2).chosen(resnet), Partial(layers=["layer3", "layer4"]).chosen(resnet)
    assert by_number == by_name and stages(by_name) == {"layer3", "layer4"}
    assert by_name == Partial(layers=["*.layer[34].*"]).chosen(resnet)
    only = Partial(layers=["layer4", "*.bn1.weight"]).chosen(resnet)
    assert "network.network.bn1.weight" in only and "network.network.conv1.weight" not in only
    with pytest.raises(ValueError, match=r"'layer5' fits no stage and no parameter .* stages are conv1, layer1"):
        Partial(layers=["layer5"]).chosen(resnet)


def test_thirds(resnet: Encoder) -> None:
    parts = [stages(Surgical(part).chosen(resnet)) for part in ("first", "middle", "last")]  # type: ignore[arg-type]
    assert parts == [{"conv1", "bn1", "layer1"}, {"layer2", "layer3"}, {"layer4"}]


def test_the_first_stage_that_learns(resnet: Encoder) -> None:
    assert Partial(1).first_stage(resnet, Partial(1).chosen(resnet)) == "layer4"
    assert Partial(1).first_stage(resnet, set()) is None


def test_stages_join_one_after_another(resnet: Encoder) -> None:
    tuning = Gradual()
    counts = [tuning.count(5, epoch, 10) for epoch in range(10)]
    assert counts == [0, 1, 2, 3, 4, 5, 5, 5, 5, 5]
    assert [Gradual(every=3, first=2).count(5, epoch, -1) for epoch in range(12)] == [2] * 3 + [3] * 3 + [4] * 3 + [
        5
    ] * 3
    assert stages(tuning.awake(resnet, 2, 10)) == {"layer3", "layer4"} and tuning.awake(resnet, 0, 10) == set()
    assert tuning.awake(resnet, 9, 10) == tuning.chosen(resnet)
    with pytest.raises(ValueError, match=r"none are stated: give trainer\.max_epochs, or tuning\.every"):
        tuning.count(5, 0, -1)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Partial(1, ["stem"]), "tuning.n_stages and tuning.layers say the same"),
        (lambda: Partial(0), "tuning.n_stages must be at least 1"),
        (lambda: Partial(layers=[]), "tuning.layers must name"),
        (lambda: Surgical("top"), "tuning.part must be first, middle or last, not 'top'"),  # type: ignore[arg-type]
        (lambda: Gradual(every=0), "tuning.every must be at least 1 epoch"),
        (lambda: Gradual(first=-1), "tuning.first must be 0 or more"),
    ],
)
def test_what_is_refused(make: Callable[[], Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        make()
