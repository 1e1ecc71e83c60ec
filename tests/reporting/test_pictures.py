"""Pictures for a page and for TensorBoard, from the same arrays."""

from __future__ import annotations

import numpy as np

from ssl_transfer.reporting import Panel
from ssl_transfer.reporting.pictures import COLOURS, FeatureMap, ImageRows


def test_rows_below_each_other() -> None:
    images = np.full((4, 1, 8, 8), 200, np.uint8)
    picture = ImageRows("Views", {"Image": images, "View": images[:2]})
    pixels = picture.pixels()
    assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3
    assert (pixels[-20, 10] == 200).all() and (pixels[-20, -10] == 255).all()  # the second row is shorter
    assert "View" in picture.html() and picture.html().count("<img") == 2


def test_dots_in_the_colours_of_their_classes() -> None:
    points = np.array([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    picture = FeatureMap("Map", Panel("PCA", points), np.array([0, 1, -1]), ["ant", "bee"], np.zeros((3, 1, 8, 8)))
    pixels = picture.pixels(side=200)
    present = {f"#{r:02x}{g:02x}{b:02x}" for r, g, b in pixels.reshape(-1, 3)}
    assert {COLOURS[0], COLOURS[1]} <= present and pixels.shape == (200, 370, 3)
    unlabelled = FeatureMap("Map", Panel("PCA", points), np.full(3, -1), [], np.zeros((3, 1, 8, 8)))
    assert unlabelled.pixels(side=200).shape == (200, 200, 3) and "<svg" in unlabelled.html()


def test_colours_are_those_of_the_page() -> None:
    from ssl_transfer.reporting.page import asset

    assert all(f"--c{number}: {colour}" in asset("page.css") for number, colour in enumerate(COLOURS))
