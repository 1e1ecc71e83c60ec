"""Trials as tables: a method a row, a label budget a column; for a terminal, for Markdown and for the page."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from ssl_transfer.evaluation.evidence import Cell, LabelsSaved, Trial, best, budgets, cells, compare, labels_saved
from ssl_transfer.evaluation.intervals import Interval
from ssl_transfer.reporting.evidence_words import cell_name, points, points_interval, verdict
from ssl_transfer.reporting.formats import number, percent

NONE = "–"  # was not measured
KINDS = {"ours": "pretrained", "floor": "floor"}


def budget_name(budget: int | None, unit: str = "") -> str:
    """The budget as a heading, with a unit behind a number.

    >>> budget_name(10, "a class"), budget_name(None, "a class")
    ('10 a class', 'all')
    """
    return "all" if budget is None else f"{number(budget)} {unit}".strip()


def plus_minus(value: Interval) -> str:
    """A mean and half the width of its interval (cut at 0 or 1: of the side that was not), both times 100.

    >>> plus_minus(Interval(0.75, 0.74, 0.76, 5, "seeds"))
    '75.0 ± 1.0'
    >>> plus_minus(Interval(0.99, 0.96, 1.0, 5, "seeds"))
    '99.0 ± 3.0'
    """
    return f"{100 * value.mean:.1f}" + (f" ± {100 * value.half:.1f}" if value.known else "")


def matrix(trials: Sequence[Trial], show: Callable[[Cell], str]) -> tuple[list[str], list[list[str]], list[int]]:
    """Column names, rows and the positions of our rows: a method a row, ours first, `show` of its cell a budget."""
    found = sorted(cells(trials), key=lambda cell: cell.kind == "floor")
    methods = {(cell.encoder, cell.method, cell.kind): cell for cell in reversed(found)}
    texts = {(cell.encoder, cell.method, cell.kind, cell.budget): show(cell) for cell in found}
    across = budgets(trials)
    rows = [
        [cell_name(cell, trials), KINDS[cell.kind], *(texts.get((*key, budget), NONE) for budget in across)]
        for key, cell in reversed(methods.items())
    ]
    ours = [position for position, row in enumerate(rows) if row[1] == KINDS["ours"]]
    return ["Method", "", *(budget_name(budget, "a class") for budget in across)], rows, ours


def accuracy_matrix(trials: Sequence[Trial]) -> tuple[list[str], list[list[str]], list[int]]:
    """The matrix of accuracies, and below it the paired difference of the chosen method to the best floor."""
    columns, rows, ours = matrix(trials, lambda cell: plus_minus(cell.accuracy))
    found = {one.budget: one.difference for one in compare(trials)}
    if not found:
        return columns, rows, ours
    told = [_signed(found[budget]) if budget in found else NONE for budget in budgets(trials)]
    return columns, [*rows, ["Chosen less best floor", "", *told]], ours


def _signed(difference: Interval) -> str:
    if not difference.count:
        return NONE
    return points(difference.mean) + (f" ± {100 * difference.half:.1f}" if difference.known else "")


def every_cell(trials: Sequence[Trial]) -> tuple[list[str], list[list[str]], list[int]]:
    """Everything that was measured, a method and budget a row."""
    found = sorted(cells(trials), key=lambda cell: (budgets(trials).index(cell.budget), cell.kind == "floor"))
    rows = [
        [
            cell_name(cell, trials),
            KINDS[cell.kind],
            budget_name(cell.budget),
            number(cell.labels),
            percent(cell.accuracy.mean),
            f"{percent(cell.accuracy.low)} to {percent(cell.accuracy.high)}" if cell.accuracy.known else NONE,
            percent(cell.validation) if cell.validation is not None else NONE,
            f"{cell.calibration_error:.3f}",
            number(cell.seconds),
            str(len(cell.trials)),
        ]
        for cell in found
    ]
    names = ["Method", "Kind", "Labels a class", "Labels", "Accuracy", "95 % interval", "Validation", "ECE", "Seconds"]
    return [*names, "Seeds"], rows, [position for position, cell in enumerate(found) if cell.kind == "ours"]


def saved(trials: Sequence[Trial]) -> list[LabelsSaved]:
    """For each comparison, the labels that the best floor needs for what our chosen method reaches."""
    ours = [(one.ours.cell.labels, one.ours.cell.accuracy.mean) for one in compare(trials)]
    floors = [best(trials, "floor", budget) for budget in budgets(trials)]
    return labels_saved(ours, [(one.cell.labels, one.cell.accuracy.mean) for one in floors if one is not None])


def needed_words(one: LabelsSaved) -> str:
    """How many labels the floor needs: "more than 600", "only 40", "210"."""
    if one.bound:
        return f"{one.bound} than {number(one.needed)}"
    count = number(round(one.needed))
    return f"only {count}" if one.needed < one.labels - 0.5 else count


def ratio_words(one: LabelsSaved) -> str:
    """The labels that the floor needs as a multiple of ours.

    >>> [ratio_words(LabelsSaved(100, 0.8, needed, "")).replace("\\u00a0", " ") for needed in (260, 78, 2)]
    ['2.6 ×', '0.78 ×', '1/50']
    """
    sign = {"more": "> ", "fewer": "< ", "": ""}[one.bound]
    ratio = one.needed / one.labels
    return sign + (f"{number(ratio, 2)}\u00a0×" if ratio >= 0.1 else f"1/{number(round(1 / ratio))}")


def saved_rows(trials: Sequence[Trial]) -> tuple[list[str], list[list[str]]]:
    """The labels saved as column names and rows."""
    rows = [
        [
            budget_name(one.budget),
            number(saving.labels),
            percent(saving.accuracy),
            needed_words(saving),
            ratio_words(saving),
            "yes" if one.clear else "no",
        ]
        for one, saving in zip(compare(trials), saved(trials), strict=True)
    ]
    return ["Labels a class", "Labels", "Our accuracy", "The best floor needs", "Times ours", "Difference clear"], rows


def evidence_table(trials: Sequence[Trial]) -> str:
    """The accuracies as a plain table for a terminal: means in percent ± half the 95 % interval.

    >>> evidence_table([Trial("e", "Linear", "ours", 10, 100, 0, 0.75, None, 0.1, 2.0)]).splitlines()[2].split()
    ['Linear', 'pretrained', '75.0']
    """
    columns, rows, ours = accuracy_matrix(trials)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for position, name in enumerate(columns):
        table.add_column(name, justify="left" if position < 2 else "right", no_wrap=True)
    for position, row in enumerate(rows):
        table.add_row(*row, end_section=bool(ours) and position in (len(ours) - 1, len(rows) - 2))
    text = io.StringIO()
    Console(file=text, width=40 + 16 * len(columns), color_system=None, force_terminal=False).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """A Markdown table; all but the first `left` columns align right."""
    rule = ["---"] * left + ["---:"] * (len(columns) - left)
    return "\n".join(f"| {' | '.join(row)} |" for row in [columns, rule, *rows])


def evidence_markdown(
    trials: Sequence[Trial], title: str, command: str, measured: Sequence[str], doubts: Sequence[str] = ()
) -> str:
    """The verdict and the tables as Markdown.

    Args:
        trials: what was measured.
        title: the heading.
        command: repeats the run.
        measured: how it was measured, sentences.
        doubts: what a reader must know of the encoders first, sentences.
    """
    columns, rows, _ = accuracy_matrix(trials)
    differences = [
        [
            budget_name(one.budget),
            cell_name(one.ours.cell, trials),
            cell_name(one.floor.cell, trials),
            points(one.difference.mean) if one.difference.count else NONE,
            points_interval(one.difference),
            str(one.difference.count),
        ]
        for one in compare(trials)
    ]
    parts = [
        f"# {title}",
        "\n".join(f"- {sentence}" for sentence in verdict(trials, doubts)),
        "## Accuracy on the test split, % ± half the 95 % interval",
        markdown_table(columns, rows, 2),
        "## Ours less the best floor, percentage points, paired",
        markdown_table(["Labels a class", "Ours", "Best floor", "Points", "95 % interval", "Seeds"], differences, 3),
        "## Labels that the best floor needs for our accuracy",
        markdown_table(*saved_rows(trials)),
        "## Expected calibration error",
        markdown_table(*matrix(trials, lambda cell: f"{cell.calibration_error:.3f}")[:2], 2),
        "## Seconds to train and test once",
        markdown_table(*matrix(trials, lambda cell: number(cell.seconds))[:2], 2),
        "## How it was measured",
        "\n".join(f"- {sentence}" for sentence in measured),
        f"```bash\n{command}\n```",
    ]
    return "\n\n".join(parts).replace("\u00a0", " ") + "\n"
