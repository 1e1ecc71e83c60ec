"""Figures for a notebook: what they show, and that pyplot does not show them again."""

from __future__ import annotations

import builtins
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex

from ssl_transfer.reporting.notebook import PALE, bars, curves, heat, lines, pictures, scatter
from ssl_transfer.reporting.pictures import COLOURS, GREY

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 1, 8, 8), dtype=np.uint8)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "logs").mkdir()
    text = "epoch,seconds,train/loss,val/loss\n0,1.0,3.0,\n1,2.0,2.0,2.5\n"
    (tmp_path / "logs" / "metrics.csv").write_text(text, encoding="utf-8")
    return tmp_path


@pytest.fixture(autouse=True)
def closed() -> Any:
    yield
    assert plt.get_fignums() == []


def drawn(figure: Any) -> np.ndarray:
    stream = BytesIO()
    figure.savefig(stream, format="png")
    return np.asarray(Image.open(stream).convert("RGB"))


def test_pictures_show_each_image_with_its_caption() -> None:
    figure = pictures(IMAGES, [f"no. {k}" for k in range(6)], columns=3, title="Six")
    shown = [image.get_array() for image in figure.axes[0].get_images()]
    assert len(shown) == 6 and (np.asarray(shown[4])[..., 0] == IMAGES[4, 0]).all()
    assert [text.get_text() for text in figure.axes[0].texts] == [*(f"no. {k}" for k in range(6)), "Six"]
    assert drawn(figure).shape[2] == 3


def test_pictures_are_not_smoothed() -> None:
    board = (np.indices((8, 8)).sum(0) % 2 * 255).astype(np.uint8)[None, None]
    values, counts = np.unique(drawn(pictures(board)), return_counts=True)
    assert counts[np.isin(values, (0, 255))].sum() > 0.85 * counts.sum()  # the rest is the edge


def test_captions_of_rows_stand_beside_them() -> None:
    texts = pictures(IMAGES, ["clean", "restored"], columns=3).axes[0].texts
    assert [text.get_ha() for text in texts[:2]] == ["right", "right"]
    with pytest.raises(ValueError, match="6 images in 2 rows need 6 or 2 of them, not 3"):
        pictures(IMAGES, ["a", "b", "c"], columns=3)


def test_heat_lies_over_the_images() -> None:
    maps = np.zeros((6, 1, 8, 8))
    maps[2, 0, 3, 3] = 1
    figure = heat(np.zeros_like(IMAGES), maps, list("abcdef"))
    shown = [np.asarray(image.get_array()) for image in figure.axes[0].get_images()]
    assert len(shown) == 12 and shown[8].any(axis=2).sum() == 1 and not shown[7].any()
    above, below = (figure.axes[0].get_images()[k].get_extent() for k in (0, 6))
    assert below[3] - above[2] < 0.2 * (above[2] - above[3])  # no room for captions between an image and its heat


def test_curves_of_one_run(run: Path) -> None:
    figure = curves(SimpleNamespace(path=run), [("train/loss", "val/loss"), "val/loss"])
    together, alone = figure.axes
    assert [line.get_xydata().tolist() for line in together.lines if len(line.get_xdata())][:1] == [[[0, 3], [1, 2]]]
    assert [text.get_text() for text in together.get_legend().get_texts()] == ["train/loss", "val/loss"]
    assert alone.get_ylabel() == "val/loss" and alone.get_legend() is None
    drawn(figure)


def test_curves_of_several_runs_are_named(run: Path) -> None:
    (axes,) = curves({"hot": run, "cold": str(run)}, "train/loss").axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["hot", "cold"]


def test_curves_that_are_not_there(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nothing was logged as 'val/f1'; choose of train/loss, val/loss"):
        curves(run, "val/f1")
    with pytest.raises(ValueError, match=r"has no logs/metrics.csv"):
        curves(tmp_path / "elsewhere", "val/f1")


def test_lines_against_a_logarithm() -> None:
    figure = lines({"a": [(1, 0.5, 0.1), (10, 0.7, 0.1)]}, x="labels", y="accuracy", log=True)
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["1", "10"]
    drawn(figure)


def test_points_in_the_colours_of_their_classes() -> None:
    points = np.array([[0, 0], [1, 1], [0, 1]])
    axes = scatter(points, [0, 1, -1], ["ant", "bee"]).axes[0]
    found = {to_hex(group.get_facecolor()[0]) for group in axes.collections if len(group.get_offsets())}
    assert found == {COLOURS[0], COLOURS[1], GREY} and [text.get_text() for text in axes.texts] == ["ant", "bee"]
    unnamed = scatter(points, [0, 1, 1], None).axes[0].collections
    assert sum(len(group.get_offsets()) for group in unnamed) == 3


def test_bars_are_blue_only_if_their_interval_clears_the_floors() -> None:
    names, values, errors = ["SimCLR", "Rotation", "PCA", "pixels"], [0.9, 0.84, 0.8, 0.7], [0.01, 0.02, 0.03, 0.01]
    axes = bars(names, values, errors, floor="PCA", floors=["pixels"]).axes[0]
    assert [to_hex(bar.get_facecolor()) for bar in axes.patches[:4]] == [COLOURS[0], PALE, GREY, GREY]
    assert [text.get_text() for text in axes.texts][:2] == ["0.900 ± 0.010", "0.840 ± 0.020"]
    with pytest.raises(ValueError, match=r"no bar 'UMAP'; choose of SimCLR, Rotation, PCA, pixels"):
        bars(names, values, floor="UMAP")


def test_bars_without_a_floor_to_beat() -> None:
    axes = bars(["code", "PCA"], [0.1, 0.2], floors=["PCA"]).axes[0]
    assert [to_hex(bar.get_facecolor()) for bar in axes.patches] == [COLOURS[0], GREY] and axes.get_xlabel() == ""


def test_values_are_written_beside_the_bars() -> None:
    figure = bars(["a", "b"], [0.2, 0.9], [0.3, 0.3], floor="b")
    drawn(figure)
    (axes,) = figure.axes
    assert all(text.get_window_extent().x0 > axes.get_window_extent().x1 for text in axes.texts)


def test_dots_are_named_where_they_lie() -> None:
    near = {"wide": [(1.0, 0.9)], "narrow": [(1.01, 0.9)], "sparse": [(1.02, 0.901)], "far": [(2, 0.7)]}
    figure = lines(near, x="lost", y="accuracy")
    drawn(figure)
    (axes,) = figure.axes
    assert axes.get_legend() is None and {t.get_text(): t.xy for t in axes.texts} == {k: v[0] for k, v in near.items()}
    boxes = [text.get_window_extent() for text in axes.texts]
    assert not any(a.overlaps(b) for k, a in enumerate(boxes) for b in boxes[:k])


def test_without_matplotlib_the_cure_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = builtins.__import__

    def missing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return usual(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ValueError, match=r"pip install 'ssl_transfer\[notebooks\]'"):
        pictures(IMAGES)
