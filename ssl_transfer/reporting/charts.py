"""Line charts, interval charts and confusion tables as fluid inline SVG and HTML.

Positions along a chart are percentages and texts keep their size, so that a chart reads the same 300 and 1,000 px wide;
colours are variables of the style sheet, so that it follows light, dark and paper.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from ssl_transfer.reporting.formats import number, percent
from ssl_transfer.reporting.page import table_html
from ssl_transfer.reporting.results import ResultRow, by_value

Curve = Sequence[tuple[float, float]]
_LABEL_HEIGHT = 34  # px of a two-line label at the end of a line
_MOST_CLASSES = 20  # above that a confusion table is a list of the most frequent confusions


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round values that enclose `low` to `high`.

    >>> ticks(0.83, 0.97)
    [0.8, 0.85, 0.9, 0.95, 1.0]
    """
    if not high > low:
        pad = abs(high) * 0.1 or 1.0
        low, high = low - pad, high + pad
    raw = (high - low) / max(1, count - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = min((factor * power for factor in (1, 2, 2.5, 5, 10)), key=lambda value: abs(math.log(value / raw)))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(position * step, 12) for position in range(first, last + 1)]


def _labels(values: Sequence[float], as_percent: bool) -> list[str]:
    """Tick labels with one number of decimals for all."""
    scaled = [100 * value for value in values] if as_percent else list(values)
    if max(abs(value) for value in scaled) >= 1e5:
        return [number(value) for value in scaled]
    decimals = next((d for d in range(6) if all(abs(round(v, d) - v) < 1e-9 * max(1, abs(v)) for v in scaled)), 6)
    return [f"{value:,.{decimals}f}" + ("\u00a0%" if as_percent else "") for value in scaled]


def spread(positions: Sequence[float], distance: float, low: float, high: float) -> list[float]:
    """Move positions apart by at least `distance`, within `low` to `high` where they fit, keeping their order.

    >>> spread([10, 12], 20, 0, 100)
    [10, 30]
    """
    order = sorted(range(len(positions)), key=lambda index: positions[index])
    moved = list(positions)
    for before, after in zip(order, order[1:], strict=False):
        moved[after] = max(moved[after], moved[before] + distance)
    limit = high
    for index in reversed(order):
        moved[index] = max(low, min(moved[index], limit))
        limit = moved[index] - distance
    return moved


def line_chart(
    series: Mapping[str, Curve],
    *,
    x_label: str,
    y_label: str,
    title: str = "",
    reference: Mapping[str, float] | None = None,
    as_percent: bool = False,
    height: int = 240,
) -> str:
    """Lines over a common axis, each labelled at its end with its last value.

    Args:
        series: name of the line, its `(x, y)` points in order of x; points that are not finite are left out.
        x_label, y_label: what the axes measure.
        title: a heading above the chart.
        reference: name and height of dashed horizontal lines, such as floors.
        as_percent: write values as percentages; they are fractions.
        height: of the plot, in px.
    """
    lines = {name: [(x, y) for x, y in curve if math.isfinite(x) and math.isfinite(y)] for name, curve in series.items()}
    lines = {name: curve for name, curve in lines.items() if curve}
    levels = {name: value for name, value in (reference or {}).items() if math.isfinite(value)}
    heading = f'<p class="chart-title">{escape(title)}</p>' if title else ""
    if not lines:
        return f'<figure class="chart">{heading}<p class="quiet">Nothing was recorded.</p></figure>'
    values = [y for curve in lines.values() for _, y in curve] + list(levels.values())
    y_ticks = ticks(min(values), max(values), max(3, height // 50))
    starts, ends = zip(*((curve[0][0], curve[-1][0]) for curve in lines.values()), strict=True)
    x_low, x_high = min(starts), max(ends)
    if x_high <= x_low:
        x_low, x_high = x_low - 0.5, x_high + 0.5
    x_ticks = [tick for tick in ticks(x_low, x_high, 6) if x_low <= tick <= x_high] or [x_low, x_high]
    if all(float(x).is_integer() for curve in lines.values() for x, _ in curve):
        x_ticks = [tick for tick in x_ticks if tick.is_integer()] or [starts[0]]
    show = percent if as_percent else number

    def across(x: float) -> float:
        return 100 * (x - x_low) / (x_high - x_low)

    def down(y: float) -> float:
        return height * (y_ticks[-1] - y) / (y_ticks[-1] - y_ticks[0])

    svg = [
        f'<line class="grid" x1="0" x2="100%" y1="{down(tick):.1f}" y2="{down(tick):.1f}"/>'
        f'<text class="tick" x="0" dx="-8" y="{down(tick) + 4:.1f}" text-anchor="end">{label}</text>'
        for tick, label in zip(y_ticks, _labels(y_ticks, as_percent), strict=True)
    ]
    svg += [
        f'<text class="tick" x="{across(tick):.2f}%" y="{height + 20}" text-anchor="middle">{label}</text>'
        for tick, label in zip(x_ticks, _labels(x_ticks, False), strict=True)
    ]
    svg.append(f'<text class="axis" x="50%" y="{height + 40}" text-anchor="middle">{escape(x_label)}</text>')
    svg += [
        f'<line class="reference" x1="0" x2="100%" y1="{down(level):.1f}" y2="{down(level):.1f}"/>'
        for level in levels.values()
    ]
    paths = []
    for position, curve in enumerate(lines.values()):
        points = " ".join(f"{10 * across(x):.1f},{down(y):.1f}" for x, y in curve)
        paths.append(f'<polyline class="s{position % 6}" points="{points}"/>')
        x, y = curve[-1]
        svg.append(f'<circle class="s{position % 6}" cx="{across(x):.2f}%" cy="{down(y):.1f}" r="4"/>')
    stretched = f'viewBox="0 0 1000 {height}" preserveAspectRatio="none" width="100%" height="{height}"'
    svg.insert(-len(lines), f'<svg {stretched} class="lines">{"".join(paths)}</svg>')

    names = [(name, curve[-1][1], f"s{i % 6}") for i, (name, curve) in enumerate(lines.items())]
    names += [(name, level, "floor") for name, level in levels.items()]
    alone = len(names) == 1
    heights = spread([down(value) for _, value, _ in names], _LABEL_HEIGHT, 6, height - 16)
    for (name, value, style), y in zip(names, heights, strict=True):
        below = "" if alone else f'<tspan class="end-value" x="100%" dx="12" dy="15">{show(value)}</tspan>'
        first = show(value) if alone else escape(name)
        y = y + 4 if alone else y
        svg.append(
            f'<text class="end {style}" x="100%" y="{y:.1f}"><tspan x="100%" dx="12">{first}</tspan>{below}</text>'
        )
    room = 66 if alone else min(170, 24 + round(7.3 * max(max(len(name) for name, _, _ in names), 7)))
    told = [f"{name} from {show(curve[0][1])} to {show(curve[-1][1])}" for name, curve in lines.items()]
    told += [f"{name} at {show(level)}" for name, level in levels.items()]
    summary = escape(f"{title or y_label}, {y_label} over {x_label}: {'; '.join(told)}.", quote=True)
    return (
        f'<figure class="chart">{heading}<p class="y-label">{escape(y_label)}</p>'
        f'<div class="plot" style="padding:8px {room}px 48px 56px">'
        f'<svg role="img" aria-label="{summary}" width="100%" height="{height}">{"".join(svg)}</svg></div></figure>'
    )


def interval_chart(rows: Sequence[ResultRow], *, title: str = "", as_percent: bool = True, note: str = "") -> str:
    """A dot and its interval for each row, best first: ours in the accent colour, floors grey.

    Args:
        rows: the results, see `ResultRow`.
        title: a heading above the chart.
        as_percent: write values as percentages; they are fractions.
        note: what dot and line are, below the chart.
    """
    show = percent if as_percent else number
    heading = f'<p class="chart-title">{escape(title)}</p>' if title else ""
    if not rows:
        return f'<figure class="chart">{heading}<p class="quiet">Nothing was measured.</p></figure>'
    marks = ticks(min(row.low for row in rows), max(row.high for row in rows), 5)

    def across(value: float) -> str:
        return f"{100 * (value - marks[0]) / (marks[-1] - marks[0]):.2f}%"

    grid = "".join(f'<line class="grid" x1="{across(m)}" x2="{across(m)}" y1="0" y2="100%"/>' for m in marks)
    items = []
    for row in by_value(rows):
        track = (
            f'<svg class="track" aria-hidden="true">{grid}'
            f'<line class="interval" x1="{across(row.low)}" x2="{across(row.high)}" y1="50%" y2="50%"/>'
            f'<circle cx="{across(row.value)}" cy="50%" r="5.5"/></svg>'
        )
        told = f"<strong>{show(row.value)}</strong> <small>{show(row.low)} to {show(row.high)}</small>"
        style = row.kind if row.kind == "ours" else "floor"
        items.append(f'<li class="{style}"><span class="name">{escape(row.name)}</span>{track}<span class="value">{told}</span></li>')
    labels = "".join(
        f'<text class="tick" x="{across(mark)}" y="14" text-anchor="middle">{label}</text>'
        for mark, label in zip(marks, _labels(marks, as_percent), strict=True)
    )
    items.append(f'<li class="scale" aria-hidden="true"><svg class="track">{labels}</svg></li>')
    below = f"<figcaption>{escape(note)}</figcaption>" if note else ""
    return f'<figure class="chart">{heading}<ol class="intervals">{"".join(items)}</ol>{below}</figure>'


def confusion_html(matrix: NDArray[np.generic], names: Sequence[str], caption: str = "Confusion") -> str:
    """A confusion matrix, rows the true class and columns the predicted, as a tinted table of counts.

    Beyond twenty classes it lists the most frequent confusions instead.

    Raises:
        ValueError: if the matrix is not square or does not fit the names.
    """
    counts = np.asarray(matrix)
    if counts.shape != (len(names), len(names)):
        raise ValueError(f"confusion matrix: expected the shape ({len(names)}, {len(names)}), got {counts.shape}")
    totals = counts.sum(axis=1)
    shares = counts / np.maximum(totals, 1)[:, None]
    if len(names) > _MOST_CLASSES:
        wrong = np.where(np.eye(len(names), dtype=bool), 0, counts)
        order = [int(place) for place in np.argsort(-wrong, axis=None, kind="stable")[:20] if wrong.flat[place] > 0]
        pairs = [divmod(place, len(names)) for place in order]
        rows = [[names[i], names[j], number(float(counts[i, j])), percent(float(shares[i, j]))] for i, j in pairs]
        return table_html(["True class", "Taken for", "Images", "Share of the class"], rows, caption)
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    body = []
    for row, name in enumerate(names):
        cells = "".join(
            f'<td style="--v:{shares[row, column]:.3f}"{_zero(counts[row, column])}>{number(float(counts[row, column]))}</td>'
            for column in range(len(names))
        )
        body.append(f'<tr><th scope="row">{escape(name)}</th>{cells}<td class="recall">{percent(float(shares[row, row]), 0)}</td></tr>')
    label = escape(caption, quote=True)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{label}"><table class="confusion">'
        f"<caption>{escape(caption)} Rows are the true class, columns the predicted one.</caption>"
        f'<thead><tr><td></td>{head}<th scope="col">right</th></tr></thead><tbody>{"".join(body)}</tbody></table></div>'
    )


def _zero(count: float) -> str:
    return ' class="zero"' if count == 0 else ""
