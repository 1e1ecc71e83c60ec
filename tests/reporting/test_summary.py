"""The page of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ssl_transfer.reporting import ResultRow, image_grid, write_summary


def test_the_summary_holds_everything(tmp_path: Path, read_page: Callable[[str], str]) -> None:
    path = write_summary(
        tmp_path / "summary.html",
        "Classifier <b>",
        {
            "val/loss": 0.5,
            "test/loss": 0.25,
            "test/accuracy": 0.9123,
            "seed": 3,
            "wall_seconds": 134.0,
            "checkpoint": "a.ckpt",
        },
        "model:\n  init_args: <x>\n",
        curves={"train/loss": [(0, 2.0), (1, 1.0)], "empty": []},
        pictures=[("Mistakes", image_grid({"images": np.zeros((2, 1, 8, 8), np.uint8)}))],
        rows=[ResultRow("Raw pixels", 0.8, 0.7, 0.9, "floor", 3)],
        warnings=["2 files were left out"],
        confusion=(np.array([[3, 1], [0, 4]]), ["cat", "dog"]),
    )
    html = path.read_text(encoding="utf-8")
    text = read_page(html)
    for wanted in ("91.2 %", "test split", "0.9123", "2 min 14 s", "a.ckpt", "init_args: <x>", "train/loss", "Mistakes",
                   "Raw pixels", "2 files were left out", "dog", "Classifier <b>"):  # fmt: skip
        assert wanted in text
    assert "<a " not in html
    assert html.index("<dt>accuracy</dt>") < html.index("<dt>loss</dt>"), "the main figure comes first"


def test_a_bare_summary_is_whole(tmp_path: Path, read_page: Callable[[str], str]) -> None:
    html = write_summary(tmp_path / "summary.html", "Run", {"seed": 0}).read_text(encoding="utf-8")
    text = read_page(html)
    assert "seed" in text
    assert "Confusion" not in text and "Curves" not in text and "Configuration" not in text
