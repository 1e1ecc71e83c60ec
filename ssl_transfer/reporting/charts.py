"""Line charts and interval charts as fluid inline SVG.

Positions along a chart are percentages and texts keep their size, so that a chart reads the same 300 and 1,000 px wide;
colours are variables of the style sheet, so that it follows light, dark and paper.
"""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from ssl_transfer.reporting.formats import number, percent
from ssl_transfer.reporting.results import ResultRow, by_value

Curve = Sequence[tuple[float, float]]
_LABEL_WIDTH = 14  # characters of a line of text beside the end of a curve


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
    step = min((factor * power for factor in (1, 2, 5, 10)), key=lambda value: abs(math.log(value / raw)))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(position * step, 12) for position in range(first, last + 1)]


def tick_labels(values: Sequence[float], as_percent: bool) -> list[str]:
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
    for before, after in itertools.pairwise(order):
        moved[after] = max(moved[after], moved[before] + distance)
    limit = high
    for index in reversed(order):
        moved[index] = max(low, min(moved[index], limit))
        limit = moved[index] - distance
    return moved


@dataclass(frozen=True)
class Frame:
    """Where a value lies in a plot: percent across, px down."""

    x_low: float
    x_high: float
    x_ticks: list[float]
    y_ticks: list[float]
    height: int

    @classmethod
    def around(cls, points: Curve, levels: Sequence[float], height: int) -> Frame:
        """A frame that holds all points and horizontal levels."""
        across, values = [x for x, _ in points], [y for _, y in points] + list(levels)
        low, high = min(across), max(across)
        if high <= low:
            low, high = low - 0.5, high + 0.5
        x_ticks = [tick for tick in ticks(low, high, 6) if low <= tick <= high]
        if all(float(x).is_integer() for x in across):
            x_ticks = [tick for tick in x_ticks if float(tick).is_integer()]
        return cls(low, high, x_ticks or [across[0]], ticks(min(values), max(values), max(3, height // 50)), height)

    def across(self, x: float) -> float:
        return 100 * (x - self.x_low) / (self.x_high - self.x_low)

    def down(self, y: float) -> float:
        return self.height * (self.y_ticks[-1] - y) / (self.y_ticks[-1] - self.y_ticks[0])

    def axes(self, x_label: str, as_percent: bool, x_texts: Sequence[str] | None = None) -> list[str]:
        """Grid lines and the texts of both axes, as SVG; `x_texts` stand at the ticks in place of their values."""
        svg = [
            f'<line class="grid" x1="0" x2="100%" y1="{self.down(tick):.1f}" y2="{self.down(tick):.1f}"/>'
            f'<text class="tick" x="0" dx="-8" y="{self.down(tick) + 4:.1f}" text-anchor="end">{label}</text>'
            for tick, label in zip(self.y_ticks, tick_labels(self.y_ticks, as_percent), strict=True)
        ]
        y = self.height + 20
        svg += [
            f'<text class="tick" x="{self.across(tick):.2f}%" y="{y}" text-anchor="middle">{label}</text>'
            for tick, label in zip(self.x_ticks, x_texts or tick_labels(self.x_ticks, False), strict=True)
        ]
        return [*svg, f'<text class="axis" x="50%" y="{y + 20}" text-anchor="middle">{escape(x_label)}</text>']


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
    lines = {name: [point for point in curve if all(map(math.isfinite, point))] for name, curve in series.items()}
    lines = {name: curve for name, curve in lines.items() if curve}
    levels = {name: value for name, value in (reference or {}).items() if math.isfinite(value)}
    heading = f'<p class="chart-title">{escape(title)}</p>' if title else ""
    if not lines:
        return f'<figure class="chart">{heading}<p class="quiet">Nothing was recorded.</p></figure>'
    show = percent if as_percent else number
    frame = Frame.around([point for curve in lines.values() for point in curve], list(levels.values()), height)
    svg = frame.axes(x_label, as_percent)
    for level in levels.values():
        line = f"{frame.down(level):.1f}"
        svg.append(f'<line class="reference" x1="0" x2="100%" y1="{line}" y2="{line}"/>')
    paths, dots = [], []
    for position, curve in enumerate(lines.values()):
        points = " ".join(f"{10 * frame.across(x):.1f},{frame.down(y):.1f}" for x, y in curve)
        paths.append(f'<polyline class="s{position % 6}" points="{points}"/>')
        x, y = curve[-1]
        dots.append(f'<circle class="s{position % 6}" cx="{frame.across(x):.2f}%" cy="{frame.down(y):.1f}" r="4"/>')
    stretched = f'viewBox="0 0 1000 {height}" preserveAspectRatio="none" width="100%" height="{height}"'
    svg += [f'<svg {stretched} class="lines">{"".join(paths)}</svg>', *dots]

    ends = [(name, curve[-1][1], f"s{position % 6}") for position, (name, curve) in enumerate(lines.items())]
    ends += [(name, level, "floor") for name, level in levels.items()]
    texts, room = end_labels([(name, show(value), frame.down(value), style) for name, value, style in ends], height)
    svg += texts
    told = [f"{name} from {show(curve[0][1])} to {show(curve[-1][1])}" for name, curve in lines.items()]
    told += [f"{name} at {show(level)}" for name, level in levels.items()]
    about = f"{title}: {y_label}" if title and title != y_label else y_label
    summary = escape(f"{about} over {x_label}. {'; '.join(told)}.", quote=True)
    axis = f'<p class="y-label">{escape(y_label)}</p>' if y_label != title else ""
    return (
        f'<figure class="chart">{heading}{axis}'
        f'<div class="plot" style="padding:8px {room}px 48px 60px">'
        f'<svg role="img" aria-label="{summary}" width="100%" height="{height}">{"".join(svg)}</svg></div></figure>'
    )


def end_rows(names: Sequence[str]) -> int:
    """Lines of text that the longest name and its value take beside the end of its curve."""
    return max(len(textwrap.wrap(name, _LABEL_WIDTH) or [""]) for name in names) + 1


def room_for(names: Sequence[str]) -> int:
    """The height in px that the names of several curves and their values need beside their ends.

    >>> room_for(["one", "two"])
    62
    """
    return len(names) * (15 * end_rows(names) + 4) - 6


def end_labels(ends: Sequence[tuple[str, str, float, str]], height: int) -> tuple[list[str], int]:
    """Texts beside the ends of lines, each `(name, value, y, style)`, and the room in px they need.

    A single line carries only its value: the title names it.
    """
    if len(ends) == 1:
        _, value, y, style = ends[0]
        return [f'<text class="end {style}" x="100%" y="{y + 4:.1f}" dx="12">{value}</text>'], 66
    names = [textwrap.wrap(name, _LABEL_WIDTH) or [""] for name, _, _, _ in ends]
    rows = end_rows([name for name, _, _, _ in ends])
    places = spread([y for _, _, y, _ in ends], 15 * rows + 4, 6, height - 15 * rows + 30)
    texts = []
    for lines, (_, value, _, style), y in zip(names, ends, places, strict=True):
        spans = "".join(
            f'<tspan x="100%" dx="12" dy="{15 if position else 0}">{escape(line)}</tspan>'
            for position, line in enumerate(lines)
        )
        below = f'<tspan class="end-value" x="100%" dx="12" dy="15">{value}</tspan>'
        texts.append(f'<text class="end {style}" x="100%" y="{y:.1f}">{spans}{below}</text>')
    longest = max(*(len(line) for lines in names for line in lines), *(len(value) for _, value, _, _ in ends))
    return texts, 24 + round(8.2 * min(max(longest, 7), 2 * _LABEL_WIDTH))


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
        items.append(
            f'<li class="{style}"><span class="name">{escape(row.name)}</span>{track}'
            f'<span class="value">{told}</span></li>'
        )
    labels = "".join(
        f'<text class="tick" x="{across(mark)}" y="14" text-anchor="middle">{label}</text>'
        for mark, label in zip(marks, tick_labels(marks, as_percent), strict=True)
    )
    items.append(f'<li class="scale" aria-hidden="true"><svg class="track">{labels}</svg></li>')
    below = f"<figcaption>{escape(note)}</figcaption>" if note else ""
    return f'<figure class="chart">{heading}<ol class="intervals">{"".join(items)}</ol>{below}</figure>'


def histogram(
    groups: Mapping[str, Sequence[float]],
    *,
    x_label: str,
    y_label: str = "images",
    mark: float,
    mark_label: str,
    ceiling: float = math.inf,
    colours: Sequence[str] = ("--s0", "--s1", "--floor"),
    height: int = 200,
) -> str:
    """How often values occur in each group, stacked, with a vertical line; pointing at a bar tells its counts.

    The figure's `data-low` and `data-high` state the range of the axis, for a script that moves the line.

    Args:
        groups: name of the group, its finite values; the first stands lowest.
        x_label, y_label: what the axes measure.
        mark, mark_label: place and text of the vertical line.
        ceiling: greater values count in the last bar.
        colours: of the groups, variables of the style sheet.
        height: of the plot, in px.
    """
    values = [min(value, ceiling) for group in groups.values() for value in group]
    assert values and all(map(math.isfinite, values)), "a histogram needs finite values"
    low, high = min(*values, mark), max(*values, min(mark, ceiling))
    if high <= low:
        low, high = low - (abs(low) * 0.1 or 0.5), high + (abs(high) * 0.1 or 0.5)
    bins = min(60, max(12, round(2 * math.sqrt(len(values)))))
    counts = [[0] * bins for _ in groups]
    for row, group in zip(counts, groups.values(), strict=True):
        for value in group:
            row[min(bins - 1, int(bins * (min(value, ceiling) - low) / (high - low)))] += 1
    most = max(map(sum, zip(*counts, strict=True)))
    x_ticks = [tick for tick in ticks(low, high, 6) if low <= tick <= high]
    y_ticks = [tick for tick in ticks(0, most, 4) if float(tick).is_integer()]
    frame = Frame(low, high, x_ticks, y_ticks, height)
    edges = [low + (high - low) * position / bins for position in range(bins + 1)]
    svg = frame.axes(x_label, False)
    for position in range(bins):
        svg.append(
            _bar(
                frame,
                {name: row[position] for name, row in zip(groups, counts, strict=True)},
                edges[position : position + 2],
                position == bins - 1 and ceiling < math.inf,
                colours,
            )
        )
    x = f"{frame.across(mark):.2f}%"
    svg.append(f'<line class="mark" x1="{x}" x2="{x}" y1="-6" y2="{height}" style="stroke:var(--ink);stroke-width:2"/>')
    keys = " &nbsp; ".join(
        f'<span style="white-space:nowrap"><span style="color:var({colour})" aria-hidden="true">■</span> '
        f"{escape(name)} ({len(group):,})</span>"
        for (name, group), colour in zip(groups.items(), colours, strict=False)
    )
    told = escape(f"Histogram of {x_label}: {mark_label} at {number(mark)}.", quote=True)
    return (
        f'<figure class="chart histogram" data-low="{low!r}" data-high="{high!r}"><p class="y-label">{escape(y_label)}'
        f' &nbsp; {keys}</p><div class="plot" style="padding:8px 20px 48px 60px">'
        f'<svg role="img" aria-label="{told}" width="100%" height="{height}">{"".join(svg)}</svg></div></figure>'
    )


def _bar(frame: Frame, counts: Mapping[str, int], edges: Sequence[float], beyond: bool, colours: Sequence[str]) -> str:
    """One stacked bar with the text that pointing at it shows."""
    left, width = frame.across(edges[0]), frame.across(edges[1]) - frame.across(edges[0])
    span = f"{number(edges[0])} and above" if beyond else f"{number(edges[0])} to {number(edges[1])}"
    told = escape(f"{span}: " + (", ".join(f"{count:,} {name}" for name, count in counts.items() if count) or "none"))
    place = f'x="{left:.2f}%" width="{width:.2f}%"'
    parts = [f'<g class="bin"><title>{told}</title><rect {place} y="0" height="{frame.height}" fill="transparent"/>']
    floor = float(frame.height)
    for count, colour in zip(counts.values(), colours, strict=False):
        tall = max(1.5, frame.height - frame.down(count)) if count else 0  # a single image among thousands still shows
        floor -= tall
        if count:
            parts.append(f'<rect {place} y="{floor:.1f}" height="{tall:.1f}" style="fill:var({colour})"/>')
    return "".join(parts) + "</g>"
