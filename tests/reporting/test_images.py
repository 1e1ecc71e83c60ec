"""Arrays as pictures."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from ssl_transfer.reporting.images import data_uri, image_grid, image_row, sheet, to_pixels


def _decode(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1]))))


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_any_number_of_channels_gives_rgb(channels: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, channels, 5, 6), dtype=np.uint8)
    pixels = to_pixels(images)
    assert pixels.shape == (2, 5, 6, 3)
    used = images[:, :3] if channels >= 3 else images[:, [0, 0, 0]]
    assert (pixels == used.transpose(0, 2, 3, 1)).all()


def test_floats_are_scaled_and_clipped() -> None:
    pixels = to_pixels(np.array([-1.0, 0.0, 0.5, 1.0, 2.0, np.nan]).reshape(1, 1, 1, 6))
    assert pixels[0, 0, :, 0].tolist() == [0, 0, 128, 255, 255, 0]


@pytest.mark.parametrize(
    ("array", "text"), [(np.zeros((3, 4, 4)), r"\(N, C, H, W\)"), (np.zeros((1, 1, 4, 4), int), "int64")]
)
def test_a_wrong_array_is_refused_in_one_line(array: np.ndarray, text: str) -> None:
    with pytest.raises(ValueError, match=text) as error:
        to_pixels(array)
    assert "\n" not in str(error.value)


def test_a_sheet_keeps_the_pixels_of_small_images() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 8, 8), dtype=np.uint8)
    pixels = _decode(data_uri(sheet(images)))
    factor, gap = 8, 5
    assert pixels.shape == (64, 3 * 64 + 2 * gap, 4)
    second = pixels[::factor, 64 + gap : 2 * 64 + gap : factor]
    assert (second[..., :3] == images[1].transpose(1, 2, 0)).all()
    assert (pixels[:, 64 : 64 + gap, 3] == 0).all()


def test_large_photographs_stay_small() -> None:
    images = np.random.default_rng(0).random((12, 3, 300, 200)).astype(np.float32)
    assert len(image_row(images, "noise")) < 400_000


def test_a_grid_names_its_rows_and_escapes_them() -> None:
    html = image_grid({"<original>": np.zeros((2, 1, 8, 8), np.uint8)}, "A & B", "digits")
    assert 'alt="&lt;original&gt;: 2 digits"' in html
    assert "A &amp; B" in html
