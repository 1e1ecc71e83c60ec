"""A page to walk through very many images: a map of them, and lists of what one selects on it.

One file that needs no network. Its data lie in script blocks, compressed, and are unpacked by `explorer_store.js`; the
map (`explorer_map.js`) is drawn by regl-scatterplot on the graphics card, the rest is `explorer.js`.

What the legend hides is in no selection and in no export. In a table that the page exports, and in the paths that it
copies, a path stands exactly as given, so that a script finds the file; other text that a spreadsheet would take for a
formula gets an apostrophe before it, and numbers stay numbers.
"""

from __future__ import annotations

import base64
import gzip
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from numbers import Real
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssl_transfer.files import whole_file
from ssl_transfer.reporting.atlas import Atlas, make_atlas
from ssl_transfer.reporting.formats import number
from ssl_transfer.reporting.page import asset

_MOST_ISOLATED = 500  # images listed as outliers, and at most a fiftieth of all
_MOST_CATEGORIES = 50  # different integers that are categories; where more differ they are a scale
_EXACT = 2**53  # up to which a page's numbers, which are float64, hold every integer
_LIBRARIES = {"regl-scatterplot": "1.16.0", "regl": "2.1.1", "pub-sub-es": "3.0.0"}
_MEANINGS = {  # by a part of the measure's name
    "trustworthi": "are images that lie close together on the map close in {space} too? 1 is best",
    "continuity": "do images that are close in {space} stay together on the map? 1 is best",
    "recall": "share of an image's nearest in {space} that are its nearest on the map; 1 is best",
    "spearman": "do distances on the map rank like distances in {space}? 1 is best",
    "triplet": "of two random images, is the one nearer in {space} nearer on the map too? .5 is chance",
    "accuracy": "share of images whose label is that of most of their nearest on the map",
    "silhouette": "how much closer images are to their own cluster than to the next; 1 is best, 0 is none",
    "nmi": "how much clusters tell of labels; 1 is all, 0 is nothing",
    "ari": "pairs of images on which clusters and labels agree, above chance; 1 is best",
}


@dataclass(frozen=True, eq=False)
class Explorer:
    """What the page shows of N images.

    Args:
        title: of the page.
        points: (N, 2) places on the map, any scale, finite.
        paths: N paths, as the reader knows them.
        columns: name, N values; text and integers of which at most 50 differ make categories, other numbers a colour
            scale, None and "" are missing. Integers that a float64 cannot hold are text. In a column `cluster` the
            category -1 is "noise". A column without any value is left out; the first whose values differ colours the
            map at the start.
        thumbnails: N images `(C, H, W)`, uint8 or float in [0, 1], in one array or one after another.
        neighbours: (N, k) rows of the nearest images in feature space, nearest first.
        duplicates: groups of rows that are nearly the same image.
        isolation: (N,) how far an image is from all others; the highest are listed.
        figures: measured quality of the map: name of a measure, its value as text.
    """

    title: str
    points: NDArray[np.floating]
    paths: Sequence[str]
    columns: Mapping[str, Sequence[str | float | int | None]]
    thumbnails: Iterable[NDArray[np.generic]] | NDArray[np.generic]
    neighbours: NDArray[np.integer]
    duplicates: Sequence[Sequence[int]] = ()
    isolation: NDArray[np.floating] | None = None
    figures: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = len(self.paths)
        assert count, "an explorer needs at least one image"
        assert self.points.shape == (count, 2), f"{count} paths for points of shape {self.points.shape}"
        assert np.isfinite(self.points).all(), "points must be finite"
        assert self.neighbours.ndim == 2 and len(self.neighbours) == count, f"neighbours: {self.neighbours.shape}"
        assert _rows_in(self.neighbours, count), "a neighbour is no row"
        assert all(_rows_in(np.asarray(group), count) for group in self.duplicates), "a duplicate is no row"
        assert self.isolation is None or self.isolation.shape == (count,), "isolation needs one number an image"
        for name, values in self.columns.items():
            assert len(values) == count, f"column {name}: {len(values)} values for {count} images"


def write_explorer(explorer: Explorer, path: str | Path) -> Path:
    """Write the page: a reader sees the old file or the whole new one, never a part; makes the folder."""
    target = Path(path)
    with (
        whole_file(target) as unfinished,
        unfinished.open("w", encoding="utf-8", errors="xmlcharrefreplace", newline="\n") as file,
    ):
        file.writelines(_html(explorer))
    return target


def _html(explorer: Explorer) -> Iterator[str]:
    title, count = escape(explorer.title), number(len(explorer.paths))
    yield (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'
        f"<title>{title}</title><style>{_palette()}{asset('explorer.css')}</style></head>\n<body>\n"
    )
    yield Template(asset("explorer.html")).substitute(title=title, count=count, about=_about(explorer))
    yield from _payload(explorer)
    yield f"<script>{_libraries()}</script>\n"
    for part in ("_store", "_drag", "_map", "_pictures", "_legend", "_lists", ""):
        yield f"<script>{asset(f'explorer{part}.js')}</script>\n"
    yield "</body></html>\n"


_POLICY = (  # nothing from elsewhere; regl compiles its draw calls with Function
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:"
)


def _palette() -> str:
    """The colours of all pages, with a choice between light and dark by `data-theme`."""
    light, dark = re.findall(r":root \{(.*?)\}", asset("page.css"), re.DOTALL)[:2]
    return (
        f":root {{{light}}}\n@media (prefers-color-scheme: dark) {{ :root:not([data-theme=light]) {{{dark}}} }}\n"
        f":root[data-theme=dark] {{{dark}}}\n"
    )


def _libraries() -> str:
    """The vendored scripts as globals; one of them is a module, whose exports are dropped."""
    events = re.sub(r"^export .*$", "", asset("vendor/pub-sub-es.js"), flags=re.MULTILINE)
    plot = asset("vendor/regl.min.js") + "\n" + asset("vendor/regl-scatterplot.min.js")
    return f"(() => {{ {events}\nwindow.createPubSub = createPubSub; }})();\n{plot}"


def _about(explorer: Explorer) -> str:
    rows = "".join(
        f"<div><dt>{escape(_measure(name))}</dt><dd>{escape(value)}</dd>"
        f'<dd class="quiet">{escape(_meaning(name))}</dd></div>'
        for name, value in explorer.figures.items()
    )
    quality = f'<h3>How far to trust the map</h3><dl class="figures">{rows}</dl>' if rows else ""
    licences = "".join(
        f"<h4>{name} {version}</h4><pre>{escape(asset(f'vendor/{name}.LICENSE.txt'))}</pre>"
        for name, version in _LIBRARIES.items()
    )
    return f"{quality}{_HOW}<details><summary>Licences of the scripts in this page</summary>{licences}</details>"


_HOW = (
    "<h3>How to read it</h3><p>A point is an image. Images that the encoder finds alike lie close together. A map in "
    "two dimensions cannot keep all distances: trust what is close more than what is far, and look at the nearest "
    "neighbours, which are measured in feature space and not on the map.</p>"
)


def _measure(name: str) -> str:
    """A measure's name for a reader: "pixels_trustworthiness_10" is "trustworthiness, k = 10, against pixels"."""
    parts = re.fullmatch(r"(pixels_)?([a-z][a-z_]*?)(?:_(\d+))?", name)
    if parts is None:
        return name
    against, words, k = parts.groups()
    return words.replace("_", " ") + (f", k = {k}" if k else "") + (", against pixels" if against else "")


def _meaning(name: str) -> str:
    space = "pixels" if "pixels" in name.lower() else "feature space"
    return next((meaning.format(space=space) for part, meaning in _MEANINGS.items() if part in name.lower()), "")


# ---- data


def _payload(explorer: Explorer) -> Iterator[str]:
    """The data as script blocks: `meta` and `paths` are JSON, the others little-endian arrays or encoded sheets."""
    atlas = make_atlas(explorer.thumbnails, explorer.points)
    count = len(explorer.paths)
    row = "<u2" if count <= 2**16 else "<u4"
    given = [_column(name, values) for name, values in explorer.columns.items()]
    columns = [column for column in given if _different(*column)]
    isolated = _isolated(explorer.isolation)
    meta = {
        "count": count,
        "row": row[1:],
        "k": explorer.neighbours.shape[1],
        "atlas": _atlas_meta(atlas),
        "columns": [about for about, _ in columns],
        "start": next((place for place, column in enumerate(columns) if _different(*column) > 1), 0),
        "duplicates": [[int(member) for member in group] for group in explorer.duplicates if len(group) > 1],
        "isolated": isolated,
        "isolation": [float(explorer.isolation[place]) for place in isolated] if explorer.isolation is not None else [],
    }
    yield _json_block("meta", meta)
    yield _json_block("paths", list(explorer.paths))
    yield _block("points", _fitted(explorer.points).astype("<f4").tobytes())
    yield _block("neighbours", explorer.neighbours.astype(row).tobytes())
    yield _block("places", atlas.places.astype("<u4").tobytes())
    yield _block("sizes", atlas.sizes.tobytes())
    for place, (_, values) in enumerate(columns):
        yield _block(f"column-{place}", values.tobytes())
    for place, sheet in enumerate(atlas.sheets):
        yield _block(f"sheet-{place}", sheet, packed=False)


def _block(name: str, content: bytes, packed: bool = True) -> str:
    data = gzip.compress(content, 6, mtime=0) if packed else content
    return f'<script type="text/plain" id="{name}">{base64.b64encode(data).decode("ascii")}</script>\n'


def _json_block(name: str, content: Any) -> str:
    return _block(name, json.dumps(content, separators=(",", ":"), allow_nan=False).encode("ascii"))


def _atlas_meta(atlas: Atlas) -> dict[str, Any]:
    return {"kind": atlas.kind, "columns": atlas.columns, "rows": atlas.rows, "cell": atlas.cell}


def _column(name: str, values: Sequence[str | float | int | None]) -> tuple[dict[str, Any], NDArray[np.generic]]:
    """What the page must know of a column, and its values: a number each, or the place of a text among `names`.

    A missing number is NaN; a missing text has the place behind the last.
    """
    known = [None if value == "" else value for value in values]
    numbers = [value for value in known if isinstance(value, Real) and not isinstance(value, bool)]
    integers = [int(value) for value in numbers if isinstance(value, int | np.integer)]
    missing = known.count(None)
    exact = all(abs(value) <= _EXACT for value in integers)
    if len(integers) + missing == len(known) and (len(set(integers)) <= _MOST_CATEGORIES or not exact):
        return _categories(name, known, integers=True)
    if len(numbers) + missing == len(known) and exact:
        floats = np.array([math.nan if value is None else float(value) for value in known], "<f8")
        return {"name": name, "kind": "number"}, np.where(np.isfinite(floats), floats, np.nan)
    return _categories(name, known, integers=False)


def _categories(
    name: str, values: Sequence[str | float | int | None], integers: bool
) -> tuple[dict[str, Any], NDArray[np.generic]]:
    """A column of text, or of integers in their order, which an export writes as numbers."""
    texts = [None if value is None else str(value) for value in values]
    different = {text for text in texts if text is not None}
    names = sorted(different, key=int) if integers else sorted(different, key=_natural)
    places = {text: place for place, text in enumerate(names)}
    width = next(width for width in ("u1", "u2", "u4") if len(names) < 2 ** (8 * int(width[1])))
    codes = np.array([len(names) if text is None else places[text] for text in texts], f"<{width}")
    if integers and re.fullmatch(r"cluster( \(.*\))?", name):  # also where several tables bring one
        names = ["noise" if text == "-1" else text for text in names]
    return {"name": name, "kind": "text", "names": names, "type": width, "integers": integers}, codes


def _different(about: Mapping[str, Any], values: NDArray[np.generic]) -> int:
    """How many different values a column holds."""
    if about["kind"] == "text":
        return len(about["names"])
    return len(np.unique(values[~np.isnan(values.astype(np.float64))]))


def _natural(text: str) -> tuple[list[tuple[bool, int, str]], str]:
    """Sorts "class 10" behind "class 9"."""
    parts = re.findall(r"[0-9]+|[^0-9]+", text.casefold())
    return [(not part[0].isdigit(), int(part) if part[0].isdigit() else 0, part) for part in parts], text


def _isolated(isolation: NDArray[np.floating] | None) -> list[int]:
    """Rows of the most isolated images, the most isolated first."""
    if isolation is None:
        return []
    most = min(_MOST_ISOLATED, max(20, len(isolation) // 50))
    order = np.argsort(-isolation, kind="stable")[:most]
    return [int(row) for row in order if math.isfinite(isolation[row])]


def _fitted(points: NDArray[np.floating]) -> NDArray[np.float64]:
    """Points in the square from -1 to 1, with one scale for both axes."""
    exact = np.asarray(points, np.float64)
    low, high = exact.min(axis=0), exact.max(axis=0)
    return (exact - (low + high) / 2) / ((high - low).max() / 2 or 1.0)


def _rows_in(rows: NDArray[np.integer], count: int) -> bool:
    return rows.size == 0 or bool(rows.min() >= 0 and rows.max() < count)
