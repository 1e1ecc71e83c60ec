from __future__ import annotations

import numpy as np
import pytest

from ssl_transfer.data.decode import BadImage, Header
from ssl_transfer.data.resize import resize, scale_to_uint8, to_channels
from ssl_transfer.data.shape import choose_shape


@pytest.mark.parametrize("how", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("shape", [(5, 17), (40, 13), (8, 8)])
def test_shape_and_constant_colour(how: str, channels: int, shape: tuple[int, int]) -> None:
    image = np.full((*shape, channels), 77, np.uint8)
    out = resize(image, 8, 8, how)  # type: ignore[arg-type]
    assert out.shape == (8, 8, channels) and out.dtype == np.uint8
    assert set(np.unique(out)) <= ({0, 77} if how == "pad" and shape != (8, 8) else {77})


def test_crop_takes_the_centre_and_stretch_all() -> None:
    image = np.zeros((10, 30, 1), np.uint8)
    image[:, 10:20] = 200
    assert (resize(image, 10, 10, "crop") == 200).all()
    assert resize(image, 10, 10, "stretch")[0, [0, 5, 9], 0].tolist() == [0, 200, 0]


def test_downsizing_averages_instead_of_aliasing() -> None:
    stripes = np.zeros((64, 64, 1), np.uint8)
    stripes[:, ::2] = 200
    assert np.abs(resize(stripes, 8, 8, "crop").astype(int) - 100).max() <= 8


def test_masks_stay_binary() -> None:
    mask = np.zeros((50, 70, 1), np.uint8)
    mask[10:30, 20:40] = 1
    assert set(np.unique(resize(mask, 16, 16, "pad", nearest=True))) == {0, 1}


def test_channels() -> None:
    grey, colour = np.full((2, 2, 1), 9, np.uint8), np.zeros((2, 2, 3), np.uint8)
    colour[..., 1] = 255
    assert to_channels(grey, 3, "a").shape == (2, 2, 3)
    assert to_channels(colour, 1, "a")[0, 0, 0] == round(0.587 * 255)
    with pytest.raises(BadImage):
        to_channels(np.zeros((2, 2, 5), np.uint8), 3, "a")


def test_range() -> None:
    image = np.array([[[1000], [3000], [2000]]], np.uint16)
    assert scale_to_uint8(image, (1000, 3000)).ravel().tolist() == [0, 255, 128]


def test_choose_shape_errors_name_examples_and_cure() -> None:
    headers = [Header("L", 4, 6, 1), Header("L", 5, 6, 1)]
    with pytest.raises(ValueError, match=r"a\.png is 6×4, b\.png is 6×5; give one, e\.g\. --data\.size 96"):
        choose_shape(headers, ["a.png", "b.png"], None, None)
    assert choose_shape(headers, ["a.png", "b.png"], 32, None) == (1, 32, 32)
    assert choose_shape(headers, ["a.png", "b.png"], 32, 3) == (3, 32, 32)
    with pytest.raises(ValueError, match=r"data\.channels=4"):
        choose_shape([Header("array", 4, 4, 6)], ["a"], None, 4)
