"""What is said of a network without labels: figures, warnings, BatchNorm's statistics."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from ssl_transfer.downstream.adaptation import CORAL, DANN, SelfTraining, judging, statistics, verdict
from ssl_transfer.downstream.adaptation.alarms import alarms
from ssl_transfer.downstream.adaptation.base import Reading
from ssl_transfer.downstream.adaptation.gradient import GradientNorm
from ssl_transfer.downstream.adaptation.judging import (
    Calibrated,
    Judged,
    Votes,
    effective_classes,
    figures,
)
from ssl_transfer.evaluation.validators import HIGHER_IS_BETTER
from ssl_transfer.running.recorder import RunCheckpoint


def judged(count: int, sharpness: float, seed: int, labelled: bool, right: float = 0.9) -> Judged:
    """Answers to two classes: features that hold the class, logits that are right so often."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(count) % 2
    answered = torch.where(torch.rand(count, generator=generator) < right, targets, 1 - targets)
    logits = sharpness * nn.functional.one_hot(answered, 2).float() + torch.randn(count, 2, generator=generator) / 4
    features = torch.cat([logits, torch.randn(count, 3, generator=generator)], dim=1)
    return Judged(torch.arange(count), features, logits, targets if labelled else torch.full((count,), -1))


def test_every_validator_has_a_figure_and_a_direction() -> None:
    found = figures(judged(60, 3.0, 0, True), judged(50, 3.0, 1, False))
    assert set(found) == {*judging.NAMES, "target_classes", "source_answers", "source_classes"}
    for short, name in judging.NAMES.items():
        lower = f"val/{short}".endswith(RunCheckpoint.LOWER_IS_BETTER)
        assert lower != HIGHER_IS_BETTER[name], short


def test_what_cannot_be_measured_is_left_out() -> None:
    nothing = Judged(torch.zeros(0).long(), torch.zeros(0, 5), torch.zeros(0, 2), torch.zeros(0).long())
    assert set(figures(judged(20, 3.0, 0, True), nothing)) == {"source_risk", "source_answers", "source_classes"}
    assert set(figures(judged(20, 3.0, 0, False), judged(20, 3.0, 1, False))) == {
        *("target_entropy", "information_maximisation", "snd", "bnm", "target_classes", "source_answers")
    }


def test_effective_numbers_of_classes() -> None:
    assert effective_classes(torch.tensor([1, 1, 1])) == pytest.approx(1)
    assert effective_classes(torch.tensor([0, 1, 2, 3])) == pytest.approx(4)


def test_many_images_are_judged_by_two_thousand() -> None:
    few = judged(5_000, 1.0, 0, True).few()
    assert len(few.index) == 2_000 and int(few.index[0]) == 0 and int(few.index[-1]) == 4_999


def test_sharper_answers_alone_are_no_reason_to_adapt() -> None:
    """Confidence is brought to what the source's labels bear out before two networks are compared."""
    plain = judged(400, 2.0, 0, True), judged(400, 2.0, 1, False)
    louder = tuple(Judged(own.index, own.features, 20 * own.logits, own.targets) for own in plain)
    assert figures(*louder)["target_entropy"] < figures(*plain)["target_entropy"] / 2
    first, second = Calibrated.of(louder[0], louder[1]), Calibrated.of(*plain)
    for name, own in first.estimates.items():
        assert own.value == pytest.approx(second.estimates[name].value, abs=0.02)
    assert Votes.of(first, second).preferring == Votes.of(first, second).against == 0


def test_a_network_that_separates_the_target_is_preferred() -> None:
    poor = Calibrated.of(judged(200, 3.0, 0, True), judged(200, 0.2, 1, False))
    good = Calibrated.of(judged(200, 3.0, 0, True), judged(200, 3.0, 1, False))
    for first, second, preferred in ((good, poor, True), (poor, good, False)):
        votes = Votes.of(first, second)
        assert votes.asked >= 2 and ((votes.preferring if preferred else votes.against) > votes.asked / 2)
    again = Calibrated.from_state(good.state())
    assert Votes.of(again, poor) == Votes.of(good, poor) and again.target_classes == good.target_classes
    for source, target in (((40, False), (40, False)), ((19, True), (40, False)), ((40, True), (19, False))):
        few = Calibrated.of(judged(source[0], 1.0, 0, source[1]), judged(target[0], 1.0, 1, target[1]))
        assert few.estimates == {} and Votes.of(few, poor) == Votes(0, 0, 0)
    for part in ("logits", "features"):
        broken = judged(40, 1.0, 1, False)
        getattr(broken, part)[3] = torch.nan
        assert Calibrated.of(judged(40, 1.0, 0, True), broken).estimates == {}


def test_exploded_weights_have_no_vote() -> None:
    """Domains that hardly overlap: deep embedded validation rests on few images, and is left out."""
    source, target = judged(200, 3.0, 0, True), judged(200, 3.0, 1, False)
    assert set(Calibrated.of(source, target).estimates) == {"information_maximisation", "bnm", "dev"}
    target.features = target.features + 20
    assert set(Calibrated.of(source, target).estimates) == {"information_maximisation", "bnm"}
    near = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
    assert judging.carrying_weights(near, near.flip(0)) == pytest.approx(torch.ones(100), rel=0.5)
    assert judging.carrying_weights(near, near + 20) is None


@pytest.mark.parametrize(
    ("asked", "preferring", "against", "said"),
    [
        (3, 3, 0, "adapt"),
        (3, 2, 1, "adapt"),
        (2, 2, 0, "adapt"),
        (1, 1, 0, "adapt"),
        (3, 1, 0, "it cannot be told"),
        (3, 1, 1, "it cannot be told"),
        (2, 1, 0, "it cannot be told"),
        (2, 1, 1, "it cannot be told"),
        (3, 1, 2, "do not adapt, as far as can be told: the other is the better one"),
        (3, 0, 1, "do not adapt, as far as can be told: the other is the better one"),
        (2, 0, 2, "do not adapt, as far as can be told: the other is the better one"),
        (3, 0, 0, "do not adapt, as far as can be told: the other is as good"),
    ],
)
def test_the_verdict_by_the_votes(asked: int, preferring: int, against: int, said: str) -> None:
    told = logged(asked, preferring, against)
    line = verdict.line(told, "the other")
    assert line.startswith(said) and f"{preferring} of {asked} validators clearly prefer" in line and "\n" not in line
    if said != "adapt":
        assert "label some target images" in line and f"{against} the other way round" in line
    if not preferring and not against:
        coarse = verdict.line({**told, "val/validators_margin": 0.12}, "the other")
        assert coarse.startswith("it cannot be told") and "below 0.12 in bnm" in coarse and "val_fraction" in coarse


def test_a_verdict_of_an_older_checkpoint() -> None:
    told = logged(3, 1, 2)
    del told["val/validators_against"], told["val/validators_margin"]
    assert verdict.line(told, "the other").startswith("do not adapt, as far as can be told: the other is the better")
    assert "nothing was fitted" in verdict.line({}, "a", "nothing was fitted")


def test_a_collapsed_comparison_does_not_win_by_default() -> None:
    """Sure answers to one class please some validators; that is no reason to leave the adaptation out."""
    told = logged(2, 0, 2) | {"val/compared_classes": 1.9}
    said = verdict.line(told, "runs/plain/model")
    assert said.startswith("it cannot be told whether adapting helped: 0 of 2 validators") and "1.9 equally" in said
    assert "\n" not in said and "label some target images" in said
    useless = {**logged(2, 2, 0), "val/accuracy": 0.283, "val/source_classes": 9.8}
    assert "but it has only 28.3% of the source's own validation images right" in verdict.line(useless, "a")
    assert "but" not in verdict.line({**useless, "val/accuracy": 0.6}, "a")
    lost = verdict.line({**logged(2, 2, 0), "val/target_classes": 8.0}, "a")
    assert "as many as 8.0 equally frequent classes, the other with 9.9: see in the predictions" in lost


def test_a_target_that_differs_in_class_frequencies_alone_is_no_reason_to_adapt() -> None:
    told = {**logged(3, 3, 0), "val/compared_distance": 0.12, "val/compared_classes": 5.0}
    said = verdict.line(told, "runs/plain/model")
    assert said.startswith("do not adapt, as far as can be told: 3 of 3 validators clearly prefer")
    assert "(proxy A-distance at most 0.12)" in said and "little but the classes' frequencies seems to differ" in said
    assert verdict.line({**told, "val/compared_distance": 1.9}, "a").startswith("adapt:")
    divided = {**logged(3, 1, 1), "val/compared_distance": 0.12}
    assert verdict.line(divided, "a").startswith("do not adapt, as far as can be told: 1 of 3 validators")
    worse = verdict.line({**logged(3, 0, 2), "val/compared_distance": 0.12}, "the plain one")
    assert worse.startswith("do not adapt, as far as can be told: the plain one is the better one")


def test_how_far_apart_what_is_answered_alike_may_be() -> None:
    source, target = judged(1600, 3.0, 0, True), judged(1600, 3.0, 1, False)
    rare = Judged(*(values[target.logits.argmax(1) == 0] for values in vars(target).values()))
    for own, alike in ((target, True), (rare, True), (judged(60, 3.0, 1, False), False)):
        found = Calibrated.of(source, own).with_distance(source, own)
        assert (found.apart <= verdict.ALIKE) == alike  # of few images it is not known
        assert Calibrated.from_state(found.state()).apart == found.apart
    far = Judged(target.index, target.features + 20, target.logits, target.targets)
    apart = Calibrated.of(source, far).with_distance(source, far)
    assert apart.apart >= 2 and verdict.figures(apart, apart)["compared_distance"] == apart.apart


def test_what_says_nothing_of_the_distance() -> None:
    """Too few images; a network that has learnt nothing."""
    source, target = judged(600, 3.0, 0, True), judged(600, 3.0, 1, False)
    few, ignorant = judged(19, 1.0, 1, False), judged(600, 3.0, 0, True, right=0.6)
    for first, second in ((source, few), (ignorant, target)):
        found = Calibrated.of(first, second)
        assert math.isnan(found.with_distance(first, second).apart)
        assert "compared_distance" not in verdict.figures(found, found)
    state = Calibrated.of(source, target).state()
    del state["apart"]  # an older checkpoint's
    assert math.isnan(Calibrated.from_state(state).apart)


def logged(asked: int, preferring: int, against: int) -> dict[str, float]:
    return {
        "val/validators_for_adapting": preferring / asked,
        "val/validators_against": against / asked,
        "val/validators_asked": float(asked),
        "val/validators_margin": 0.01,
        "val/compared_classes": 9.9,
        "val/target_classes": 9.8,
    }


@pytest.mark.parametrize(
    ("figures", "kept", "name"),
    [
        ({"train/adaptation_gradient": 0.0, "train/classification_gradient": 0.0}, False, "no_gradient"),
        ({"train/adaptation_gradient": 1e-5, "train/classification_gradient": 0.1}, False, "no_gradient"),
        ({"val/target_classes": 2.0, "val/source_answers": 9.8, "progress": 0.6}, False, "collapse"),
        ({"val/target_classes": 2.0, "val/source_answers": 9.8, "progress": 0.2}, True, "collapse"),
        ({"train/domain_accuracy": 0.99}, True, "told_apart"),
    ],
)
def test_each_alarm(figures: dict[str, float], kept: bool, name: str) -> None:
    found = alarms(figures, kept)
    assert list(found) == [name]
    assert "\n" not in found[name]


@pytest.mark.parametrize(
    ("figures", "kept"),
    [
        ({}, True),
        ({"train/adaptation_gradient": 0.0, "train/domain_accuracy": 0.99, "progress": 0.4}, False),
        ({"train/adaptation_gradient": 1e-6, "train/classification_gradient": 1e-5}, False),  # both have converged
        ({"val/target_classes": 2.0, "val/source_answers": 9.8, "progress": 0.2}, False),
        ({"val/target_classes": 2.0, "val/source_answers": 2.5, "val/source_classes": 9.8, "progress": 1.0}, True),
        (  # it has not learnt yet
            {"val/target_classes": 2.0, "val/source_answers": 5.0, "val/source_classes": 10.0, "val/accuracy": 0.19},
            True,
        ),
        ({"train/domain_accuracy": 1.0, "progress": 1.0}, False),  # is it kept?
    ],
)
def test_no_alarm(figures: dict[str, float], kept: bool) -> None:
    assert not alarms(figures, kept)


def test_the_cure_of_a_collapse_is_the_methods() -> None:
    few = {"val/target_classes": 2.0, "val/source_answers": 9.8}
    assert "lower --model.method.strength" in alarms(few, spread=DANN.spread)["collapse"]
    assert "strength" not in alarms(few, spread=CORAL.spread)["collapse"]
    assert "--model.method.curriculum true" in alarms(few, spread=SelfTraining.spread)["collapse"]


def test_the_cure_of_a_dead_gradient_is_the_methods() -> None:
    dead = {"train/adaptation_gradient": 0.0}
    assert "lower --model.method.threshold" in alarms(dead, cure=SelfTraining.cure)["no_gradient"]
    assert "raise --model.method.strength" in alarms(dead, cure=DANN.cure)["no_gradient"]
    assert "raise --model.method.weight" in alarms(dead, cure=CORAL.cure)["no_gradient"]


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_the_norm_of_what_flows_back(scale: float) -> None:
    x = torch.randn(3, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    norm = GradientNorm(x.device, scale)
    reading = norm.of(Reading(x, 2 * x))
    (reading.features.sum() / scale + 3 * reading.logits.sum() / scale + 100 * x.sum()).backward()
    assert float(norm.value) == pytest.approx(math.sqrt(6 * 1**2 + 6 * 3**2))  # what others make of x does not count


class Rows:
    """A DataModule of one-number images."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values.astype(np.float32)

    def images(self, rows: np.ndarray) -> np.ndarray:
        return self.values[rows]


class Net(nn.Module):
    """BatchNorm, dropout and one that does not move."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.drop, self.still = nn.BatchNorm1d(2), nn.Dropout(0.5), nn.BatchNorm1d(2).eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.still(self.drop(self.first(x)))


def test_statistics_are_those_of_the_images_in_whatever_order() -> None:
    values = np.sort(np.random.default_rng(0).normal(3, 2, (1_500, 2)), axis=0)  # sorted, as classes are in folders
    net = Net()
    net.still.eval()
    assert statistics.moving_norms(net) == [net.first]
    statistics.measure(net, [net.first], Rows(values), np.arange(1_500))
    assert torch.allclose(net.first.running_mean, torch.from_numpy(values.mean(0)).float(), atol=1e-4)  # type: ignore[arg-type]
    assert torch.allclose(net.first.running_var, torch.from_numpy(values.var(0, ddof=1)).float(), rtol=0.01)  # type: ignore[arg-type]
    assert net.first.momentum == 0.1 and net.first.training and net.drop.training and not net.still.training
    assert torch.equal(net.still.running_mean, torch.zeros(2))  # type: ignore[arg-type]


def test_statistics_are_given_back() -> None:
    net = Net()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with statistics.restored([net.first]):
        statistics.measure(net, [net.first], Rows(np.ones((8, 2))), np.arange(8))
        assert not torch.equal(net.state_dict()["first.running_mean"], before["first.running_mean"])
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
