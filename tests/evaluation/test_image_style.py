from __future__ import annotations

import numpy as np
import pytest

from ssl_transfer.evaluation.image_style import Style, channel_statistics, differences, evened_out, histograms, style


def noise(count: int = 300, channels: int = 3, low: int = 0, high: int = 256, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high, (count, channels, 6, 5)).astype(np.uint8)


def test_against_one_image_at_a_time() -> None:
    images = noise()
    x = images / 255
    slow = [(one.mean(), one.mean(0).std(), np.mean([max(p) - min(p) for p in one.reshape(3, -1).T])) for one in x]
    found = style(images)
    assert [found.brightness, found.contrast, found.colour] == pytest.approx(np.mean(slow, axis=0).tolist(), rel=1e-5)
    assert (found.height, found.width) == (6, 5) and style(images, (60, 50)).width == 50
    assert style(noise(channels=1)).colour == 0


def test_histograms_are_numpy_s() -> None:
    images = noise()
    for channel, found in enumerate(histograms(images, 16)):
        counts = np.histogram(images[:, channel], bins=16, range=(0, 256))[0]
        assert found.tolist() == pytest.approx((counts / counts.sum()).tolist())
    mean, deviation = channel_statistics(images)
    assert mean == pytest.approx(images.mean((0, 2, 3)), rel=1e-5)
    assert deviation == pytest.approx(images.std((0, 2, 3)), rel=1e-4)


def test_evened_out_undoes_brightness_and_contrast() -> None:
    images = noise(low=20, high=200)
    dim = np.rint(images * 0.5 + 30).astype(np.uint8)
    assert np.abs(evened_out(dim, images).astype(int) - images).max() <= 2
    assert (evened_out(images, images) == images).all()
    flat = evened_out(np.full_like(images, 9), images)
    assert np.ptp(flat, axis=(0, 2, 3)).tolist() == [0, 0, 0]


def test_words() -> None:
    usual = Style(0.4, 0.2, 0.1, 28, 28)
    assert differences(usual, Style(0.41, 0.22, 0.12, 28, 28)) == []
    assert differences(usual, Style(0.2, 0.3, 0.0, 32, 64)) == [
        "darker (0.20 against 0.40)",
        "grey (0.00 against 0.10)",
        "richer in contrast (0.30 against 0.20)",
        "of another size (64×32 pixels against 28×28)",
    ]
