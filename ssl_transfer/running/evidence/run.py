"""Cell after cell into the record, with a bar that says how long it will take."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from statistics import fmean
from typing import Any

from rich import get_console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from ssl_transfer.evaluation.evidence import Trial
from ssl_transfer.running.evidence.grid import Cell, Grid, key_of
from ssl_transfer.running.evidence.record import Record


def measure(grid: Grid, record: Record) -> list[Trial]:
    """Measure what the record does not hold yet; returns the trials of the whole grid, methods in their order."""
    known = record.trials()
    cells = grid.cells()
    done = {key_of(trial) for trial in known}
    missing = [cell for cell in cells if cell.key not in done]
    work = {cell.key: grid.work(cell) for cell in cells}
    if missing:
        print(_forthcoming(missing, len(cells), work))
    terminal = get_console().is_terminal
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[left]}")]
    with Progress(*columns, disable=not terminal, transient=True) as bar:
        task = bar.add_task("", total=len(cells), completed=len(cells) - len(missing), left="")
        for number, cell in enumerate(missing):
            left = forecast((later.key for later in missing[number:]), known, work)
            bar.update(task, description=_words(cell), left=_left(left))
            trial = grid.measure(cell, known)
            record.append(trial)
            known.append(trial)
            bar.advance(task)
            if not terminal:
                print(
                    f"{number + 1} of {len(missing)}: {_words(cell)}: {trial.accuracy:.1%}, {_left(left)}".rstrip(", "),
                    flush=True,
                )
    by_key = {key_of(trial): trial for trial in known}
    ordered = sorted(cells, key=lambda cell: grid.methods.index(cell.method))
    return [by_key[cell.key] for cell in ordered]


def forecast(
    missing: Iterable[tuple[Any, ...]], known: list[Trial], work: dict[tuple[Any, ...], float]
) -> float | None:
    """Seconds that missing cells will take, by those that are known; None while nothing tells.

    A cell takes as long as the same with another seed. A network that was not seen at its budget takes as long an image
    as others did; `work` is images that it sees while it learns, by cell.
    """
    same: dict[tuple[Any, ...], list[float]] = {}
    for trial in known:
        same.setdefault(key_of(trial)[:3], []).append(trial.seconds)
    learned = [(trial.seconds, work[key_of(trial)]) for trial in known if work.get(key_of(trial))]
    pace = sum(seconds for seconds, _ in learned) / sum(images for _, images in learned) if learned else None
    left = 0.0
    for key in missing:
        if seconds := same.get(key[:3]):
            left += fmean(seconds)
        elif work[key]:
            if pace is None:
                return None
            left += work[key] * pace
    return left


def _forthcoming(missing: list[Cell], whole: int, work: dict[tuple[Any, ...], float]) -> str:
    """What is about to be measured, and how much that is."""
    fits = [work[cell.key] for cell in missing if work[cell.key]]
    there = f"; {whole - len(missing):,} of {whole:,} are there already" if len(missing) < whole else ""
    seen = f", which see {sum(fits):,.0f} images while they learn" if fits else ""
    return f"{len(missing):,} trials to measure, {len(fits):,} of them fits of a network{seen}{there}"


def _words(cell: Cell) -> str:
    labels = "all labels" if cell.budget is None else f"{cell.budget} a class"
    return " ".join(part for part in (cell.method.encoder, cell.method.name) if part) + f", {labels}, seed {cell.seed}"


def _left(seconds: float | None) -> str:
    return "" if seconds is None else f"about {timedelta(seconds=round(seconds))} left"
