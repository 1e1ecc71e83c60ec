"""Whitened patches, their places, what is usual at a place, and images as wholes: against slow references."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from torch import Tensor

from ssl_transfer.downstream.detectors import PatchMemoryBank
from ssl_transfer.downstream.detectors.whitening import whitening
from ssl_transfer.downstream.detectors.whole_image import remember

GENERATOR = torch.Generator().manual_seed(0)
MIX = torch.randn(10, 10, generator=GENERATOR) * torch.logspace(-1, 1, 10)[:, None]


def made(count: int) -> Tensor:
    """Maps `(count, 10, 8, 6)` of channels that go together, of unlike scales, livelier to the right."""
    maps = torch.randn(count, 10, 8, 6, generator=GENERATOR) * torch.linspace(0.5, 2, 6)
    return torch.einsum("ndhw,de->nehw", maps, MIX)


NORMAL, QUERIES = made(30), made(6)
FULL: dict[str, Any] = {"coreset": 1.0, "smoothing": 0.0, "image_score": "max"}


def rows(maps: Tensor) -> Tensor:
    return maps.flatten(2).mT


def reference_whitening(x: np.ndarray, shrinkage: float) -> tuple[np.ndarray, np.ndarray]:
    """By the covariance's square root; the inverse covariance is what distances see."""
    centre, scale = x.mean(0), 1 / x.std(0)
    z = (x - centre) * scale
    values, axes = np.linalg.eigh(z.T @ z / len(z))
    return centre, scale[:, None] * axes / np.sqrt(len(values) * (values + shrinkage * values.mean()))


@pytest.mark.parametrize("shrinkage", [1e-6, 0.1, 10.0])
def test_whitening_is_that_of_numpy(shrinkage: float) -> None:
    x = rows(NORMAL).flatten(0, 1)
    centre, axes = whitening(x, shrinkage)
    wanted_centre, wanted = reference_whitening(x.double().numpy(), shrinkage)
    np.testing.assert_allclose(centre, wanted_centre, atol=1e-5)
    np.testing.assert_allclose(axes @ axes.T, wanted @ wanted.T, rtol=1e-3, atol=1e-6)


def test_whitened_rows_have_unit_covariance() -> None:
    x = rows(NORMAL).flatten(0, 1)
    centre, axes = whitening(x, 1e-9)
    covariance = torch.cov(((x - centre) @ axes).T, correction=0)
    torch.testing.assert_close(10 * covariance, torch.eye(10), atol=1e-3, rtol=0)


def test_fewer_rows_than_columns_are_whitened_where_they_lie() -> None:
    x = NORMAL[:6].flatten(1)  # 6 rows of 480
    centre, axes = whitening(x, 1e-6)
    assert axes.shape == (480, 5)
    white = (x - centre) @ axes
    torch.testing.assert_close(white @ white.T, (6 * torch.eye(6) - 1) / 5, atol=1e-3, rtol=0)  # all equally far


def test_a_channel_that_is_always_zero_stays_finite_and_counts_when_it_is_not() -> None:
    dead = NORMAL.clone()
    dead[:, 3] = 0
    bank = PatchMemoryBank(**FULL).fit(dead)
    alive = dead[:1].clone()
    alive[0, 3, 4, 4] = float(NORMAL.std())
    assert int(bank.anomaly_maps(alive).argmax()) == 4 * 6 + 4 and bank.predict(alive)[0] == -1


@pytest.mark.parametrize("position", [0.0, 2.0])
def test_distances_are_those_of_whitened_patches_and_their_places(position: float) -> None:
    bank = PatchMemoryBank(position=position, **FULL).fit(NORMAL)
    centre, axes = reference_whitening(rows(NORMAL).flatten(0, 1).double().numpy(), 0.1)
    y, x = np.meshgrid((np.arange(8) + 0.5) / 8, (np.arange(6) + 0.5) / 6, indexing="ij")
    places = position * np.stack([y, x], -1).reshape(-1, 2)

    def described(maps: Tensor) -> np.ndarray:
        white = (rows(maps).double().numpy() - centre) @ axes
        return np.concatenate([white, np.broadcast_to(places, (len(maps), 48, 2))], 2)

    known, asked = described(NORMAL).reshape(-1, 12), described(QUERIES)
    wanted = np.linalg.norm(asked[:, :, None] - known, axis=3).min(2)
    np.testing.assert_allclose(bank.anomaly_maps(QUERIES).flatten(1), wanted, rtol=1e-3)
    np.testing.assert_allclose(-bank.score_samples(QUERIES), wanted.max(1), rtol=1e-3)


def own_excluded(bank: PatchMemoryBank) -> np.ndarray:
    """Maps `(30, 48)` of the fitted images, each by the patches of the others."""
    white = (rows(NORMAL) - bank.centre_) @ bank.axes_
    found = [
        torch.cdist(one, torch.cat([white[:i], white[i + 1 :]]).flatten(0, 1)).amin(1) for i, one in enumerate(white)
    ]
    return torch.stack(found).double().numpy()


def deviations(maps: np.ndarray, known: np.ndarray) -> np.ndarray:
    return (maps - known.mean(0)) / ((known.std(0) + known.std(0).mean()) / 2)


def test_standardised_counts_from_what_is_usual_at_a_place() -> None:
    bank = PatchMemoryBank(coreset=1.0, smoothing=0.0, false_alarm_rate=0.0).fit(NORMAL)
    known = own_excluded(bank)
    raw = bank.anomaly_maps(QUERIES).flatten(1).double().numpy()
    np.testing.assert_allclose(-bank.score_samples(QUERIES), deviations(raw, known).max(1), rtol=1e-3)
    alone = [deviations(known[i], np.delete(known, i, 0)).max() for i in range(30)]
    assert bank.offset_ == pytest.approx(-max(alone), rel=1e-3)


def test_the_lively_side_of_the_images_is_not_what_is_reported() -> None:
    """A weak change where all is calm counts for more than the usual noise where nothing is."""
    changed = QUERIES.clone()
    changed[:, :, 3, 0] *= 3
    plain, standardised = (
        PatchMemoryBank(coreset=1.0, smoothing=0.0, image_score=score).fit(NORMAL)  # type: ignore[arg-type]
        for score in ("max", "standardised")
    )

    def auroc(bank: PatchMemoryBank) -> float:
        scores = np.concatenate([bank.score_samples(QUERIES), bank.score_samples(changed)])
        return float(roc_auc_score([0] * 6 + [1] * 6, -scores))

    assert auroc(standardised) > auroc(plain) + 0.1
    assert torch.equal(plain.anomaly_maps(QUERIES), standardised.anomaly_maps(QUERIES))  # the published map is raw


def test_the_whole_image_is_added_in_deviations_of_its_own() -> None:
    patch = PatchMemoryBank(coreset=1.0).fit(NORMAL)
    both = PatchMemoryBank(coreset=1.0, whole_image=0.5).fit(NORMAL)
    vectors, asked = (F.adaptive_avg_pool2d(maps, 4).flatten(1) for maps in (NORMAL, QUERIES))
    centre, axes, known = remember(vectors)
    distances = torch.cdist((asked - centre) @ axes, known).amin(1).numpy()
    (mean, whole_mean), (deviation, whole_deviation) = both.both_mean_.tolist(), both.both_deviation_.tolist()
    wanted = (-patch.score_samples(QUERIES) - mean) / deviation + 0.5 * (distances - whole_mean) / whole_deviation
    np.testing.assert_allclose(-both.score_samples(QUERIES), wanted, rtol=1e-3, atol=1e-4)
    alone = []
    for fold in range(5):
        centre, axes, known = remember(vectors[torch.arange(30) % 5 != fold])
        alone.append(torch.cdist((vectors[fold::5] - centre) @ axes, known).amin(1))
    assert whole_mean == pytest.approx(float(torch.cat(alone).mean()), rel=1e-3)
    assert whole_deviation == pytest.approx(float(torch.cat(alone).std()), rel=1e-3)
    assert torch.equal(patch.anomaly_maps(QUERIES), both.anomaly_maps(QUERIES))


def test_an_image_that_is_odd_as_a_whole_alone_is_found() -> None:
    """Normal images are one pattern with a strength each; the odd one has usual patches in unusual company."""
    strength = torch.randn(40, 1, 1, 1, generator=GENERATOR)
    normal = strength * torch.ones(1, 3, 8, 8) + 0.05 * torch.randn(40, 3, 8, 8, generator=GENERATOR)
    odd = normal[:1].clone()
    odd[:, :, :, :4] = normal[int(strength.flatten().argmax()), :, :, :4]
    odd[:, :, :, 4:] = normal[int(strength.flatten().argmin()), :, :, 4:]
    bank = PatchMemoryBank(coreset=1.0, whole_image=1.0).fit(normal)
    assert bank.predict(odd)[0] == -1 and PatchMemoryBank(coreset=1.0).fit(normal).predict(odd)[0] == 1


def test_more_memory_is_told_for_images_as_wholes() -> None:
    bytes_of = [PatchMemoryBank(0.01, whole_image=w).forecast(100_000, 152, 28, 28).bytes for w in (0.0, 1.0)]
    assert bytes_of[1] > bytes_of[0] + 100_000 * 152 * 16 * 4
