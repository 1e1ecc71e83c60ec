"""Numbers and words."""

from __future__ import annotations

import math

import pytest

from ssl_transfer.reporting.formats import duration, metric, number, percent, size


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (-3, "-3"), (1234567, "1,234,567"), (0.5, "0.500"), (12.345, "12.3"), (1e-9, "1.00e-09")],
)
def test_number(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize("show", [number, percent, duration, size])
def test_no_formatter_fails_on_what_a_diverged_run_gives(show: object) -> None:
    assert callable(show)
    assert show(math.nan) == "not a number"
    assert show(math.inf) == "infinite"


def test_metrics_are_shown_by_their_name() -> None:
    shown = {"val/top5_accuracy": 1.0, "wall_seconds": 59.6, "seed": 12345, "train/loss": 2.125, "checkpoint": None}
    texts = [metric(name, value).replace("\N{NO-BREAK SPACE}", " ") for name, value in shown.items()]
    assert texts == ["100.0 %", "60 s", "12345", "2.12", "none"]
