"""The diagnosis of a shift as rows of tables, and as a page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssl_transfer.evaluation.image_style import Images, histograms
from ssl_transfer.evaluation.shift import DRAWS, Figure, Shift, Space
from ssl_transfer.evaluation.shift_verdict import Verdict, in_words
from ssl_transfer.reporting.advice_page import folded
from ssl_transfer.reporting.charts import line_chart
from ssl_transfer.reporting.formats import count_word, number
from ssl_transfer.reporting.images import image_grid
from ssl_transfer.reporting.page import Page

COLUMNS = ("measure", "in", "value", "between", "floor")
ALIKE = ("made alike", "in", "MMD² left", "of the excess")
SHARES = ("class", "source, %", "target, estimated, %", "between, %", "by likelihood, %", "weight")
STYLES = ("domain", "brightness", "contrast", "colour", "size")
HOW_TO_READ = (
    "In pixels: of the images as they are, those larger than 32 pixels averaged down. In features: of what {features} "
    "makes of them, scaled to unit length{what}."
)
MEASURES = (
    "Proxy A-distance: 0 where a linear classifier cannot tell source from "
    "target, 2 where it never errs; between: 95 %. Fréchet distance and MMD² (maximum mean discrepancy, Gaussian "
    f"kernel): 0 for one distribution; the mean over {DRAWS} draws, and between the least and the greatest of them; p: "
    "how often a random division of the same images lies as far apart. A Fréchet distance is squared and has the scale "
    "of its space, at most 4 for features of unit length, growing with the number of pixels for pixels: compare it "
    "with its floor alone. The floor: the same for two random halves of the source."
)
EDGES = ", here histograms of the directions of edges, which need no training"  # of oriented_gradients
HOW_TO_READ_ALIKE = (
    "What explains the shift: a share near 0 % says that this is all that differs, 100 % that it is no help; –: "
    "nothing lies above the floor"
)
HOW_TO_READ_SHARES = (
    "What a classifier of the source answers on the target, with its known confusions taken out (black-box shift "
    "estimation; 95 % by bootstrap), and by maximum likelihood. No target label is read. Both hold only if the images "
    "of a class look alike in both domains. The weight is the target's share over the source's: multiply the "
    "probabilities of a classifier of the source by it and scale them to sum to one (Saerens et al. 2002)."
)
NO_SHARES = (
    "Not told: the estimate takes the images of a class to look alike in both domains, which they do not. Should "
    "classes differ in frequency, methods that make whole domains alike do harm."
)
STYLE = """<style>
thead th:first-child { text-align: left; }
.end-value { display: none; }
.image-heads { display: grid; grid-template-columns: repeat(8, 1fr); column-gap: 0.93%; max-width: 62rem; }
.image-heads { color: var(--soft); font-size: 0.9375rem; line-height: 1.3; overflow-wrap: anywhere; }
.image-heads :last-child { grid-column: span 6; }
@media (max-width: 34rem) { .image-heads { display: none; } }
.scroll, pre {
  background: linear-gradient(90deg, var(--under) 30%, transparent) left / 2.5rem 100% no-repeat local,
    linear-gradient(270deg, var(--under) 30%, transparent) right / 2.5rem 100% no-repeat local,
    linear-gradient(90deg, var(--shade), transparent) left / 0.9rem 100% no-repeat scroll,
    linear-gradient(270deg, var(--shade), transparent) right / 0.9rem 100% no-repeat scroll, var(--under);
  --under: var(--paper); --shade: color-mix(in srgb, var(--ink) 32%, transparent);
}
pre { --under: var(--wash); }
td:last-child { min-width: 0; }
</style>"""  # shades at the edges say that a table or a command goes on there
SHOWN = 6  # images beside the mean of a side
BINS = 64
FRAME = 128  # grey around images, lest white ones vanish on white
KINDS = {"labels": "of labels", "style": "of style", "inverted": "of polarity"}


@dataclass(frozen=True)
class Advice:
    """What to do, as it is typed.

    Args:
        verdict: the advice in words.
        commands: the fits that carry it out, the floor first.
        code: lines of Python that go with them.
    """

    verdict: Verdict
    commands: tuple[str, ...] = ()
    code: str = ""


@dataclass(frozen=True)
class Examples:
    """Images of the page, uint8 `(N, C, H, W)`.

    Args:
        source, target: all that were compared, for means and histograms.
        asked: some of the source; `nearest`: that of the target which lies nearest to each; `odd`: images of the target
            that lie farthest from any of the source.
    """

    source: Images
    target: Images
    asked: Images
    nearest: Images
    odd: Images


def distance_rows(shift: Shift) -> list[list[str]]:
    """The distances in each kind of features, by `COLUMNS`."""
    rows = []
    for space in shift.spaces:
        rows.append(["A-distance", space.name, *_cells(space.a_distance)])
        rows.append(["Fréchet", space.name, *_cells(space.frechet)])
        rows.append(["MMD²", space.name, *_cells(space.discrepancy)])
        rows.append(["p of MMD²", space.name, number(space.p, 2), "–", number(space.floor_p, 2)])
    return rows


def explained_rows(shift: Shift) -> list[list[str]]:
    """What is left of MMD² when something is made alike, by `ALIKE`; the share is of what lies above the floor."""
    rows = []
    for space in shift.spaces:
        left = {
            "as they are": space.discrepancy.value,
            "channels' mean and deviation": space.evened,
            "the same, inverted": space.inverted,
            "class frequencies": space.matched,
        }
        rows += [_explained(space, name, value) for name, value in left.items() if math.isfinite(value)]
    return rows


def _explained(space: Space, name: str, left: float) -> list[str]:
    share = space.remaining(left)
    return [name, space.name, _short(left), f"{100 * min(share, 1):.0f} %" if math.isfinite(share) else "–"]


def share_rows(shift: Shift) -> list[list[str]]:
    """The class frequencies, by `SHARES`."""
    found = shift.shares
    if found is None:
        return []
    parts = (found.source, found.target, found.low, found.high, found.likeliest, found.weights)
    return [
        [
            name,
            *(f"{100 * value:.1f}" for value in (own, share)),
            f"{100 * low:.1f} to {100 * high:.1f}",
            f"{100 * other:.1f}",
            f"{weight:.2f}",
        ]
        for name, own, share, low, high, other, weight in zip(shift.classes, *parts, strict=True)
    ]


def style_rows(shift: Shift) -> list[list[str]]:
    """Both sides by `STYLES`."""
    return [
        [name, f"{s.brightness:.3f}", f"{s.contrast:.3f}", f"{s.colour:.3f}", f"{s.width}×{s.height}"]
        for name, s in zip(("source", "target"), shift.styles, strict=True)
    ]


def write_shift_page(
    path: Path, shift: Shift, advice: Advice, examples: Examples, facts: Sequence[tuple[str, str]]
) -> Path:
    """Write the page; facts: what stands at its foot, `features` among them."""
    verdict = advice.verdict
    page = Page(verdict.title, verdict.reason, eyebrow=f"Shift: {KINDS.get(verdict.kind, verdict.kind)}").add(STYLE)
    if verdict.beware and verdict.shares_hold:
        page.warning(verdict.beware)
    if advice.commands:
        page.section("Do it")
        labels = ("The source alone: the floor", "Then this, compared with it")
        for label, command in zip(labels, advice.commands, strict=False):
            page.code(folded(command, 78), label)
        if advice.code:
            page.code(advice.code, "Then correct its answers for the classes' frequencies, in Python")
    page.section("What differs", in_words(shift))
    page.add(_means(examples)).table(STYLES, style_rows(shift), "Means over images, of values from 0 to 1")
    page.add(_histograms(examples))
    features = dict(facts).get("features", "the encoder")
    how = HOW_TO_READ.format(features=features, what=EDGES if features == "oriented_gradients" else "")
    page.section("How far apart", how).table(COLUMNS, distance_rows(shift))
    page.paragraph(MEASURES, quiet=True)
    page.table(ALIKE, explained_rows(shift), HOW_TO_READ_ALIKE)
    page.section(
        "Side by side",
        "Source images, below each the target image whose features lie nearest; and the target images that lie "
        "farthest from any source image.",
    )
    rows = {"source": examples.asked, "nearest in target": examples.nearest, "oddest in target": examples.odd}
    page.add(image_grid({name: _framed(images) for name, images in rows.items()}))
    if shift.shares is not None:
        page.section("Class frequencies", HOW_TO_READ_SHARES if verdict.shares_hold else NO_SHARES)
        if verdict.shares_hold:
            page.table(SHARES, share_rows(shift))
    for remark in shift.remarks:
        page.paragraph(f"{remark[0].upper()}{remark[1:]}.", quiet=True)
    return page.footer(facts).write(path)


def _means(examples: Examples) -> str:
    rows = {}
    for name, images in _sides(examples).items():
        some = images[np.linspace(0, len(images) - 1, SHOWN).round().astype(np.int64)].astype(np.float32) / 255
        rows[name] = _framed(np.concatenate([_mean_and_deviation(images), some]))
    caption = f"The mean of all images, the deviation of each pixel, and {count_word(SHOWN)} of them."
    heads = "".join(f"<span>{name}</span>" for name in ("mean", "deviation", "some of the images"))
    start = '<figure class="image-grid">'
    above = f'<div class="image-row"><span></span><div class="image-heads">{heads}</div></div>'
    return image_grid(rows, caption).replace(start, start + above, 1)


def _framed(images: NDArray[Any]) -> NDArray[Any]:
    """Images `(N, C, H, W)`, uint8 or float in [0, 1], with a thin grey frame."""
    wide = max(1, max(images.shape[2:]) // 64)
    grey = FRAME if images.dtype == np.uint8 else FRAME / 255
    return np.pad(images, ((0, 0), (0, 0), (wide, wide), (wide, wide)), constant_values=grey)


def _mean_and_deviation(images: Images) -> NDArray[np.float32]:
    """`(2, C, H, W)`, floats in [0, 1]."""
    total = np.zeros((2, *images.shape[1:]))
    for start in range(0, len(images), 256):
        x = images[start : start + 256].astype(np.float64) / 255
        total += x.sum(0), np.square(x).sum(0)
    mean, square = total / len(images)
    return np.stack([mean, np.sqrt(np.maximum(0, square - mean**2))]).astype(np.float32)


def _histograms(examples: Examples) -> str:
    """Cumulative ones, which a single value that most pixels have does not flatten."""
    shares = {name: histograms(images, BINS).cumsum(1) for name, images in _sides(examples).items()}
    channels = next(iter(shares.values())).shape[0]
    names = {1: ["Grey"], 3: ["Red", "Green", "Blue"]}.get(channels, [f"Channel {c + 1}" for c in range(channels)])
    x_label, y_label = "value of a pixel", "share of pixels up to this value"
    charts = []
    for channel, title in enumerate(names):
        curves = {
            name: [(-1.0, 0.0), *((256 * (bin + 1) / BINS - 1, float(x)) for bin, x in enumerate(rows[channel]))]
            for name, rows in shares.items()
        }
        charts.append(line_chart(curves, x_label=x_label, y_label=y_label, title=title, as_percent=True, height=150))
    return "".join(charts)


def _sides(examples: Examples) -> dict[str, Images]:
    return {"source": examples.source, "target": examples.target}


def _cells(figure: Figure) -> list[str]:
    return [_short(figure.value), f"{_short(figure.low)} to {_short(figure.high)}", _short(figure.floor)]


def _short(value: float) -> str:
    """A distance with three decimals.

    >>> _short(1.98712), _short(-0.0004)
    ('1.987', '0.000')
    """
    return f"{value:z.3f}"
