"""What is recommended of made-up figures."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from ssl_transfer.evaluation.image_style import Style
from ssl_transfer.evaluation.label_shift import ClassShares
from ssl_transfer.evaluation.shift import Figure, Shift, Space
from ssl_transfer.evaluation.shift_verdict import in_words, judge

STYLE = Style(0.3, 0.3, 0.0, 8, 8)
DARK = Style(0.1, 0.1, 0.0, 8, 8)
SAME = Figure(0.03, 0.0, 0.1, 0.03, 0.05)
NEAR = Figure(0.0, -0.001, 0.001, 0.0, 0.001)
LITTLE = Figure(0.004, 0.003, 0.006, 0.0, 0.002)  # 600 of MNIST's images against the next 600
FAR = Figure(0.2, 0.19, 0.21, 0.0, 0.001)
SHARES = ClassShares((0.5, 0.5), (0.8, 0.2), (0.7, 0.1), (0.9, 0.3), (0.8, 0.2), True)


def space(a: float, mmd: Figure, evened: float = 1.0, inverted: float = 1.0, matched: float = math.nan) -> Space:
    figure = replace(SAME, value=a, low=a - 0.05, high=a + 0.05)
    return Space("features", figure, NEAR, mmd, 0.5, 0.5, evened, inverted, matched)


def made_up(features: Space, pixels: Space | None = None, target: Style = STYLE, certain: bool | None = None) -> Shift:
    shares = None if certain is None else replace(SHARES, certain=certain)
    return Shift((pixels or replace(features, name="pixels"), features), (STYLE, target), shares, ("a", "b"))


@pytest.mark.parametrize(
    ("shift", "kind"),
    [
        (made_up(space(0.03, NEAR)), "none"),
        (made_up(space(0.12, NEAR)), "none"),
        (made_up(space(0.2, LITTLE)), "slight"),
        (made_up(space(0.2, LITTLE, evened=0.004)), "slight"),
        (made_up(space(0.7, LITTLE)), "slight"),
        (made_up(space(0.8, NEAR)), "slight"),
        (made_up(space(0.03, FAR)), "moderate"),  # seen by the one alone
        (made_up(space(1.9, NEAR)), "moderate"),
        (made_up(space(0.8, FAR)), "moderate"),
        (made_up(space(1.9, FAR, evened=0.15)), "large"),
        (made_up(space(1.9, FAR, evened=math.nan)), "large"),
        (made_up(space(1.9, FAR, evened=0.03)), "style"),
        (made_up(space(1.9, FAR, inverted=0.03)), "inverted"),
        (made_up(space(0.9, LITTLE), space(1.9, FAR, evened=0.001), DARK), "style"),  # features see no brightness
        (made_up(space(0.9, LITTLE), space(1.9, FAR, inverted=0.001), DARK), "inverted"),
        (made_up(space(0.9, LITTLE), space(1.9, FAR, evened=0.001)), "slight"),  # nor does the eye
        (made_up(space(1.9, FAR, evened=0.03, matched=0.01), certain=True), "labels"),
        (made_up(space(0.03, FAR, matched=0.01), certain=True), "labels"),
        (made_up(space(1.9, FAR, matched=0.01), certain=False), "large"),
        (made_up(space(1.9, FAR, matched=0.19), certain=True), "large"),
        (replace(made_up(space(1.9, FAR)), identical=True), "none"),
    ],
)
def test_the_verdict(shift: Shift, kind: str) -> None:
    assert judge(shift).kind == kind


def test_what_the_verdict_says() -> None:
    style = judge(made_up(space(1.8, FAR, evened=0.02), target=DARK))
    assert "errs on 5.0 % of images (proxy A-distance 1.80; 0.03 for" in style.reason and "90 % of what" in style.reason
    assert (
        style.reason.startswith("The target is poorer in contrast (0.10 against 0.30)") and "BatchNorm" in style.reason
    )
    slight = judge(made_up(space(0.2, LITTLE), certain=True))
    assert "start with the source alone" in slight.title and not slight.beware and slight.shares_hold
    assert judge(replace(made_up(space(1.9, FAR)), identical=True)).reason == "Source and target are the same images."


def test_features_that_stay_apart_are_told() -> None:
    pixels = space(1.9, FAR, evened=0.001)
    told = [judge(made_up(space(1.9, FAR, evened=e), pixels, DARK)).reason for e in (0.06, 0.19)]
    assert "remain apart" not in told[0] and "remain apart" in told[1]


def test_class_frequencies_are_told_where_they_can_be() -> None:
    labels = judge(made_up(space(0.03, FAR, matched=0.0), certain=True))
    large = judge(made_up(space(1.9, FAR, matched=0.2), certain=True))
    assert labels.shares_hold and "30 % of the target's images" in labels.beware
    assert not large.shares_hold and "cannot be told" in large.beware and "%" not in large.beware
    assert not judge(made_up(space(1.9, FAR, matched=0.2), certain=False)).beware
    few = replace(SHARES, target=(0.55, 0.45))  # too few to speak of
    assert not judge(replace(made_up(space(1.9, FAR, matched=0.0)), shares=few)).beware


def test_words_and_plain_types() -> None:
    shift = made_up(space(1.9, FAR, matched=0.2), certain=True)
    assert in_words(shift).startswith("Target images have the brightness")
    assert in_words(replace(shift, identical=True)) == "Source and target are the same images."
    brighter = replace(shift, styles=(STYLE, Style(0.6, 0.3, 0.2, 8, 8)))
    assert in_words(brighter) == "Target images are brighter (0.60 against 0.30) and in colour (0.20 against 0.00)."
    told = json.loads(json.dumps(shift.to_dict()))
    assert told["shares"]["moved"] == pytest.approx(0.3) and told["spaces"][0]["a_distance"]["value"] == 1.9
