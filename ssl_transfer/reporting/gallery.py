"""The page of an anomaly detector's decisions: verdict, figures, histogram, and the images, most abnormal first."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

from ssl_transfer.evaluation.metrics import wilson_interval
from ssl_transfer.reporting.charts import histogram
from ssl_transfer.reporting.formats import number, percent
from ssl_transfer.reporting.images import data_uri, shrink, to_pixels
from ssl_transfer.reporting.page import Page, asset

Figure = float | tuple[float, float, float]
MOST_PICTURES = 400
_SIDE = 160  # px of the longer side of a thumbnail
_SMALL = 48  # px up to which images are shown as squares, without smoothing
_USED = ("train", "val")  # splits that the detector and its threshold come from
_BEYOND = 5  # the axis reaches at most so many times as far above the threshold as below it


@dataclass(frozen=True, eq=False)
class GalleryItem:
    """One image of the gallery.

    Args:
        path: of the image, as the reader knows it.
        score: anomaly score, higher is more abnormal; finite.
        p_value: share of normal images expected to score as high; None without calibration.
        anomalous: the decision.
        label: name of the class; None if there is none.
        truth: True for an anomaly, False for a normal image, None if nobody knows.
        split: the image's split, such as "test"; decisions on "train" and "val" are not counted as right or wrong.
        thumbnail: uint8 `(H, W, C)`, any size (see `thumbnail`); None for an image that `pictured` does not choose.
        overlay: the same with its heat map, uint8 `(H, W, 3)`; None if there is no heat map.
    """

    path: str
    score: float
    p_value: float | None = None
    anomalous: bool = False
    label: str | None = None
    truth: bool | None = None
    split: str = ""
    thumbnail: NDArray[np.uint8] | None = None
    overlay: NDArray[np.uint8] | None = None


def pictured(scores: Sequence[float] | NDArray[np.floating], most: int = MOST_PICTURES) -> list[int]:
    """Positions of the images whose pictures a page carries, highest score first.

    Three quarters of `most` are the highest scores, the others spread evenly over the rest; of equal scores the
    earlier image comes first.

    >>> pictured([0.1, 0.9, 0.3, 0.2, 0.4, 0.5], most=4)
    [1, 5, 4, 0]
    """
    order = np.argsort(-np.asarray(scores, dtype=float), kind="stable").tolist()
    if len(order) <= most:
        return order
    top = most - most // 4
    rest = order[top:]
    spots = np.linspace(0, len(rest) - 1, most - top + 1)[1:]  # the first of the rest stands next to the highest
    return order[:top] + [rest[round(spot)] for spot in spots.tolist()]


def thumbnail(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An image `(H, W, C)` as the page shows it, `(h, w, 3)`: hold this rather than the image.

    >>> thumbnail(np.zeros((640, 320, 1), np.uint8)).shape
    (160, 80, 3)
    """
    return shrink(to_pixels(image.transpose(2, 0, 1)[None]), _SIDE)[0]


def anomaly_gallery(
    items: Sequence[GalleryItem],
    *,
    title: str,
    threshold: float,
    false_alarm_rate: float | None = None,
    figures: Mapping[str, Figure] | None = None,
    warnings: Sequence[str] = (),
    facts: Sequence[tuple[str, str]] = (),
    most_pictures: int = MOST_PICTURES,
) -> Page:
    """A self-contained HTML page of all images and decisions, which needs no network; `write` writes it.

    Args:
        items: the images, in any order.
        title: of the page.
        threshold: scores strictly above are flagged; infinite where no image can be (too few calibration images).
        false_alarm_rate: share of normal images that may be flagged, in (0, 1); None for another kind of threshold.
        figures: name of a measure, its fraction or `(fraction, low, high)` with the interval.
        warnings: what a reader must know.
        facts: `(name, text)` at the foot of the page, such as the detector and the encoder.
        most_pictures: images shown with their picture, see `pictured`; the others are listed without.

    Raises:
        ValueError: for no items, a score that is not finite, a threshold that is not a number, a rate outside (0, 1)
            or a p-value outside [0, 1].
    """
    figures = figures or {}
    _check(items, threshold, false_alarm_rate)
    scores = [float(item.score) for item in items]
    chosen = pictured(scores, most_pictures)
    line = threshold if math.isfinite(threshold) else (max(scores) if threshold > 0 else min(scores))
    page = Page(title, _verdict(items, false_alarm_rate), eyebrow="Anomaly detection").add(
        f"<style>{asset('gallery.css')}</style>"
    )
    if threshold == math.inf:
        page.warning(
            f"There is no threshold{_for(false_alarm_rate)}: too few images to calibrate on. No image is flagged."
        )
    for warning in warnings:
        page.warning(warning)
    tiles = [*_outcome_tiles(items), *(_tile(name, figure) for name, figure in figures.items())]
    if tiles:
        page.tiles(tiles)
    used = _used_note(items)
    if used:
        page.paragraph(used, quiet=True)
    page.section("Scores and images", _lead(items)).add('<div class="gallery">')
    page.add(_score_histogram(items, line, _ceiling(scores, line)))
    page.add(_THRESHOLD).add(_CONTROLS)
    kept = sum(items[position].thumbnail is not None for position in chosen)
    if kept < len(items):
        page.paragraph(_kept(kept, len(items), most_pictures), quiet=True)
    page.add(_CARDS)
    packed = json.dumps(
        _data(items, chosen, line, math.isfinite(threshold)), separators=(",", ":"), allow_nan=False
    ).replace("<", "\\u003c")
    page.add(f'<script type="application/json">{packed}</script><script>{asset("gallery.js")}</script></div>')
    return page.footer(facts)


_THRESHOLD = (
    '<div class="threshold" hidden><input type="range" step="any" aria-label="Threshold"></div>'
    '<p class="result" role="status"></p>'
)
_CONTROLS = (
    '<div class="controls" hidden><div class="filters" role="group" aria-label="Show"></div>'
    '<label>Class <select class="by-class"></select></label><label>Split <select class="by-split"></select></label>'
    '<label>Order <select class="order"><option value="high">highest score</option>'
    '<option value="low">lowest score</option><option value="path">path</option></select></label>'
    '<label>Path <input type="search" placeholder="part of the path"></label>'
    '<button type="button" class="heats" aria-pressed="true">Heat maps</button></div>'
)
_CARDS = (
    "<noscript><p>The images need JavaScript, which is switched off.</p></noscript>"
    '<ul class="cards" aria-label="Images"></ul><p class="nothing" hidden>No image fits this choice.</p>'
    '<button type="button" class="more" hidden>Show more</button>'
)


def _check(items: Sequence[GalleryItem], threshold: float, rate: float | None) -> None:
    if not items:
        raise ValueError("gallery: no images to show; score at least one image first")
    if math.isnan(threshold):
        raise ValueError("gallery: the threshold is not a number; give a number, or infinity where there is none")
    if rate is not None and not 0 < rate < 1:
        raise ValueError(f"gallery: false_alarm_rate must lie between 0 and 1, got {rate:g}; 0.01 means 1 %")
    for item in items:
        if not math.isfinite(item.score):
            raise ValueError(
                f"gallery: the score of {item.path} must be finite, got {item.score}; leave the image out, or check it"
            )
        if item.p_value is not None and not 0 <= item.p_value <= 1:
            raise ValueError(f"gallery: the p-value of {item.path} must lie in [0, 1], got {item.p_value}; check it")


def _for(rate: float | None) -> str:
    return f" for a false-alarm rate of {_rate(rate)}" if rate is not None else ""


def _rate(rate: float) -> str:
    """A stated rate with the digits it was stated with."""
    return f"{100 * rate:.4g}\u00a0%"


def _verdict(items: Sequence[GalleryItem], rate: float | None) -> str:
    """The first sentence of the page: what was flagged, what is to be expected."""
    flagged, count = sum(item.anomalous for item in items), len(items)
    who = f"{number(flagged)} of {_images(count)} flagged"
    return f"{who}; at most {_rate(rate)} of normal images are expected to be." if rate is not None else f"{who}."


def _lead(items: Sequence[GalleryItem]) -> str:
    heat = any(item.overlay is not None for item in items)
    look = " Point at a picture to see it without its heat map; a click keeps it so." if heat else ""
    return f"Move the line to try another threshold; the decisions of the run come back with “Reset”.{look}"


def _kept(kept: int, count: int, most: int) -> str:
    """Which images have a picture."""
    if not kept:
        return "The page was made without pictures."
    others = f"The other {number(count - kept)} are listed without."
    if kept < most:
        return f"{number(kept)} of {number(count)} images have a picture. {others}"
    return (
        f"Pictures are kept for {number(most)} images: the {number(most - most // 4)} highest scores and "
        f"{number(most // 4)} spread evenly over the rest. {others}"
    )


def _counted_truth(item: GalleryItem) -> bool | None:
    """The truth where the decision says something of new images, else None."""
    return None if item.split in _USED else item.truth


def _outcome_tiles(items: Sequence[GalleryItem]) -> list[tuple[str, str, str]]:
    """What the decisions caught and what they cost on new images, where the truth is known, with 95 % intervals."""
    tiles = []
    for truth, label in ((True, "anomalies caught"), (False, "normal images flagged")):
        flagged = [item.anomalous for item in items if _counted_truth(item) is truth]
        if flagged:
            share = sum(flagged) / len(flagged)
            low, high = map(percent, wilson_interval(share, len(flagged)))
            note = f"{number(sum(flagged))} of {number(len(flagged))}; {low} to {high}"
            tiles.append((percent(share), label, note))
    return tiles


def _used_note(items: Sequence[GalleryItem]) -> str:
    """Which images are not new to the detector; empty if all are."""
    fitted, held_out = (sum(item.split == split for item in items) for split in _USED)
    said = []
    if fitted:
        ease = "so they may score lower than new ones"
        said.append(f"{_images(fitted)} of the train split, which the detector was fitted on, {ease}")
    if held_out:
        said.append(f"{_images(held_out)} of the val split, which its threshold comes from")
    if not said:
        return ""
    counts = any(item.truth is not None for item in items)
    uncounted = " They are not counted among anomalies caught and normal images flagged." if counts else ""
    return f"Among the images are {', and '.join(said)}.{uncounted}"


def _images(count: int) -> str:
    return f"{number(count)} image{'s' * (count != 1)}"


def _tile(name: str, figure: Figure) -> tuple[str, str, str]:
    if not isinstance(figure, tuple):
        return percent(figure), name, ""
    value, low, high = figure
    return percent(value), name, f"{percent(low)} to {percent(high)}"


def _ceiling(scores: Sequence[float], line: float) -> float:
    """Where the axis ends, so that enormous scores do not press all others into one bar; infinity if none does."""
    below = line - min(scores)
    end = line + _BEYOND * below
    return end if below > 0 and max(scores) > end else math.inf


def _score_histogram(items: Sequence[GalleryItem], line: float, ceiling: float) -> str:
    groups = {
        name: [float(item.score) for item in items if item.truth is truth]
        for name, truth in (("normal", False), ("anomaly", True), ("unknown", None))
    }
    colours = dict(zip(groups, ("--s0", "--s1", "--floor"), strict=True))
    shown = {name: values for name, values in groups.items() if values}
    return histogram(
        shown if shown.keys() != {"unknown"} else {"all": groups["unknown"]},
        x_label="anomaly score",
        mark=line,
        mark_label="threshold",
        ceiling=ceiling,
        colours=[colours[name] for name in shown],
    )


def _data(items: Sequence[GalleryItem], chosen: Sequence[int], line: float, finite: bool) -> dict[str, object]:
    """What the script needs, one list a column."""
    classes = {name: place for place, name in enumerate(sorted({i.label for i in items if i.label is not None}))}
    splits = {name: place for place, name in enumerate(sorted({item.split for item in items if item.split}))}
    return {
        "path": [item.path for item in items],
        "score": [float(item.score) for item in items],
        "p": [None if item.p_value is None else float(item.p_value) for item in items],
        "flagged": [int(item.anomalous) for item in items],
        "truth": [-1 if (truth := _counted_truth(item)) is None else int(truth) for item in items],
        "label": [-1 if item.label is None else classes[item.label] for item in items],
        "split": [splits[item.split] if item.split else -1 for item in items],
        "classes": list(classes),
        "splits": list(splits),
        "line": float(line),
        "finite": finite,
        "pictures": {
            position: _pictures(items[position]) for position in chosen if items[position].thumbnail is not None
        },
    }


def _pictures(item: GalleryItem) -> list[str | int]:
    """Data URIs of the plain picture and the one with its heat map ("" for none), and whether pixels stay squares."""
    assert item.thumbnail is not None
    plain, small = _encoded(item.thumbnail)
    return [plain, _encoded(item.overlay)[0] if item.overlay is not None else "", int(small)]


def _encoded(image: NDArray[np.uint8]) -> tuple[str, bool]:
    """A reduced image as a data URI, and whether it was small to begin with."""
    small = max(image.shape[:2]) <= _SMALL
    picture = Image.fromarray(thumbnail(image))
    if small:
        return data_uri(picture), True
    kind = "webp" if features.check("webp") else "jpeg"
    stream = io.BytesIO()
    picture.save(stream, kind.upper(), quality=80)
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode('ascii')}", False
