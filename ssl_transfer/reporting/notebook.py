"""Figures for a notebook in one style, by matplotlib: each is a `Figure` that a cell ending in it shows once."""

from __future__ import annotations

import csv
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np
from numpy.typing import ArrayLike

from ssl_transfer.reporting.heat_maps import overlay
from ssl_transfer.reporting.images import to_pixels
from ssl_transfer.reporting.pictures import COLOURS, GREY

if TYPE_CHECKING:
    from matplotlib.figure import Figure

P = ParamSpec("P")
Line = Sequence[tuple[float, ...]]  # (x, y) or (x, y, error)
WIDTH = 9.0  # inches, of 100 dots: a notebook's cell
EDGE = "#c3c8ce"
PALE = "#b9c2ef"  # the first colour, of what cannot be told apart from its floor
_STYLE: dict[str, Any] = {
    **{"figure.dpi": 100, "figure.facecolor": "white", "axes.facecolor": "white", "font.size": 10},
    **{"axes.grid": True, "axes.axisbelow": True, "grid.color": "#e6e8eb", "axes.edgecolor": EDGE},
    **{"axes.titlesize": 11, "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False},
    **{"figure.titlesize": 11.5, "figure.constrained_layout.use": True, "lines.linewidth": 1.8},
}


def _pyplot() -> Any:
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ValueError("figures in a notebook need matplotlib: pip install 'ssl_transfer[notebooks]'") from error
    return plt


def _figure(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Decorate what draws: in our style, and no longer pyplot's, which would show it a second time."""

    @functools.wraps(draw)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Figure:
        plt = _pyplot()
        with plt.rc_context(_STYLE):
            figure = draw(*args, **kwargs)
        plt.close(figure)
        return figure

    return wrapped


@_figure
def pictures(images: Any, captions: Sequence[Any] | None = None, columns: int = 10, title: str = "") -> Figure:
    """Images in rows, small ones enlarged without smoothing.

    Args:
        images: `(N, C, H, W)`, grey or RGB, uint8 or float in [0, 1].
        captions: a text below each image, and no room below rows that have none; or, if there are only as many as
            rows, one at the left of each row.
        columns: images a row.
        title: above all.

    Raises:
        ValueError: for another shape or type, or captions that are neither one an image nor one a row.

    >>> [text.get_text() for text in pictures(np.zeros((2, 1, 8, 8)), captions=["a", "b"]).axes[0].texts]
    ['a', 'b', '']
    """
    pixels = to_pixels(np.asarray(images))
    count, height, width = pixels.shape[:3]
    columns = max(1, min(columns, count))
    rows = -(-count // columns)
    texts = [str(text) for text in ([] if captions is None else captions)]
    if texts and len(texts) not in (count, rows):
        raise ValueError(f"captions: {count} images in {rows} rows need {count} or {rows} of them, not {len(texts)}")
    below, beside = (texts, []) if len(texts) == count else ([], texts)
    left = 0.068 * max(map(len, beside)) + 0.15 if beside else 0.0  # inches, as all that follows
    tile = min(max(0.9, width / 20), (WIDTH - left) / columns / 1.08)
    tall, gap = tile * height / width, 0.08 * tile
    top = 0.3 if title else 0.0
    heights = [tall + gap + _room(below[row * columns : (row + 1) * columns]) for row in range(rows)]
    starts = [top + sum(heights[:row]) for row in range(rows)]
    size = (left + columns * (tile + gap), top + sum(heights))
    figure = _pyplot().figure(figsize=size, layout="none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    for place, image in enumerate(pixels):
        x, y = left + place % columns * (tile + gap), starts[place // columns]
        axes.imshow(image, extent=(x, x + tile, y + tall, y), interpolation="nearest", aspect="auto")
        axes.add_patch(_pyplot().Rectangle((x, y), tile, tall, fill=False, edgecolor=EDGE, linewidth=0.6))
        if below:
            axes.text(x + tile / 2, y + tall + 0.04, below[place], ha="center", va="top", fontsize=8.5)
    for row, text in enumerate(beside):
        axes.text(left - 0.1, starts[row] + tall / 2, text, ha="right", va="center", fontsize=9.5)
    axes.text(left, 0, title, va="top", fontsize=11.5)
    axes.set(xlim=(0, size[0]), ylim=(size[1], 0))
    return figure


def _room(texts: Sequence[str]) -> float:
    """What the captions below a row need, in inches."""
    return 0.08 + 0.15 * max(text.count("\n") + 1 for text in texts) if any(texts) else 0.0


@_figure
def heat(images: Any, maps: Any, captions: Sequence[Any] | None = None) -> Figure:
    """Images above themselves with their heat: images uint8 `(N, C, H, W)`, maps `(N, H, W)` or `(N, 1, H, W)`.

    All share a scale: from the median of all maps, where an image shows unchanged, to their highest value.
    """
    shown, heats = to_pixels(np.asarray(images)), np.asarray(maps, float)
    heats = heats[:, 0] if heats.ndim == 4 else heats
    low, high = float(np.nanmedian(heats)), float(np.nanmax(heats))
    warm = np.stack([overlay(image, own, low, high) for image, own in zip(shown, heats, strict=True)])
    both = np.concatenate([shown, warm]).transpose(0, 3, 1, 2)
    texts = None if captions is None else [""] * len(shown) + list(captions)
    return pictures(both, texts, columns=len(shown))


@_figure
def curves(run: Any, names: str | Sequence[str | Sequence[str]], title: str = "") -> Figure:
    """What a run logged, by epoch, in panels side by side.

    Args:
        run: a run's folder, or several by the names they are to have.
        names: figures of `logs/metrics.csv`, such as `train/loss`, a panel each; those of one tuple share a panel.
        title: above all.

    Raises:
        ValueError: nothing was logged, or nothing of that name.
    """
    runs = run if isinstance(run, Mapping) else {"": run}
    panels = [[panel] if isinstance(panel, str) else panel for panel in ([names] if isinstance(names, str) else names)]
    found = [{(label, name): _logged(folder, name) for label, folder in runs.items() for name in p} for p in panels]
    figure, axes = _pyplot().subplots(1, len(panels), figsize=(min(WIDTH, 5 * len(panels)), 3), squeeze=False)
    for place, panel, curves_of in zip(axes[0], panels, found, strict=True):
        shown = {", ".join(filter(None, (a, b if len(panel) > 1 else ""))): line for (a, b), line in curves_of.items()}
        _draw_lines(place, shown, "epoch", panel[0] if len(panel) == 1 else "")
        place.xaxis.get_major_locator().set_params(integer=True)
    figure.suptitle(title)
    return figure


@_figure
def lines(points: Mapping[str, Line], x: str, y: str, title: str = "", log: bool = False) -> Figure:
    """Lines by name, each of `(x, y)` or `(x, y, error)`; x and y name the axes, `log` makes x logarithmic.

    If all are of one point they are dots, named where they lie.

    >>> lines({"frozen": [(1, 0.5, 0.1), (10, 0.8, 0.05)]}, x="labels a class", y="accuracy").axes[0].get_ylabel()
    'accuracy'
    """
    figure, axes = _pyplot().subplots(figsize=(7.2, 3.8))
    _draw_lines(axes, points, x, y)
    if log:
        places = sorted({point[0] for line in points.values() for point in line})
        axes.set_xscale("log")
        axes.set_xticks(places, [f"{place:g}" for place in places], minor=False)
        axes.minorticks_off()
    axes.set_title(title)
    return figure


def _draw_lines(axes: Any, points: Mapping[str, Line], x: str, y: str) -> None:
    for colour, (name, line) in zip(COLOURS * len(points), points.items(), strict=False):
        at, height, *error = [list(column) for column in zip(*line, strict=True)]
        how = {"color": colour, "marker": "o" if len(line) <= 12 else "", "markersize": 4, "capsize": 2}
        axes.errorbar(at, height, yerr=error[0] if error else None, elinewidth=1, label=name or None, **how)
    axes.set(xlabel=x, ylabel=y)
    if len(points) > 1 and all(len(line) == 1 for line in points.values()):
        _name_dots(axes, points)
    elif any(points):
        axes.legend(fontsize=9)


def _name_dots(axes: Any, points: Mapping[str, Line]) -> None:
    """Names beside their dots, each where it covers no other dot and no other name, as far as there is room."""
    axes.margins(0.12, 0.16)
    axes.figure.draw_without_rendering()  # now it is known where the dots lie, in pixels
    dots = {name: axes.transData.transform(line[0][:2]) for name, line in points.items()}
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in dots.values()]
    for (name, (x, y)), colour in zip(dots.items(), COLOURS * len(dots), strict=False):
        wide, tall = 0.072 * axes.figure.dpi * len(name), 0.14 * axes.figure.dpi
        far, near = wide / 2 + 8, tall / 2 + 6
        places = [(far, 0), (-far, 0), (0, near), (0, -near)]
        places += [(a * far, b * near) for k in (1, 2, 3) for b in (k, -k) for a in (0.8, -0.8)]
        boxes = [(x + a - wide / 2, y + b - tall / 2, x + a + wide / 2, y + b + tall / 2) for a, b in places]
        inner = axes.bbox.extents
        out = [box[0] < inner[0] or box[1] < inner[1] or box[2] > inner[2] or box[3] > inner[3] for box in boxes]
        covered = [sum(_meet(box, other) for other in taken) + outside for box, outside in zip(boxes, out, strict=True)]
        best = covered.index(min(covered))
        taken.append(boxes[best])
        where = [offset * 72 / axes.figure.dpi for offset in places[best]]
        how = {"fontsize": 9, "ha": "center", "va": "center", "color": colour}
        axes.annotate(name, points[name][0][:2], where, textcoords="offset points", **how)


def _meet(box: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two boxes (left, bottom, right, top) have something in common."""
    return box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]


def _logged(run: Any, name: str) -> Line:
    folder = Path(getattr(run, "path", run))
    file = folder / "logs" / "metrics.csv"
    if not file.exists():
        raise ValueError(f"run: {folder.name} has no logs/metrics.csv, so nothing was logged; give the folder of a fit")
    with file.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    line = [(float(row["epoch"]), float(row[name])) for row in rows if row.get(name)]
    if not line:
        known = sorted({key for row in rows for key in row} - {"epoch", "seconds"})
        raise ValueError(f"names: nothing was logged as {name!r}; choose of {', '.join(known)}")
    return line


@_figure
def scatter(points: ArrayLike, labels: ArrayLike, classes: Sequence[str] | None, title: str = "") -> Figure:
    """Points `(N, 2)` in the colours of their labels `(N,)`: indices into `classes`, −1 (grey) for none.

    Up to twelve classes are named where they lie, and each has a colour of its own.
    """
    places, numbers = np.asarray(points, float), np.asarray(labels)
    figure, axes = _pyplot().subplots(figsize=(6.2, 5.2))
    for colour, name, own in [(GREY, "", -1), *zip(COLOURS * 99, classes or [], range(999), strict=False)]:
        mine = places[numbers == own] if classes else places[: None if own < 0 else 0]
        axes.scatter(*mine.T, s=14, color=colour, alpha=0.7, linewidths=0)
        if len(mine) and name and len(classes or []) <= len(COLOURS):
            box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": colour, "alpha": 0.85}
            axes.text(*np.median(mine, axis=0), name, color=colour, weight="bold", ha="center", va="center", bbox=box)
    axes.tick_params(length=0, labelbottom=False, labelleft=False)
    axes.set_title(title)
    return figure


@_figure
def bars(
    names: Sequence[str],
    values: Sequence[float],
    errors: Sequence[float] | None = None,
    floor: str | None = None,
    title: str = "",
    floors: Sequence[str] = (),
) -> Figure:
    """Horizontal bars, first on top, with their values in a column at the right.

    A bar is blue only if its interval clears the floor's: if its value less its error lies above the floor's plus the
    floor's error. What does not, and so cannot be told apart by these figures, is pale; floors are grey. A line below
    the bars says so. Without a `floor` all but the floors are blue.

    Args:
        names, values: of the bars.
        errors: half-widths of their intervals.
        floor: the bar that is to be beaten: a dashed line, its interval a shade.
        title: above all.
        floors: all bars that are floors.

    Raises:
        ValueError: there is no bar of the floor's name.

    >>> bars(["SimCLR", "PCA"], [0.9, 0.8], [0.02, 0.01], floor="PCA").axes[0].get_xlabel()
    'dashed: PCA, shaded: its error bar · blue: clear of it, pale: not · grey: floors'
    """
    if floor is not None and floor not in names:
        raise ValueError(f"floor: there is no bar {floor!r}; choose of {', '.join(names)}")
    spread = [0.0] * len(values) if errors is None else list(errors)
    figure, axes = _pyplot().subplots(figsize=(8.2, (1.05 if floor else 0.8) + 0.34 * len(values)))
    beaten = -np.inf if floor is None else values[list(names).index(floor)]
    margin = 0.0 if floor is None else spread[list(names).index(floor)]
    colours = [
        GREY if name in (floor, *floors) else COLOURS[0] if value - error > beaten + margin else PALE
        for name, value, error in zip(names, values, spread, strict=True)
    ]
    how = {"xerr": None if errors is None else spread, "error_kw": {"elinewidth": 1.2, "capsize": 3}}
    axes.barh(range(len(values)), values, height=0.66, color=colours, **how)
    end = max([value + error for value, error in zip(values, spread, strict=True)] + [0.0])
    small = max(map(abs, values), default=0) < 10
    for row, (value, error) in enumerate(zip(values, spread, strict=True)):
        written = (f"{value:.3f}" if small else f"{value:,.1f}") + ("" if errors is None else f" ± {error:.3f}")
        axes.text(1.015, row, written, transform=axes.get_yaxis_transform(), va="center", fontsize=9)
    if floor is not None:
        axes.axvline(beaten, color="#333333", linestyle="--", linewidth=1)
        axes.axvspan(beaten - margin, beaten + margin, color="#333333", alpha=0.1 if margin else 0, linewidth=0)
        shade = ", shaded: its error bar" if margin else ""
        told = f"dashed: {floor}{shade} · blue: {'clear of' if margin else 'above'} it, pale: not · grey: floors"
        axes.set_xlabel(told, fontsize=9, color="#555555")
    axes.set(
        yticks=range(len(values)),
        yticklabels=names,
        xlim=(0 if min(values, default=0) >= 0 else None, end * 1.03),
        title=title,
    )
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    return figure
