"""Learning curves and differences about zero: where the marks lie, what they say, what does not collide."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable

import pytest

from ssl_transfer.reporting.curves import DifferenceRow, LearningCurve, Point, difference_chart, learning_curves
from ssl_transfer.reporting.page import Page

BUDGETS = {10.0: "1", 100.0: "10", 1000.0: "all"}


def curve(name: str, *values: float, style: str = "s0", band: bool = False, half: float = 0.1) -> LearningCurve:
    points = [Point(10.0 * 10**k, value, value - half, value + half, f"{name} {k}") for k, value in enumerate(values)]
    return LearningCurve(name, points, style, band)


def test_points_lie_on_the_logarithm_of_the_labels() -> None:
    html = learning_curves([curve("a", 0.2, 0.4, 0.6, half=math.nan)], BUDGETS, height=100)
    line = re.search(r'<polyline class="s0" points="([^"]*)"', html)
    assert line is not None
    places = [tuple(map(float, point.split(","))) for point in line.group(1).split()]
    assert [x for x, _ in places] == [0, 500, 1000]
    assert places[0][1] - places[1][1] == pytest.approx(places[1][1] - places[2][1])
    for text in BUDGETS.values():
        assert f">{text}</text>" in html
    assert "nan" not in html, "no interval, no whisker"


def test_a_band_and_whiskers_hold_the_interval() -> None:
    html = learning_curves([curve("a", 0.4, 0.6, band=True), curve("b", 0.5, 0.5, style="floor f0")], BUDGETS)
    assert html.count('<polygon class="band s0"') == 1 and html.count('class="whisker floor f0"') == 2
    assert 'class="whisker s0"' not in html


def test_a_band_of_one_point_is_a_whisker() -> None:
    html = learning_curves([curve("a", 0.4, band=True)], BUDGETS)
    assert "polygon" not in html and html.count('class="whisker s0"') == 1


def test_names_at_the_ends_do_not_collide() -> None:
    curves = [curve(f"A method with a rather long name {k}", 0.5, 0.6, 0.9 + 0.001 * k) for k in range(7)]
    html = learning_curves(curves, BUDGETS)
    places = sorted(float(y) for y in re.findall(r'<text class="end s0" x="100%" y="([\d.]+)"', html))
    rows = html.count("<tspan") / 7
    height = float(re.findall(r'width="100%" height="(\d+)"', html)[0])
    assert len(places) == 7 and places[0] >= 0
    assert min(b - a for a, b in itertools.pairwise(places)) >= 15 * rows
    assert places[-1] + 15 * (rows - 1) <= height + 30


def test_every_point_tells_itself_and_names_are_escaped() -> None:
    html = learning_curves([curve("<b>", 0.4, 0.6)], BUDGETS)
    assert html.count("<title>&lt;b&gt;") == 2 and "<b>" not in html


def test_a_curve_that_ends_early_says_where() -> None:
    html = learning_curves([curve("a", 0.4, 0.6, 0.7), curve("b", 0.4, 0.5)], BUDGETS)
    assert "50.0\u00a0% at 10<" in html and "70.0\u00a0%<" in html


def test_ticks_too_close_keep_their_place_but_not_their_text() -> None:
    html = learning_curves([curve("a", 0.4, 0.6, 0.7)], {10.0: "1", 900.0: "90", 1000.0: "all"})
    assert ">all</text>" in html and ">90</text>" not in html


def test_nothing_says_so() -> None:
    assert "Nothing was measured" in learning_curves([], BUDGETS)
    assert "Nothing was measured" in learning_curves([LearningCurve("a", [], "s0")], BUDGETS)
    assert "Nothing was measured" in difference_chart({"": []})


def test_differences_stand_about_zero(read_page: Callable[[str], str]) -> None:
    rows = [
        DifferenceRow("up", 0.1, 0.05, 0.15, "helps", "+10.0"),
        DifferenceRow("down", -0.05, -0.1, 0.0, "unclear", "-5.0", "a <note>"),
        DifferenceRow("unknown", 0.02, math.nan, math.nan, "unclear", "+2.0"),
        DifferenceRow("none", math.nan, math.nan, math.nan, "unclear", "no seed in common"),
    ]
    html = difference_chart({"": rows[:1], "Second": rows[1:]}, note="What it is.")
    zero = re.search(r'class="zero" x1="([\d.]+)%"', html)
    dots = [float(x) for x in re.findall(r'<circle cx="([\d.]+)%"', html)]
    assert zero is not None and len(dots) == 3
    assert dots[1] < float(zero.group(1)) < dots[2] < dots[0]
    assert html.count('class="interval"') == 2 and "nan" not in html
    assert html.count('<li class="helps">') == 1
    text = read_page(Page("Page").add(html).html())
    for told in ("up", "Second", "a <note>", "no seed in common", "What it is.", "+10", "-10"):
        assert told in text


def test_only_losses_still_show_zero() -> None:
    html = difference_chart({"": [DifferenceRow("a", -0.1, -0.15, -0.05, "hurts", "-10.0")]})
    zero = re.search(r'class="zero" x1="([\d.]+)%"', html)
    assert zero is not None and float(zero.group(1)) == 100
