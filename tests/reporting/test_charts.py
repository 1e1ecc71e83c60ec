"""Line charts, interval charts, confusion tables."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from ssl_transfer.reporting import ResultRow, confusion_html, interval_chart, line_chart
from ssl_transfer.reporting.charts import spread, ticks


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.83, 0.97), (-5, 12_345), (1e-7, 3e-7), (3, 3), (0, 0)])
def test_ticks_enclose_the_values_evenly(low: float, high: float) -> None:
    marks = ticks(low, high)
    steps = np.diff(marks)
    assert marks[0] <= low and marks[-1] >= high
    assert 2 <= len(marks) <= 10
    assert np.allclose(steps, steps[0], rtol=1e-3)


def test_labels_are_apart_and_inside() -> None:
    placed = spread([50, 51, 52, 200], 30, 0, 210)
    assert np.diff(sorted(placed)).min() >= 30
    assert min(placed) >= 0 and max(placed) <= 210


def test_a_line_chart_labels_its_lines_and_levels() -> None:
    html = line_chart(
        {"a <b>": [(0, 0.5), (1, 0.75)], "other": [(0, 0.6), (1, math.nan)]},
        x_label="epoch",
        y_label="accuracy",
        reference={"Raw pixels": 0.7},
        as_percent=True,
    )
    assert "a &lt;b&gt;" in html and "<b>" not in html
    for text in ("75.0\u00a0%", "60.0\u00a0%", "Raw pixels", "epoch", "accuracy"):
        assert text in html
    assert 'aria-label="accuracy over epoch. a &lt;b&gt; from 50.0\u00a0% to 75.0\u00a0%' in html
    assert "nan" not in html


def test_points_lie_where_the_scale_says() -> None:
    html = line_chart({"y": [(0, 0.0), (5, 10.0), (10, 5.0)]}, x_label="x", y_label="y", height=100)
    points = re.search(r'points="([^"]*)"', html)
    assert points is not None
    assert points.group(1) == "0.0,100.0 500.0,0.0 1000.0,50.0"


@pytest.mark.parametrize("series", [{}, {"a": []}, {"a": [(0, math.nan), (1, math.inf)]}])
def test_a_chart_of_nothing_says_so(series: dict[str, list[tuple[float, float]]]) -> None:
    assert "Nothing was recorded" in line_chart(series, x_label="x", y_label="y")


def test_a_single_point_is_drawn() -> None:
    assert "<circle" in line_chart({"a": [(3, 0.5)]}, x_label="x", y_label="y")


def test_an_interval_chart_is_sorted_and_tells_ours_from_floors() -> None:
    rows = [ResultRow("floor <i>", 0.5, 0.4, 0.6, "floor"), ResultRow("mine", 0.9, 0.8, 1.0, "ours")]
    html = interval_chart(rows)
    assert html.index("mine") < html.index("floor &lt;i&gt;")
    assert '<li class="ours"><span class="name">mine' in html
    assert 'x1="0.00%"' in html and 'x2="100.00%"' in html
    assert "Nothing was measured" in interval_chart([])


def test_a_row_outside_its_interval_is_a_mistake() -> None:
    with pytest.raises(AssertionError, match="wrong"):
        ResultRow("a", 0.5, 0.6, 0.7)


def test_a_small_confusion_matrix_is_a_table_of_counts() -> None:
    html = confusion_html(np.array([[8, 2], [0, 0]]), ["cat & dog", "none"])
    assert '<td style="--v:0.800">8</td><td style="--v:0.200">2</td><td class="recall">80\u00a0%' in html
    assert "cat &amp; dog" in html
    with pytest.raises(ValueError, match="shape"):
        confusion_html(np.zeros((2, 3)), ["a", "b"])


def test_many_classes_list_their_worst_confusions() -> None:
    counts = np.diag(np.full(100, 9))
    counts[3, 5] = 7
    html = confusion_html(counts, [f"class {i}" for i in range(100)])
    assert "class 3</th><td>class 5</td>" in html
    assert html.count("<tr") == 2
