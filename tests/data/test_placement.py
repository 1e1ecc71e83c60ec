"""Maps of stored images return to where they were seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.data.placement import place, to_original
from ssl_transfer.data.resize import resize
from tests.conftest import encoded, scene


@pytest.mark.parametrize("how", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("size", [(90, 150), (151, 67), (40, 40), (20, 30)])
@pytest.mark.parametrize("coarse", [1, 4])
def test_a_bright_dot_returns_to_its_place(how: Any, size: tuple[int, int], coarse: int) -> None:
    """Through `resize` to 64×64, perhaps to a coarser map of that, and back."""
    for y, x in ((0.5, 0.5), (0.4, 0.55), (0.62, 0.37)):
        dot = np.zeros((*size, 1), np.uint8)
        top, left = round(size[0] * y), round(size[1] * x)
        dot[top - 2 : top + 3, left - 2 : left + 3] = 255
        stored = resize(dot, 64, 64, how)[:, :, 0].astype(np.float32)
        values = stored.reshape(64 // coarse, coarse, 64 // coarse, coarse).mean((1, 3))
        back = np.nan_to_num(to_original(values, size, how, stored=(64, 64)))
        assert back.shape == size
        rows, columns = np.indices(size)
        centre = (back * rows).sum() / back.sum(), (back * columns).sum() / back.sum()
        step = max(1.0, max(size) / 64) * coarse
        assert centre == pytest.approx((top, left), abs=0.3 * step)


def test_what_a_crop_left_out_is_not_a_number() -> None:
    back = to_original(np.ones((8, 8)), (10, 30), "crop")
    assert back.dtype == np.float32 and np.isnan(back[:, :10]).all() and np.isnan(back[:, 20:]).all()
    assert (back[:, 10:20] == 1).all()
    for how in ("pad", "stretch"):
        assert (to_original(np.ones((8, 8)), (10, 30), how) == 1).all()  # type: ignore[arg-type]


def test_a_ramp_stays_a_ramp() -> None:
    """The value at a pixel's centre is its place: 8 stored pixels for 16, so every original pixel is half a step."""
    ramp = np.tile(np.arange(8) + 0.5, (8, 1))
    back = to_original(ramp, (16, 16), "stretch")
    assert np.allclose(back[:, 1:-1], (np.arange(16) + 0.5)[1:-1] / 2)
    padded = to_original(ramp, (32, 16), "pad")  # 4 of 8 columns hold the image
    assert np.allclose(padded[:, 1:-1], (2 + (np.arange(16) + 0.5) / 4)[1:-1])


def test_images_of_the_stored_size_are_not_moved() -> None:
    values = np.random.default_rng(0).random((6, 9)).astype(np.float32)
    for how in ("crop", "pad", "stretch"):
        assert place((6, 9), (6, 9), how).inner == (0, 0, 9, 6)  # type: ignore[arg-type]
        assert (to_original(values, (6, 9), how) == values).all()  # type: ignore[arg-type]


def test_original_images(tmp_path: Path, good_files: dict[str, bytes], bad_files: dict[str, tuple[bytes, str]]) -> None:
    for name in ("plain.png", "turned.jpg", "grey.png", "deep.png"):
        (tmp_path / name).write_bytes(good_files[name])
    (tmp_path / "broken.jpg").write_bytes(bad_files["truncated.jpg"][0])
    data = ImageDataModule(str(tmp_path), size=8, on_bad_image="skip")
    with pytest.warns(UserWarning, match="unreadable"):
        data.setup()
    found = {Path(path).name: data.original(row) for row, path in enumerate(data.table.paths)}
    assert {name: image.shape for name, image in found.items()} == {
        "deep.png": (16, 24, 1), "grey.png": (16, 24, 1), "plain.png": (16, 24, 3), "turned.jpg": (16, 24, 3)
    }  # fmt: skip
    assert (found["plain.png"] == np.asarray(scene())).all()
    assert np.abs(found["turned.jpg"].astype(int) - found["plain.png"]).mean() < 6
    assert found["deep.png"].dtype == np.uint8 and found["deep.png"].min() == 0 and found["deep.png"].max() == 255


def test_original_arrays_are_as_they_are(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 12, 14, 4), dtype=np.uint8)
    np.save(tmp_path / "a.npy", images)
    data = ImageDataModule(str(tmp_path / "a.npy"), size=8)
    data.setup()
    assert (data.original(3) == images[3]).all()
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "x.png").write_bytes(encoded(Image.new("L", (9, 7), 3), "PNG"))
    alone = ImageDataModule(str(tmp_path / "p"), size=8)
    alone.setup()
    assert alone.original(0).tolist() == [[[3]] * 9] * 7
