"""Bottleneck autoencoder: scikit-learn's contract, its state, what it restores and what it refuses."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.utils.estimator_checks import parametrize_with_checks

from ssl_transfer.downstream.reductions.bottleneck import BottleneckAutoencoder

DIGITS = load_digits().data.astype(np.float32)


def small(**arguments: object) -> BottleneckAutoencoder:
    return BottleneckAutoencoder(**{"hidden_dim": 16, "layers": 1, "epochs": 3, **arguments})  # type: ignore[arg-type]


@parametrize_with_checks([small()])
def test_scikit_learn_s_contract(
    estimator: BottleneckAutoencoder, check: Callable[[BottleneckAutoencoder], None]
) -> None:
    check(estimator)


def test_digits_are_restored_better_than_by_pca() -> None:
    training, held_out = DIGITS[:1400], DIGITS[1400:]
    autoencoder = BottleneckAutoencoder(n_components=2, hidden_dim=128, epochs=60).fit(training)
    restored = autoencoder.inverse_transform(autoencoder.transform(held_out))
    pca = PCA(2).fit(training)
    linear = pca.inverse_transform(pca.transform(held_out))
    assert np.square(restored - held_out).mean() < 0.85 * np.square(linear - held_out).mean()


def test_without_hidden_layers_and_noise_it_finds_the_plane_of_pca() -> None:
    """The best linear autoencoder restores what the principal components restore (Baldi and Hornik 1989)."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(512, 5, generator=generator) * torch.tensor([4.0, 3.0, 0.5, 0.4, 0.3])
    linear = BottleneckAutoencoder(layers=0, whitening=0.0, epochs=150, batch_size=64, learning_rate=0.02).fit(x)
    pca = PCA(2).fit(x.numpy())
    best = pca.inverse_transform(pca.transform(x.numpy()))
    np.testing.assert_allclose(linear.inverse_transform(linear.transform(x)), best, atol=0.2)


def test_the_state_rebuilds_it_to_the_bit() -> None:
    fitted = small(n_components=3).fit(DIGITS[:200])
    rebuilt = BottleneckAutoencoder(**fitted.get_params()).load_state(load(save(fitted.state()))).to("cpu")
    codes = fitted.transform(DIGITS[200:300])
    assert codes.dtype == np.float32 and codes.shape == (100, 3)
    assert np.array_equal(codes, rebuilt.transform(DIGITS[200:300]))
    assert np.array_equal(fitted.inverse_transform(codes), rebuilt.inverse_transform(codes))
    assert list(rebuilt.get_feature_names_out()) == [f"bottleneckautoencoder{i}" for i in range(3)]


@pytest.mark.parametrize("arguments", [{}, {"noise": 0.5, "masking": 0.3}])
def test_the_same_numbers_twice(arguments: dict[str, float]) -> None:
    with torch.inference_mode():
        x = torch.from_numpy(DIGITS[:300])
        torch.manual_seed(1)
        first = small(**arguments).fit(x).transform(x)
        torch.manual_seed(2)
        assert np.array_equal(first, small(**arguments).fit_transform(x))
        assert not np.array_equal(first, small(seed=1, **arguments).fit_transform(x))


def test_the_network_is_the_transform() -> None:
    """One module from raw vectors to codes, whatever their scale and place."""
    x = torch.from_numpy(DIGITS[:300])
    fitted = small().fit(x)
    with torch.no_grad():
        np.testing.assert_array_equal(fitted.network_(x).numpy(), fitted.transform(x))
    np.testing.assert_allclose(small().fit(4 * x).transform(4 * x), fitted.transform(x), atol=1e-5)
    moved = small().fit(x + 100)
    assert abs(moved.transform(x + 100).mean()) < 0.3
    np.testing.assert_allclose(moved.decoder_(torch.zeros(1, 2)).detach().mean(), x.mean() + 100, atol=3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hidden_dim": 0}, "hidden_dim must be 1 or more, not 0"),
        ({"layers": -1}, "layers must be 0 or more, not -1"),
        ({"epochs": 0}, "epochs must be 1 or more, not 0"),
        ({"batch_size": 1}, "batch_size must be 2 or more, not 1"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0, not 0.0"),
        ({"whitening": 0.6}, "whitening is a power, 0 to 0.5, not 0.6"),
        ({"noise": float("nan")}, "noise must be a number, not nan"),
        ({"epochs": True}, "epochs must be a whole number, not True"),
        ({"noise": -1.0}, "noise is a standard deviation, 0 or more, not -1.0"),
        ({"masking": 1.0}, "masking is a share, 0 or more and below 1, not 1.0"),
        ({"n_components": 65}, "n_components is 65 and there are only 64 features"),
    ],
)
def test_arguments_outside_their_range(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**arguments).fit(DIGITS[:50])


def test_codes_of_another_width() -> None:
    with pytest.raises(ValueError, match=r"restores codes \(N, 2\), not an array of shape \(4, 3\)"):
        small().fit(DIGITS[:50]).inverse_transform(np.zeros((4, 3)))
