"""PaCMAP: good neighbourhoods, new points as pacmap places them, a state, and one line for each mistake."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from sklearn.datasets import load_digits
from sklearn.manifold import trustworthiness
from sklearn.utils.estimator_checks import parametrize_with_checks

from ssl_transfer.downstream.reductions import reference_map
from ssl_transfer.downstream.reductions.pacmap import PaCMAP

DIGITS = load_digits().data[np.random.default_rng(0).permutation(1797)].astype(np.float32)
X, NEW = DIGITS[:600], DIGITS[1200:]
WIDE = np.random.default_rng(1).normal(size=(64, 150)).astype(np.float32) / 8  # to more than 100 features


@pytest.fixture(scope="module")
def fitted() -> PaCMAP:
    return PaCMAP(seed=3).fit(X)


@parametrize_with_checks([PaCMAP(n_neighbors=2, iterations=10)])
def test_scikit_learn_s_contract(estimator: PaCMAP, check: Callable[[PaCMAP], None]) -> None:
    check(estimator)


def test_neighbourhoods_are_kept(fitted: PaCMAP) -> None:
    assert trustworthiness(X, fitted.transform(X), n_neighbors=10) > 0.97
    assert trustworthiness(NEW, fitted.transform(NEW), n_neighbors=10) > 0.95


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_the_state_rebuilds_it_to_the_bit(wide: bool, metric: str) -> None:
    x, new = (X @ WIDE, NEW @ WIDE) if wide else (X, NEW)
    made = PaCMAP(metric=metric, iterations=50).fit(x)  # type: ignore[arg-type]
    rebuilt = PaCMAP(**made.get_params()).load_state(load(save(made.state())))
    assert np.array_equal(rebuilt.transform(new), made.transform(new))
    assert trustworthiness(new, made.transform(new), n_neighbors=10) > 0.9


@pytest.mark.parametrize("wide", [False, True])
def test_new_points_are_placed_as_pacmap_places_them(wide: bool) -> None:
    x, new = (X @ WIDE, NEW @ WIDE) if wide else (X, NEW)
    import pacmap

    made, reference = PaCMAP(), pacmap.PaCMAP(random_state=0)
    np.testing.assert_allclose(made.fit_transform(x), reference.fit_transform(x), atol=1e-5)
    theirs = reference.transform(new, basis=x)  # by approximate neighbours
    assert np.median(np.abs(made.transform(new) - theirs)) < 1e-2


def test_new_points_know_no_batch_and_no_order(fitted: PaCMAP) -> None:
    together = fitted.transform(NEW[:50])
    assert together.dtype == np.float32 and together.shape == (50, 2)
    np.testing.assert_allclose(
        np.concatenate([fitted.transform(one[None]) for one in NEW[:9]]), together[:9], atol=1e-3
    )
    mixed = fitted.transform(np.concatenate([X[:5], NEW[:50]]))
    np.testing.assert_allclose(mixed[5:], together, atol=1e-3)
    assert np.array_equal(mixed[:5], fitted.coordinates_[:5])


def test_a_seed_gives_the_same_map_and_torch_keeps_its_threads(
    fitted: PaCMAP, capfd: pytest.CaptureFixture[str]
) -> None:
    threads = torch.get_num_threads()
    assert np.array_equal(PaCMAP(seed=3).fit_transform(X), fitted.coordinates_)
    assert torch.get_num_threads() == threads
    assert capfd.readouterr() == ("", "")


def test_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    for made, word in [
        (PaCMAP(n_neighbors=20), "at least 71 points .* n_samples=60: .* below two sevenths of their number"),
        (PaCMAP(n_neighbors=0), "n_neighbors must be 1 or more, not 0"),
        (PaCMAP(iterations=0), "iterations must be 1 or more"),
        (PaCMAP(iterations=1.5), "iterations must be a whole number, not 1.5"),  # type: ignore[arg-type]
        (PaCMAP(65), "only 64 features: ask for at most 64"),
        (PaCMAP(metric="l1"), "metric must be euclidean or cosine, not 'l1'"),  # type: ignore[arg-type]
    ]:
        with pytest.raises(ValueError, match=f"^[^\n]*{word}[^\n]*$"):
            made.fit(X[:60])
    PaCMAP().check(1_000_000, 512)
    monkeypatch.setattr(reference_map.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"^PaCMAP needs pacmap: pip install 'ssl_transfer\[reduce\]'$"):
        PaCMAP().fit(X)
