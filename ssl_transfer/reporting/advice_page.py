"""Advice as rows of a table, and as a page."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from pathlib import Path

from ssl_transfer.evaluation.advice import WORDS, Advice
from ssl_transfer.evaluation.measurements import Measurements
from ssl_transfer.reporting.page import Page

COLUMNS = ("strategy", "held out, %", "beside", "expected", "better?", "steps")
FIGURES = {
    "LogME": "log evidence of the labels, a label and class: higher is better",
    "H-score": "share of the features' variance that lies between classes, in classes: higher is better",
    "LEEP": "mean log-likelihood of the labels by the network's own head: nearer to 0 is better",
    "proxy A-distance": "0: the images look like those of pretraining; 2: a linear classifier always tells them apart",
    "Fréchet distance": "of features of unit length, 0 to 4: how far the images lie from those of pretraining",
}
NAMES = {
    "as_is": "as is",
    "frozen": "frozen",
    "partial": "partial",
    "full": "full, head first",
    "scratch": "scratch",
    "kNN": "kNN",
    "all stages": "linear, all stages",
    "raw pixels": "raw pixels (floor)",
    "random encoder": "random encoder (floor)",
}


def evidence_rows(measured: Measurements, advice: Advice) -> list[list[str]]:
    """The strategies that compete, by `COLUMNS`, then probes and floors, which do not."""
    rows = []
    for place, standing in enumerate(advice.standings):
        estimate = measured.estimates[standing.strategy]
        steps = f"{estimate.steps:,} of {estimate.wanted:,}" if estimate.wanted else ""
        rows.append(
            [
                NAMES[standing.strategy],
                share(standing.accuracy, standing.error),
                signed(standing.measured, standing.noise) if place else "–",
                signed(standing.gain, standing.spread) if place else "–",
                "advised" if math.isnan(standing.chance) else f"{standing.chance:.0%}",
                steps,
            ]
        )
    competing = {standing.strategy for standing in advice.standings}
    for name, estimate in measured.estimates.items():
        if name not in competing:
            rows.append([NAMES.get(name, name), share(estimate.accuracy, estimate.error), "", "", "", ""])
    return rows


def curve_rows(measured: Measurements) -> tuple[list[str], list[list[str]]]:
    """The learning curves: headings, and a row a probe."""
    labels = sorted({point.labels for point in measured.curve})
    told = {(point.probe, point.labels): share(point.accuracy, point.error) for point in measured.curve}
    probes = dict.fromkeys(point.probe for point in measured.curve)
    return ["labels a class", *(f"{x:,.3g}" for x in labels)], [
        [probe, *(told.get((probe, x), "") for x in labels)] for probe in probes
    ]


def figure_rows(measured: Measurements) -> list[list[str]]:
    """Measures that are shown and not weighed: name, value, how to read it."""
    return [[name, f"{value:.3f}", FIGURES.get(name, "")] for name, value in measured.figures.items()]


def headline(advice: Advice) -> str:
    """The advice in a line.

    >>> headline(Advice("full", "sure", (), "", ()))
    'Advice: tune all of it, the head first (sure).'
    """
    how = advice.certainty
    if how == "cannot tell" and advice.equals:
        how = f"cannot tell it from {' and '.join(NAMES[name] for name in advice.equals)}"
    return f"Advice: {WORDS[advice.strategy]} ({how})."


def how_to_read(measured: Measurements) -> str:
    """What the columns mean."""
    fewest = min((len(estimate.right) for estimate in measured.estimates.values()), default=0)
    fitted = f" ({fewest:,} of them by short fits)" if fewest < measured.images else ""
    return (
        f"By cross-validation within {measured.images:,} labelled training images{fitted}; no test image is read. ± is "
        "a standard error. “Beside”: points over the first row, with what fits of few steps usually lack made up for; "
        f"“expected”: the same, weighed with what is usual at {measured.labels:,.0f} labels a class; “better?”: how "
        "probably it beats the advice."
    )


def folded(command: str, width: int = 100) -> str:
    """A command over several lines, each of whole options, as a shell takes it.

    >>> print(folded("fit --model A --data B", width=15))
    fit --model A \\
      --data B
    """
    options: list[list[str]] = [[]]
    for word in shlex.split(command):
        if word.startswith("--"):
            options.append([])
        options[-1].append(word)
    lines = [""]
    for option in map(shlex.join, options):
        if lines[-1].strip() and len(lines[-1]) + len(option) + 1 > width:
            lines.append(" ")
        lines[-1] = f"{lines[-1]} {option}" if lines[-1] else option
    return " \\\n".join(lines)


def share(value: float, error: float) -> str:
    """A share and its standard error in per cent.

    >>> share(0.912, 0.011)
    '91.2 ± 1.1'
    """
    return f"{100 * value:.1f} ± {100 * error:.1f}"


def signed(value: float, error: float) -> str:
    """A difference of shares in points.

    >>> signed(-0.012, 0.01)
    '−1.2 ± 1.0'
    """
    return f"{'−' if value < 0 else '+'}{abs(100 * value):.1f} ± {100 * error:.1f}"


def write_advice_page(
    path: Path, measured: Measurements, advice: Advice, command: str, facts: Sequence[tuple[str, str]]
) -> Path:
    """Write the page; facts: what stands at its foot."""
    title = WORDS[advice.strategy]
    page = Page(f"{title[0].upper()}{title[1:]}", advice.reason, eyebrow=f"Advice: {advice.certainty}")
    page.section("Do it").code(folded(command), "The fit that carries the advice out")
    if advice.standings:
        page.section(
            "Evidence",
            how_to_read(measured),
        )
        page.table(COLUMNS, evidence_rows(measured, advice))
        page.section(
            "With more labels", "Held-out accuracy in per cent of probes on fewer labels: does the curve still rise?"
        )
        page.table(*curve_rows(measured))
    if measured.figures:
        page.section("Also measured", "Of these the proxy A-distance is weighed, lightly; the others are shown.")
        page.table(("measure", "value", "how to read it"), figure_rows(measured))
    for remark in measured.remarks:
        page.warning(f"{remark[0].upper()}{remark[1:]}.")
    return page.footer(facts).write(path)
