"""What every detector keeps: scikit-learn's contract, a state of tensors, scores that no batch changes, errors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import Tensor

from ssl_transfer.downstream.detectors import (
    Detector,
    GaussianKDE,
    KNNDistance,
    Mahalanobis,
    OneClassSVM,
    PatchMemoryBank,
    ReconstructionError,
)

ON_VECTORS: list[Callable[[], Detector]] = [KNNDistance, Mahalanobis, GaussianKDE, OneClassSVM]
MADE: list[Callable[[], Detector]] = [
    *ON_VECTORS,
    lambda: KNNDistance(n_neighbors=3, metric="euclidean"),
    PatchMemoryBank,
    lambda: PatchMemoryBank(0.3, n_neighbors=3, image_score="reweighted", precision="float16"),
    lambda: PatchMemoryBank(1.0, neighbourhood=3, position=2.0, whole_image=1.0),
    lambda: PatchMemoryBank(whiten=None, image_score="max"),
    ReconstructionError,
    lambda: ReconstructionError(top=0.1, smoothing=0),
]
SHAPES = {"features": (12,), "maps": (6, 7, 5), "images": (8, 9)}


def readings(detector: Detector, count: int, seed: int = 0) -> Tensor:
    """What the detector takes of `count` made-up images."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, *SHAPES[detector.reads], generator=generator) + 0.5


@parametrize_with_checks([made() for made in ON_VECTORS] + [KNNDistance(metric="euclidean")])
def test_scikit_learn_s_contract(estimator: Detector, check: Callable[[Detector], None]) -> None:
    check(estimator)


@pytest.mark.parametrize("make", MADE)
def test_the_state_rebuilds_it_to_the_bit(make: Callable[[], Detector]) -> None:
    fitted = make()
    fitted.fit(readings(fitted, 40))
    rebuilt = type(fitted)(**fitted.get_params()).load_state(load(save(fitted.state())))
    queries = readings(fitted, 10, seed=1)
    assert np.array_equal(fitted.score_samples(queries), rebuilt.score_samples(queries))
    assert fitted.offset_ == rebuilt.offset_
    assert all(isinstance(v, str | float | int | None) for v in fitted.get_params().values())
    assert np.array_equal(rebuilt.to("cpu").decision_function(queries), fitted.decision_function(queries))


@pytest.mark.parametrize("make", MADE)
@pytest.mark.parametrize("inference", [False, True])
def test_scores_know_no_batch_and_no_order(make: Callable[[], Detector], inference: bool) -> None:
    detector = make()
    with torch.inference_mode(inference):
        training, queries = readings(detector, 60), readings(detector, 33, seed=1)
        detector.fit(training)
    together = detector.score_samples(queries)
    alone = np.concatenate([detector.score_samples(queries[i : i + 1]) for i in range(33)])
    order = torch.randperm(33, generator=torch.Generator().manual_seed(0))
    assert together.dtype == np.float64 and together.shape == (33,)
    np.testing.assert_allclose(alone, together, rtol=1e-6)
    np.testing.assert_allclose(detector.score_samples(queries[order]), together[order], rtol=1e-6)


@pytest.mark.parametrize("make", MADE)
def test_what_is_far_from_normal_scores_lower(make: Callable[[], Detector]) -> None:
    detector = make()
    detector.fit(readings(detector, 60))
    strange = readings(detector, 20, seed=2)
    strange[:, ::2] *= 4
    assert detector.score_samples(strange).max() < np.median(detector.score_samples(readings(detector, 20, seed=1)))
    assert (detector.predict(strange) == -1).all()


@pytest.mark.parametrize("make", MADE)
def test_the_offset_leaves_its_share_of_new_normal_images_below(make: Callable[[], Detector]) -> None:
    """The fitted images are scored as new ones; a bank's coreset leaves gaps where each was, to the safe side."""
    detector = make().set_params(false_alarm_rate=0.2)
    detector.fit(readings(detector, 300))
    share = float((detector.predict(readings(detector, 1000, seed=1)) == -1).mean())
    assert -0.2 < share - 0.2 < 0.1 if isinstance(detector, PatchMemoryBank) else abs(share - 0.2) < 0.07


@pytest.mark.parametrize("make", MADE)
def test_a_rate_of_one_is_refused(make: Callable[[], Detector]) -> None:
    detector = make().set_params(false_alarm_rate=1.0)
    with pytest.raises(ValueError, match=r"less than 1, not 1\.0"):
        detector.fit(readings(detector, 60))


def refused(fit: Callable[[], object]) -> str:
    """The one line of a refusal."""
    with pytest.raises(ValueError) as error:
        fit()
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("make", MADE)
def test_broken_numbers_are_named(make: Callable[[], Detector]) -> None:
    detector = make()
    good = readings(detector, 60)
    detector.fit(good)
    for value, name in ((float("nan"), "NaN"), (float("inf"), "inf")):
        bad = good.clone()
        bad[7:9, 0] = value
        for call in (detector.score_samples, make().fit):
            message = refused(lambda call=call, bad=bad: call(bad))  # type: ignore[misc]
            assert f"2 of 60 images contain {name}" in message and "image 7" in message


@pytest.mark.parametrize("make", MADE)
def test_constant_images_are_refused(make: Callable[[], Detector]) -> None:
    detector = make()
    same = torch.full_like(readings(detector, 60), 0.7)
    assert "constant features: all" in refused(lambda: detector.fit(same))
    nearly = same * (1 + 1e-7 * torch.randn(same.shape, generator=torch.Generator().manual_seed(0)))
    assert "constant features: all" in refused(lambda: detector.fit(nearly))


@pytest.mark.parametrize("make", MADE)
def test_too_few_images_are_refused(make: Callable[[], Detector]) -> None:
    detector = make()
    assert "n_samples=1" in refused(lambda: detector.fit(readings(detector, 1)))


@pytest.mark.parametrize("make", MADE)
def test_what_is_not_fitted_or_of_another_width_is_refused(make: Callable[[], Detector]) -> None:
    detector = make()
    good = readings(detector, 60)
    assert "not fitted" in refused(lambda: detector.score_samples(good))
    assert "not fitted" in refused(detector.state)
    detector.fit(good)
    refused(lambda: detector.score_samples(good[:, :-1]))
    refused(lambda: detector.score_samples(good[0, 0]))


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: KNNDistance(n_neighbors=0), "n_neighbors"),
        (lambda: KNNDistance(n_neighbors=60), "at least 61"),
        (lambda: KNNDistance(metric="l1"), "metric"),  # type: ignore[arg-type]
        (lambda: Mahalanobis(shrinkage=2), "shrinkage"),
        (lambda: GaussianKDE(bandwidth=0), "bandwidth"),
        (lambda: OneClassSVM(nu=0), "nu"),
        (lambda: OneClassSVM(gamma=-1), "gamma"),
        (lambda: PatchMemoryBank(coreset=0), "coreset"),
        (lambda: PatchMemoryBank(neighbourhood=2), "odd"),
        (lambda: PatchMemoryBank(n_neighbors=60 * 35), "n_neighbors"),
        (lambda: PatchMemoryBank(memory=0), "memory"),
        (lambda: PatchMemoryBank(image_score="mean"), "standardised, max or reweighted"),  # type: ignore[arg-type]
        (lambda: PatchMemoryBank(whiten=0), "whiten"),
        (lambda: PatchMemoryBank(position=-1), "position"),
        (lambda: PatchMemoryBank(whole_image=-1), "whole_image"),
        (lambda: ReconstructionError(top=0), "top"),
        (lambda: ReconstructionError(smoothing=-1), "smoothing"),
    ],
)
def test_arguments_out_of_range(make: Callable[[], Detector], word: str) -> None:
    detector = make()
    assert word in refused(lambda: detector.fit(readings(detector, 60)))
