"""Conformal calibration: p-values by counting, thresholds that agree with them, and the promised rate."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ssl_transfer.downstream.conformal import ConformalCalibration


def test_p_values_by_counting() -> None:
    held_out = [3.0, 1.0, 2.0, 2.0]
    calibration = ConformalCalibration(held_out)
    scores = np.array([[0.0, 1.0, 2.0], [2.5, 3.0, 9.0]])
    expected = [[(1 + sum(h >= s for h in held_out)) / 5 for s in row] for row in scores]
    np.testing.assert_allclose(calibration.p_values(scores), expected)


@pytest.mark.parametrize("count", [19, 99, 100, 137, 999])
@pytest.mark.parametrize("rate", [0.05, 0.1, 0.29, 0.07, 0.5, 0.99])
def test_above_the_threshold_is_a_p_value_at_most_the_rate(count: int, rate: float) -> None:
    held_out = np.random.default_rng(count).integers(0, 50, count).astype(float)  # with ties
    calibration = ConformalCalibration(held_out)
    scores = np.arange(-1, 52, 0.5)
    np.testing.assert_array_equal(scores > calibration.threshold(rate), calibration.p_values(scores) <= rate)


def test_the_rate_is_kept_on_average() -> None:
    rng = np.random.default_rng(0)
    for rate in (0.1, 0.05, 0.01):
        alarms = [
            float((rng.exponential(size=500) > ConformalCalibration(rng.exponential(size=199)).threshold(rate)).mean())
            for _ in range(400)
        ]
        assert abs(float(np.mean(alarms)) - rate) < 4 * float(np.std(alarms)) / 400**0.5


@pytest.mark.parametrize(("rate", "needed"), [(0.01, 99), (0.05, 19), (0.1, 9), (0.001, 999), (0.3, 3)])
def test_too_few_held_out_images_give_one_warning(rate: float, needed: int) -> None:
    scores = np.arange(float(needed))
    with pytest.warns(UserWarning, match=f"at least {needed} held-out .* there are {needed - 1}") as caught:
        assert ConformalCalibration(scores[:-1]).threshold(rate) == math.inf
    assert len(caught) == 1 and "\n" not in str(caught[0].message)
    assert ConformalCalibration(scores).threshold(rate) == needed - 1  # just enough: the highest


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="there are none"):
        ConformalCalibration([])
    with pytest.raises(ValueError, match="1 of 2 calibration scores are NaN"):
        ConformalCalibration([1.0, math.nan])
    calibration = ConformalCalibration([1.0, 2.0])
    with pytest.raises(ValueError, match="have no p-value"):
        calibration.p_values([math.nan])
    for rate in (0.0, 1.0, -1.0):
        with pytest.raises(ValueError, match="between 0 and 1"):
            calibration.threshold(rate)
    assert calibration.p_values(5.0) == pytest.approx(1 / 3)


@pytest.mark.parametrize("count", [1, 12, 36, 60, 99, 250])
def test_the_rate_that_the_warning_allows_is_allowed(count: int) -> None:
    calibration = ConformalCalibration(np.arange(count))
    with pytest.warns(UserWarning, match="allow a rate of") as caught:
        calibration.threshold(1e-4)
    allowed = float(str(caught[0].message).split("rate of ")[-1].split(" ")[0])
    assert np.isfinite(calibration.threshold(allowed))
