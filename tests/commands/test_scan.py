from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from ssl_transfer.commands.scan import scan
from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.data.sources import open_source


def _rows(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="") as file:
        return {Path(row["path"]).name: row for row in csv.DictReader(file)}


def test_every_file_is_listed_with_its_reason(
    tmp_path: Path,
    good_files: dict[str, bytes],
    bad_files: dict[str, tuple[bytes, str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    for name, data in good_files.items() | {name: data for name, (data, _) in bad_files.items()}.items():
        (folder / name).write_bytes(data)
    assert scan(str(folder), out=str(tmp_path / "scan.csv")) == 1
    rows = _rows(tmp_path / "scan.csv")
    assert rows.keys() == good_files.keys() | bad_files.keys()
    for name, (_, reason) in bad_files.items():
        assert rows[name]["status"] == "rejected" and reason in rows[name]["reason"]
    for name in good_files:
        plain = name in ("plain.png", "grey.png")
        assert rows[name]["status"] == ("ok" if plain else "converted") and bool(rows[name]["reason"]) != plain
        assert (rows[name]["width"], rows[name]["height"]) == ("24", "16")
    assert rows["plain.png"]["path"] == "odd/plain.png"
    assert "truncated.jpg" in capsys.readouterr().out


def test_the_manifest_is_a_source_without_the_rejected(tmp_path: Path, photos: Path) -> None:
    (photos / "ant" / "broken.png").write_bytes(b"")
    assert scan(str(photos), out=str(tmp_path / "scan.csv")) == 1
    data = ImageDataModule(str(tmp_path / "scan.csv"))
    data.setup()
    assert len(data.table) == 20 and data.classes == ["ant", "bee"] and data.rejected == []


def test_duplicates_and_splits(tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (photos / "ant").rename(photos / "train")
    (photos / "bee").rename(photos / "test")
    (photos / "test" / "again.png").write_bytes((photos / "train" / "3.png").read_bytes())
    assert scan(str(photos), out=str(tmp_path / "scan.csv")) == 0
    rows = _rows(tmp_path / "scan.csv")
    assert rows["again.png"]["split"] == "test" and len(rows["again.png"]["hash"]) == 32
    printed = " ".join(capsys.readouterr().out.split())
    assert "Exact duplicates" in printed and "Duplicates across splits" in printed


def test_real_images_with_masks_round_trip(tmp_path: Path, real_data: Path) -> None:
    folder = str(real_data / "magnetic_tile")
    assert scan(folder, pattern="exp1*.jpg", out=str(tmp_path / "scan.csv")) == 0
    again, before = open_source(str(tmp_path / "scan.csv")), open_source(folder, pattern="exp1*.jpg")
    assert len(again) > 100 and (again.records.targets == before.records.targets).all()
    assert [again.mask_path(row) for row in range(len(again))] == [before.mask_path(row) for row in range(len(before))]


def test_arrays_and_numbers(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((3, 4, 4), np.uint16), y=np.array([0.5, np.nan, 2.0]))
    assert scan(str(tmp_path / "a.npz"), out=str(tmp_path / "scan.csv")) == 0
    rows = list(_rows(tmp_path / "scan.csv").values())
    assert [row["label"] for row in rows] == ["0.5", "", "2.0"] and {row["status"] for row in rows} == {"converted"}
