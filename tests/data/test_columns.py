"""Columns of tables as text and numbers."""

from __future__ import annotations

import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ssl_transfer.data.columns import plain_columns, read_table
from ssl_transfer.data.sources import open_source


def test_text_stays_text(tmp_path: Path) -> None:
    table = tmp_path / "t.CSV"
    table.write_text("path,id,day,note,empty\n001,007,2026-01-02,,\n002,010,2026-01-03,x,\n", encoding="utf-8")
    read = read_table(table)
    assert read["path"] == ["001", "002"]
    told = plain_columns(read)
    assert told["id"] == ["007", "010"] and told["day"] == ["2026-01-02", "2026-01-03"] and told["note"] == [None, "x"]
    assert "empty" not in told


def test_times_become_text_and_lists_are_left_out(tmp_path: Path) -> None:
    table = tmp_path / "t.parquet"
    pq.write_table(pa.table({"day": [datetime.date(2026, 1, 2)], "scores": [[1.0]], "odd": [True]}), table)
    assert plain_columns(read_table(table)) == {"day": ["2026-01-02"], "odd": ["true"]}


def test_a_column_twice_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("path,site,site\na,1,2\n", encoding="utf-8")
    with pytest.raises(ValueError, match="has 2 columns called 'site': rename all but one"):
        read_table(table)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_manifest_keeps_its_further_columns(tmp_path: Path, kind: str) -> None:
    manifest = tmp_path / f"m.{kind}"
    if kind == "csv":
        manifest.write_text("path,label,site,weight\na.png,x,north,3\n,y,south,4\nb.png,y,,5\n", encoding="utf-8")
    else:
        columns = {"path": ["a.png", None, "b.png"], "label": ["x", "y", "y"], "site": ["north", "south", None]}
        pq.write_table(pa.table({**columns, "weight": [3, 4, 5]}), manifest)
    assert open_source(str(manifest)).columns == {"site": ["north", None], "weight": [3, 5]}
