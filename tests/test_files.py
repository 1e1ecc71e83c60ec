"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ssl_transfer.files import whole_file, whole_folder, write_json


def _tree(path: Path) -> dict[str, str]:
    return {p.relative_to(path).as_posix(): p.read_text() for p in sorted(path.rglob("*")) if p.is_file()}


def test_a_folder_takes_its_place_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "folder"
    with whole_folder(target) as new:
        (new / "a.txt").write_text("1")
        assert not target.exists() and new.parent == target.parent
    assert _tree(tmp_path) == {"deep/folder/a.txt": "1"}
    with whole_folder(target) as new:
        (new / "b.txt").write_text("2")
        assert _tree(target) == {"a.txt": "1"}
    assert _tree(tmp_path) == {"deep/folder/b.txt": "2"} and [p.name for p in target.parent.iterdir()] == ["folder"]


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "old.txt").write_text("old")
    (tmp_path / "file.txt").write_text("old")
    with pytest.raises(RuntimeError), whole_folder(tmp_path / "folder") as new:
        (new / "half.txt").write_text("half")
        raise RuntimeError
    with pytest.raises(RuntimeError), whole_file(tmp_path / "file.txt") as half:
        half.write_text("half")
        raise RuntimeError
    assert _tree(tmp_path) == {"folder/old.txt": "old", "file.txt": "old"}


def test_a_move_that_fails_puts_the_old_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    (target / "old.txt").write_text("old")
    rename = Path.rename

    def stubborn(path: Path, to: Path) -> Path:
        if path.name.endswith(".new"):
            raise OSError("no space")
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", stubborn)
    with pytest.raises(OSError, match="no space"), whole_folder(target) as new:
        (new / "new.txt").write_text("new")
    assert _tree(tmp_path) == {"folder/old.txt": "old"}


def test_a_file_is_replaced_at_once(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file.txt"
    for text in ("one", "two"):
        with whole_file(target) as new:
            new.write_text(text)
            assert not target.exists() or target.read_text() == "one"
        assert target.read_text() == text
    assert [p.name for p in target.parent.iterdir()] == ["file.txt"]


def test_json_holds_no_number_that_is_none(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": [float("nan"), 1.5], "b": ({"c": "ä"},)})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"a": [None, 1.5], "b": [{"c": "ä"}]}
