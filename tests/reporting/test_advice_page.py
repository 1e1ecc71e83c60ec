"""Advice in words, rows and a page."""

from __future__ import annotations

import shlex
from pathlib import Path

from ssl_transfer.evaluation.advice import advise
from ssl_transfer.evaluation.measurements import Estimate, Measurements, Point
from ssl_transfer.reporting.advice_page import (
    COLUMNS,
    curve_rows,
    evidence_rows,
    figure_rows,
    folded,
    headline,
    how_to_read,
    write_advice_page,
)

RIGHT = tuple([1] * 60 + [0] * 40)
MEASURED = Measurements(
    labels=20,
    taught=40 / 3,
    estimates={
        "frozen": Estimate(RIGHT),
        "kNN": Estimate(RIGHT),
        "raw pixels": Estimate(RIGHT),
        "full": Estimate(RIGHT[::-1], 100, 600),
    },
    curve=(Point("kNN", 1.0, 0.3, 0.05), Point("kNN", 13.3, 0.6, 0.05), Point("linear", 13.3, 0.7, 0.04)),
    figures={"LogME": 0.123},
    remarks=("the images <of pretraining> are not here",),
)


def test_rows_are_what_was_measured() -> None:
    rows = evidence_rows(MEASURED, advise(MEASURED))
    assert all(len(row) == len(COLUMNS) for row in rows)
    assert [row[0] for row in rows] == ["frozen", "full, head first", "kNN", "raw pixels (floor)"]
    assert rows[0][1].startswith("60.0 ± ") and rows[0][2] == "–" and rows[1][5] == "100 of 600"
    assert sorted(row[4] for row in rows)[-1] == "advised"


def test_a_curve_is_a_row_a_probe() -> None:
    head, rows = curve_rows(MEASURED)
    assert head == ["labels a class", "1", "13.3"]
    assert rows == [["kNN", "30.0 ± 5.0", "60.0 ± 5.0"], ["linear", "", "70.0 ± 4.0"]]
    assert figure_rows(MEASURED)[0][:2] == ["LogME", "0.123"]


def test_a_folded_command_is_the_same_to_a_shell() -> None:
    command = shlex.join(["ssl-transfer", "fit", "--model", "A", "--data.source", "my photos/", "--x", "1"] * 4)
    lines = folded(command, 60)
    assert lines.count("\n") > 2 and max(map(len, lines.split("\n"))) < 80
    assert shlex.split(lines.replace("\\\n", "")) == shlex.split(command)


def test_a_folded_command_keeps_what_is_quoted() -> None:
    command = shlex.join(["fit", "--data.source", "my --odd  'photos'", "--x", "-1", "--steps", "[1, 2]"])
    lines = folded(command, 10)
    assert "'my --odd  '\"'\"'photos'\"'\"''" in lines
    assert shlex.split(lines.replace("\\\n", "")) == shlex.split(command)


def test_fewer_images_by_short_fits_are_told() -> None:
    short = {"frozen": Estimate(RIGHT), "full": Estimate(RIGHT[:33], 100, 600)}
    assert "100 labelled training images (33 of them by short fits)" in how_to_read(Measurements(20, 13, short))
    assert "by short fits" not in how_to_read(MEASURED)


def test_the_page(tmp_path: Path) -> None:
    advice = advise(MEASURED)
    page = write_advice_page(tmp_path / "a.html", MEASURED, advice, "ssl-transfer fit --x 1", [("encoder", "a")])
    text = page.read_text(encoding="utf-8")
    for told in ("<h2>Evidence</h2>", "ssl-transfer fit --x 1", "&lt;of pretraining&gt;", "LogME", advice.reason[:20]):
        assert told in text
    nothing = Measurements(1, 0, remarks=("class 'a' has one",))
    text = write_advice_page(tmp_path / "b.html", nothing, advise(nothing), "fit", []).read_text(encoding="utf-8")
    assert "Freeze the encoder" in text and "Evidence" not in text
    assert headline(advise(nothing)) == "Advice: freeze the encoder and fit a head (cannot tell)."
