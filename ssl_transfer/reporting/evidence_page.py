"""The page of `ssl-transfer evidence`: did pretraining help, with how many labels, and how sure is that?"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from pathlib import Path

from ssl_transfer.evaluation.evidence import budgets, cells, compare
from ssl_transfer.reporting.evidence_charts import curves_of_encoders, curves_of_methods, differences, every_difference
from ssl_transfer.reporting.evidence_results import EvidenceResults, measured
from ssl_transfer.reporting.evidence_tables import (
    accuracy_matrix,
    every_cell,
    evidence_markdown,
    evidence_table,
    matrix,
    needed_words,
    ratio_words,
    saved,
    saved_rows,
)
from ssl_transfer.reporting.evidence_words import (
    caveats,
    cell_name,
    counted,
    findings,
    overall,
    points,
    points_interval,
    telling,
    unfinished,
    verdict,
    with_labels,
)
from ssl_transfer.reporting.formats import duration, number
from ssl_transfer.reporting.page import Page, asset, table_html

__all__ = ["EvidenceResults", "evidence_table", "verdict", "write_evidence_markdown", "write_evidence_page"]


def write_evidence_page(path: str | Path, results: EvidenceResults) -> Path:
    """Write the page: one HTML file that needs nothing else.

    Args:
        path: of the file; its folder is made if need be, an older page is replaced.
        results: what was measured, see `EvidenceResults`.

    Returns:
        The path.
    """
    encoders = " and ".join(results.encoders) or "No encoder"
    page = Page("Did pretraining help?", f"{encoders} on {results.data_name}", eyebrow="ssl-transfer evidence")
    page.add(f"<style>{asset('evidence.css')}</style>")
    _verdict(page, results)
    if compare(results.trials):
        for part in (_tiles, _curves, _differences, _labels_saved):
            part(page, results)
    for part in (_everything, _calibration, _cost, _measured, _footer):
        part(page, results)
    return page.write(path)


def write_evidence_markdown(path: str | Path, results: EvidenceResults) -> Path:
    """Write the verdict and the tables as Markdown, for a repository or a message."""
    title = f"Did pretraining help? {' and '.join(results.encoders)} on {results.data_name}"
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    told = evidence_markdown(results.trials, title, results.command, measured(results), results.doubts)
    target.write_text(told, encoding="utf-8")
    return target


def _listing(sentences: Iterable[str], style: str = "") -> str:
    return f'<ul class="{style}">{"".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)}</ul>'


def _verdict(page: Page, results: EvidenceResults) -> None:
    page.add(f'<div class="finding effect {overall(results.trials)}">')
    headline, *others = findings(results.trials)
    page.paragraph(headline)
    page.add(_listing(others, "findings") if others else "")
    doubts = [*results.doubts, *caveats(results.trials)]
    page.add((_listing(doubts, "caveats") if doubts else "") + "</div>")


def _tiles(page: Page, results: EvidenceResults) -> None:
    trials = results.trials
    one = telling(compare(trials))
    ours, floor = one.ours.cell, one.floor.cell
    names = f"{cell_name(ours, trials)} against {cell_name(floor, trials, inside=True)}"
    sure = f"; 95\u00a0% interval {points_interval(one.difference)}" if one.difference.known else "; interval not known"
    seeds, methods = {trial.seed for trial in trials}, {(cell.encoder, cell.method) for cell in cells(trials)}
    gain = points(one.difference.mean) if one.difference.count else "–"
    tiles = [
        (gain, f"points of accuracy {with_labels([one.budget])}", names + sure)
        if one.effect != "unclear"
        else ("not clear", f"the largest difference, {with_labels([one.budget])}", f"{gain} points, {names}{sure}"),
        *_saved_tile(results),
        (
            duration(ours.seconds),
            "to train and test ours once",
            f"{with_labels([one.budget])}; the best floor {duration(floor.seconds)}"
            f"{_pretraining(results, ours.encoder)}",
        ),
        (
            number(len(trials)),
            "trials in all" if not unfinished(trials) else "trials so far",
            f"{counted(len(methods), 'method')}, {counted(len(budgets(trials)), 'label budget')}, "
            f"{counted(len(seeds), 'seed')}",
        ),
    ]
    page.tiles(tiles)


def _saved_tile(results: EvidenceResults) -> list[tuple[str, str, str]]:
    """The labels saved where a clear difference tells most; nothing with one label budget, which makes no curve."""
    found = compare(results.trials)
    one = telling(found)
    if len(budgets(results.trials)) < 2 or not one.clear:
        return []
    saving = saved(results.trials)[found.index(one)]
    note = f"The best floor needs {needed_words(saving)} for what ours reaches with {number(saving.labels)}"
    return [(ratio_words(saving), "as many labels without pretraining", note)]


def _pretraining(results: EvidenceResults, encoder: str) -> str:
    seconds = results.pretraining_seconds.get(encoder)
    return f"; pretraining took {duration(seconds)}" if seconds is not None else ""


def _curves(page: Page, results: EvidenceResults) -> None:
    page.section(
        "How accuracy grows with labels",
        "Floors are what needs no pretraining. An encoder is worth having where its line is above all of them.",
    )
    page.add(curves_of_encoders(results.trials))
    for encoder in results.encoders:
        page.add(curves_of_methods(results.trials, encoder, f"Every use of {encoder}"))


def _differences(page: Page, results: EvidenceResults) -> None:
    page.section(
        "Is the difference real?",
        "Ours less the best floor, from the same draws of labels and on the same test images. Right of zero "
        "pretraining helps; a line that crosses zero tells no difference from chance.",
    )
    page.add(differences(results.trials))
    page.details("Every method against the best floor", every_difference(results.trials))


def _labels_saved(page: Page, results: EvidenceResults) -> None:
    if len(budgets(results.trials)) < 2:
        return
    page.section(
        "Labels saved",
        "How many labelled images the best floor needs for the accuracy that ours has.",
    )
    columns, rows = saved_rows(results.trials)
    page.table(
        columns,
        rows,
        "Images in all, read off the curve of the best floor at each budget: made monotone, straight over the "
        "logarithm of the labels. Beyond the budgets measured only a bound is known.",
    )


def _everything(page: Page, results: EvidenceResults) -> None:
    page.section("Every method", "Mean accuracy on the test split, in percent ± half the 95\u00a0% interval.")
    columns, rows, ours = accuracy_matrix(results.trials)
    page.table(columns, rows, f"Test split, {number(results.test)} images.", ours)
    columns, rows, ours = every_cell(results.trials)
    page.details("All figures", table_html(columns, rows, "A method and a label budget a row.", ours))


def _calibration(page: Page, results: EvidenceResults) -> None:
    page.section(
        "Does it know when it does not know?",
        "Expected calibration error (ECE): how far the stated probability lies from the share that is right, on "
        "average. Less is better; 0 is perfect.",
    )
    columns, rows, ours = matrix(results.trials, lambda cell: f"{cell.calibration_error:.3f}")
    page.table(columns, rows, "Test split, 15 bins, mean over seeds.", ours)


def _cost(page: Page, results: EvidenceResults) -> None:
    page.section("What it costs", "Seconds to train and to test once, mean over seeds. Pretraining is not in it.")
    columns, rows, ours = matrix(results.trials, lambda cell: number(cell.seconds))
    page.table(columns, rows, f"Seconds. {results.machine}.", ours)
    if results.pretraining_seconds and results.encoders:
        told = (f"{encoder} {duration(seconds)}" for encoder, seconds in results.pretraining_seconds.items())
        page.paragraph(f"Pretraining, once for all of these: {'; '.join(told)}.", quiet=True)


def _measured(page: Page, results: EvidenceResults) -> None:
    page.section("How it was measured").add(_listing(measured(results)))
    page.code(results.command, "Repeat it; a run that was stopped goes on")


def _footer(page: Page, results: EvidenceResults) -> None:
    page.footer(
        [
            ("Data", f"{results.data_name}: {number(results.test)} test images"),
            ("Machine", results.machine),
            ("Time", duration(results.seconds)),
            ("Versions", ", ".join(f"{name} {version}" for name, version in results.versions.items())),
        ]
    )
