"""Trials: their JSON, what is chosen on what, paired differences and labels saved, against closed forms."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from ssl_transfer.evaluation.evidence import (
    Kind,
    Trial,
    best,
    budgets,
    cells,
    compare,
    labels_saved,
    mean_accuracy,
    pack,
    paired_difference,
    unpack,
)


def trial(
    method: str = "Linear",
    kind: Kind = "ours",
    *,
    budget: int | None = 10,
    seed: int = 0,
    accuracy: float = 0.8,
    val: float | None = None,
    right: np.ndarray | None = None,
) -> Trial:
    labels = 6000 if budget is None else 10 * budget
    bits = None if right is None else pack(right)
    return Trial("e" if kind == "ours" else "", method, kind, budget, labels, seed, accuracy, val, 0.1, 2.0, bits)


def test_a_trial_survives_json() -> None:
    one = trial(budget=None, val=0.7, right=np.array([True, False, True]))
    assert Trial.from_json(json.loads(json.dumps(one.to_json()))) == one


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 1000])
def test_packed_answers_come_back(count: int) -> None:
    right = np.random.default_rng(count).uniform(size=count) < 0.5
    assert np.array_equal(unpack(pack(right)), right)
    assert len(pack(right)) < 20 + count / 5


def test_one_seed_is_the_interval_of_agresti_and_min() -> None:
    """Wald+2: b and c images that only one of the two names correctly, of n."""
    n, b, c = 100, 9, 3
    first = np.array([True] * b + [False] * c + [True] * (n - b - c))
    second = np.array([False] * b + [True] * c + [True] * (n - b - c))
    found = paired_difference(
        [trial(accuracy=first.mean(), right=first)], [trial(accuracy=second.mean(), right=second)]
    )
    half = 1.959964 * math.sqrt((b + c + 1) - (c - b) ** 2 / (n + 2)) / (n + 2)
    assert found.mean == pytest.approx(0.06)
    assert found.half == pytest.approx(half, rel=1e-6)
    assert (found.count, found.over) == (1, "images")


def test_two_methods_that_agree_on_every_image_are_not_certainly_equal() -> None:
    right = np.ones(20, bool)
    found = paired_difference([trial(accuracy=1.0, right=right)], [trial(accuracy=1.0, right=right)])
    assert found.mean == 0 and found.half > 0.01 and found.effect == "unclear"


def test_methods_that_ignore_their_seed_are_not_certain() -> None:
    """All labels, no chance: the seeds repeat each other, and a difference of one image in 50 says nothing."""
    first, second = np.arange(50) < 40, np.arange(50) < 39
    ours = [trial(accuracy=0.80, seed=seed, right=first) for seed in range(5)]
    floor = [trial(accuracy=0.78, seed=seed, right=second) for seed in range(5)]
    assert paired_difference(ours, floor).effect == "unclear"


def test_pairing_takes_the_common_seeds_and_their_common_luck() -> None:
    ours = [trial(seed=seed, accuracy=value) for seed, value in ((0, 0.6), (1, 0.8), (2, 0.7), (9, 0.1))]
    floor = [trial(seed=seed, accuracy=value) for seed, value in ((2, 0.64), (1, 0.75), (0, 0.55), (8, 0.9))]
    found = paired_difference(ours, floor)
    assert found.count == 3 and found.mean == pytest.approx(0.16 / 3)
    assert found.effect == "helps", "the spread over seeds is common to both"
    none = paired_difference(ours[3:], floor)
    assert none.count == 0 and math.isnan(none.mean) and not none.known


def test_without_answers_the_seeds_alone_tell() -> None:
    right = np.ones(10, bool)
    ours = [trial(seed=0, accuracy=0.8, right=right), trial(seed=1, accuracy=0.9)]
    floor = [trial(seed=0, accuracy=0.7, right=right), trial(seed=1, accuracy=0.7)]
    assert paired_difference(ours, floor).over == "seeds"
    assert mean_accuracy(ours).over == "seeds"


def test_an_accuracy_stays_a_share() -> None:
    right = np.ones(30, bool)
    found = mean_accuracy([trial(accuracy=1.0, right=right)])
    assert found.high == 1.0 and 0.8 < found.low < 1.0


@pytest.mark.parametrize("wrong", [0, 1, 29, 30])
def test_half_an_interval_that_was_cut_is_the_half_that_was_not(wrong: int) -> None:
    right = np.arange(30) >= wrong
    found = mean_accuracy([trial(accuracy=right.mean(), right=right)])
    share, n = (30 - wrong + 2) / 34, 34
    assert found.half == pytest.approx(1.959964 * math.sqrt(share * (1 - share) / n), rel=1e-6)
    assert found.half > (found.high - found.low) / 2


def test_points_with_as_many_labels_stay_in_their_order() -> None:
    found = labels_saved([(10, 0.6), (10, 0.3)], [(10, 0.2), (1000, 0.8)])
    assert [one.accuracy for one in found] == [0.6, 0.3]


def test_one_of_several_budgets_must_be_clear_by_a_wider_interval() -> None:
    """Differences whose own intervals just leave zero out: clear where one budget is compared, not where five are."""
    values = (0.02, 0.04, 0.04)
    ours = [trial(budget=b, seed=s, accuracy=0.5 + v) for b in (1, 2, 3, 4, 5) for s, v in enumerate(values)]
    floor = [trial("PCA", "floor", budget=b, seed=s, accuracy=0.5) for b in (1, 2, 3, 4, 5) for s in range(3)]
    alone = compare([one for one in ours + floor if one.budget == 1])
    assert alone[0].effect == alone[0].difference.effect == "helps"
    several = compare(ours + floor)
    assert [one.difference for one in several] == [alone[0].difference] * 5
    level = [paired_difference(ours[:3], floor[:3], 0.99).effect] * 5
    assert [one.effect for one in several] == level and [one.clear for one in several] == [False] * 5


def test_cells_and_budgets_are_in_order() -> None:
    trials = [trial(budget=None), trial("kNN", budget=50), trial(budget=5), trial(budget=5, accuracy=0.9)]
    assert budgets(trials) == [5, 50, None]
    found = cells(trials)
    assert [(cell.method, cell.budget) for cell in found] == [("Linear", None), ("kNN", 50), ("Linear", 5)]
    assert found[2].accuracy.mean == 0.9, "a seed measured twice counts once, as last"


def test_ours_is_chosen_on_validation_and_never_on_the_test_split() -> None:
    trials = [trial("good on test", accuracy=0.99, val=0.5), trial("good on validation", accuracy=0.6, val=0.7)]
    choice = best(trials, "ours", 10)
    assert choice is not None and (choice.cell.method, choice.by) == ("good on validation", "validation")
    blind = best([replace(one, val_accuracy=None) for one in trials], "ours", 10)
    assert blind is not None and (blind.cell.method, blind.by) == ("good on test", "order")
    swapped = best([replace(one, val_accuracy=None) for one in reversed(trials)], "ours", 10)
    assert swapped is not None and swapped.cell.method == "good on validation", "the first, whatever the test says"
    half = best([trials[0], replace(trials[1], val_accuracy=None)], "ours", 10)
    assert half is not None and half.cell.method == "good on test"


def test_the_strongest_floor_on_the_test_split_stands() -> None:
    trials = [trial("PCA", "floor", accuracy=0.5, val=0.9), trial("From scratch", "floor", accuracy=0.6, val=0.1)]
    choice = best(trials, "floor", 10)
    assert choice is not None and (choice.cell.method, choice.by) == ("From scratch", "test")
    assert best(trials, "ours", 10) is None and best(trials, "floor", 5) is None
    only = best(trials[:1], "floor", 10)
    assert only is not None and only.by == ""


def test_a_choice_compares_the_same_draws() -> None:
    """An unlucky draw that only one method has met must not decide; a method just begun does not compete."""
    full = [trial("full", "floor", seed=seed, accuracy=0.3 if seed == 3 else 0.7) for seed in range(4)]
    part = [trial("part", "floor", seed=seed, accuracy=0.65) for seed in range(3)]
    begun = [trial("begun", "floor", seed=0, accuracy=0.99)]
    choice = best(full + part + begun, "floor", 10)
    assert choice is not None and choice.cell.method == "full"


def test_comparisons_are_the_budgets_that_have_both() -> None:
    trials = [trial(budget=1), trial(budget=5), trial("PCA", "floor", budget=5), trial("PCA", "floor", budget=10)]
    assert [one.budget for one in compare(trials)] == [5]


def test_labels_saved_between_and_beyond_what_was_measured() -> None:
    floor = [(10, 0.2), (100, 0.4), (1000, 0.8)]
    found = labels_saved([(10, 0.1), (20, 0.3), (100, 0.4), (200, 0.6), (1000, 0.9), (2000, 0.2)], floor)
    assert [one.bound for one in found] == ["fewer", "", "", "", "more", ""]
    needed = [10, 10**1.5, 100, 10**2.5, 1000, 10]
    assert [one.needed for one in found] == pytest.approx(needed)


def test_labels_saved_on_a_floor_that_dips() -> None:
    """The dip and its neighbour become their mean, 0.5, first reached with 10 labels."""
    floor = [(1, 0.3), (10, 0.6), (100, 0.4), (1000, 0.9)]
    found = labels_saved([(1, 0.5), (1, 0.4), (1, 0.7)], floor)
    assert sorted(one.needed for one in found) == pytest.approx([10**0.5, 10, 10**2.5])


def test_labels_saved_with_one_point_or_none() -> None:
    assert labels_saved([(10, 0.5)], []) == []
    assert [one.bound for one in labels_saved([(10, 0.5), (10, 0.3)], [(10, 0.4)])] == ["more", "fewer"]
