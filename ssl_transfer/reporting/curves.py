"""Learning curves over a logarithmic axis of labels, and differences about a line at zero, as fluid inline SVG.

Their styles are in evidence.css, which the page must hold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from ssl_transfer.reporting.charts import Frame, end_labels, room_for, tick_labels, ticks
from ssl_transfer.reporting.formats import percent

_APART = 6.0  # percent of the width between the texts of two ticks


@dataclass(frozen=True)
class Point:
    """One point of a curve: an accuracy at a number of labels.

    Args:
        labels: labelled images, at least 1.
        value, low, high: fractions; low and high nan where no interval is known.
        told: what pointing at it says.
    """

    labels: float
    value: float
    low: float = math.nan
    high: float = math.nan
    told: str = ""


@dataclass(frozen=True)
class LearningCurve:
    """A named curve of points in order of their labels.

    Args:
        name: at its end and in the key.
        points: at least one.
        style: "s0" to "s5" for a colour of the style sheet, "floor f0" to "floor f3" for grey and dashed.
        band: shade the interval; otherwise it is drawn as whiskers.
    """

    name: str
    points: Sequence[Point]
    style: str
    band: bool = False


def learning_curves(
    curves: Sequence[LearningCurve],
    budgets: Mapping[float, str],
    *,
    title: str = "",
    x_label: str = "labelled images a class, logarithmic",
    y_label: str = "accuracy on the test split",
    note: str = "",
    height: int = 300,
) -> str:
    """Accuracy over the number of labels, with 95 % intervals; floors are grey and dashed.

    Each curve carries its name and last value at its end, or in a key above where the chart is narrow.

    Args:
        curves: see `LearningCurve`; the first is drawn on top.
        budgets: number of labels, the text of its tick.
        title, x_label, y_label: a heading and what the axes measure.
        note: what lines and bands are, below the chart.
        height: of the plot in px, more where the names at the ends need it.
    """
    heading = f'<p class="chart-title">{escape(title)}</p>' if title else ""
    curves = [curve for curve in curves if curve.points]
    if not curves:
        return f'<figure class="chart">{heading}<p class="quiet">Nothing was measured.</p></figure>'
    height = max(height, room_for([curve.name for curve in curves]))
    frame = _frame(curves, budgets, height)
    svg = frame.axes(x_label, True, tick_texts(frame, budgets))
    shapes, marks = [], []
    for curve in reversed(curves):
        drawn, dots = _curve(curve, frame)
        shapes += drawn
        marks += dots
    stretched = f'viewBox="0 0 1000 {height}" preserveAspectRatio="none" width="100%" height="{height}"'
    ends = [(curve.name, _end(curve, budgets), curve.points[-1].value, curve.style) for curve in curves]
    texts, room = end_labels([(name, value, frame.down(y), style) for name, value, y, style in ends], height)
    svg += [f'<svg {stretched} class="lines">{"".join(shapes)}</svg>', *marks, *texts]
    told = "; ".join(
        f"{curve.name} from {percent(curve.points[0].value)} to {percent(curve.points[-1].value)}" for curve in curves
    )
    summary = escape(f"{y_label} over {x_label}. {told}.", quote=True)
    below = f"<figcaption>{escape(note)}</figcaption>" if note else ""
    return (
        f'<figure class="chart curves">{heading}<p class="y-label">{escape(y_label)}</p>{_key(ends)}'
        f'<div class="plot" style="--room:{room}px"><svg role="img" aria-label="{summary}" width="100%" '
        f'height="{height}">{"".join(svg)}</svg></div>{below}</figure>'
    )


def _end(curve: LearningCurve, budgets: Mapping[float, str]) -> str:
    """The last value, and at which budget where that is not the last budget."""
    last = curve.points[-1]
    early = last.labels < max(budgets)
    return percent(last.value) + (f" at {budgets.get(last.labels, f'{last.labels:,.0f} images')}" if early else "")


def _frame(curves: Sequence[LearningCurve], budgets: Mapping[float, str], height: int) -> Frame:
    """A frame over the logarithm of the labels."""
    places = [math.log10(labels) for labels in budgets]
    low, high = min(places), max(places)
    if high <= low:
        low, high = low - 0.5, high + 0.5
    values = [value for curve in curves for point in curve.points for value in (point.value, point.low, point.high)]
    values = [value for value in values if math.isfinite(value)]
    marks = [mark for mark in ticks(min(values), max(values), max(3, height // 50)) if mark <= 1 + 1e-9]
    marks = marks if marks[-1] >= max(values) else [*marks, 1.0]
    return Frame(low, high, places, marks, height)


def tick_texts(frame: Frame, budgets: Mapping[float, str]) -> list[str]:
    """The text of each budget's tick, empty where it would touch its neighbour; the last keeps its own.

    >>> tick_texts(Frame(0, 2, [0, 1, 1.95, 2], [0, 1], 100), {1: "1", 10: "10", 89: "89", 100: "all"})
    ['1', '10', '', 'all']
    """
    texts = list(budgets.values())
    shown: list[str] = []
    last = frame.x_ticks[-1]
    before = -math.inf
    for position, (tick, text) in enumerate(zip(frame.x_ticks, texts, strict=True)):
        x = frame.across(tick)
        fits = x - before >= _APART and (position == len(texts) - 1 or frame.across(last) - x >= _APART)
        shown.append(text if fits else "")
        before = x if fits else before
    return shown


def _curve(curve: LearningCurve, frame: Frame) -> tuple[list[str], list[str]]:
    """Band and line, which stretch with the chart, and whiskers and dots, which do not."""
    places = [(frame.across(math.log10(point.labels)), point) for point in curve.points]
    known = [(x, point) for x, point in places if math.isfinite(point.low)]
    shapes, marks = [], []
    if curve.band and len(known) > 1:
        edge = [f"{10 * x:.1f},{frame.down(point.high):.1f}" for x, point in known]
        edge += [f"{10 * x:.1f},{frame.down(point.low):.1f}" for x, point in reversed(known)]
        shapes.append(f'<polygon class="band {curve.style}" points="{" ".join(edge)}"/>')
    else:
        marks += [
            f'<line class="whisker {curve.style}" x1="{x:.2f}%" x2="{x:.2f}%" '
            f'y1="{frame.down(point.high):.1f}" y2="{frame.down(point.low):.1f}"/>'
            for x, point in known
        ]
    line = " ".join(f"{10 * x:.1f},{frame.down(point.value):.1f}" for x, point in places)
    shapes.append(f'<polyline class="{curve.style}" points="{line}"/>')
    for x, point in places:
        at = f'cx="{x:.2f}%" cy="{frame.down(point.value):.1f}"'
        told = f"<title>{escape(point.told)}</title>" if point.told else ""
        marks.append(
            f'<g class="point">{told}<circle class="{curve.style}" {at} r="4"/><circle class="hit" {at} r="11"/></g>'
        )
    return shapes, marks


def _key(ends: Sequence[tuple[str, str, float, str]]) -> str:
    """Names and last values, for a chart too narrow to hold them at the ends."""
    items = "".join(
        f'<li><svg class="swatch"><line class="{style}" x1="0" x2="100%" y1="50%" y2="50%"/></svg>{escape(name)} '
        f"<small>{value}</small></li>"
        for name, value, _, style in ends
    )
    return f'<ul class="key" aria-hidden="true">{items}</ul>'


@dataclass(frozen=True)
class DifferenceRow:
    """One difference in percentage points of accuracy, `mean` and its interval as fractions.

    Args:
        name: of the row.
        mean, low, high: fractions; low and high nan where no interval is known.
        effect: "helps", "hurts", "same" or "unclear", which colours it.
        told: the difference and its interval in words.
        about: a smaller second line below the name.
    """

    name: str
    mean: float
    low: float
    high: float
    effect: str
    told: str
    about: str = ""


def difference_chart(groups: Mapping[str, Sequence[DifferenceRow]], *, title: str = "", note: str = "") -> str:
    """A dot and its interval for each difference about a line at zero, in the order given and on one scale.

    Args:
        groups: heading of some rows, the rows; the heading "" is not shown.
        title, note: above and below the chart.
    """
    heading = f'<p class="chart-title">{escape(title)}</p>' if title else ""
    rows = [row for group in groups.values() for row in group if math.isfinite(row.mean)]
    if not rows:
        return f'<figure class="chart">{heading}<p class="quiet">Nothing was measured.</p></figure>'
    edges = [100 * edge for row in rows for edge in (row.mean, row.low, row.high) if math.isfinite(edge)]
    marks = ticks(min(0.0, *edges), max(0.0, *edges), 5)

    def across(value: float) -> str:
        return f"{100 * (100 * value - marks[0]) / (marks[-1] - marks[0]):.2f}%"

    grid = "".join(
        f'<line class="grid" x1="{across(m / 100)}" x2="{across(m / 100)}" y1="0" y2="100%"/>' for m in marks
    )
    grid += f'<line class="zero" x1="{across(0)}" x2="{across(0)}" y1="0" y2="100%"/>'
    items = []
    for name, group in groups.items():
        items += [f'<li class="group"><span class="name">{escape(name)}</span></li>'] if name else []
        items += [_difference(row, grid, across(row.low), across(row.mean), across(row.high)) for row in group]
    texts = [("+" if mark > 0 else "") + label for mark, label in zip(marks, tick_labels(marks, False), strict=True)]
    labels = "".join(
        f'<text class="tick" x="{across(mark / 100)}" y="14" text-anchor="middle">{text}</text>'
        for mark, text in zip(marks, texts, strict=True)
    )
    items.append(f'<li class="scale" aria-hidden="true"><svg class="track">{labels}</svg></li>')
    below = f"<figcaption>{escape(note)}</figcaption>" if note else ""
    return f'<figure class="chart">{heading}<ol class="intervals differences">{"".join(items)}</ol>{below}</figure>'


def _difference(row: DifferenceRow, grid: str, low: str, mean: str, high: str) -> str:
    line = f'<line class="interval" x1="{low}" x2="{high}" y1="50%" y2="50%"/>' if math.isfinite(row.low) else ""
    dot = f'<circle cx="{mean}" cy="50%" r="5.5"/>' if math.isfinite(row.mean) else ""
    about = f'<span class="about">{escape(row.about)}</span>' if row.about else ""
    return (
        f'<li class="{row.effect}"><span class="name">{escape(row.name)}{about}</span>'
        f'<svg class="track" aria-hidden="true">{grid}{line}{dot}</svg>'
        f'<span class="value">{escape(row.told)}</span></li>'
    )
