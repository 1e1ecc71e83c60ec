"""The parametric map: it draws neighbours together, also of points never seen, and keeps scikit-learn's manners."""

from __future__ import annotations

from collections.abc import Callable

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


@parametrize_with_checks([ParametricMap(1, n_neighbors=3, epochs=2, hidden_dim=16)])
def test_scikit_learn_s_contract(estimator: ParametricMap, check: Callable[[ParametricMap], None]) -> None:
    check(estimator)


def test_digits_never_seen_lie_with_their_like() -> None:
    drawn = ParametricMap().fit(DIGITS[:1200])
    bank, held_out = drawn.transform(DIGITS[:1200]), drawn.transform(DIGITS[1200:])
    assert trustworthiness(DIGITS[1200:], held_out, n_neighbors=10) > 0.93
    assert KNeighborsClassifier(1).fit(bank, LABELS[:1200]).score(held_out, LABELS[1200:]) > 0.88


def test_a_seed_gives_the_same_numbers_and_leaves_the_caller_s_alone() -> None:
    state = torch.get_rng_state()
    one, same, other = (ParametricMap(**SMALL, seed=seed).fit_transform(DIGITS) for seed in (0, 0, 1))
    assert np.array_equal(one, same) and not np.array_equal(one, other)
    assert one.dtype == np.float32 and one.shape == (len(DIGITS), 2)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_state_rebuilds_it_to_the_bit() -> None:
    fitted = ParametricMap(3, **SMALL).fit(DIGITS)
    rebuilt = ParametricMap(**fitted.get_params()).load_state(load(save(fitted.state()))).to("cpu")
    assert np.array_equal(rebuilt.transform(DIGITS), fitted.transform(DIGITS))
    assert list(rebuilt.get_feature_names_out()) == ["parametricmap0", "parametricmap1", "parametricmap2"]
    alone = rebuilt.network_(DIGITS[:5].float()).detach().numpy()
    np.testing.assert_allclose(alone, fitted.transform(DIGITS[:5]), rtol=1e-5)


def test_the_neighbours_may_be_those_of_other_vectors() -> None:
    """Neighbours by a column that X itself drowns in noise."""
    generator = torch.Generator().manual_seed(0)
    wanted = torch.rand(600, 1, generator=generator)
    x = torch.cat([wanted, 3 * torch.rand(600, 2, generator=generator)], dim=1)
    options = {"n_components": 1, "epochs": 60, "hidden_dim": 64}
    by_x = ParametricMap(**options).fit_transform(x)
    by_other = ParametricMap(**options).fit(x, graph_of=wanted).transform(x)
    assert trustworthiness(wanted, by_other) > 0.9 > trustworthiness(wanted, by_x)


def test_of_many_points_it_learns_from_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parametric_map, "LEARNT_FROM", 100)
    monkeypatch.setattr(parametric_map, "BLOCK", 500)
    assert ParametricMap(**SMALL).fit_transform(DIGITS).shape == (1797, 2)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
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
