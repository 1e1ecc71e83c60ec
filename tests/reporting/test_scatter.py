"""The interactive map."""

from __future__ import annotations

import json
import re

import numpy as np

from ssl_transfer.reporting import Panel, scatter


def _data(html: str) -> dict[str, list[object]]:
    found = re.search(r'<script type="application/json">(.*?)</script>', html)
    assert found is not None
    return dict(json.loads(found.group(1)))


def test_points_keep_their_proportions_and_order() -> None:
    points = np.array([[0.0, 0.0], [10.0, 0.0], [10.0, 5.0]])
    html = scatter([Panel("p", points)], np.array([0, 1, 1]), ["a", "b"], np.zeros((3, 1, 8, 8), np.uint8))
    assert _data(html)["xy"] == [[30, 735, 970, 735, 970, 265]]
    assert 'd="M30 735h0"' in html and 'd="M970 735h0M970 265h0"' in html


def test_names_cannot_leave_the_script_and_unlabelled_points_are_drawn() -> None:
    name = "</script><b>"
    html = scatter([Panel(name, np.eye(2))], np.array([-1, 0]), [name], np.zeros((2, 3, 4, 6)), caption=name)
    assert _data(html)["names"] == [name]
    assert "<b>" not in html.replace('<b class="thumb"', "")
    assert 'data-class="-1"' in html


def test_points_that_coincide_or_are_not_finite_are_placed() -> None:
    html = scatter([Panel("p", np.full((4, 2), np.nan))], np.zeros(4, int), ["a"], np.zeros((4, 1, 8, 8)))
    assert _data(html)["xy"] == [[500] * 8]


def test_many_large_thumbnails_stay_small() -> None:
    rng = np.random.default_rng(0)
    thumbnails = rng.integers(0, 256, (1800, 3, 32, 32), dtype=np.uint8)
    html = scatter(
        [Panel("p", rng.random((1800, 2)))], rng.integers(0, 40, 1800), [f"c{i}" for i in range(40)], thumbnails
    )
    assert len(html) < 1_500_000
    assert 'class="class-name"' not in html
