"""Columns of other tables, by path."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ssl_transfer.data.joined import joined_columns, unique_names


def test_values_come_by_path_whatever_the_order(tmp_path: Path) -> None:
    table = tmp_path / "found.parquet"
    columns = {"path": ["b.png", "a.png"], "score": [0.5, 0.1], "odd": [True, False], "scores": [[1.0], [2.0]]}
    pq.write_table(pa.table({**columns, "label": ["x", "y"]}), table)
    found = joined_columns(table, ["a.png", "c.png", "b.png"], known=["label"])
    assert found == {"score": [0.1, None, 0.5], "odd": ["false", None, "true"]}


def test_paths_of_a_manifest_start_at_its_folder(tmp_path: Path) -> None:
    table = tmp_path / "manifest.csv"
    table.write_text("path,site,weight\nimages/a.png,north,3\nimages/b.png,,4\n", encoding="utf-8")
    found = joined_columns(table, [str(tmp_path / "images" / "b.png"), str(tmp_path / "images" / "a.png")])
    assert found == {"site": [None, "north"], "weight": [4, 3]}


def test_what_cannot_be_joined_is_told(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    with pytest.raises(ValueError, match="no such file"):
        joined_columns(table, ["a"])
    table.write_text("file,score\na,1\n", encoding="utf-8")
    with pytest.raises(ValueError, match="no column 'path'; it has file, score"):
        joined_columns(table, ["a"])
    table.write_text("path,score\nz,1\n", encoding="utf-8")
    with pytest.raises(ValueError, match="knows none of the 1 images: its first path is 'z', the first image's 'a'"):
        joined_columns(table, ["a"])
    broken = tmp_path / "t.parquet"
    broken.write_bytes(b"no table")
    with pytest.raises(ValueError, match="is no Parquet table"):
        joined_columns(broken, ["a"])


def test_a_name_that_occurs_again_is_told_by_its_table() -> None:
    assert list(unique_names([("a", {"score": [1]}), ("b", {"score": [2]})])) == ["score", "score (b)"]


def test_a_table_that_tells_nothing_new_is_told(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("path,label\na,1\n", encoding="utf-8")
    assert joined_columns(table, ["a"]) == {"label": [1]}
    with pytest.raises(ValueError, match="tells nothing new: beside the path it has label"):
        joined_columns(table, ["a"], known=["label"])
