"""The patch memory bank: against the obvious reference, by batches, its memory and its forecast."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_transfer.downstream.detectors import PatchMemoryBank, bank_plan, forecast, nearest

GENERATOR = torch.Generator().manual_seed(0)
NORMAL = torch.rand(30, 10, 8, 6, generator=GENERATOR)
QUERIES = torch.rand(6, 10, 8, 6, generator=GENERATOR)


SCORES: tuple[Literal["standardised", "max", "reweighted"], ...] = ("standardised", "max", "reweighted")
PLAIN: dict[str, Any] = {"neighbourhood": 3, "whiten": None, "image_score": "max"}  # PatchCore, as published


def rows(maps: Tensor) -> Tensor:
    """Patches `(N, h·w, D)` averaged over 3 × 3 cells."""
    return F.avg_pool2d(maps, 3, 1, 1, count_include_pad=False).flatten(2).mT


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("columns", [4096, 100])
def test_without_a_coreset_it_is_the_distance_to_all_patches(
    k: int, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nearest, "COLUMNS", columns)
    bank = PatchMemoryBank(coreset=1.0, n_neighbors=k, smoothing=0, **PLAIN).fit(NORMAL)
    assert len(bank.bank_) == 30 * 48
    distances = torch.cdist(rows(QUERIES), rows(NORMAL).flatten(0, 1)).topk(k, largest=False).values.mean(2)
    torch.testing.assert_close(bank.anomaly_maps(QUERIES), distances.view(6, 8, 6), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(bank.score_samples(QUERIES), -distances.amax(1).numpy(), rtol=1e-4)


def test_a_defect_is_found_where_it_is() -> None:
    bank = PatchMemoryBank(coreset=0.2).fit(NORMAL)
    broken = QUERIES.clone()
    broken[:, :, 4:7, 2:5] += 1
    maps = bank.anomaly_maps(broken)
    assert maps.shape == (6, 8, 6) and {int(m.argmax()) for m in maps} == {5 * 6 + 3}
    assert (bank.predict(broken) == -1).all()


@pytest.mark.parametrize("coreset", [0.01, 0.3])
@pytest.mark.parametrize("arguments", [{}, {"position": 2.0, "whole_image": 1.0, "neighbourhood": 3}, PLAIN])
def test_batches_do_not_matter(coreset: float, arguments: dict[str, Any]) -> None:
    whole = PatchMemoryBank(coreset, **arguments).fit(NORMAL)
    parts = PatchMemoryBank(coreset, **arguments).fit_batches(NORMAL.split(7))
    assert whole.state().keys() == parts.state().keys()
    assert all(torch.equal(value, parts.state()[name]) for name, value in whole.state().items())
    other = PatchMemoryBank(coreset, seed=1).fit(NORMAL)
    assert not torch.equal(whole.bank_, other.bank_)


def test_the_bank_and_its_candidates_fall_with_the_coreset() -> None:
    drawn: list[int] = []

    class Watched(PatchMemoryBank):
        def check_varied(self, x: Tensor) -> None:
            drawn.append(len(x))

    banks = [Watched(coreset, candidates_per_centre=5).fit(NORMAL) for coreset in (0.02, 0.1, 0.5)]
    assert [len(bank.bank_) for bank in banks] == [29, 144, 720]
    assert drawn == [30 * 5, 30 * 24, 30 * 48]
    assert all(bool((bank.bank_image_.diff() != 0).any()) for bank in banks)


def test_images_are_compared_without_their_own_patches() -> None:
    """With all patches kept, a fitted image is at distance 0 from itself; the threshold must not be."""
    bank = PatchMemoryBank(coreset=1.0, smoothing=0, false_alarm_rate=0.0, **PLAIN).fit(NORMAL)
    assert bank.score_samples(NORMAL).min() > -1e-3 > -0.1 > bank.offset_
    patches = rows(NORMAL)
    alone = [
        -float(torch.cdist(p, torch.cat([patches[:i], patches[i + 1 :]]).flatten(0, 1)).amin(1).max())
        for i, p in enumerate(patches)
    ]
    assert bank.offset_ == pytest.approx(min(alone), rel=1e-4)


def test_reweighting_is_the_paper_s() -> None:
    plain, weighted = (
        PatchMemoryBank(coreset=1.0, whiten=None, smoothing=0, image_score=score).fit(NORMAL) for score in SCORES[1:]
    )
    patches, stored = QUERIES.flatten(2).mT, weighted.bank_
    for i, one in enumerate(patches):
        distances = torch.cdist(one, stored)
        worst = int(distances.amin(1).argmax())
        closest = int(distances[worst].argmin())
        around = torch.cdist(stored[closest : closest + 1], stored)[0].topk(9, largest=False).indices
        d = distances[worst][around].exp()
        expected = (1 - distances[worst, closest].exp() / d.sum()) * distances[worst, closest]
        np.testing.assert_allclose(-weighted.score_samples(QUERIES[i : i + 1]), expected, rtol=1e-4)
    assert (weighted.score_samples(QUERIES) > plain.score_samples(QUERIES)).all()


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_precision_is_that_of_the_memory(precision: Literal["float32", "float16"]) -> None:
    bank = PatchMemoryBank(precision=precision, **PLAIN).fit(NORMAL)
    assert bank.bank_.dtype == getattr(torch, precision)
    full = PatchMemoryBank(**PLAIN).fit(NORMAL)
    np.testing.assert_allclose(bank.score_samples(QUERIES), full.score_samples(QUERIES), rtol=0.1)


def test_the_forecast_says_what_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssl_transfer.downstream.detectors.bank_plan.matmul_rate", lambda device: 1e10)
    bank = PatchMemoryBank(coreset=0.1)
    told = bank.forecast(1000, 152, 28, 28)
    candidates = 1000 * 784 * 152 * 4
    assert candidates < told.bytes < 3 * candidates and told.seconds > 0
    assert "78,400 of 784,000 patches" in told.text and "\n" not in told.text
    fewer = PatchMemoryBank(coreset=0.01).forecast(1000, 152, 28, 28)
    assert fewer.bytes < told.bytes / 2 and fewer.seconds < told.seconds
    assert PatchMemoryBank(precision="float16").forecast(1000, 152, 28, 28).bytes < told.bytes


def test_too_much_memory_is_refused_with_a_coreset_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = PatchMemoryBank(coreset=0.4).forecast(3000, 10, 8, 6).bytes
    limited = PatchMemoryBank(coreset=0.4, memory=needed / 2 / 2**30)
    with pytest.raises(
        ValueError, match=r"3,000 images with 8×6 patches of 10 values needs .* set coreset to 0\.0"
    ) as e:
        limited.fit_batches(iter([NORMAL]), count=3000)
    assert "\n" not in str(e.value)
    suggested = float(str(e.value).split("set coreset to ")[1])
    assert PatchMemoryBank(coreset=suggested).forecast(3000, 10, 8, 6).bytes <= needed / 2
    with pytest.raises(ValueError, match="is allowed; give fewer images or coarser maps"):
        PatchMemoryBank(memory=1e-6).fit(NORMAL)
    monkeypatch.setattr(bank_plan, "free_bytes", lambda device: 1000)
    with pytest.raises(ValueError, match="0 MiB is free"):
        PatchMemoryBank().fit(NORMAL)


def test_free_memory_is_read() -> None:
    assert 2**20 < forecast.free_bytes(torch.device("cpu")) < 2**50


def test_maps_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"reads maps of shape \(N, 10, 8, 6\), not \(6, 10, 6, 8\)"):
        PatchMemoryBank().fit(NORMAL).anomaly_maps(QUERIES.mT)
    with pytest.raises(ValueError, match=r"of shape \(N, D, h, w\), not \(30, 10\)"):
        PatchMemoryBank().fit(NORMAL[:, :, 0, 0])
    with pytest.raises(ValueError, match=r"\(N, 10, 8, 6\), not \(6, 9, 8, 6\)"):
        PatchMemoryBank().fit_batches([NORMAL, QUERIES[:, 1:]])


def test_no_images_have_no_scores() -> None:
    scores, maps = PatchMemoryBank().fit(NORMAL).score_maps(QUERIES[:0])
    assert scores.shape == (0,) and maps.shape == (0, 8, 6)
