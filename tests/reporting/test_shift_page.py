"""Rows of the page from made-up figures, and what it shows and escapes."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from ssl_transfer.evaluation.image_style import Style
from ssl_transfer.evaluation.label_shift import ClassShares
from ssl_transfer.evaluation.shift import Figure, Shift, Space
from ssl_transfer.evaluation.shift_verdict import judge
from ssl_transfer.reporting.shift_page import (
    ALIKE,
    COLUMNS,
    SHARES,
    Advice,
    Examples,
    distance_rows,
    explained_rows,
    share_rows,
    write_shift_page,
)

FAR = Figure(1.9, 1.85, 1.95, 0.02, 0.05)
MMD = Figure(0.2, 0.19, 0.21, -0.0001, 0.001)
SHIFT = Shift(
    (
        Space("pixels", FAR, MMD, MMD, 0.002, 0.5, 0.15, 0.3),
        Space("features", FAR, MMD, MMD, 0.002, 0.5, 0.15, matched=0.2),
    ),
    (Style(0.1, 0.3, 0.0, 28, 28), Style(0.5, 0.2, 0.2, 32, 32)),
    shares=ClassShares((0.5, 0.5), (0.9, 0.1), (0.8, 0.0), (1.0, 0.2), (0.7, 0.3), True),
    classes=("<b>", "b"),
    remarks=("something <i>was</i> left out",),
)


def test_rows() -> None:
    rows = distance_rows(SHIFT)
    assert rows[0] == ["A-distance", "pixels", "1.900", "1.850 to 1.950", "0.020"]
    assert rows[2] == ["MMD²", "pixels", "0.200", "0.190 to 0.210", "0.000"]
    assert rows[3] == ["p of MMD²", "pixels", "0.0020", "–", "0.50"] and all(len(row) == len(COLUMNS) for row in rows)
    assert [row[3] for row in explained_rows(SHIFT)] == ["100 %", "75 %", "100 %", "100 %", "75 %", "100 %"]
    assert [row[1] for row in explained_rows(SHIFT)] == 3 * ["pixels"] + 3 * ["features"]
    assert all(len(row) == len(ALIKE) for row in explained_rows(SHIFT))
    below = Figure(-0.001, -0.002, 0.0, 0.0, 0.001)
    nothing = replace(SHIFT, spaces=(replace(SHIFT.spaces[1], discrepancy=below),))
    assert [row[3] for row in explained_rows(nothing)] == ["–", "–", "–"]
    assert share_rows(SHIFT)[0] == ["<b>", "50.0", "90.0", "80.0 to 100.0", "70.0", "1.80"]
    assert all(len(row) == len(SHARES) for row in share_rows(SHIFT))


def test_the_page(tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (20, 3, 8, 8)).astype(np.uint8)
    examples = Examples(grey, grey[::-1], grey[:8], grey[8:16], grey[4:12])
    facts = [("source", "a & b"), ("features", "oriented_gradients")]

    def page(shift: Shift, *commands: str) -> str:
        advice = Advice(judge(shift), commands, "weights = 1" if commands else "")
        return write_shift_page(tmp_path / "shift.html", shift, advice, examples, facts).read_text("utf-8")

    large = page(SHIFT)
    assert "Do it" not in large and "a &amp; b" in large and "<i>was</i>" not in large
    assert "Something &lt;i&gt;was" in large and "directions of edges" in large
    assert large.count("<svg role=") == 3 and "Red" in large and not re.search(r"(?:src|href)=.?https?:", large)
    assert "Not told" in large and "&lt;b&gt;" not in large  # no table of classes where the estimate does not hold
    features = replace(SHIFT.spaces[1], matched=0.001)
    labels = page(replace(SHIFT, spaces=(SHIFT.spaces[0], features)), "fit --model A", "fit --model B")
    assert "&lt;b&gt;" in labels and "Label shift" in labels and "Saerens" in labels
    for told in ("The source alone: the floor", "Then this, compared with it", "fit --model B", "weights = 1"):
        assert told in labels
