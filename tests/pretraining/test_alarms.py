"""Each warning comes when it should, names the cure, and stays away from healthy runs."""

from __future__ import annotations

import pytest

from ssl_transfer.pretraining.alarms import alarms

HEALTHY = {
    **{"loss": 2.9, "chance_loss": 5.54, "rankme": 56.0, "feature_std": 0.48, "view_difference": 0.24, "progress": 1.0},
    **{"data_wait_share": 0.01, "knn_accuracy": 0.97, "knn_accuracy_raw_pixels": 0.975, "queries": 1000, "steps": 500},
}


def test_a_healthy_run_is_left_alone() -> None:
    assert alarms(HEALTHY) == {} and alarms({}) == {}


@pytest.mark.parametrize(
    ("name", "figures", "cure"),
    [
        ("collapse", {"feature_std": 0.01, "rankme": 1.1}, "lower --model.optimisation.lr"),
        ("rank_one", {"rankme": 1.2}, "lower --model.optimisation.lr"),
        ("saturated", {"loss": 5.53}, "--model.temperature"),
        ("saturated", {"loss": 855.0}, "--model.temperature"),
        ("views_identical", {"view_difference": 0.0}, "--model.views"),
        ("data_starved", {"data_wait_share": 0.5}, "--data.memory_budget"),
        ("below_floor", {"knn_accuracy": 0.9}, "train longer"),
        ("few_steps", {"steps": 15}, "lower --data.batch_size"),
    ],
)
def test_a_warning_and_its_cure(name: str, figures: dict[str, float], cure: str) -> None:
    found = alarms({**HEALTHY, **figures})
    assert list(found) == [name] and cure in found[name] and "\n" not in found[name]


def test_the_floor_is_judged_at_the_end_only() -> None:
    assert alarms({**HEALTHY, "knn_accuracy": 0.5, "progress": 0.5}) == {}


def test_a_short_wait_is_no_reason() -> None:
    """An epoch of a tenth of a second waits for the machine's mood."""
    assert alarms({**HEALTHY, "data_wait_share": 0.5, "seconds_waited": 0.05}) == {}
    assert list(alarms({**HEALTHY, "data_wait_share": 0.5, "seconds_waited": 5.0})) == ["data_starved"]


def test_few_images_and_few_steps_prove_nothing() -> None:
    few = {**HEALTHY, "queries": 20}
    assert alarms({**few, "feature_std": 0.0, "rankme": 1.0, "knn_accuracy": 0.9}) == {}
    assert alarms({**HEALTHY, "loss": 5.6, "steps": 8, "progress": 0.1}) == {}
