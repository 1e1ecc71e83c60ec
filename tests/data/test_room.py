"""What does not fit is refused in one line, before it is begun."""

from __future__ import annotations

from pathlib import Path

import pytest

from ssl_transfer.data import room
from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.data.room import check_disk, check_memory


def test_more_than_the_machine_has(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(room, "_all_memory", lambda: 2**30)
    monkeypatch.setattr(room, "_free_disk", lambda folder: 2**30)
    check_memory(4, 2**14, 2**14, 1)
    check_disk(tmp_path, 4, 2**14, 2**14, 1)
    with pytest.raises(ValueError) as caught:
        check_memory(5, 2**14, 2**14, 1)
    assert str(caught.value) == (
        "data.size: 5 decoded images of 16384×16384 pixels take 1.2 GiB in memory at once, and there are "
        "1.0 GiB: give a smaller data.size"
    )
    with pytest.raises(ValueError, match=rf"1.2 GiB on disk, and {tmp_path} has 1.0 GiB free: .* data.cache_dir with"):
        check_disk(tmp_path, 5, 2**14, 2**14, 1)


def test_what_cannot_be_told_is_let_pass(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(room, "_all_memory", lambda: None)
    monkeypatch.setattr(room, "_free_disk", lambda folder: None)
    check_memory(2**20, 2**20, 2**20, 3)
    check_disk(tmp_path, 2**20, 2**20, 2**20, 3)


def test_this_machine_is_asked(tmp_path: Path) -> None:
    assert (room._all_memory() or 0) > 2**26
    assert room._free_disk(tmp_path / "not" / "there") is not None


def test_a_container_may_be_allowed_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = tmp_path / "memory.max", tmp_path / "memory.limit_in_bytes"
    monkeypatch.setattr(room, "_LIMITS", files)
    whole = room._all_memory()
    files[0].write_text("max\n")
    assert room._all_memory() == whole
    files[1].write_text("1048576\n")
    assert room._all_memory() == 2**20


def test_nothing_is_left_of_a_store_that_would_not_fit(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_free_disk", lambda folder: 1000)
    data = ImageDataModule(str(photos), size=8, memory_budget=0, cache_dir=str(tmp_path / "cache"))
    with pytest.raises(ValueError, match="20 decoded images of 8×8 pixels"):
        data.setup()
    assert not (tmp_path / "cache").exists()


def test_a_stream_is_checked_too(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_all_memory", lambda: 1000)
    with pytest.raises(ValueError, match="in memory at once"):
        next(ImageDataModule(str(photos), size=8).stream())
