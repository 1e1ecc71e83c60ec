"""The table of a map: what embedding-atlas expects in each column."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ssl_transfer.reporting import embedding_atlas
from ssl_transfer.reporting.embedding_atlas import write_atlas_table


def test_the_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding_atlas, "_GROUP", 3)  # several groups of rows
    random = np.random.default_rng(0)
    points, images = random.normal(size=(7, 2)), random.integers(0, 256, (7, 1, 5, 4), dtype=np.uint8)
    distances, indices = random.random((7, 3)), random.integers(0, 7, (7, 3))
    columns = {"label": [None, *"aabbcc"], "x": range(7), "mixed": [1, "one", None, 2.5, (), 0, 0]}
    names = [f"{n}.png" for n in range(7)]
    path = write_atlas_table(tmp_path / "map.parquet", points, columns, names, images, (distances, indices))
    table = pq.read_table(path)
    assert table.column_names == ["x", "y", "path", "label", "x_", "mixed", "neighbors", "image"]
    rows = table.to_pylist()
    assert rows[2]["x"] == np.float32(points[2, 0]) and rows[2]["x_"] == 2
    assert [row["label"] for row in rows] == columns["label"] and [row["path"] for row in rows] == names
    assert rows[1]["mixed"] == "one" and rows[2]["mixed"] is None and rows[3]["mixed"] == "2.5"
    for row, near, place in zip(rows, distances, indices, strict=True):
        assert row["neighbors"]["ids"] == place.tolist()
        np.testing.assert_allclose(row["neighbors"]["distances"], near, rtol=1e-6)
    for row, image in zip(rows, images, strict=True):
        assert row["image"]["bytes"].startswith(b"\x89PNG")
        picture = np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])))
        np.testing.assert_array_equal(picture, image[0][:, :, None].repeat(3, 2))


def test_only_points(tmp_path: Path) -> None:
    table = pq.read_table(write_atlas_table(tmp_path / "map.parquet", np.zeros((4, 5))))
    assert table.column_names == ["x", "y", "z"] and table.num_rows == 4


def test_large_thumbnails_are_reduced(tmp_path: Path) -> None:
    large = np.zeros((2, 3, 300, 150), np.uint8)
    row = pq.read_table(write_atlas_table(tmp_path / "map.parquet", np.zeros((2, 2)), thumbnails=large)).to_pylist()[0]
    assert Image.open(io.BytesIO(row["image"]["bytes"])).size == (48, 96)


def test_mistakes_are_named(tmp_path: Path) -> None:
    path, points = tmp_path / "map.parquet", np.zeros((4, 2))
    with pytest.raises(ValueError, match="n_components=2"):
        write_atlas_table(path, points[:, :1])
    with pytest.raises(ValueError, match="label has 3 rows"):
        write_atlas_table(path, points, {"label": [1, 2, 3]})
    with pytest.raises(ValueError, match="thumbnails has 1 rows"):
        write_atlas_table(path, points, thumbnails=np.zeros((1, 1, 2, 2), np.uint8))
    assert not path.exists()
