"""The explorer page: what it holds, and what it does in a browser."""

from __future__ import annotations

import base64
import csv
import dataclasses
import gzip
import io
import json
import re
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from ssl_transfer.reporting.explorer import Explorer, write_explorer
from tests.reporting.chromium import ALT, CTRL, SHIFT, Chromium, find

HOSTILE = '</script><script>alert(1)</script><img src=x onerror="alert(2)">'


@pytest.fixture(scope="module")
def digits() -> Explorer:
    """300 digits."""
    data = load_digits()
    flat = data.data[:300]
    distances, rows = NearestNeighbors(n_neighbors=9).fit(flat).kneighbors(flat)
    return Explorer(
        title="Digits",
        points=PCA(2, random_state=0).fit_transform(flat),
        paths=[f"digits/{target}/{row:03d}.png" for row, target in enumerate(data.target[:300])],
        columns={
            "digit": [str(target) for target in data.target[:300]],
            "score": [None if row % 50 == 0 else -float(distance) for row, distance in enumerate(distances[:, 5])],
            "note": ["=1+1" if row == 7 else None for row in range(300)],
        },
        thumbnails=np.rint(data.images[:300, None] * (255 / 16)).astype(np.uint8),
        neighbours=rows[:, 1:],
        duplicates=[[0, 10], [3, 13, 23]],
        isolation=distances[:, 5],
        figures={"trustworthiness (k = 10)": ".83"},
    )


# ---- what the file holds


class _Blocks(HTMLParser):
    """Data blocks by their id, scripts, and every attribute."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.data: dict[str, str] = {}
        self.attributes: list[tuple[str, str, str]] = []
        self._id = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self._id = dict(attrs).get("id") or "" if tag == "script" else ""

    def handle_endtag(self, tag: str) -> None:
        self._id = ""

    def handle_data(self, data: str) -> None:
        if self._id:
            self.data[self._id] = data

    def bytes(self, name: str) -> bytes:
        content = base64.b64decode(self.data[name])
        return content if name.startswith("sheet") else gzip.decompress(content)

    def json(self, name: str) -> Any:
        return json.loads(self.bytes(name))


def _written(explorer: Explorer, folder: Path) -> str:
    return write_explorer(explorer, folder / "page.html").read_text(encoding="utf-8")


def test_the_file_holds_what_was_given(digits: Explorer, tmp_path: Path) -> None:
    page = _Blocks(_written(digits, tmp_path))
    meta = page.json("meta")
    assert page.json("paths") == digits.paths and meta["count"] == 300 and meta["k"] == 8
    points = np.frombuffer(page.bytes("points"), "<f4").reshape(300, 2)
    scale = np.ptp(digits.points, axis=0) / np.ptp(points, axis=0)
    assert np.abs(points).max() == pytest.approx(1) and scale[0] == pytest.approx(scale[1])
    np.testing.assert_array_equal(np.frombuffer(page.bytes("neighbours"), "<u2").reshape(300, 8), digits.neighbours)
    digit, score, note = meta["columns"]
    codes = np.frombuffer(page.bytes("column-0"), f"<{digit['type']}")
    assert [digit["names"][code] for code in codes] == digits.columns["digit"]
    numbers = np.frombuffer(page.bytes("column-1"), "<f8")
    assert score["kind"] == "number" and np.isnan(numbers[0]) and numbers[1] == digits.columns["score"][1]
    assert note["names"] == ["=1+1"] and np.frombuffer(page.bytes("column-2"), "u1")[6] == 1
    assert meta["duplicates"] == [[0, 10], [3, 13, 23]] and len(meta["isolated"]) == 20
    assert digits.isolation is not None and meta["isolated"][0] == int(digits.isolation.argmax())
    sheet = np.asarray(Image.open(io.BytesIO(page.bytes("sheet-0"))).convert("L"))
    spot = int(np.frombuffer(page.bytes("places"), "<u4")[5])
    y, x = spot // meta["atlas"]["columns"] * 8, spot % meta["atlas"]["columns"] * 8
    np.testing.assert_array_equal(sheet[y : y + 8, x : x + 8], np.asarray(digits.thumbnails)[5, 0])


def test_nothing_is_loaded_from_elsewhere(digits: Explorer, tmp_path: Path) -> None:
    html = _written(digits, tmp_path)
    for tag, name, value in _Blocks(html).attributes:
        assert name not in ("src", "href") or value.startswith("data:"), (tag, name, value)
        assert not name.startswith("on"), (tag, name)
    assert "default-src 'none'" in html and "@import" not in html and "url(" not in html.split("</style>")[0]
    assert "Permission is hereby granted" in html  # the licences of what it carries


def test_the_quality_of_the_map_is_explained(digits: Explorer, tmp_path: Path) -> None:
    figures = {"trustworthiness_10": "0.983", "pixels_continuity_15": "0.9", "distance_spearman": "0.5", "my own": "7"}
    html = _written(dataclasses.replace(digits, figures=figures), tmp_path)
    assert "<dt>trustworthiness, k = 10</dt><dd>0.983</dd>" in html and "close in feature space too? 1 is best" in html
    assert "<dt>continuity, k = 15, against pixels</dt>" in html and "images that are close in pixels stay" in html
    assert "<dt>distance spearman</dt>" in html and '<dt>my own</dt><dd>7</dd><dd class="quiet"></dd>' in html


def test_what_a_user_writes_stays_text(digits: Explorer, tmp_path: Path) -> None:
    nasty = dataclasses.replace(
        digits,
        title=f"$about {HOSTILE} \udcff",
        paths=[HOSTILE, "a\nb \udcff", *digits.paths[2:]],
        columns={HOSTILE: [HOSTILE] * 300},
        figures={HOSTILE: HOSTILE},
    )
    html = _written(nasty, tmp_path)
    assert "<script>alert" not in html and "<img" not in html and html.count("How to read it") == 1
    page = _Blocks(html)
    assert page.json("paths") == nasty.paths and page.json("meta")["columns"][0]["names"] == [HOSTILE]


def test_the_scripts_write_no_markup() -> None:
    scripts = Path(__file__).parents[2] / "ssl_transfer" / "reporting"
    for script in scripts.glob("explorer*.js"):
        assert not re.search(
            "innerHTML|insertAdjacentHTML|document.write|outerHTML", script.read_text(encoding="utf-8")
        )


def test_columns_of_every_kind(digits: Explorer, tmp_path: Path) -> None:
    columns = {
        "mixed": [*["10", 9, None] * 100],
        "flags": [*[True, False] * 150],
        "many": [f"id {row}" for row in range(300)],
        "nothing": [None] * 300,
        "infinite": [float("inf")] * 300,
    }
    page = _Blocks(_written(dataclasses.replace(digits, columns=columns), tmp_path))
    mixed, flags, many = page.json("meta")["columns"]  # the two without any value are left out
    assert mixed["names"] == ["9", "10"] and flags["names"] == ["False", "True"]
    assert many["type"] == "u2" and many["names"][:3] == ["id 0", "id 1", "id 2"]


def test_few_different_integers_are_categories(digits: Explorer, tmp_path: Path) -> None:
    columns: dict[str, Any] = {
        "cluster": np.arange(300) % 12 - 1,
        "cluster (second)": [None if row == 5 else row % 2 - 1 for row in range(300)],
        "level": [-1, 10, 9] * 100,
        "fifty": [row % 50 for row in range(300)],
        "more": [row % 51 for row in range(300)],
        "halves": [1, 2.5] * 150,
    }
    page = _Blocks(_written(dataclasses.replace(digits, columns=columns), tmp_path))
    cluster, second, level, fifty, more, halves = page.json("meta")["columns"]
    assert cluster["names"] == ["noise", *map(str, range(11))] and second["names"] == ["noise", "0"]
    assert np.frombuffer(page.bytes("column-0"), "u1")[:3].tolist() == [0, 1, 2]
    assert np.frombuffer(page.bytes("column-1"), "u1")[4:7].tolist() == [0, 2, 0]
    assert level["names"] == ["-1", "9", "10"] and fifty["names"] == [str(number) for number in range(50)]
    assert more["kind"] == halves["kind"] == "number"


def test_large_integers_are_kept_exactly(digits: Explorer, tmp_path: Path) -> None:
    columns: dict[str, Any] = {
        "hash": [2**53 + 1 + row for row in range(300)],
        "below": [-(10**400), *range(299)],
        "fits": [2**53 - row for row in range(300)],
        "mixed": [2**53 + 1, *[0.5] * 299],
    }
    page = _Blocks(_written(dataclasses.replace(digits, columns=columns), tmp_path))
    hashes, below, fits, mixed = page.json("meta")["columns"]
    assert hashes["names"] == [str(value) for value in columns["hash"]]
    assert below["names"][:3] == [str(-(10**400)), "0", "1"] and mixed["names"] == ["0.5", str(2**53 + 1)]
    assert fits["kind"] == "number" and np.frombuffer(page.bytes("column-2"), "<f8").tolist() == columns["fits"]


def test_columns_without_value_are_left_out_and_the_first_that_differs_comes_first(
    digits: Explorer, tmp_path: Path
) -> None:
    nothing: dict[str, Any] = {"none": [None] * 300, "blank": [""] * 300, "nan": [float("nan")] * 300}
    same: dict[str, Any] = {"split": ["train", *[None] * 299], "one": [1.0] * 300}

    def meta(columns: dict[str, Any]) -> Any:
        return _Blocks(_written(dataclasses.replace(digits, columns=columns), tmp_path)).json("meta")

    found = meta(nothing | same | {"value": [0.5, 1.5] * 150})
    assert [column["name"] for column in found["columns"]] == ["split", "one", "value"] and found["start"] == 2
    assert meta(nothing | same)["start"] == 0 and meta(nothing)["columns"] == []


def test_an_explorer_that_does_not_fit_together_is_refused(digits: Explorer) -> None:
    wrong: list[tuple[str, Any]] = [
        ("points", digits.points[:5]),
        ("points", np.full((300, 2), np.nan)),
        ("columns", {"short": ["a"]}),
        ("neighbours", np.full((300, 2), 300)),
        ("neighbours", np.zeros((7, 2), int)),
        ("duplicates", [[0, 300]]),
        ("isolation", np.zeros(2)),
        ("paths", []),
    ]
    for name, value in wrong:
        with pytest.raises(AssertionError):
            dataclasses.replace(digits, **{name: value})


def test_too_few_thumbnails_leave_no_file(digits: Explorer, tmp_path: Path) -> None:
    short = dataclasses.replace(digits, thumbnails=iter(np.asarray(digits.thumbnails)[:7]))
    with pytest.raises(AssertionError, match="7 thumbnails for 300"):
        write_explorer(short, tmp_path / "page.html")
    assert list(tmp_path.iterdir()) == []


# ---- what it does in a browser

browser = pytest.mark.skipif(find() is None, reason="no Chromium or Chrome on this machine")


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("chromium")) as started:
        yield started


@pytest.fixture
def page(chromium: Chromium, digits: Explorer, tmp_path: Path) -> Iterator[Chromium]:
    """The page of digits, freshly opened."""
    chromium.errors.clear()
    chromium.requests.clear()
    chromium.open(write_explorer(digits, tmp_path / "page.html"))
    yield chromium
    assert chromium.errors == []
    assert [url for url in chromium.requests if not url.startswith(("file:", "blob:", "data:"))] == []


def _state(page: Chromium) -> dict[str, Any]:
    return dict(page.evaluate("explorer.state()"))


def _at(page: Chromium, row: int) -> tuple[float, float]:
    """Where a point is in the window."""
    left, top = page.evaluate(
        f"(() => {{ const box = document.querySelector('.plot').getBoundingClientRect();"
        f"const [x, y] = explorer.place({row}); return [box.left + x, box.top + y]; }})()"
    )
    return left, top


def _alone(digits: Explorer) -> int:
    """The point that is farthest from all others on the map."""
    distances, _ = NearestNeighbors(n_neighbors=2).fit(digits.points).kneighbors(digits.points)
    return int(distances[:, 1].argmax())


def _round(page: Chromium, row: int, radius: float = 30) -> list[tuple[float, float]]:
    x, y = _at(page, row)
    return [(x + radius * np.cos(a), y + radius * np.sin(a)) for a in np.linspace(0, 2 * np.pi, 12).tolist()]


@browser
def test_it_opens_with_every_point(page: Chromium, digits: Explorer, tmp_path: Path) -> None:
    assert _state(page)["count"] == 300 and _state(page)["colour"] == "digit"
    pixels = np.asarray(Image.open(io.BytesIO(page.screenshot(tmp_path / "page.png"))).convert("L"))
    for row in range(0, 300, 29):  # something is drawn where each point should be
        x, y = (round(place) for place in _at(page, row))
        assert pixels[y - 2 : y + 3, x - 2 : x + 3].min() < 200, row
    assert page.evaluate("document.querySelectorAll('.categories button').length") == 10


@browser
def test_pointing_shows_the_image(page: Chromium, digits: Explorer) -> None:
    row = _alone(digits)
    page.mouse("Moved", *_at(page, row))
    page.wait("!document.querySelector('.tip').hidden && document.querySelector('.tip canvas').width === 8")
    told = page.evaluate("document.querySelector('.tip').innerText")
    assert digits.paths[row] in told and f"digit\n{digits.columns['digit'][row]}" in told
    shown = page.evaluate(
        "Array.from(document.querySelector('.tip canvas').getContext('2d').getImageData(0, 0, 8, 8).data)"
    )
    drawn = np.array(shown).reshape(8, 8, 4)[..., 0]
    np.testing.assert_allclose(drawn, np.asarray(digits.thumbnails)[row, 0], atol=2)
    page.mouse("Moved", 5, 300)
    page.wait("document.querySelector('.tip').hidden")


@browser
def test_a_lasso_selects_and_exports(page: Chromium, digits: Explorer) -> None:
    row = _alone(digits)
    page.drag(_round(page, row), SHIFT)
    page.wait("explorer.state().selection.length")
    first = _state(page)["selection"]
    assert row in first and len(first) < 20
    other = int(np.linalg.norm(digits.points - digits.points[row], axis=1).argmax())
    page.key("l")
    page.drag(_round(page, other), CTRL)
    page.wait(f"explorer.state().selection.length > {len(first)}")
    selected = _state(page)["selection"]
    assert {row, other} <= set(selected) and set(first) < set(selected)
    table = list(csv.DictReader(io.StringIO(page.evaluate("explorer.exportCsv()"))))
    assert [line["path"] for line in table] == [digits.paths[row] for row in selected]
    file = page.folder / "selection.csv"
    file.unlink(missing_ok=True)
    page.evaluate("document.querySelector('#selection .actions button').click()")
    deadline = time.monotonic() + 60
    while not file.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert file.read_text(encoding="utf-8").count(".png") == len(selected)
    page.key("Escape")
    assert _state(page)["selection"] == [] and _state(page)["mode"] == "move"


@browser
def test_a_lasso_on_a_busy_page_loses_no_place(page: Chromium, digits: Explorer) -> None:
    row = _alone(digits)
    other = int(np.linalg.norm(digits.points - digits.points[row], axis=1).argmax())
    page.busy_drag(_round(page, row), SHIFT)
    page.wait("explorer.state().selection.length")
    assert row in _state(page)["selection"]
    page.busy_drag(_round(page, other), SHIFT | CTRL)
    page.wait("explorer.state().selection.length > 1")
    assert {row, other} <= set(_state(page)["selection"])
    page.busy_drag(_round(page, row), SHIFT | ALT)
    page.wait(f"!explorer.state().selection.includes({row})")
    assert other in _state(page)["selection"]


@browser
def test_a_lasso_may_be_disturbed(page: Chromium, digits: Explorer) -> None:
    """By a window that loses the keyboard, by a key, by the wheel: it keeps what it went round."""
    row = _alone(digits)
    for disturb in (
        "dispatchEvent(new Event('blur'))",
        "dispatchEvent(new KeyboardEvent('keydown', { key: 'b', bubbles: true }))",
        "explorer.zoom(0.5)",
    ):
        page.key("Escape")
        page.key("l")
        way = _round(page, row)
        page.mouse("Moved", *way[0])
        page.mouse("Pressed", *way[0], buttons=1)
        for place in way[1:]:
            page.mouse("Moved", *place, button="left", buttons=1)
        page.evaluate(f"{disturb}; 0")
        page.mouse("Released", *way[-1])
        page.wait(f"explorer.state().selection.includes({row})")
        assert _state(page)["marked"] == _state(page)["selection"] and len(_state(page)["selection"]) < 20


@browser
def test_a_finger_draws_a_lasso_and_a_box(page: Chromium, digits: Explorer) -> None:
    row = _alone(digits)

    def touch(kind: str, *places: tuple[float, float]) -> None:
        page.call("Input.dispatchTouchEvent", type=f"touch{kind}", touchPoints=[{"x": x, "y": y} for x, y in places])

    for key in "lb":
        page.key("Escape")
        page.key(key)
        x, y = _at(page, row)
        way = _round(page, row) if key == "l" else [(x - 20, y - 20), (x, y), (x + 20, y + 20)]
        touch("Start", way[0])
        for place in way[1:]:
            touch("Move", place)
        touch("End")
        page.wait(f"explorer.state().selection.includes({row})")
    page.key("Escape")
    page.key("l")
    way = _round(page, row)
    touch("Start", way[0])
    for place in way[1:]:
        touch("Move", place)
    far = (way[-1][0] - 200, way[-1][1])
    touch("Start", way[-1], far)  # a second finger zooms
    for reach in (210, 240, 280):
        touch("Move", way[-1], (way[-1][0] - reach, far[1]))
    touch("End")
    page.wait(f"explorer.state().selection.includes({row})")


@browser
def test_what_a_lasso_goes_round_is_by_the_even_odd_rule(page: Chromium) -> None:
    rng = np.random.default_rng(0)
    corners, points = rng.uniform(0, 900, (40, 2)), rng.uniform(-50, 950, (400, 2))
    wanted = []
    for x, y in points:  # how often a ray to the right meets a side
        met = 0
        for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, 1, axis=0), strict=True):
            met += bool((y0 > y) != (y1 > y) and x < x0 + (x1 - x0) * (y - y0) / (y1 - y0))
        wanted.append(met % 2 == 1)
    found = page.evaluate(f"""(() => {{
        const [corners, points] = [{corners.tolist()}, {points.tolist()}];
        const drag = new Drag(corners[0], false, (x, y) => [x, y]);
        corners.slice(1).forEach((at) => drag.add(at));
        return drag.rows(points.map((_, row) => row), (row) => points[row][0], (row) => points[row][1]);
    }})()""")
    assert 50 < len(found) < 350 and found == np.flatnonzero(wanted).tolist()


@browser
def test_a_box_selects_what_lies_in_it(page: Chromium, digits: Explorer) -> None:
    page.key("b")
    places = np.array(page.evaluate("Array.from({ length: 300 }, (_, row) => explorer.place(row))"))
    left, top = page.evaluate(
        "(() => { const box = document.querySelector('.plot').getBoundingClientRect(); return [box.left, box.top]; })()"
    )
    low, high = np.quantile(places, 0.35, axis=0), np.quantile(places, 0.75, axis=0)
    path = [(left + x, top + y) for x, y in [*np.linspace(low, low + 2, 3), *np.linspace(low + 3, high, 8)]]
    page.drag(path)
    page.wait("explorer.state().selection.length")
    selected = set(_state(page)["selection"])
    inner, outer = (np.flatnonzero(((places > low + m) & (places < high - m)).all(axis=1)) for m in (4, -4))
    assert len(inner) > 40 and set(inner) <= selected <= set(outer)


@browser
def test_an_export_is_no_formula(page: Chromium) -> None:
    page.evaluate("explorer.select([7, 50, 8])")
    table = list(csv.DictReader(io.StringIO(page.evaluate("explorer.exportCsv()"))))
    assert [line["note"] for line in table] == ["'=1+1", "", ""]
    assert float(table[0]["score"]) < 0 and table[2]["score"] == ""  # a negative number stays one


@browser
def test_clusters_are_shown_alone_and_exported_as_numbers(chromium: Chromium, digits: Explorer, tmp_path: Path) -> None:
    columns: dict[str, Any] = {
        "split": ["train"] * 300,
        "cluster": [row % 3 - 1 for row in range(300)],
        "hash": [-(2**60) - row for row in range(300)],
    }
    chromium.errors.clear()
    chromium.open(write_explorer(dataclasses.replace(digits, columns=columns), tmp_path / "page.html"))
    assert _state(chromium)["colour"] == "cluster"  # the first whose values differ
    labels = "[...document.querySelectorAll('.categories .label')].map((label) => label.textContent)"
    assert chromium.evaluate(labels) == ["noise", "0", "1"]
    chromium.evaluate("explorer.isolate(0)")
    chromium.evaluate("explorer.select([0, 1, 2, 3])")
    assert _state(chromium)["selection"] == [0, 3]
    chromium.evaluate("explorer.pick(0)")
    assert f"cluster\nnoise\nhash\n{-(2**60)}" in chromium.evaluate("document.querySelector('#near').innerText")
    table = list(csv.DictReader(io.StringIO(chromium.evaluate("explorer.exportCsv()"))))
    assert [(line["cluster"], line["hash"]) for line in table] == [("-1", str(-(2**60) - row)) for row in (0, 3)]
    assert chromium.errors == []


@browser
def test_paths_are_exported_and_copied_as_they_are(chromium: Chromium, digits: Explorer, tmp_path: Path) -> None:
    paths = ["=a.png", "+b.png", "-c.png", "@d.png", "\te.png", 'f,"g".png', *digits.paths[6:]]
    strange = dataclasses.replace(digits, paths=paths, columns={"=note": ["@text"] * 300})
    chromium.errors.clear()
    chromium.open(write_explorer(strange, tmp_path / "page.html"))
    chromium.evaluate("explorer.select([0, 1, 2, 3, 4, 5])")
    table = list(csv.DictReader(io.StringIO(chromium.evaluate("explorer.exportCsv()"))))
    assert [line["path"] for line in table] == paths[:6]
    assert {line["'=note"] for line in table} == {"'@text"}
    clipboard = "{ writeText: async (text) => { window.copied = text; } }"
    chromium.evaluate(f"Object.defineProperty(navigator, 'clipboard', {{ value: {clipboard} }}).onLine")
    chromium.evaluate("document.querySelector('#selection .actions button:nth-child(2)').click()")
    chromium.wait("window.copied")
    assert chromium.evaluate("window.copied").split("\n") == paths[:6] and chromium.errors == []


@browser
def test_a_click_shows_neighbours_and_one_walks_on(page: Chromium, digits: Explorer) -> None:
    row = _alone(digits)
    page.click(*_at(page, row))
    page.wait(f"explorer.state().picked === {row}")
    assert _state(page)["tab"] == "near" and _state(page)["marked"] == [row, *digits.neighbours[row].tolist()]
    page.evaluate("document.querySelector('#near .thumb').click()")
    assert _state(page)["picked"] == digits.neighbours[row, 0]
    page.evaluate("document.querySelector('#near .actions button').click()")
    assert _state(page)["picked"] == row


@browser
def test_search_and_legend(page: Chromium, digits: Explorer) -> None:
    page.key("/")
    for letter in "digits/4":
        page.key(letter)
    fours = [row for row, digit in enumerate(digits.columns["digit"]) if digit == "4"]
    page.wait(f"document.querySelector('.found').textContent === '{len(fours)} found'")  # not all that has "digits"
    assert _state(page)["selection"] == fours
    before = _state(page)["view"]
    page.key("Enter")
    page.wait(f"explorer.state().view[0] !== {before[0]}")
    page.key("Escape")
    assert _state(page)["selection"] == []
    page.evaluate("explorer.isolate(4)")
    page.evaluate("explorer.settled()")
    page.evaluate("explorer.fit()")
    page.evaluate("explorer.select([...Array(300).keys()])")
    assert _state(page)["selection"] == fours  # what is not shown is not selected
    page.evaluate("explorer.colour('score')")
    assert _state(page)["isolated"] == [] and page.evaluate("!document.querySelector('.scale').hidden")


@browser
def test_a_search_tells_what_the_legend_hides(page: Chromium, digits: Explorer) -> None:
    found = "document.querySelector('.found').textContent"
    heading = "document.querySelector('#selection h2').textContent"
    fours = [row for row, digit in enumerate(digits.columns["digit"]) if digit == "4"]
    page.evaluate("document.querySelector('#search').focus()")
    for letter in "digits/4":
        page.key(letter)
    page.wait(f"{found} === '{len(fours)} found'")
    page.evaluate("explorer.isolate(3)")
    assert page.evaluate(found) == f"{len(fours)} found, all hidden by the legend"
    assert page.evaluate(heading) == f"{len(fours)} paths contain “digits/4”, all hidden by the legend"
    assert _state(page)["selection"] == []
    page.evaluate("explorer.isolate(4)")  # as well
    assert page.evaluate(found) == f"{len(fours)} found" and _state(page)["selection"] == fours
    page.evaluate("document.querySelector('#search').select()")
    for letter in "digits":
        page.key(letter)
    page.wait(f"{found}.startsWith('300 found')")
    shown = [row for row, digit in enumerate(digits.columns["digit"]) if digit in ("3", "4")]
    assert page.evaluate(found) == f"300 found, {300 - len(shown)} hidden" and _state(page)["selection"] == shown
    page.evaluate("document.querySelector('#show-all').click()")
    assert page.evaluate(found) == "300 found" and len(_state(page)["selection"]) == 300
    page.evaluate("explorer.isolate(3)")
    page.evaluate("explorer.colour('score')")  # shows all
    page.wait(f"{found} === '300 found'")
    page.key("Escape")
    assert page.evaluate(found) == ""


@browser
def test_what_the_legend_hides_is_in_no_selection(page: Chromium, digits: Explorer) -> None:
    ones = [row for row in range(20) if digits.columns["digit"][row] == "1"]
    page.evaluate("explorer.select([...Array(20).keys()])")
    page.evaluate("explorer.isolate(1)")
    assert _state(page)["selection"] == _state(page)["marked"] == ones
    table = list(csv.DictReader(io.StringIO(page.evaluate("explorer.exportCsv()"))))
    assert [line["path"] for line in table] == [digits.paths[row] for row in ones]
    page.evaluate("document.querySelector('#show-all').click()")
    assert _state(page)["selection"] == ones  # what was dropped stays so
    page.evaluate("explorer.open('duplicates')")
    button = "document.querySelector('#duplicates .actions button')"
    assert page.evaluate(f"{button}.textContent") == "Select all but the first of each (3)"
    page.evaluate("explorer.isolate(3)")
    assert page.evaluate(f"{button}.textContent") == "Select all but the first of each (2)"
    page.evaluate(f"{button}.click()")
    assert _state(page)["selection"] == [13, 23]
    page.evaluate("explorer.isolate(3); explorer.isolate(1); explorer.open('duplicates')")
    assert page.evaluate(f"{button}.disabled")
    page.evaluate("explorer.open('outliers')")
    assert digits.isolation is not None
    far = [row for row in np.argsort(-digits.isolation, kind="stable")[:20] if digits.columns["digit"][row] == "1"]
    told = page.evaluate("document.querySelector('#outliers .actions button').textContent")
    assert told == f"Select these {len(far)}"


@browser
def test_many_categories_are_found_and_told_apart(chromium: Chromium, digits: Explorer, tmp_path: Path) -> None:
    columns = {"id": [f"part {row}" for row in range(300)]}
    chromium.errors.clear()
    chromium.open(write_explorer(dataclasses.replace(digits, columns=columns), tmp_path / "page.html"))
    assert "100 more" in chromium.evaluate("document.querySelector('.categories').innerText")
    chromium.evaluate("document.querySelector('#legend-search').focus()")
    for letter in "part 23":
        chromium.key(letter)
    chromium.wait("document.querySelectorAll('.categories button').length === 11")  # part 23 and part 230 to 239
    for code in (23, 35):  # of one colour among the twelve
        chromium.evaluate(f"explorer.isolate({code})")
    chromium.evaluate("explorer.settled()")
    script = "[...document.querySelectorAll('[aria-pressed=true] > i')].map((dot) => dot.style.background)"
    assert len(set(chromium.evaluate(script))) == 2 and chromium.errors == []


@browser
def test_pictures_take_the_place_of_points_where_there_is_room(page: Chromium, digits: Explorer) -> None:
    drawn = "Number(document.querySelector('.pictures').dataset.drawn)"
    assert page.evaluate(drawn) == 0
    page.evaluate("explorer.zoom(3)")
    page.wait(f"{drawn} > 10")
    page.key("p")
    assert page.evaluate("document.querySelector('#pictures').getAttribute('aria-pressed')") == "false"
    page.wait("!document.querySelector('.pictures').getContext('2d').getImageData(0, 0, 2000, 2000).data.some(Boolean)")


@browser
def test_the_keyboard_reaches_everything(page: Chromium) -> None:
    page.evaluate("document.querySelector('.plot').focus()")
    page.key("ArrowRight")
    start = page.evaluate("document.querySelector('.status').textContent")
    page.key("ArrowRight")
    next_ = page.evaluate("document.querySelector('.status').textContent")
    assert start.startswith("digits/") and next_.startswith("digits/") and next_ != start
    page.key(" ")
    assert len(_state(page)["selection"]) == 1
    page.key("Enter")
    assert _state(page)["tab"] == "near" and next_.startswith(
        page.evaluate("document.querySelector('#near .path').textContent")
    )
    view = _state(page)["view"][0]
    page.key("+")
    page.wait(f"explorer.state().view[0] > {view}")
    page.key("?")
    assert page.evaluate("document.querySelector('dialog').open")
    page.key("Escape")
    page.wait("!document.querySelector('dialog').open")
    reached = set()
    for _ in range(60):
        page.key("Tab")
        reached.add(
            page.evaluate(
                "document.activeElement.id || document.activeElement.className || document.activeElement.textContent"
            )
        )
    assert {"colour", "search", "theme", "help", "names", "plot", "tab-near", "thumb"} <= reached, reached


@browser
def test_dragging_moves_and_the_wheel_zooms(page: Chromium, digits: Explorer) -> None:
    x, y = _at(page, 5)
    page.drag([(640, 500), (660, 510), (700, 540)])
    page.wait(
        f"Math.abs(explorer.place(5)[0] + document.querySelector('.plot').getBoundingClientRect().left - {x + 60}) < 3"
    )
    assert _at(page, 5)[1] == pytest.approx(y + 40, abs=3) and _state(page)["selection"] == []
    scale = _state(page)["view"][0]
    page.mouse("Wheel", 640, 500, deltaX=0, deltaY=-200)
    page.wait(f"explorer.state().view[0] > {scale}")


@browser
def test_fingers_move_and_pinch(page: Chromium) -> None:
    def touch(kind: str, *places: tuple[float, float]) -> None:
        points = [{"x": x, "y": y, "id": place} for place, (x, y) in enumerate(places)]
        page.call("Input.dispatchTouchEvent", type=f"touch{kind}", touchPoints=points)

    scale = _state(page)["view"][0]
    touch("Start", (600, 500), (660, 500))
    for reach in (50, 70, 90):
        touch("Move", (630 - reach, 500), (630 + reach, 500))
    touch("End")
    page.wait(f"explorer.state().view[0] > {1.5 * scale}")
    x, _ = _at(page, 5)
    touch("Start", (600, 500))
    touch("Move", (620, 500))
    touch("Move", (650, 500))
    touch("End")
    page.wait(
        f"Math.abs(explorer.place(5)[0] + document.querySelector('.plot').getBoundingClientRect().left - {x + 50}) < 3"
    )


@browser
def test_light_and_dark(page: Chromium) -> None:
    def corner() -> Any:
        picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        return picture.getpixel((picture.width // 2, picture.height - 5))

    page.prefer("dark")
    assert max(corner()) < 60
    page.evaluate("document.querySelector('#theme').click()")
    assert min(corner()) > 240
    page.prefer("light")


@browser
def test_hostile_names_stay_text_in_the_page(chromium: Chromium, digits: Explorer, tmp_path: Path) -> None:
    nasty = dataclasses.replace(
        digits, title=HOSTILE, paths=[HOSTILE] * 300, columns={HOSTILE: [HOSTILE, *["b"] * 299]}, duplicates=[[0, 1]]
    )
    chromium.errors.clear()
    chromium.open(write_explorer(nasty, tmp_path / "page.html"))
    for tab in ("selection", "near", "duplicates", "outliers", "about"):
        chromium.evaluate(f"explorer.select([0, 1]); explorer.pick(0); explorer.hover(0); explorer.open('{tab}')")
    assert chromium.evaluate("document.images.length") == 0 and chromium.errors == []
    assert chromium.evaluate("document.querySelector('h1').textContent") == HOSTILE


@browser
def test_lists_work_without_webgl(digits: Explorer, tmp_path: Path) -> None:
    with Chromium(tmp_path / "chromium", flags=["--disable-3d-apis"]) as plain:
        plain.open(write_explorer(digits, tmp_path / "page.html"))
        assert "needs WebGL" in plain.evaluate("document.querySelector('.no-map').textContent")
        plain.evaluate("explorer.select([1, 2])")
        assert plain.evaluate("document.querySelectorAll('#selection .thumb').length") == 2
        plain.evaluate("explorer.select([0, 1, 2])")
        plain.evaluate("explorer.isolate(1)")
        assert _state(plain)["selection"] == [1]


@browser
def test_pages_of_one_image_and_of_images_in_one_place(chromium: Chromium, digits: Explorer, tmp_path: Path) -> None:
    one = Explorer("One", np.zeros((1, 2)), ["a.png"], {}, np.zeros((1, 3, 20, 30), np.uint8), np.zeros((1, 0), int))
    same = dataclasses.replace(digits, points=np.zeros((300, 2)), duplicates=(), isolation=None, figures={})
    chromium.errors.clear()
    for explorer in (one, same):
        chromium.open(write_explorer(explorer, tmp_path / "page.html"))
        chromium.evaluate("explorer.select([0]); explorer.pick(0); explorer.hover(0)")
        assert chromium.evaluate("Number.isFinite(explorer.place(0)[0])")
    assert chromium.errors == []


@browser
def test_a_phone_has_room_for_what_the_search_tells(page: Chromium, digits: Explorer) -> None:
    count = sum(digit == "4" for digit in digits.columns["digit"])
    page.resize(360, 740, phone=True)
    page.evaluate("document.querySelector('#search').focus()")
    for letter in "digits/4":
        page.key(letter)
    page.wait(f"document.querySelector('.found').textContent === '{count} found'")
    page.evaluate("explorer.isolate(3)")
    assert "hidden by the legend" in page.evaluate("document.querySelector('.found').textContent")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.resize(*page.size)
