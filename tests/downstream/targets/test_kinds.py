"""A class, several labels, a number: losses by hand, what is missing left out, descriptions that say all."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ssl_transfer.data.records import make_targets
from ssl_transfer.downstream.targets import ClassTarget, Column, MultiLabelTarget, RegressionTarget, TargetKind
from ssl_transfer.downstream.targets.targets import KINDS

NAN = float("nan")
CLASS = ClassTarget("kind", ["ant", "bee", "cat"])
LABELS = MultiLabelTarget("marks", ["round", "red"])
NUMBER = RegressionTarget("age", mean=40.0, deviation=10.0)


def column(values: Any, name: str = "x") -> Column:
    return Column(name, *make_targets(values))


def test_a_class_s_loss() -> None:
    outputs = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [5.0, 5.0, 5.0]])
    values = torch.tensor([0, 2, -1])
    by_hand = -(outputs[0].log_softmax(0)[0] + outputs[1].log_softmax(0)[2]) / 2
    torch.testing.assert_close(CLASS.loss(outputs, values), by_hand)
    assert float(CLASS.loss(outputs, torch.full((3,), -1))) == 0.0
    smooth = ClassTarget("kind", CLASS.classes, smoothing=0.3)
    aims = F.one_hot(values[:2], 3) * 0.7 + 0.1
    torch.testing.assert_close(smooth.loss(outputs, values), -(aims * outputs[:2].log_softmax(1)).sum(1).mean())


def test_a_label_s_loss() -> None:
    outputs = torch.tensor([[1.0, -2.0], [0.5, 3.0]])
    values = torch.tensor([[1.0, 0.0], [NAN, NAN]])
    by_hand = -(torch.sigmoid(torch.tensor(1.0)).log() + torch.sigmoid(torch.tensor(2.0)).log()) / 2
    torch.testing.assert_close(LABELS.loss(outputs, values), by_hand)
    smooth = MultiLabelTarget("marks", LABELS.classes, smoothing=0.2)
    aims = torch.tensor([[0.9, 0.1]])
    torch.testing.assert_close(smooth.loss(outputs, values), F.binary_cross_entropy_with_logits(outputs[:1], aims))
    weighted = MultiLabelTarget("marks", LABELS.classes, weights=[3.0, 1.0])
    by_hand = -(3 * torch.sigmoid(torch.tensor(1.0)).log() + torch.sigmoid(torch.tensor(2.0)).log()) / 2
    torch.testing.assert_close(weighted.loss(outputs, values), by_hand)


def test_a_number_s_loss_is_of_the_standardised_number() -> None:
    outputs = torch.tensor([[1.0], [0.0], [7.0]])
    values = torch.tensor([60.0, 40.0, NAN])
    assert float(NUMBER.loss(outputs, values)) == pytest.approx((1.0 + 0.0) / 2)
    torch.testing.assert_close(NUMBER.answer(outputs), torch.tensor([[50.0], [40.0], [110.0]]))


def test_a_mixture_of_losses_teaches_as_the_loss_of_a_mixture() -> None:
    """What mixup rests on: of soft classes and labels it is the same loss, of numbers the same gradient."""
    torch.manual_seed(0)
    share = 0.3
    numbers, other = torch.tensor([35.0, 50.0]), torch.tensor([50.0, 35.0])
    outputs = torch.randn(2, 1, requires_grad=True)
    apart = share * NUMBER.loss(outputs, numbers) + (1 - share) * NUMBER.loss(outputs, other)
    mixed = NUMBER.loss(outputs, share * numbers + (1 - share) * other)
    torch.testing.assert_close(*(torch.autograd.grad(loss, outputs)[0] for loss in (apart, mixed)))
    labels = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    logits = torch.randn(2, 2)
    apart = share * LABELS.loss(logits, labels) + (1 - share) * LABELS.loss(logits, labels.flip(0))
    torch.testing.assert_close(apart, LABELS.loss(logits, share * labels + (1 - share) * labels.flip(0)))


def test_nothing_known_still_has_a_gradient() -> None:
    for kind, values in (
        (CLASS, torch.tensor([-1])),
        (LABELS, torch.tensor([[NAN, NAN]])),
        (NUMBER, torch.tensor([NAN])),
    ):
        outputs = torch.ones(1, kind.width, requires_grad=True)
        kind.loss(outputs, values).backward()
        assert outputs.grad is not None and not outputs.grad.any()


def test_balanced_weights_make_every_class_count_alike() -> None:
    train = column(["a"] * 6 + ["b"] * 2 + [None])
    kind = ClassTarget.of(train, np.arange(9), weights="balanced")
    assert kind.weights is not None
    np.testing.assert_allclose(kind.weights, [8 / 12, 8 / 4])  # N / (K n), as scikit-learn's
    outputs = torch.randn(9, 2, generator=torch.Generator().manual_seed(0))
    values = torch.from_numpy(train.values)
    rows = F.cross_entropy(outputs[:8], values[:8], reduction="none")
    torch.testing.assert_close(kind.loss(outputs, values), (rows[:6].mean() + rows[6:].mean()) / 2)
    given = ClassTarget.of(train, np.arange(9), weights={"b": 3.0, "a": 1.0})
    assert given.weights == [1.0, 3.0]
    labels = MultiLabelTarget.of(column([["a"], ["a", "b"], ["a"], []]), np.arange(4), weights="balanced")
    assert labels.weights == [1 / 3, 3.0]


def test_what_is_measured_is_measured_on_training_images() -> None:
    kind = RegressionTarget.of(column([1.0, 3.0, None, 900.0]), np.array([0, 1, 2]))
    assert (kind.mean, kind.deviation) == (2.0, 1.0)


def test_what_a_person_is_told() -> None:
    assert CLASS.told(torch.tensor([[0.1, 0.2, 0.7]])) == ["cat"]
    assert LABELS.told(torch.tensor([[0.5, 0.4], [0.9, 0.8], [0.0, 0.1]])) == [["round"], ["round", "red"], []]
    assert NUMBER.told(torch.tensor([[1.5]])) == [1.5]


@pytest.mark.parametrize("kind", [CLASS, LABELS, NUMBER], ids=lambda kind: str(kind.kind))
def test_a_description_says_all(kind: TargetKind) -> None:
    told = json.loads(json.dumps(kind.describe()))
    assert KINDS[told["kind"]].from_description(told) == kind


def test_another_source_s_classes_are_found_by_name() -> None:
    kind = ClassTarget.of(column(["ant", "bee", "cat"]), np.arange(3))
    assert kind.read(column(["cat", None, "ant"])).tolist() == [2, -1, 0]
    assert kind.read(column([None, None])).tolist() == [-1, -1]
    labels = MultiLabelTarget.of(column([["a"], ["b", "c"]]), np.arange(2))
    assert labels.read(column([["c"], ["a", "c"], None])).tolist()[:2] == [[0, 0, 1], [1, 0, 1]]
    assert np.isnan(labels.read(column([["c"], None])))[1].all()
    assert np.isnan(labels.read(column([None, None]).as_kind("multi_label"))).all()
    with pytest.raises(ValueError, match=r"target 'x' has 'dog' here and had no such class in the fit: known are ant"):
        kind.read(column(["dog", "ant"]))


def test_one_kind_read_as_another() -> None:
    ages = column([3, None, 40])
    assert (ages.kind, ages.as_kind("class").classes) == ("class", ["3", "40"])
    np.testing.assert_equal(ages.as_kind("regression").values, np.array([3, NAN, 40], np.float32))
    whole = column([2.0, None, 1.0]).as_kind("class")
    assert whole.classes == ["1", "2"] and whole.values.tolist() == [1, -1, 0]
    labels = column(["b", None, "a"]).as_kind("multi_label")
    np.testing.assert_equal(labels.values, np.array([[0, 1], [NAN, NAN], [1, 0]], np.float32))
    assert np.isnan(column([None]).as_kind("regression").values).all()


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        (["old", "12"], "regression", "cannot be regression: its column holds 'old', no number"),
        ([0.5, 1.0], "class", r"cannot be class: its column holds 0\.5, no whole number"),
        ([0.5, 1.0], "multi_label", "cannot be multi_label: its column holds numbers"),
        ([["a"], ["b"]], "class", "cannot be class: its column holds several labels an image"),
    ],
)
def test_what_cannot_be_read_as_another_kind(values: Any, kind: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"target 'x' {message}"):
        column(values).as_kind(kind)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["a", "a"], "has one class only, 'a'"),
        ([None, None], "has no labels"),
        ([2.5, 2.5], r"is 2\.5 for every training image"),
        ([float("inf"), 1.0], "holds an infinite number"),
        ([["a"], ["a"]], "the training images all have the same labels"),
    ],
)
def test_nothing_to_learn(values: Any, message: str) -> None:
    given = column(values)
    with pytest.raises(ValueError, match=f"target 'x' ?:? ?{message}"):
        KINDS[given.kind].of(given, np.arange(2))


def test_no_training_image_has_it() -> None:
    for values in (["a", "b", None], [0.5, 1.0, None], [["a"], ["b"], None]):
        given = column(values)
        with pytest.raises(ValueError, match="no training image has a"):
            KINDS[given.kind].of(given, np.array([2]))


def test_every_class_needs_its_weight() -> None:
    with pytest.raises(
        ValueError, match=r"class_weights must name every class .* 'b' is not in both; the classes are a"
    ):
        ClassTarget.of(column(["a", "b"]), np.arange(2), weights={"a": 1.0})
