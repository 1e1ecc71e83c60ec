"""An interactive map of many images: several 2-D pictures of the same points side by side, linked by pointing.

The points are drawn as SVG, so the picture stands without a script, in the dark and on paper; a script adds pointing
(mouse, touch, arrow keys), which shows the image in every panel at once, and a legend that isolates a class.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ssl_transfer.reporting.images import data_uri, shrink, to_pixels
from ssl_transfer.reporting.page import asset

_COLOURS = 12  # --c0 … --c11 in page.css
_MOST_LABELS = 24  # classes beyond that are named in the legend only
_ATLAS_PIXELS = 1_200_000  # of all thumbnails together


@dataclass(frozen=True)
class Panel:
    """One picture of the points.

    Args:
        title: what the features are ("Raw pixels").
        points: (N, 2), any scale.
        note: a short measured remark below the title ("kNN 97.1 %").
    """

    title: str
    points: NDArray[np.floating]
    note: str = ""


def scatter(
    panels: Sequence[Panel],
    labels: NDArray[np.integer],
    class_names: Sequence[str],
    thumbnails: NDArray[np.generic],
    *,
    what: str = "class",
    caption: str = "",
) -> str:
    """Panels of the same N images, as HTML that brings its own script.

    Args:
        panels: pictures of the same points in the same order.
        labels: (N,) class of each, an index into `class_names`; -1 for none.
        class_names: their names.
        thumbnails: (N, C, H, W) uint8 or float in [0, 1].
        what: what a class is, in one word; "digit" gives "digit 7".
        caption: a sentence below.
    """
    count = len(labels)
    assert panels and all(panel.points.shape == (count, 2) for panel in panels), "every panel needs all points, (N, 2)"
    assert len(thumbnails) == count, f"{len(thumbnails)} thumbnails for {count} points"
    uri, columns, rows = _atlas(thumbnails)
    places = [fit_square(panel.points) for panel in panels]
    data = {
        "xy": [place.ravel().tolist() for place in places],
        "y": np.asarray(labels).tolist(),
        "names": list(class_names),
        "what": what,
        "columns": columns,
        "rows": rows,
    }
    packed = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    drawn = "".join(_panel_html(panel, place, labels, class_names) for panel, place in zip(panels, places, strict=True))
    buttons = "".join(
        f'<button type="button" aria-pressed="false" data-class="{index}">'
        f'<i style="background:var(--c{index % _COLOURS})"></i>{escape(name)}</button>'
        for index, name in enumerate(class_names)
    )
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return (
        f'<figure class="maps"><div class="legend" role="group" aria-label="Show one {escape(what, quote=True)} only">'
        f'{buttons}</div><div class="panels" style="--atlas:url({uri})">{drawn}</div>'
        f'<p class="readout" role="status">&nbsp;</p>{below}'
        f'<script type="application/json">{packed}</script><script>{asset("scatter.js")}</script></figure>'
    )


def fit_square(points: NDArray[np.floating]) -> NDArray[np.int64]:
    """Points in a square of 1,000, y downward, with one scale for both axes and a margin."""
    finite = np.nan_to_num(np.asarray(points, dtype=float))
    low, high = finite.min(axis=0), finite.max(axis=0)
    extent = float((high - low).max()) or 1.0
    scaled = (finite - (low + high) / 2) / extent * 940 + 500
    scaled[:, 1] = 1000 - scaled[:, 1]
    places: NDArray[np.int64] = np.round(scaled).astype(np.int64)
    return places


def _atlas(thumbnails: NDArray[np.generic]) -> tuple[str, int, int]:
    """All thumbnails on one square sheet of square cells: data URI, columns, rows."""
    count = len(thumbnails)
    pixels = shrink(to_pixels(thumbnails), min(64, max(8, math.isqrt(_ATLAS_PIXELS // max(1, count)))))
    height, width = pixels.shape[1:3]
    side = max(height, width)
    columns = math.ceil(math.sqrt(count))
    rows = -(-count // columns)
    canvas = np.zeros((rows * side, columns * side, 3), np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    for position, image in enumerate(pixels):
        y, x = (position // columns) * side + top, (position % columns) * side + left
        canvas[y : y + height, x : x + width] = image
    grey = bool((canvas[..., :1] == canvas).all())
    return data_uri(Image.fromarray(canvas).convert("L") if grey else Image.fromarray(canvas)), columns, rows


def _panel_html(
    panel: Panel, places: NDArray[np.int64], labels: NDArray[np.integer], class_names: Sequence[str]
) -> str:
    groups = []
    for index in sorted({int(label) for label in labels}):
        path = "".join(f"M{x} {y}h0" for x, y in places[np.asarray(labels) == index])
        colour = f"var(--c{index % _COLOURS})" if index >= 0 else "var(--floor)"
        groups.append(f'<path data-class="{index}" style="stroke:{colour}" d="{path}"/>')
    told = escape(f"{panel.title}: map of {len(labels)} images. {panel.note}", quote=True)
    note = f'<span class="note">{escape(panel.note)}</span>' if panel.note else ""
    return (
        f'<div class="panel"><h3>{escape(panel.title)}</h3>{note}'
        f'<div class="map" tabindex="0" role="application" '
        f'aria-label="{told} Use the arrow keys to walk through the images.">'
        f'<svg viewBox="0 0 1000 1000" aria-hidden="true">{"".join(groups)}</svg>'
        f'{_class_labels(places, labels, class_names)}<i class="ring" hidden></i>'
        f'<b class="thumb" hidden></b></div></div>'
    )


def _class_labels(places: NDArray[np.int64], labels: NDArray[np.integer], class_names: Sequence[str]) -> str:
    """The name of each class at the median of its points, moved up or down where two would overlap."""
    shown = [index for index in range(len(class_names)) if (np.asarray(labels) == index).any()]
    if len(shown) > _MOST_LABELS:
        return ""
    centres = {index: np.median(places[np.asarray(labels) == index], axis=0) for index in shown}
    for _ in range(40):
        for first in shown:
            for second in shown:
                across, down = centres[first] - centres[second]
                if first < second and abs(across) < 90 and abs(down) < 80:
                    push = (80 - abs(down)) / 4 * (1 if down >= 0 else -1)
                    centres[first][1] += push
                    centres[second][1] -= push
    return "".join(
        f'<span class="class-name" aria-hidden="true" data-class="{index}" '
        f'style="left:{centre[0] / 10:.1f}%;top:{centre[1] / 10:.1f}%">'
        f"{escape(class_names[index])}</span>"
        for index, centre in centres.items()
    )
