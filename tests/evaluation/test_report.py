"""The figures of an anomaly detector: which there are, what they leave out, and what they hold in memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.evaluation.detection import bootstrap_interval, pixel_metrics
from ssl_transfer.evaluation.metrics import wilson_interval
from ssl_transfer.evaluation.report import Scored, anomaly_report, pixel_figures, unpadded

CLASSES = ["good", "hole", "crack"]


def _scored(count: int = 80, side: int = 8) -> Scored:
    """Good images first, then defects with a square marked; maps of half the masks' side."""
    rng = np.random.default_rng(0)
    targets = np.repeat([0, 1, 2, -1], count // 4)
    masks = np.zeros((count, side, side), bool)
    masks[targets > 0, 2:5, 2:6] = True
    maps = rng.normal(size=(count, side // 2, side // 2)) + masks[:, ::2, ::2]
    return Scored(np.arange(count) + 100, targets, rng.normal(size=count) + (targets > 0), maps, masks)


def _enlarge(maps: np.ndarray) -> np.ndarray:
    return maps.repeat(2, axis=1).repeat(2, axis=2)


def test_every_figure_of_images_has_its_interval() -> None:
    scored = _scored()
    decisions = scored.scores > 0.5
    figures = anomaly_report(scored._replace(masks=None), decisions, [0], CLASSES, seed=3)
    assert figures.keys() == {
        *("auroc/hole", "auroc/crack"),
        *(
            f"{name}{end}"
            for name in ("auroc", "aupr", "fpr_at_95_tpr", "false_alarm_rate", "detected")
            for end in ("", "_low", "_high")
        ),
    }
    scores, anomalous = scored.scores[:60], scored.targets[:60] > 0  # the others have no label
    for name in ("auroc", "aupr", "fpr_at_95_tpr"):
        bounds = figures[f"{name}_low"], figures[f"{name}_high"]
        assert bounds == bootstrap_interval(name, scores, anomalous, seed=3)
        assert bounds[0] <= figures[name] <= bounds[1]
    for name, kind in (("false_alarm_rate", ~anomalous), ("detected", anomalous)):
        assert figures[name] == decisions[:60][kind].mean()
        assert (figures[f"{name}_low"], figures[f"{name}_high"]) == wilson_interval(figures[name], kind.sum())


def test_figures_of_pixels_are_of_labelled_images_and_of_marks_in_anomalies() -> None:
    scored = _scored()
    assert scored.maps is not None and scored.masks is not None
    figures = anomaly_report(scored, scored.scores > 0.5, [0], CLASSES, _enlarge)
    expected = pixel_metrics(_enlarge(scored.maps[:60]), scored.masks[:60])
    assert {name: figures[name] for name in expected} == expected and "unmasked_anomalies" not in figures
    masks = scored.masks.copy()
    masks[:20] = True  # what a mask marks in a good image is no anomaly
    assert anomaly_report(scored._replace(masks=masks), scored.scores > 0.5, [0], CLASSES, _enlarge) == figures


def test_anomalies_without_a_mark_are_left_out_and_counted() -> None:
    scored = _scored()
    assert scored.maps is not None and scored.masks is not None
    masks = scored.masks.copy()
    masks[[20, 45, 59]] = False
    figures = anomaly_report(scored._replace(masks=masks), scored.scores > 0.5, [0], CLASSES, _enlarge)
    kept = np.setdiff1d(np.arange(60), [20, 45, 59])
    expected = pixel_metrics(_enlarge(scored.maps[kept]), masks[kept])
    assert {name: figures[name] for name in expected} == expected and figures["unmasked_anomalies"] == 3
    none = anomaly_report(scored._replace(masks=masks & False), scored.scores > 0.5, [0], CLASSES, _enlarge)
    assert none["unmasked_anomalies"] == 40 and "pixel_auroc" not in none and "auroc" in none


def test_padding_does_not_count() -> None:
    scored = _scored()
    asked: list[int] = []

    def seen(rows: np.ndarray) -> np.ndarray:
        asked.extend(rows.tolist())
        inside = np.ones((len(rows), 8, 8), bool)
        inside[:, :2] = False
        return inside

    assert scored.maps is not None and scored.masks is not None
    figures = anomaly_report(scored, scored.scores > 0.5, [0], CLASSES, _enlarge, seen=seen)
    expected = pixel_metrics(_enlarge(scored.maps[:60])[:, 2:], scored.masks[:60, 2:])
    assert {name: figures[name] for name in expected} == expected
    assert asked == list(range(100, 160))


def test_what_is_padding_is_read_off_the_originals(tmp_path: Path) -> None:
    for name, size in (("a", (20, 10)), ("b", (10, 30)), ("c", (16, 16))):
        Image.new("RGB", size).save(tmp_path / f"{name}.png")
    data = ImageDataModule(str(tmp_path), size=16, resize="pad")
    data.setup()
    seen = unpadded(data)
    assert seen is not None
    inside = seen(np.array([1, 0, 2]))
    assert inside.shape == (3, 16, 16) and inside[2].all()
    assert inside[0].any(0).nonzero()[0].tolist() == [5, 6, 7, 8, 9] and inside[0].any(1).all()
    assert inside[1].any(1).nonzero()[0].tolist() == list(range(4, 12)) and inside[1].any(0).all()
    data.resize = "stretch"
    assert unpadded(data) is None


def test_pixels_without_a_mark_or_all_marked_have_no_figures() -> None:
    maps, masks = np.zeros((3, 4, 4)), np.zeros((3, 4, 4), bool)
    assert pixel_figures(maps, masks) == pixel_figures(maps, ~masks) == {}
    masks[0, 0, 0] = True
    assert pixel_figures(maps, masks)["pixel_auroc"] == 0.5


def test_maps_are_enlarged_in_batches_and_pixels_held_once() -> None:
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(200, 8, 8)).astype(np.float32)
    masks = np.zeros((200, 128, 128), bool)
    masks[:50, 10:30, 20:30] = True
    sizes: list[int] = []

    def enlarge(some: np.ndarray) -> np.ndarray:
        sizes.append(len(some))
        return some.repeat(16, axis=1).repeat(16, axis=2)

    expected = pixel_metrics(enlarge(maps), masks)
    sizes.clear()
    tracemalloc.start()
    found = pixel_figures(maps, masks, enlarge)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == expected and max(sizes) < 40 and sum(sizes) == 200
    assert peak < 1.6 * 4 * masks.size  # a batch is a sixth


@pytest.mark.parametrize("shape", [(3,), (3, 2)])
def test_scored_parts_are_ordered_by_row(shape: tuple[int, ...]) -> None:
    parts = [
        Scored(rows, np.zeros(shape), rows * 1.0, None, None) for rows in (np.array([4, 0, 2]), np.array([5, 1, 3]))
    ]
    found = Scored.gather(parts)
    assert found.rows.tolist() == [0, 1, 2, 3, 4, 5] == found.scores.tolist() and found.maps is None
