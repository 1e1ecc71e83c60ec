"""Reconstruction errors: standardised, left out, smoothed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from ssl_transfer.downstream.detectors import ReconstructionError
from ssl_transfer.downstream.detectors.smoothing import smooth

ERRORS = torch.rand(30, 7, 5, generator=torch.Generator().manual_seed(0)) ** 2


def test_by_hand() -> None:
    errors = torch.tensor([1.0, 2.0, 3.0])[:, None, None].expand(3, 2, 2)  # mean 2, deviation √(2/3)
    detector = ReconstructionError(smoothing=0).fit(errors)
    np.testing.assert_allclose(detector.score_samples(torch.full((1, 2, 2), 4.0)), [-2 / (2 / 3) ** 0.5], rtol=1e-6)
    one = torch.full((1, 2, 2), 2.0)
    one[0, 0, 1] = 6.0
    for top, share in ((1.0, 0.25), (0.5, 0.5), (0.01, 1.0)):
        score = ReconstructionError(smoothing=0, top=top).fit(errors).score_samples(one)
        np.testing.assert_allclose(score, [-share * 4 / (2 / 3) ** 0.5], rtol=1e-6)
    assert int(detector.anomaly_maps(one).flatten().argmax()) == 1


def test_leaving_one_out_is_fitting_without_it() -> None:
    detector = ReconstructionError(false_alarm_rate=0.0, floor=1e-9).fit(ERRORS)
    alone = []
    for i in range(30):
        others = ReconstructionError(floor=1e-9).fit(torch.cat([ERRORS[:i], ERRORS[i + 1 :]]))
        alone.append(others.score_samples(ERRORS[i : i + 1])[0])
    assert detector.offset_ == pytest.approx(min(alone), rel=1e-4)


def test_a_pixel_that_is_always_the_same_is_not_endless() -> None:
    errors = ERRORS.clone()
    errors[:, 0, 0] = 0
    detector = ReconstructionError(smoothing=0).fit(errors)
    errors[:, 0, 0] = 1
    assert float(detector.anomaly_maps(errors)[:, 0, 0].max()) < 100


def test_without_standardisation_the_score_is_the_error() -> None:
    detector = ReconstructionError(smoothing=0, standardise=False).fit(ERRORS)
    np.testing.assert_allclose(detector.score_samples(ERRORS), -ERRORS.mean((1, 2)).numpy(), rtol=1e-6)


def test_errors_are_not_negative_and_keep_their_size() -> None:
    with pytest.raises(ValueError, match="0 or more: give squared"):
        ReconstructionError().fit(-ERRORS)
    with pytest.raises(ValueError, match=r"errors of \(7, 5\) pixels and reads no \(5, 7\)"):
        ReconstructionError().fit(ERRORS).score_samples(ERRORS.mT)


def test_smoothing_is_scipy_s_inside() -> None:
    maps = torch.rand(2, 40, 30, generator=torch.Generator().manual_seed(0))
    ours = smooth(maps, 1.5).numpy()
    for one, map_ in zip(ours, maps.numpy(), strict=True):
        np.testing.assert_allclose(one[8:-8, 8:-8], gaussian_filter(map_, 1.5, truncate=8)[8:-8, 8:-8], rtol=1e-4)
    assert smooth(maps, 0) is maps
