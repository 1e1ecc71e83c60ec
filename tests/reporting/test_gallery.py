"""The gallery of scored images."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ssl_transfer.evaluation.metrics import wilson_interval
from ssl_transfer.reporting.charts import histogram
from ssl_transfer.reporting.gallery import GalleryItem, pictured, thumbnail
from ssl_transfer.reporting.gallery import anomaly_gallery as gallery_page


def anomaly_gallery(*items: Any, **options: Any) -> str:
    return gallery_page(*items, **options).html()


def _items(count: int = 30, truth: bool = True, side: int = 64) -> list[GalleryItem]:
    rng = np.random.default_rng(0)
    items = []
    for index in range(count):
        bad = index % 5 == 0
        score = float(rng.normal(3.0 if bad else 0.0))
        image = rng.integers(0, 256, (side, side + 10, 1), dtype=np.uint8)
        items.append(
            GalleryItem(
                path=f"part {index}/{'bad' if bad else 'good'}.png",
                score=score,
                p_value=float(np.clip(1 - score / 4, 0.01, 1)),
                anomalous=score > 1.5,
                label=("scratch" if bad else "good") if truth else None,
                truth=bad if truth else None,
                split="test",
                thumbnail=image,
                overlay=image.repeat(3, axis=2),
            )
        )
    return items


def _data(html: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json">(.*?)</script>', html, re.DOTALL)
    assert found is not None
    return dict(json.loads(found.group(1)))


def _picture(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1])))


def test_the_page_says_what_was_found(read_page: Callable[[str], str]) -> None:
    items = _items()
    html = anomaly_gallery(
        items,
        title="Tiles",
        threshold=1.5,
        false_alarm_rate=0.01,
        figures={"image AUROC": (0.979, 0.95, 0.99), "AUPR": 0.9},
        facts=[("Detector", "KNNDistance")],
    )
    text = read_page(html)
    flagged = sum(item.anomalous for item in items)
    assert f"{flagged} of 30 images flagged; at most 1 % of normal images are expected to be." in text
    assert "image AUROC97.9 %95.0 % to 99.0 %" in text and "AUPR90.0 %" in text
    caught = sum(item.anomalous for item in items if item.truth)
    assert f"{caught} of 6; " in text and "anomalies caught" in text and "normal images flagged" in text
    assert "normal (24)" in text and "anomaly (6)" in text and "KNNDistance" in text
    data = _data(html)
    assert data["score"] == [item.score for item in items]
    assert data["flagged"] == [int(item.anomalous) for item in items]
    assert data["truth"] == [int(bool(item.truth)) for item in items]
    assert [data["classes"][index] for index in data["label"]] == [item.label for item in items]
    assert len(data["pictures"]) == 30 and data["line"] == 1.5 and data["finite"]


def test_without_truth_nothing_is_claimed(read_page: Callable[[str], str]) -> None:
    html = anomaly_gallery(_items(truth=False), title="Tiles", threshold=1.5)
    text = read_page(html)
    assert "caught" not in text and "expected" not in text and "all (30)" in text
    assert set(_data(html)["truth"]) == {-1} and _data(html)["classes"] == []


def test_decisions_on_images_of_the_fit_are_not_counted(read_page: Callable[[str], str]) -> None:
    items = [dataclasses.replace(item, split=("train", "val", "test")[k // 10]) for k, item in enumerate(_items())]
    html = anomaly_gallery(items, title="Tiles", threshold=1.5)
    text, new = read_page(html), items[20:]
    caught, alarms = ([item.anomalous for item in new if item.truth is truth] for truth in (True, False))
    assert f"anomalies caught{100 * np.mean(caught):.1f} %{sum(caught)} of 2; " in text
    low, high = wilson_interval(float(np.mean(alarms)), 8)
    assert f"{sum(alarms)} of 8; {100 * low:.1f} % to {100 * high:.1f} %" in text
    assert "10 images of the train split, which the detector was fitted on" in text
    assert "10 images of the val split, which its threshold comes from. They are not counted among" in text
    data = _data(html)  # so that the line above the images, which follows the threshold, counts the same
    assert data["truth"] == [-1] * 20 + [int(bool(item.truth)) for item in new]
    assert [data["classes"][k] for k in data["label"]] == [item.label for item in items]
    fitted = [dataclasses.replace(item, split="train", truth=None) for item in items]
    text = read_page(anomaly_gallery(fitted, title="Tiles", threshold=1.5))
    assert "30 images of the train split" in text and "counted" not in text and "caught" not in text
    assert "fitted on" not in read_page(anomaly_gallery(new, title="Tiles", threshold=1.5))


def test_a_thumbnail_stands_for_its_image() -> None:
    image = np.random.default_rng(0).integers(0, 256, (300, 200, 1), dtype=np.uint8)
    small = thumbnail(image)
    assert small.shape == (160, 107, 3) and small.dtype == np.uint8
    np.testing.assert_array_equal(thumbnail(small), small)
    pages = [
        anomaly_gallery([GalleryItem("a.png", 1.0, thumbnail=t, overlay=t)], title="t", threshold=0.0)
        for t in (image, small)
    ]
    assert pages[0] == pages[1]


def test_what_a_user_writes_stays_text(read_page: Callable[[str], str]) -> None:
    hostile = '</script><script>alert(1)</script><img src=x onerror="alert(2)">'
    items = [
        GalleryItem(hostile, 1.0, label=hostile, split=hostile, thumbnail=np.zeros((8, 8, 3), np.uint8)),
        GalleryItem("\u2028 \udcff & 'q'.png", 2.0),
    ]
    html = anomaly_gallery(
        items, title=hostile, threshold=1.5, figures={hostile: 0.5}, warnings=[hostile], facts=[("a", hostile)]
    )
    assert "<script>alert" not in html and "<img" not in html
    read_page(html)
    html.encode()  # a path that is not UTF-8 does not stop the file from being written
    data = _data(html)
    assert data["path"] == [item.path for item in items] and data["classes"] == [hostile] == data["splits"]


def test_the_script_writes_no_markup() -> None:
    script = anomaly_gallery(_items(3), title="t", threshold=0.0).rsplit("<script>", 2)[-2]
    assert "innerHTML" not in script and "insertAdjacentHTML" not in script and "textContent" in script


def test_pictures_are_small_and_capped(read_page: Callable[[str], str]) -> None:
    items = [dataclasses.replace(item, score=float(index)) for index, item in enumerate(_items(40, side=300))]
    html = anomaly_gallery(items, title="Tiles", threshold=35.0, most_pictures=20)
    text = read_page(html)
    assert "Pictures are kept for 20 images: the 15 highest scores and 5 spread evenly over the rest." in text
    assert "The other 20 are listed without." in text
    data = _data(html)
    kept = sorted(map(int, data["pictures"]))
    assert kept[-15:] == list(range(25, 40)) and len(kept) == 20 and kept[0] == 0 and len(data["path"]) == 40
    plain, heat, small = data["pictures"]["39"]
    assert max(_picture(plain).size) == 160 and _picture(plain).size == _picture(heat).size and small == 0
    assert len(plain) < 40_000


def test_pictured_are_the_highest_and_an_even_rest() -> None:
    scores = np.random.default_rng(0).permutation(1000).astype(float)
    chosen = pictured(scores)
    ranks = 999 - scores[chosen]
    assert len(set(chosen)) == 400 and ranks[:300].tolist() == list(range(300))
    assert ranks[-1] == 999 and np.ptp(np.diff(ranks[300:])) <= 1
    assert pictured([1.0, 3.0, 3.0, 2.0]) == [1, 2, 3, 0]
    assert len(set(pictured(scores[:401]))) == 400 and pictured([0.5], most=1) == [0]
    assert [len(set(pictured(scores[:9], most))) for most in range(9)] == list(range(9))


def test_small_images_keep_their_pixels() -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 1), dtype=np.uint8)
    item = GalleryItem("a.png", 1.0, thumbnail=image)
    plain, heat, small = _data(anomaly_gallery([item], title="t", threshold=0.0))["pictures"]["0"]
    np.testing.assert_array_equal(np.asarray(_picture(plain))[..., 0], image[..., 0])
    assert heat == "" and small == 1


def test_pages_without_pictures_or_with_some(read_page: Callable[[str], str]) -> None:
    bare = [dataclasses.replace(item, thumbnail=None, overlay=None) for item in _items(10)]
    assert "The page was made without pictures." in read_page(anomaly_gallery(bare, title="t", threshold=0.0))
    some = [*_items(3), *bare]
    text = read_page(anomaly_gallery(some, title="t", threshold=0.0))
    assert "3 of 13 images have a picture. The other 10 are listed without." in text


def test_no_threshold_is_said(read_page: Callable[[str], str]) -> None:
    items = [dataclasses.replace(item, anomalous=False) for item in _items()]
    html = anomaly_gallery(items, title="t", threshold=float("inf"), false_alarm_rate=0.001)
    text = read_page(html)
    assert "There is no threshold for a false-alarm rate of 0.1 %" in text and "No image is flagged." in text
    data = _data(html)
    assert data["line"] == max(data["score"]) and not data["finite"]


@pytest.mark.parametrize("scores", [[1.0], [2.0, 2.0, 2.0], [0.0, -1e-9], [1e12, 3e12]])
def test_awkward_scores_are_drawn(scores: list[float], read_page: Callable[[str], str]) -> None:
    for threshold in (scores[0], 0.0, float("inf"), float("-inf")):
        read_page(anomaly_gallery([GalleryItem("a", score) for score in scores], title="t", threshold=threshold))


def test_enormous_scores_share_the_last_bar() -> None:
    items = [GalleryItem(str(index), float(index % 10)) for index in range(100)] + [GalleryItem("huge", 1e6)]
    html = anomaly_gallery(items, title="t", threshold=9.0)
    assert 'data-high="54.0"' in html and re.search(r"<title>[\d.]+ and above: 1 all</title>", html)


def test_mistakes_are_told_in_one_line() -> None:
    good = GalleryItem("a.png", 1.0)
    for items, threshold, rate, words in (
        ([], 0.0, None, "no images to show"),
        ([GalleryItem("b.png", float("nan"))], 0.0, None, r"score of b\.png must be finite, got nan"),
        ([GalleryItem("b.png", 1.0, p_value=1.5)], 0.0, None, r"p-value of b\.png must lie in \[0, 1\], got 1\.5"),
        ([good], float("nan"), None, "threshold is not a number"),
        ([good], 0.0, 5.0, "false_alarm_rate must lie between 0 and 1, got 5"),
    ):
        with pytest.raises(ValueError, match=words) as caught:
            anomaly_gallery(items, title="t", threshold=threshold, false_alarm_rate=rate)
        assert "\n" not in str(caught.value)


def test_the_file_is_written_whole(tmp_path: Path) -> None:
    path = gallery_page(_items(), title="Tiles", threshold=1.5).write(tmp_path / "new" / "gallery.html")
    assert path.read_text(encoding="utf-8") == anomaly_gallery(_items(), title="Tiles", threshold=1.5)
    with pytest.raises(ValueError, match="no images"):
        gallery_page([], title="Tiles", threshold=1.5).write(path)
    assert [file.name for file in path.parent.iterdir()] == ["gallery.html"] and path.stat().st_size > 1000


def test_a_histogram_counts_every_value() -> None:
    rng = np.random.default_rng(0)
    groups = {"normal": rng.normal(size=500).tolist(), "<b>": rng.normal(3, 1, 50).tolist()}
    html = histogram(groups, x_label="score", mark=2.0, mark_label="threshold")
    titles = re.findall(r"<title>(.*?)</title>", html)
    assert sum(int(found) for title in titles for found in re.findall(r"(\d+) normal", title)) == 500
    assert sum(int(found) for title in titles for found in re.findall(r"(\d+) &lt;b&gt;", title)) == 50
    assert "<b>" not in html and 'class="mark"' in html
    low, high = (float(re.findall(rf'data-{end}="(.*?)"', html)[0]) for end in ("low", "high"))
    values = [*groups["normal"], *groups["<b>"]]
    assert (low, high) == (min(values), max(values))
