"""The charts of the evidence page: trials as learning curves and as differences about zero."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ssl_transfer.evaluation.evidence import Cell, Trial, best, budgets, cells, compare, paired_difference
from ssl_transfer.evaluation.intervals import Interval
from ssl_transfer.reporting.charts import interval_chart
from ssl_transfer.reporting.curves import DifferenceRow, LearningCurve, Point, difference_chart, learning_curves
from ssl_transfer.reporting.evidence_tables import budget_name
from ssl_transfer.reporting.evidence_words import cell_name, points, points_interval, with_labels
from ssl_transfer.reporting.formats import number, percent
from ssl_transfer.reporting.results import ResultRow


def curves_of_encoders(trials: Sequence[Trial]) -> str:
    """Each encoder by its chosen method, beside every floor; with one label budget, dots and intervals."""
    floors = [cell for cell in cells(trials) if cell.kind == "floor"]
    if len(budgets(trials)) == 1:
        note = "Dot: mean over seeds; line: 95\u00a0% interval. Grey: floors."
        rows = [_row(cell, trials) for cell in cells(trials)]
        return interval_chart(rows, title=f"Accuracy {with_labels(budgets(trials))}", note=note)
    encoders = list(dict.fromkeys(trial.encoder for trial in trials if trial.kind == "ours"))
    curves = []
    for position, encoder in enumerate(encoders):
        own = [trial for trial in trials if trial.kind == "ours" and trial.encoder == encoder]
        chosen = [one.cell for budget in budgets(own) if (one := best(own, "ours", budget)) is not None]
        name = encoder if len(encoders) > 1 else f"{encoder}, chosen"
        curves.append(LearningCurve(name, _points(chosen, trials), f"s{position % 6}", band=True))
    for position, key in enumerate(dict.fromkeys((cell.encoder, cell.method) for cell in floors)):
        among = [cell for cell in floors if (cell.encoder, cell.method) == key]
        curves.append(LearningCurve(cell_name(among[0], trials), _points(among, trials), f"floor f{position % 4}"))
    note = (
        "Each encoder by the use of it that was chosen at that budget. Band and whiskers: 95\u00a0% intervals of each "
        "mean by itself; they may overlap where the paired difference is clear. Dashed: floors."
    )
    return learning_curves(curves, _ticks(trials), title="Ours and every floor", note=note, height=360)


def curves_of_methods(trials: Sequence[Trial], encoder: str, title: str) -> str:
    """Every method on one encoder beside the best floor; empty with one method or one label budget."""
    own = [cell for cell in cells(trials) if cell.kind == "ours" and cell.encoder == encoder]
    methods = list(dict.fromkeys(cell.method for cell in own))
    if len(methods) < 2 or len(budgets(trials)) < 2:
        return ""
    curves = [
        LearningCurve(method, _points([cell for cell in own if cell.method == method], trials), f"s{position % 6}")
        for position, method in enumerate(methods)
    ]
    floors = [one.cell for budget in budgets(trials) if (one := best(trials, "floor", budget)) is not None]
    if floors:
        curves.append(LearningCurve("Best floor", _points(floors, trials), "floor f0"))
    return learning_curves(curves, _ticks(trials), title=title, note="Whiskers: 95\u00a0% intervals.")


def _row(cell: Cell, trials: Sequence[Trial]) -> ResultRow:
    found = cell.accuracy
    low, high = (found.low, found.high) if found.known else (found.mean, found.mean)
    return ResultRow(cell_name(cell, trials), found.mean, low, high, cell.kind, found.count)


def _points(among: Sequence[Cell], trials: Sequence[Trial]) -> list[Point]:
    """The points of a curve, in order of their labels."""
    told = []
    for cell in sorted(among, key=lambda cell: cell.labels):
        found = cell.accuracy
        sure = f", {percent(found.low)} to {percent(found.high)}" if found.known else ", no interval"
        text = (
            f"{cell_name(cell, trials)} {with_labels([cell.budget])} ({number(cell.labels)} images): "
            f"{percent(found.mean)}{sure}, {found.count} seed{'' if found.count == 1 else 's'}"
        )
        told.append(Point(cell.labels, found.mean, found.low, found.high, text))
    return told


def _ticks(trials: Sequence[Trial]) -> dict[float, str]:
    """The number of labels of each budget and its text."""
    labels: dict[int | None, int] = {}
    for cell in cells(trials):
        labels.setdefault(cell.budget, cell.labels)
    return {float(labels[budget]): budget_name(budget) for budget in budgets(trials)}


def differences(trials: Sequence[Trial]) -> str:
    """The chosen method less the best floor at each budget."""
    rows = [
        _difference(
            one.difference,
            "all labels" if one.budget is None else f"{budget_name(one.budget)} a class",
            f"{cell_name(one.ours.cell, trials)} against {cell_name(one.floor.cell, trials, inside=True)}",
        )
        for one in compare(trials)
    ]
    return difference_chart(
        {"": rows},
        title="Percentage points of accuracy, by labels",
        note="Dot: mean paired difference; line: its 95\u00a0% interval. Grey: not told from zero, or under a point.",
    )


def every_difference(trials: Sequence[Trial]) -> str:
    """Every method of ours less the best floor, grouped by budget."""
    groups = {}
    for budget in budgets(trials):
        floor = best(trials, "floor", budget)
        ours = [cell for cell in cells(trials) if cell.kind == "ours" and cell.budget == budget]
        if floor is not None and ours:
            beside = with_labels([budget])
            heading = f"{beside[0].upper()}{beside[1:]}, against {cell_name(floor.cell, trials, inside=True)}"
            groups[heading] = [
                _difference(paired_difference(cell.trials, floor.cell.trials), cell_name(cell, trials)) for cell in ours
            ]
    return difference_chart(
        groups,
        note="One 95\u00a0% interval each: of twenty such lines about one misses the truth. Which method is best here "
        "was not known beforehand, so the best of many looks better than it is.",
    )


def _difference(found: Interval, name: str, about: str = "") -> DifferenceRow:
    told = f"{points(found.mean)} ({points_interval(found)})" if math.isfinite(found.mean) else "no seed in common"
    return DifferenceRow(name, found.mean, found.low, found.high, found.effect, told, about)
