"""Metrics of anomaly detection against scikit-learn, slow obvious references and closed forms."""

from __future__ import annotations

import time

import numpy as np
import pytest
from sklearn import metrics as sk

from ssl_transfer.evaluation.detection import (
    aupro,
    bootstrap_interval,
    class_aurocs,
    false_alarm_rate,
    image_metrics,
    pixel_auroc,
    pixel_metrics,
)


def _made_up(count: int = 200, levels: int = 0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores, tied if `levels` is given, and which are anomalies."""
    rng = np.random.default_rng(seed)
    anomalous = rng.random(count) < 0.3
    scores = rng.normal(size=count) + anomalous
    return (np.round(scores * levels / 4) if levels else scores), anomalous


@pytest.mark.parametrize("levels", [0, 3, 20])
@pytest.mark.parametrize("seed", range(5))
def test_image_metrics_against_scikit_learn(levels: int, seed: int) -> None:
    scores, anomalous = _made_up(levels=levels, seed=seed)
    found = image_metrics(scores, anomalous)
    assert found["auroc"] == pytest.approx(sk.roc_auc_score(anomalous, scores), abs=1e-12)
    assert found["aupr"] == pytest.approx(sk.average_precision_score(anomalous, scores), abs=1e-12)
    false, true, _ = sk.roc_curve(anomalous, scores, drop_intermediate=False)
    assert found["fpr_at_95_tpr"] == pytest.approx(false[np.argmax(true >= 0.95)], abs=1e-12)


def test_image_metrics_in_closed_form() -> None:
    anomalous = np.arange(100) >= 80
    perfect = image_metrics(np.arange(100.0), anomalous)
    assert perfect == {"auroc": 1.0, "aupr": 1.0, "fpr_at_95_tpr": 0.0}
    constant = image_metrics(np.zeros(100), anomalous)
    assert constant == {"auroc": 0.5, "aupr": 0.2, "fpr_at_95_tpr": 1.0}
    reverse = image_metrics(-np.arange(100.0), anomalous)
    assert reverse["auroc"] == 0 and reverse["fpr_at_95_tpr"] == 1
    scores = np.arange(100.0)
    scores[80] = -1  # one anomaly of 20 below all: 95 % are still found without an alarm
    assert image_metrics(scores, anomalous)["fpr_at_95_tpr"] == 0
    scores[81] = 39.5  # two: now the second is needed, and 40 of 80 normal images lie above it
    assert image_metrics(scores, anomalous)["fpr_at_95_tpr"] == 0.5
    assert image_metrics(np.array([-np.inf, np.inf]), np.array([False, True]))["auroc"] == 1


def test_false_alarms_and_classes() -> None:
    decisions = np.array([True, False, False, True, True])
    anomalous = np.array([False, False, False, False, True])
    assert false_alarm_rate(decisions, anomalous) == 0.5
    scores, targets = np.array([0.0, 1, 2, 0.5, 9, 7, 5]), np.array([0, 0, 2, 2, 3, -1, 4])
    classes = ["good", "hole", "crack", "dent", "fine"]
    assert class_aurocs(scores, targets, [0, 4], classes) == {"crack": pytest.approx(3 / 6), "dent": 1.0}


def test_one_kind_only_and_nan_are_refused() -> None:
    scores, none = np.arange(4.0), np.zeros(4, bool)
    calls = [
        lambda: image_metrics(scores, none),
        lambda: bootstrap_interval("auroc", scores, none),
        lambda: class_aurocs(scores, np.array([0, 0, 1, -1]), [0, 1], ["a", "b"]),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"images and anomalies are both needed, and all of the \d are normal"):
            call()
    with pytest.raises(ValueError, match="all of the 4 are anomalies"):
        image_metrics(scores, ~none)
    with pytest.raises(ValueError, match="the false-alarm rate needs normal images"):
        false_alarm_rate(none, ~none)
    with pytest.raises(ValueError, match="1 of 4 anomaly scores are NaN"):
        image_metrics(np.array([0, np.nan, 1, 2]), np.array([True, False, True, False]))
    maps, masks = np.zeros((2, 3, 3)), np.zeros((2, 3, 3), bool)
    for metric in (pixel_auroc, aupro):
        with pytest.raises(ValueError, match="none is marked"):
            metric(maps, masks)
        with pytest.raises(ValueError, match="all are marked"):
            metric(maps, ~masks)
        with pytest.raises(ValueError, match="same size, not"):
            metric(maps, np.ones((2, 3, 4)))
        some = masks.copy()
        some[0, 0, 0] = True
        for row in (0, 2):
            holed = maps.copy()
            holed[0, row, 0] = np.nan
            with pytest.raises(ValueError, match="NaN"):
                metric(holed, some)
    with pytest.raises(ValueError, match=r"limit is a false-positive rate in \(0, 1\], not 0"):
        aupro(maps, masks, limit=0)


@pytest.mark.parametrize("levels", [0, 3])
def test_fast_resamples_have_the_distribution_of_slow_ones(levels: int) -> None:
    scores, anomalous = _made_up(120, levels)
    for name, function in (("auroc", sk.roc_auc_score), ("aupr", sk.average_precision_score)):
        fast = bootstrap_interval(name, scores, anomalous, resamples=4000)
        slow = bootstrap_interval(lambda y, s, f=function: f(y, s), scores, anomalous, resamples=400)  # type: ignore[misc]
        assert fast == pytest.approx(slow, abs=0.02)
        assert bootstrap_interval(function, scores, anomalous, resamples=4000) == fast
    low, high = bootstrap_interval("fpr_at_95_tpr", scores, anomalous)
    assert 0 <= low <= image_metrics(scores, anomalous)["fpr_at_95_tpr"] <= high <= 1


def test_resamples_are_seeded_and_stratified() -> None:
    scores, anomalous = _made_up(60)
    first = bootstrap_interval("auroc", scores, anomalous, seed=3)
    assert first == bootstrap_interval("auroc", scores, anomalous, seed=3)
    assert first != bootstrap_interval("auroc", scores, anomalous, seed=4)
    narrow = bootstrap_interval("auroc", scores, anomalous, level=0.5)
    assert first[0] < narrow[0] < narrow[1] < first[1]
    alone = np.array([True] + 59 * [False])  # the one anomaly is in every resample

    def share(anomalous: np.ndarray, scores: np.ndarray) -> float:
        return anomalous.sum() + 100 * (len(scores) == 60)

    assert bootstrap_interval(share, scores, alone) == (101, 101)
    assert bootstrap_interval("auroc", np.arange(60.0), np.arange(60) >= 30) == (1.0, 1.0)


def test_an_interval_covers_as_often_as_it_says() -> None:
    """Gaussians a distance √2 apart have an AUROC of Φ(1) = .8413."""
    rng = np.random.default_rng(0)
    anomalous = np.arange(150) >= 100
    covered = 0
    for seed in range(200):
        low, high = bootstrap_interval("auroc", rng.normal(size=150) + 2**0.5 * anomalous, anomalous, seed, 300)
        covered += low <= 0.8413447 <= high
    assert 0.88 <= covered / 200 <= 0.99


def _made_up_maps(levels: int, seed: int, shape: tuple[int, int, int] = (4, 12, 10)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    masks = np.zeros(shape, np.uint8)
    for image in range(shape[0] - 1):  # the last stays normal
        for _ in range(3):
            y, x = rng.integers(0, shape[1] - 3), rng.integers(0, shape[2] - 3)
            masks[image, y : y + rng.integers(1, 4), x : x + rng.integers(1, 4)] = 255
    maps = rng.normal(size=shape) + (masks > 0)
    return (np.round(maps * levels) if levels else maps).astype(np.float32), masks


def _flood(mask: np.ndarray) -> list[set[tuple[int, int]]]:
    """8-connected regions, by walking."""
    left = set(zip(*np.nonzero(mask), strict=True))
    regions = []
    while left:
        region, edge = set(), [left.pop()]
        while edge:
            y, x = edge.pop()
            region.add((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            edge += near
        regions.append(region)
    return regions


def _slow_aupro(maps: np.ndarray, masks: np.ndarray, limit: float) -> float:
    """Threshold by threshold: mean overlap over false-positive rate, trapezoids, cut straight at the limit."""
    rates, overlaps = [0.0], [0.0]
    for threshold in np.unique(maps)[::-1]:
        over = maps >= threshold
        regions = [(i, region) for i in range(len(maps)) for region in _flood(masks[i])]
        overlaps.append(float(np.mean([np.mean([over[i][p] for p in region]) for i, region in regions])))
        rates.append(float(over[masks == 0].mean()))
    inside = [k for k, rate in enumerate(rates) if rate <= limit]
    x, y = [rates[k] for k in inside], [overlaps[k] for k in inside]
    if x[-1] < limit:
        x.append(limit)
        y.append(float(np.interp(limit, rates, overlaps)))
    return float(np.trapezoid(y, x)) / limit


@pytest.mark.parametrize("levels", [0, 2])
@pytest.mark.parametrize("seed", range(3))
def test_pixels_against_slow_references(levels: int, seed: int) -> None:
    maps, masks = _made_up_maps(levels, seed)
    assert pixel_auroc(maps, masks) == pytest.approx(sk.roc_auc_score(masks.ravel() > 0, maps.ravel()), abs=1e-12)
    for limit in (0.05, 0.3, 1.0):
        assert aupro(maps, masks, limit) == pytest.approx(_slow_aupro(maps, masks, limit), abs=1e-9)
    assert aupro(list(maps), list(masks)) == aupro(maps, masks)


def test_one_pass_gives_both_figures_of_pixels() -> None:
    maps, masks = _made_up_maps(2, 0)
    both = {"pixel_auroc": pixel_auroc(maps, masks), "aupro": aupro(maps, masks)}
    assert pixel_metrics((one for one in maps), masks) == both
    mixed = [maps[0], *maps[1:].astype(float)]  # the widest precision counts
    mixed[1][0, 0] += 1e-12
    assert pixel_auroc(mixed, masks) == pytest.approx(
        sk.roc_auc_score(masks.ravel() > 0, np.stack(mixed).ravel()), abs=1e-12
    )
    with pytest.raises(ValueError, match="is longer than"):
        pixel_metrics(maps[:2], masks)


def test_pixels_that_show_nothing_do_not_count() -> None:
    maps, masks = _made_up_maps(0, 1)
    wide = [np.pad(some, ((0, 0), (3, 2), (0, 4)), constant_values=fill) for some, fill in ((maps, -9.0), (masks, 0))]
    seen = np.pad(np.ones(maps.shape, bool), ((0, 0), (3, 2), (0, 4)))
    assert pixel_metrics(wide[0], wide[1], seen=seen) == pixel_metrics(maps, masks)
    assert pixel_metrics(*wide)["pixel_auroc"] > pixel_metrics(maps, masks)["pixel_auroc"]  # easy ones


def test_pixels_in_closed_form() -> None:
    masks = np.zeros((2, 20, 20), bool)
    masks[0, 2:4, 2:4] = masks[0, 10:20, 10:20] = True  # 4 and 100 pixels: two regions
    assert pixel_auroc(masks.astype(float), masks) == aupro(masks.astype(float), masks) == 1
    constant = np.zeros(masks.shape)
    assert pixel_auroc(constant, masks) == 0.5 and aupro(constant, masks) == pytest.approx(0.15)  # half of the limit
    small = np.zeros(masks.shape)
    small[0, 2:4, 2:4] = 1  # found at once; the other joins on the diagonal
    assert pixel_auroc(small, masks) == pytest.approx((4 + 100 / 2) / 104)
    assert aupro(small, masks) == pytest.approx((1 + 0.15) / 2)
    diagonal = np.zeros((1, 4, 4), bool)
    diagonal[0, 0, 0] = diagonal[0, 1, 1] = True  # one region by its corner
    half = np.zeros((1, 4, 4))
    half[0, 0, 0] = 2
    half[0, 1, 1] = -1
    assert aupro(half, diagonal) == pytest.approx(0.5)


def test_speed() -> None:
    """Generous multiples of what it takes, to catch a wrong order of growth."""
    rng = np.random.default_rng(0)
    scores, anomalous = _made_up(600)
    start = time.process_time()
    bootstrap_interval("auroc", scores, anomalous)
    assert time.process_time() - start < 1
    maps = rng.normal(size=(50, 224, 224)).astype(np.float32)
    masks = np.zeros(maps.shape, bool)
    masks[:25, 50:100, 50:100] = True
    start = time.process_time()
    assert abs(pixel_auroc(maps, masks) - 0.5) < 0.01 and abs(aupro(maps, masks) - 0.15) < 0.01
    assert time.process_time() - start < 5
