from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssl_transfer.data import store as store_module
from ssl_transfer.data.sources import open_source
from ssl_transfer.data.store import Recipe, Store, build_store, cache_folder, measure_range

_RECIPE = Recipe(3, 8, 8, "crop", None, False, 10_000)


def _build(folder: str, cache: Path, budget: int = 0, recipe: Recipe = _RECIPE) -> Store:
    source = open_source(folder)
    return build_store(source, np.arange(len(source)), recipe, budget, cache, "contents")


def test_disk_and_memory_hold_the_same(photos: Path, tmp_path: Path) -> None:
    on_disk, in_memory = _build(str(photos), tmp_path), _build(str(photos), tmp_path, budget=10**9)
    assert isinstance(on_disk.images, np.memmap) and not isinstance(in_memory.images, np.memmap)
    assert on_disk.images.shape == (20, 3, 8, 8) and (on_disk.images == in_memory.images).all()


def test_the_next_run_reuses_the_store(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = _build(str(photos), tmp_path)

    def never(*_: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(store_module, "_fill", never)
    assert (_build(str(photos), tmp_path).images == first.images).all()
    with pytest.raises(AssertionError, match="decoded again"):
        _build(str(photos), tmp_path, recipe=Recipe(3, 9, 9, "crop", None, False, 10_000))


def test_a_build_that_fails_leaves_nothing(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(store_module, "_fill", fail)
    with pytest.raises(MemoryError):
        _build(str(photos), tmp_path)
    assert list(cache_folder(tmp_path).iterdir()) == []


def test_half_a_store_of_a_killed_builder_is_swept_away(photos: Path, tmp_path: Path) -> None:
    old, new = (cache_folder(tmp_path) / f"{name}.building-1-0" for name in ("old", "new"))
    for building in (old, new):
        building.mkdir(parents=True)
        (building / "images.npy").write_bytes(b"half")
    for path in (old / "images.npy", old):
        os.utime(path, (0, 0))
    _build(str(photos), tmp_path)
    assert not old.exists() and new.exists()


_CHILD = """
import sys
from pathlib import Path
import numpy as np
from ssl_transfer.data.sources import open_source
from ssl_transfer.data.store import Recipe, build_store
source = open_source(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
recipe = Recipe(3, 8, 8, "crop", None, False, 10_000)
store = build_store(source, np.arange(len(source)), recipe, 0, Path(sys.argv[2]), "contents")
print(int(store.images.astype(int).sum()))
"""


def test_two_processes_build_at_once(photos: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", _CHILD, str(photos), str(tmp_path)]
    root = str(Path(store_module.__file__).parents[2])
    options: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": root}
    children = [subprocess.Popen(command, **options) for _ in range(2)]
    for child in children:
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    sums = [int(child.communicate(timeout=60)[0]) for child in children]
    assert sums == [int(_build(str(photos), tmp_path, budget=10**9).images.astype(int).sum())] * 2
    assert len(list(cache_folder(tmp_path).iterdir())) == 1


def test_losing_the_race_uses_the_winner(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original, nested = store_module._fill, []

    def slow(*arguments: object) -> dict[int, str]:
        if not nested:
            nested.append(True)
            _build(str(photos), tmp_path)  # another run, wholly within ours
        return original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(store_module, "_fill", slow)
    assert len(_build(str(photos), tmp_path).images) == 20
    assert len(list(cache_folder(tmp_path).iterdir())) == 1


def test_arrays_that_fit_are_not_copied(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((4, 8, 8, 3), np.uint8))
    source = open_source(str(tmp_path / "a.npy"))
    store = build_store(source, np.arange(4), _RECIPE, 0, tmp_path, "a")
    assert source.arrays is not None and np.shares_memory(store.images, source.arrays)
    assert store.images.shape == (4, 3, 8, 8)


def test_rejected_rows_are_left_out_on_disk_too(photos: Path, tmp_path: Path) -> None:
    whole = _build(str(photos), tmp_path / "a").images
    victim = photos / "ant" / "3.png"
    victim.write_bytes(victim.read_bytes()[:-40])
    for _ in range(2):  # built, then reused
        store = _build(str(photos), tmp_path / "b")
        assert list(store.rejected) == [3] and "truncated" in store.rejected[3]
        assert (store.images == np.delete(whole, 3, axis=0)).all()


def test_masks_follow_the_image(tmp_path: Path) -> None:
    from PIL import Image

    image = np.zeros((20, 40), np.uint8)
    image[5:15, 20:30] = 255
    for name in ("x.jpg", "x.png"):
        Image.fromarray(image).save(tmp_path / name)
    Image.fromarray(image).save(tmp_path / "y.jpg")
    store = _build(str(tmp_path), tmp_path, 10**9, Recipe(1, 10, 10, "pad", None, True, 10_000))
    assert store.masks is not None and store.masks.shape == (2, 1, 10, 10) and store.masks[1].max() == 0
    assert set(np.unique(store.masks[0])) == {0, 1}
    assert np.mean((store.images[0] > 127) == (store.masks[0] == 1)) > 0.95


def test_a_mask_of_another_size_is_rejected(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("L", (8, 8)).save(tmp_path / "x.jpg")
    Image.new("L", (8, 9)).save(tmp_path / "x.png")
    store = _build(str(tmp_path), tmp_path, 10**9, Recipe(1, 8, 8, "crop", None, True, 10_000))
    assert "is 8×9, the image 8×8" in store.rejected[0]


def test_which_values_make_a_mask(tmp_path: Path) -> None:
    """Two values, or grey edges; never a picture, class numbers, or the ripples of JPEG."""
    from PIL import Image

    square = np.zeros((40, 40), np.uint8)
    square[10:20, 10:20] = 1
    soft = square * np.uint8(176)
    soft[9, 10:20] = np.arange(10) * 17 + 1
    steps = square.copy()
    steps[0, 0] = 2
    noise = np.random.default_rng(0).integers(0, 256, (40, 40), np.uint8)
    rippled = io.BytesIO()
    Image.fromarray(square * np.uint8(255)).save(rippled, "JPEG", quality=75)
    cases = [(square, ""), (square * np.uint8(255), ""), (square * np.uint8(7), ""), (soft, ""), (0 * square, "")]
    cases += [(1 - 0 * square, ""), (steps, "not binary (3 values up to 2)"), (noise, "is not binary (256 values")]
    cases += [(np.repeat(square[..., None], 3, 2) * np.uint8(255), "")]
    for values, words in [*cases, (rippled.getvalue(), "is a JPEG with values other than 0 and one more")]:
        Image.new("L", (40, 40)).save(tmp_path / "x.jpg")
        if isinstance(values, bytes):
            (tmp_path / "x.png").write_bytes(values)
        else:
            Image.fromarray(values).save(tmp_path / "x.png")
        store = _build(str(tmp_path), tmp_path, 10**9, Recipe(1, 40, 40, "crop", None, True, 10_000))
        assert words in store.rejected.get(0, "") and bool(words) == bool(store.rejected), words
        if not words and isinstance(values, np.ndarray):
            marked = values.reshape(40, 40, -1).max(2) > 0
            assert store.masks is not None and (store.masks[0, 0] == marked).all()


def test_range_ignores_a_hot_pixel(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(1000, 3000, (4, 100, 100)).astype(np.uint16)
    images[0, 0, 0] = 65535
    np.save(tmp_path / "a.npy", images)
    low, high = measure_range(open_source(str(tmp_path / "a.npy")), range(4), 10**9)
    assert 1000 <= low <= 1005 and 2995 <= high <= 3000


def test_where_the_cache_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SSL_TRANSFER_CACHE", str(tmp_path / "env"))
    assert cache_folder(None) == tmp_path / "env" / "stores" and cache_folder(tmp_path) == tmp_path / "stores"
    monkeypatch.delenv("SSL_TRANSFER_CACHE")
    assert cache_folder(None) == Path.home() / ".cache" / "ssl_transfer" / "stores"
