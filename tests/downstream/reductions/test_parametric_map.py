"""The parametric map: it draws neighbours together, also of points never seen, and keeps scikit-learn's manners."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from sklearn.datasets import load_digits
from sklearn.manifold import trustworthiness
from sklearn.neighbors import KNeighborsClassifier
from sklearn.utils.estimator_checks import parametrize_with_checks

from ssl_transfer.downstream.reductions import parametric_map
from ssl_transfer.downstream.reductions.parametric_map import ParametricMap

DIGITS, LABELS = (torch.from_numpy(array) for array in load_digits(return_X_y=True))
SMALL = {"epochs": 3, "hidden_dim": 32, "n_neighbors": 5}
EITHER = pytest.mark.parametrize("landmarks", [1000, 0])  # the landmarks' network and the perceptron


@parametrize_with_checks(
    [ParametricMap(1, n_neighbors=3, epochs=2, hidden_dim=16, landmarks=landmarks) for landmarks in (8, 0)]
)
def test_scikit_learn_s_contract(estimator: ParametricMap, check: Callable[[ParametricMap], None]) -> None:
    check(estimator)


@pytest.mark.parametrize(
    ("options", "trust", "accuracy"),
    [
        ({"epochs": 60}, 0.96, 0.94),
        ({"epochs": 60, "metric": "cosine"}, 0.95, 0.94),
        ({"epochs": 30, "landmarks": 0, "batch_size": 128, "hidden_dim": 128}, 0.92, 0.8),
    ],
)
def test_digits_never_seen_lie_with_their_like(options: dict[str, Any], trust: float, accuracy: float) -> None:
    drawn = ParametricMap(**options).fit(DIGITS[:1200])
    bank, held_out = drawn.transform(DIGITS[:1200]), drawn.transform(DIGITS[1200:])
    assert trustworthiness(DIGITS[1200:], held_out, n_neighbors=10) > trust
    assert KNeighborsClassifier(1).fit(bank, LABELS[:1200]).score(held_out, LABELS[1200:]) > accuracy


@EITHER
def test_a_seed_gives_the_same_numbers_and_leaves_the_caller_s_alone(landmarks: int) -> None:
    state = torch.get_rng_state()
    options = SMALL | {"landmarks": landmarks}
    one, same, other = (ParametricMap(**options, seed=seed).fit_transform(DIGITS) for seed in (0, 0, 1))
    assert np.array_equal(one, same) and not np.array_equal(one, other)
    assert one.dtype == np.float32 and one.shape == (len(DIGITS), 2)
    assert torch.equal(torch.get_rng_state(), state)


@EITHER
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_the_state_rebuilds_it_to_the_bit(landmarks: int, metric: str) -> None:
    fitted = ParametricMap(3, **SMALL, landmarks=landmarks, metric=metric).fit(DIGITS)
    rebuilt = ParametricMap(**fitted.get_params()).load_state(load(save(fitted.state()))).to("cpu")
    assert np.array_equal(rebuilt.transform(DIGITS), fitted.transform(DIGITS))
    assert list(rebuilt.get_feature_names_out()) == ["parametricmap0", "parametricmap1", "parametricmap2"]
    alone = rebuilt.network_(DIGITS[:5].float()).detach().numpy()
    np.testing.assert_allclose(alone, fitted.transform(DIGITS[:5]), rtol=1e-4, atol=1e-5)


def test_the_neighbours_may_be_those_of_other_vectors() -> None:
    """Neighbours by a column that X itself drowns in noise: the perceptron learns to look at that column."""
    generator = torch.Generator().manual_seed(0)
    wanted = torch.rand(600, 1, generator=generator)
    x = torch.cat([wanted, 3 * torch.rand(600, 2, generator=generator)], dim=1)
    options = {"n_components": 1, "epochs": 30, "hidden_dim": 64, "landmarks": 0}
    by_x = ParametricMap(**options).fit_transform(x)
    by_other = ParametricMap(**options).fit(x, graph_of=wanted).transform(x)
    assert trustworthiness(wanted, by_other) > 0.9 > trustworthiness(wanted, by_x)


def test_neighbours_by_several_vectors_are_mixed() -> None:
    one = ParametricMap(**SMALL).fit(DIGITS).transform(DIGITS)
    same = ParametricMap(**SMALL).fit(DIGITS, graph_of=(DIGITS,)).transform(DIGITS)
    mixed = ParametricMap(**SMALL).fit(DIGITS, graph_of=(DIGITS, DIGITS[:, :32])).transform(DIGITS)
    assert np.array_equal(one, same) and not np.array_equal(one, mixed)


@EITHER
def test_the_network_exports(landmarks: int) -> None:
    network = ParametricMap(**SMALL, landmarks=landmarks).fit(DIGITS).network_
    exported = torch.export.export(network, (DIGITS[:7].float(),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.testing.assert_close(exported.module()(DIGITS[:50].float()), network(DIGITS[:50].float()))


def test_of_many_points_it_learns_from_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parametric_map, "LEARNT_FROM", 100)
    monkeypatch.setattr(parametric_map, "BLOCK", 500)
    assert ParametricMap(**SMALL).fit_transform(DIGITS).shape == (1797, 2)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"landmarks": -1}, "landmarks must be 0 or more, not -1"),
        ({"n_components": 65}, "n_components is 65 and there are only 64 features"),
        ({"n_neighbors": 40}, "at least 41 points with these settings, got n_samples=40"),
        ({"n_neighbors": 0}, "n_neighbors must be 1 or more, not 0"),
        ({"batch_size": 1}, "batch_size must be 2 or more, not 1"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"metric": "manhattan"}, "metric must be euclidean or cosine, not 'manhattan'"),
    ],
)
def test_what_cannot_be_is_refused_before_the_work(options: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        ParametricMap(**options).fit(DIGITS[:40])  # type: ignore[arg-type]


def test_other_vectors_must_be_of_the_same_images() -> None:
    with pytest.raises(ValueError, match="the same 1797 images, not an array of shape"):
        ParametricMap().fit(DIGITS, graph_of=DIGITS[:9])
    with pytest.raises(ValueError, match="NaN or inf"):
        ParametricMap().fit(DIGITS, graph_of=DIGITS / 0)
