"""Grey images over photographs: the recipe, pixel by pixel; which photograph and where; what cannot be blended."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssl_transfer.data.cache import made_once
from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.data.sources import open_source
from ssl_transfer.data.sources.mnistm import blend


def _photograph(path: Path, seed: int, size: tuple[int, int] = (40, 30), grey: bool = False) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0]) if grey else (size[1], size[0], 3))
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return np.repeat(pixels[..., None], 3, axis=2) if grey else pixels


@pytest.fixture
def backgrounds(tmp_path: Path) -> Path:
    """Three photographs for train, the last of them grey and the others upright or lying, and two for test."""
    for number, size in enumerate(((40, 30), (20, 50), (9, 8))):
        _photograph(tmp_path / f"photographs/train/{number}.png", number, size, grey=number == 2)
    for number in (3, 4):
        _photograph(tmp_path / f"photographs/test/{number}.png", number)
    return tmp_path / "photographs"


def test_each_pixel_is_its_distance_from_the_background(backgrounds: Path) -> None:
    """A slow look for every image's patch: some patch of a photograph of its split gives it by |p − 255 · [x > 0]|."""
    grey, blended = open_source("digits"), open_source(f"digitsM:{backgrounds}")
    assert grey.arrays is not None and blended.arrays is not None
    assert blended.arrays.shape == (1797, 8, 8, 3) and blended.arrays.dtype == np.uint8
    for split in ("train", "test"):
        photographs = [np.asarray(Image.open(p).convert("RGB")) for p in sorted((backgrounds / split).iterdir())]
        for row in np.flatnonzero(grey.records.splits == split)[:6]:
            digit = np.where(grey.arrays[row] > 0, 255, 0)  # (8, 8, 1)
            found = [
                (photograph.shape, top, left)
                for photograph in photographs
                for top in range(photograph.shape[0] - 7)
                for left in range(photograph.shape[1] - 7)
                if (np.abs(photograph[top : top + 8, left : left + 8].astype(int) - digit) == blended.arrays[row]).all()
            ]
            assert len(found) == 1


def test_labels_splits_and_names_are_those_of_the_grey_images(backgrounds: Path) -> None:
    grey, blended = open_source("digits").records, open_source(f"digitsM:{backgrounds}").records
    assert (grey.targets == blended.targets).all() and (grey.splits == blended.splits).all()
    assert grey.classes == blended.classes
    assert blended.paths[[0, 17]].tolist() == ["digitsM/train/00000", "digitsM/train/00017"]


def test_draws_are_of_photograph_row_and_column_alike() -> None:
    photographs = [np.full((5, 4, 3), 10, np.uint8), np.full((4, 6, 3), 20, np.uint8)]
    for photograph in photographs:
        photograph[..., 1] = np.arange(photograph.shape[0])[:, None]
        photograph[..., 2] = np.arange(photograph.shape[1])
    draws = np.arange(120, dtype=np.uint64)
    blended = blend(np.zeros((120, 4, 4), np.uint8), photographs, draws)
    places = Counter(tuple(image[0, 0].tolist()) for image in blended)
    assert places == {(10, 0, 0): 30, (10, 1, 0): 30, (20, 0, 0): 20, (20, 0, 1): 20, (20, 0, 2): 20}


def test_every_run_gives_the_same_and_the_second_reads_the_cache(backgrounds: Path, tmp_path: Path) -> None:
    first, second = (open_source(f"digitsM:{backgrounds}") for _ in range(2))
    assert isinstance(first.arrays, np.memmap) and (first.arrays == second.arrays).all()
    moved = tmp_path / "elsewhere"
    backgrounds.rename(moved)
    third = open_source(f"digitsM:{moved}")  # the contents count, not where they lie
    assert third.arrays is not None and (third.arrays == first.arrays).all()
    _photograph(moved / "train" / "0.png", 99)
    fourth = open_source(f"digitsM:{moved}")
    assert fourth.arrays is not None and not (fourth.arrays == first.arrays).all()
    same = first.records.splits == "test"
    assert (fourth.arrays[same] == first.arrays[same]).all()


def test_what_cannot_be_cached_is_made_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("SSL_TRANSFER_CACHE", str(tmp_path / "file"))
    made = [made_once("key", lambda: np.ones(3)) for _ in range(2)]
    assert all(array.tolist() == [1, 1, 1] and not isinstance(array, np.memmap) for array in made)
    monkeypatch.setenv("SSL_TRANSFER_CACHE", str(tmp_path / "cache"))
    assert [isinstance(made_once("key", lambda: np.ones(3)), np.memmap) for _ in range(2)] == [True, True]
    assert os.listdir(tmp_path / "cache" / "stores") == ["key.npy"]  # noqa: PTH208


@pytest.mark.parametrize("left", [0, 10, 140])
def test_a_damaged_file_is_made_again(tmp_path: Path, left: int) -> None:
    """Empty, cut off in the header, and cut off in the data."""
    made_once("key", lambda: np.ones(30), tmp_path)
    file = tmp_path / "stores" / "key.npy"
    file.write_bytes(file.read_bytes()[:left])
    again = made_once("key", lambda: np.ones(30), tmp_path)
    assert again.tolist() == [1] * 30 and isinstance(again, np.memmap)
    assert np.load(file).tolist() == [1] * 30


def test_photographs_are_read_one_at_a_time(backgrounds: Path) -> None:
    files = sorted((backgrounds / "train").iterdir())
    arrays = [np.asarray(Image.open(file).convert("RGB")) for file in files]
    images, draws = np.zeros((50, 4, 4), np.uint8), np.arange(50, dtype=np.uint64) * np.uint64(97)
    assert (blend(images, files, draws) == blend(images, arrays, draws)).all()


def test_photographs_in_no_split_serve_one_each(tmp_path: Path) -> None:
    for number in range(4):
        path = tmp_path / f"flat/{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(path)
    source = open_source(f"digitsM:{tmp_path / 'flat'}")
    assert source.arrays is not None
    red = np.minimum(source.arrays[:, 0, 0, 0], 255 - source.arrays[:, 0, 0, 0])
    seen = [set(red[source.records.splits == split].tolist()) for split in ("train", "test")]
    assert [len(s) for s in seen] == [2, 2] and not seen[0] & seen[1]


def test_the_data_module_takes_it(backgrounds: Path) -> None:
    data = ImageDataModule(f"digitsM:{backgrounds}", batch_size=32)
    data.setup()
    assert data.shape == (3, 8, 8) and data.num_classes == 10 and len(data.indices("test")) == 539
    assert next(iter(data.train_dataloader())).images.shape == (32, 3, 8, 8)


def test_mistakes_in_one_line(tmp_path: Path, backgrounds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def said(source: str) -> str:
        with pytest.raises(ValueError) as caught:
            open_source(source, root=str(tmp_path))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert said("MNISTM").endswith("MNISTM needs photographs as backgrounds: write MNISTM:FOLDER, with their folder")
    (tmp_path / "MNISTM").mkdir()
    monkeypatch.chdir(tmp_path)
    assert said("MNISTM").endswith("write ./MNISTM for the folder of that name")
    assert "nowhere is no folder: write digitsM:FOLDER" in said(f"digitsM:{tmp_path / 'nowhere'}")
    (tmp_path / "empty").mkdir()
    assert "empty holds no image" in said(f"digitsM:{tmp_path / 'empty'}")
    _photograph(tmp_path / "one" / "a.png", 0)
    assert "needs test photographs" in said(f"digitsM:{tmp_path / 'one'}")
    _photograph(backgrounds / "train" / "tiny.png", 7, (7, 30))
    assert "7×30 pixels is no background of 8×8 images" in said(f"digitsM:{backgrounds}")
    (backgrounds / "train" / "tiny.png").write_text("no image")
    assert "tiny.png: not an image" in said(f"digitsM:{backgrounds}")
    assert "did you mean MNIST" in said("MNISTN")


def test_colour_is_no_foreground(tmp_path: Path, backgrounds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision.datasets

    class Colour:
        data = np.zeros((4, 32, 32, 3), np.uint8)
        targets = (0, 1, 2, 3)

        def __init__(self, root: str, train: bool) -> None:
            pass

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", Colour)
    with pytest.raises(ValueError, match=r"CIFAR10M cannot be made, as CIFAR10 is not grey \(1 channel\)"):
        open_source(f"CIFAR10M:{backgrounds}")


@pytest.mark.slow
def test_mnist_m_of_the_real_photographs(real_data: Path) -> None:
    source = open_source(f"MNISTM:{real_data / 'bsds500'}", root=str(real_data))
    assert source.arrays is not None and source.arrays.shape == (70_000, 28, 28, 3)
    assert (source.records.splits == "test").sum() == 10_000
