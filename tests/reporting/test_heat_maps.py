"""Heat maps over images."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ssl_transfer.reporting.heat_maps import colours, overlay, safe_name, write_overlays

Item = tuple[str, NDArray[np.uint8], NDArray[np.floating]]


def _image(height: int = 4, width: int = 6, channels: int = 1, value: int = 100) -> NDArray[np.uint8]:
    return np.full((height, width, channels), value, np.uint8)


def _read(file: Path) -> NDArray[np.uint8]:
    with Image.open(file) as picture:
        return np.asarray(picture)


def test_colours_grow_lighter_all_the_way() -> None:
    lightness = colours(np.linspace(0, 1, 200)) @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(lightness) > -1e-3).all() and lightness[-1] - lightness[0] > 150


def test_cold_places_show_the_image_and_hot_ones_the_colour() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    heat = np.zeros((5, 7))
    heat[2, 3] = 9.0
    laid = overlay(image, heat, 1.0, 4.0)
    assert laid.dtype == np.uint8 and laid.shape == (5, 7, 3)
    cold = heat == 0
    np.testing.assert_array_equal(laid[cold], image[cold])
    expected = image[2, 3] + 0.82 * (np.array([252, 255, 164]) - image[2, 3])
    np.testing.assert_allclose(laid[2, 3], expected, atol=0.51)
    assert laid[2, 3].tolist() == overlay(image, heat * 100, 1.0, 4.0)[2, 3].tolist()


def test_more_heat_moves_further_from_the_image() -> None:
    heat = np.linspace(0, 1, 50)[None]
    distance = np.abs(overlay(_image(1, 50, value=0), heat, 0.2, 0.9).astype(int)).sum(axis=-1)[0]
    assert (distance[heat[0] <= 0.2] == 0).all() and (np.diff(distance) >= 0).all()


def test_what_the_encoder_did_not_see_is_greyed() -> None:
    heat = np.zeros((4, 6), np.float32)
    heat[0] = np.nan
    laid = overlay(_image(value=0), heat, 0.0, 1.0)
    assert (laid[0] == 77).all() and (laid[1:] == 0).all()
    assert (overlay(_image(), np.full((4, 6), np.nan), 0.0, 1.0) > 100).all()


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_any_number_of_channels(channels: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (3, 3, channels), dtype=np.uint8)
    laid = overlay(image, np.zeros((3, 3)), 0.0, 1.0)
    shown = image[..., :3] if channels >= 3 else image[..., [0, 0, 0]]
    np.testing.assert_array_equal(laid, shown)


def test_a_scale_of_one_value_is_a_step() -> None:
    laid = overlay(_image(1, 2), np.array([[1.0, 1.1]]), 1.0, 1.0)
    assert laid[0, 0].tolist() == [100, 100, 100] and laid[0, 1, 0] > 200


def test_infinite_heat_is_full_colour() -> None:
    laid = overlay(_image(1, 2), np.array([[np.inf, -np.inf]]), 0.0, 1.0)
    assert laid[0, 0, 0] > 200 and laid[0, 1, 0] == 100


def test_mistakes_are_told_in_one_line() -> None:
    heat = np.zeros((4, 6))
    for image, other, low, high, words in (
        (_image(), np.zeros((6, 4)), 0.0, 1.0, r"image's size \(4, 6\), got \(6, 4\)"),
        (_image(), heat, 1.0, 0.0, "low at most high, got 1 and 0"),
        (_image(), heat, 0.0, np.inf, "must be finite"),
        (_image()[..., 0], heat, 0.0, 1.0, "expected uint8"),
        (_image().astype(np.uint16), heat, 0.0, 1.0, "got uint16"),
    ):
        with pytest.raises(ValueError, match=words) as caught:
            overlay(image, other, low, high)
        assert "\n" not in str(caught.value)


def test_files_have_the_images_size_and_an_index(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    paths = ["good/a b.jpg", "bad/a b.jpg", "good/a b.png", "/x/good/A_b.png", "../../etc/passwd", "good/<script>,.jpg"]
    sizes = [(5, 7), (12, 3), (1, 1), (8, 8), (2, 2), (3, 3)]

    def items() -> Iterator[Item]:
        for path, (height, width) in zip(paths, sizes, strict=True):
            yield path, rng.integers(0, 256, (height, width, 3), dtype=np.uint8), rng.random((height, width))

    files = write_overlays(tmp_path / "heat", items(), 0.2, 0.8)
    assert [_read(file).shape for file in files] == [(height, width, 3) for height, width in sizes]
    assert [file.name for file in files] == [
        *("good__a_b.png", "bad__a_b.png", "good__a_b-2.png", "good__A_b-3.png", "etc__passwd.png", "good__script.png")
    ]
    with (tmp_path / "heat" / "index.csv").open(newline="", encoding="utf-8") as stream:
        assert list(csv.reader(stream))[1:] == [[file.name, path] for file, path in zip(files, paths, strict=True)]


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    folder = tmp_path / "heat"
    good: Item = ("a.jpg", _image(), np.zeros((4, 6)))
    with pytest.raises(ValueError, match=r"heat map of b\.jpg"):
        write_overlays(folder, [good, ("b.jpg", _image(), np.zeros((2, 2)))], 0.0, 1.0)
    assert list(tmp_path.iterdir()) == []
    write_overlays(folder, [good], 0.0, 1.0)
    with pytest.raises(ValueError, match=r"heat map of b\.jpg"):
        write_overlays(folder, [("b.jpg", _image(), np.zeros((2, 2)))], 0.0, 1.0)
    assert sorted(file.name for file in folder.iterdir()) == ["a.png", "index.csv"]
    write_overlays(folder, [("c.jpg", _image(), np.zeros((4, 6)))], 0.0, 1.0)
    assert sorted(file.name for file in folder.iterdir()) == ["c.png", "index.csv"]


def test_a_folder_of_other_files_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_text("precious")
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match=r"holds a\.png, which is no overlay"):
        write_overlays(tmp_path / "photos", [], 0.0, 1.0)
    (tmp_path / "photos" / "index.csv").write_text("file,image\nb.png,b.jpg\n")
    with pytest.raises(ValueError, match=r"holds a\.png, which is no overlay"):
        write_overlays(tmp_path / "photos", [], 0.0, 1.0)
    with pytest.raises(ValueError, match="is a file"):
        write_overlays(tmp_path / "file", [], 0.0, 1.0)
    assert (tmp_path / "photos" / "a.png").read_text() == "precious"


def test_names_are_safe_and_short() -> None:
    taken: set[str] = set()
    hostile = [
        "",
        "/",
        "..",
        "a/" + "x" * 400 + ".png",
        "ü/日本.jpg",
        "a\\b\\c.tif",
        "\udcff.png",
        "-rf",
        "e\u0301.png",
    ]
    hostile.append("\u00e9.jpg")  # the same letter as the one before, in one code point
    names = [safe_name(path, taken) for path in hostile]
    assert len({name.casefold() for name in names}) == len(names)
    for name in names:
        assert len(name.encode()) < 200 and name.endswith(".png")
        assert not set(name) & set('/\\:*?"<>| \0') and name[0] not in ".-"
    assert names[4:6] == ["ü__日本.png", "b__c.png"] and names[-1] == "é-2.png"
