"""`compare`: finished runs side by side, and which of them is the best on validation images."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ssl_transfer.files import whole_file
from ssl_transfer.reporting.formats import duration, number
from ssl_transfer.running.compared import ComparedRuns, compare_runs, shared_figures
from ssl_transfer.running.compared_run import ComparedRun

LABEL_WIDTH, RUN_WIDTH = 36, 21


def compare(runs: list[str], by: str | None = None, out: str | None = None) -> int:
    """Compare finished runs: what they were told differently, and what they reached on validation images, best first.

    Example: ssl-transfer compare runs/source_only runs/dann runs/cdan --by val/bnm

    No image is read again, and no run is chosen by a test: its figures are in the table of `out` alone.

    Args:
        runs: the folders of two or more finished runs.
        by: the figure that decides, such as val/accuracy; by default the one by which the runs chose their epochs.
        out: a CSV file to write, a row a run with every figure, those of a test included.
    """
    target = None if out is None else _target(out)
    found = compare_runs(runs, by)
    console = Console(highlight=False, emoji=False)
    if not console.is_terminal:
        console = Console(highlight=False, emoji=False, width=120)
    for table in tables(found, console.width):
        console.print(table)
    best = found.runs[0]
    against = ", but its verdict is not to adapt" if best.verdict.startswith("do not") else ""
    for told in (*found.remarks, f"best by {found.by}: {best.name}{against}"):
        console.print(escape(told), soft_wrap=True)
    if target is not None:
        _write(found.rows(), target)
        console.print(f"wrote {escape(str(out))}", soft_wrap=True)
    return 0


def _target(out: str) -> Path:
    path = Path(out).expanduser()
    if path.is_dir():
        raise ValueError(f"--out {out} is a folder: give the CSV file to write")
    blocked = [folder for folder in path.parents if folder.exists() and not folder.is_dir()]
    if blocked:
        raise ValueError(f"--out {out}: {blocked[0]} is a file, not a folder")
    return path


def tables(found: ComparedRuns, width: int) -> list[Table]:
    """As many runs side by side as the width has room for, best first."""
    room = max(1, (width - LABEL_WIDTH) // RUN_WIDTH)
    parts = [found.runs[start : start + room] for start in range(0, len(found.runs), room)]
    return [_table(found, part) for part in parts]


def _table(found: ComparedRuns, runs: tuple[ComparedRun, ...]) -> Table:
    table = Table("", *(escape(run.name) for run in runs))
    for column in table.columns:
        column.overflow = "fold"
    for column in table.columns[1:]:
        column.justify = "right"
    for name in found.differing:
        table.add_row(escape(name), *(escape(_short(run.settings.get(name, "–"))) for run in runs))
    table.add_section()
    table.add_row(found.by, *(_figure(run, found.by) for run in runs), style="bold")
    for name in shared_figures(found.runs):
        if name != found.by:
            table.add_row(name, *(_figure(run, name) for run in runs))
    table.add_section()
    table.add_row("time", *(_time(run) for run in runs))
    return table


def _figure(run: ComparedRun, name: str) -> str:
    value = run.figure(name)
    return "–" if value is None else number(value, 4)


def _time(run: ComparedRun) -> str:
    seconds = run.figure("wall_seconds")
    return "–" if seconds is None else duration(seconds)


def _short(value: Any) -> str:
    """A setting; of a long one, such as a path, the end, where two differ."""
    text = str(value)
    return text if len(text) <= 40 else f"…{text[-39:]}"


def _write(rows: list[dict[str, Any]], path: Path) -> None:
    with whole_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
