"""Thumbnails on sheets."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ssl_transfer.reporting.atlas import Atlas, hilbert_order, make_atlas, thumbnail_side


def cells(atlas: Atlas) -> list[NDArray[np.uint8]]:
    """The images as a page cuts them out."""
    sheets = [np.asarray(Image.open(io.BytesIO(sheet)).convert("RGB")) for sheet in atlas.sheets]
    found = []
    for place, (width, height) in zip(atlas.places.tolist(), atlas.sizes.tolist(), strict=True):
        sheet, spot = divmod(place, atlas.columns * atlas.rows)
        y, x = spot // atlas.columns * atlas.cell[1], spot % atlas.columns * atlas.cell[0]
        found.append(sheets[sheet][y : y + height, x : x + width])
    return found


def test_small_images_keep_every_pixel() -> None:
    rng = np.random.default_rng(0)
    for channels in (1, 3):
        images = rng.integers(0, 256, (300, channels, 9, 7), dtype=np.uint8)
        atlas = make_atlas(images, rng.normal(size=(300, 2)))
        assert atlas.cell == (7, 9) and sorted(atlas.places) == list(range(300))
        for image, cell in zip(images, cells(atlas), strict=True):
            np.testing.assert_array_equal(cell, np.broadcast_to(image.transpose(1, 2, 0), (9, 7, 3)))


def test_large_and_uneven_images_are_reduced_in_their_own_shape() -> None:
    rng = np.random.default_rng(0)
    images = [np.full((3, 40 + 9 * k, 200 - 5 * k), 10 * k, np.uint8) for k in range(20)]
    images[3] = images[3][:1]  # a grey image among coloured ones
    atlas = make_atlas(iter(images), rng.normal(size=(20, 2)))
    for image, cell in zip(images, cells(atlas), strict=True):
        assert max(cell.shape[:2]) == 96
        assert abs(cell.shape[0] / cell.shape[1] - image.shape[1] / image.shape[2]) < 0.02
        assert np.abs(cell.astype(int) - int(image[0, 0, 0])).max() <= 3


def test_many_images_fit_their_bytes_on_several_sheets() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5_200, 1, 7, 7), dtype=np.uint8).repeat(4, axis=2).repeat(4, axis=3)
    points = rng.normal(size=(5_200, 2))
    rich, lean = make_atlas(images, points), make_atlas(images, points, most_bytes=1)
    assert len(rich.sheets) == -(-5_200 // (rich.columns * rich.rows)) > 3 and rich.sizes.max() == 28
    assert sum(map(len, lean.sheets)) < 0.8 * sum(map(len, rich.sheets)) < 2_000_000
    shown = cells(rich)[7][..., 0].astype(int)
    assert np.abs(shown - images[7, 0]).mean() < 12


def test_thumbnails_of_the_shared_side_are_left_as_they_are() -> None:
    sides = [thumbnail_side(count) for count in (1, 6_666, 20_000, 60_000, 100_000, 10**9)]
    assert sides == [96, 96, 55, 32, 24, 8]
    images = np.random.default_rng(0).integers(0, 256, (9, 1, thumbnail_side(9), 50), dtype=np.uint8)
    for image, cell in zip(images, cells(make_atlas(images, np.zeros((9, 2)))), strict=True):
        np.testing.assert_array_equal(cell[..., 0], image[0])


def test_what_is_close_on_the_map_shares_a_sheet() -> None:
    points = np.random.default_rng(0).uniform(size=(4_096, 2))
    steps = np.linalg.norm(np.diff(points[hilbert_order(points)], axis=0), axis=1)
    assert np.median(steps) < 2 / 64 and steps.max() < 0.25
    assert sorted(hilbert_order(np.zeros((5, 2)))) == list(range(5))
