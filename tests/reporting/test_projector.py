"""The projector's folder, read back by TensorBoard's own plugin."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tensorboard.plugins.projector.projector_plugin import ProjectorPlugin
from werkzeug.test import Client

from ssl_transfer.reporting import projector
from ssl_transfer.reporting.projector import write_projector


def _served(folder: Path) -> dict[str, Any]:
    """What the plugin's routes answer about a folder."""
    plugin = ProjectorPlugin(SimpleNamespace(data_provider=None, logdir=str(folder)))
    apps = plugin.get_plugin_apps()

    def get(route: str) -> bytes:
        answer = Client(apps[route]).get(f"{route}?run=.&name=vectors&num_rows=100000")
        assert answer.status_code == 200, answer.get_data()
        return answer.get_data()

    assert json.loads(Client(apps["/runs"]).get("/runs").get_data()) == ["."]
    config = json.loads(get("/info"))["embeddings"][0]
    found = {"config": config, "vectors": np.frombuffer(get("/tensor"), "<f4").reshape(config["tensorShape"])}
    if "metadataPath" in config:
        found["metadata"] = [line.split("\t") for line in get("/metadata").decode().split("\n")[:-1]]
    if "sprite" in config:
        found["sprite"] = np.asarray(Image.open(io.BytesIO(get("/sprite_image"))))
    return found


def test_tensorboard_reads_it(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    vectors, images = random.normal(size=(11, 5)), random.integers(0, 256, (11, 3, 6, 8), dtype=np.uint8)
    columns = {"path": [f"{n}.png" for n in range(11)], "label": [None, *"ab" * 5], "score": random.random(11)}
    rows = write_projector(tmp_path / "p", vectors, columns, images)
    found = _served(tmp_path / "p")
    assert rows.tolist() == list(range(11))
    np.testing.assert_array_equal(found["vectors"], vectors.astype(np.float32))
    assert found["metadata"][0] == ["path", "label", "score"]
    assert found["metadata"][1][:2] == ["0.png", "–"] and found["metadata"][2][:2] == ["1.png", "a"]
    assert found["config"]["sprite"]["singleImageDim"] == [8, 6]
    assert found["sprite"].shape == (18, 32, 3)  # three rows of four
    np.testing.assert_array_equal(found["sprite"][6:12, 16:24], images[6].transpose(1, 2, 0))


def test_nothing_breaks_out_of_a_cell(tmp_path: Path) -> None:
    nasty = ["a\tb", "a\nb", "\r\n", "", "\u2028", float("nan"), "\ud800", "ü"]
    write_projector(tmp_path / "two", np.eye(8) - 0.5, {"one\ttwo": nasty, "other": range(8)})
    lines = _served(tmp_path / "two")["metadata"]
    assert [len(line) for line in lines] == [2] * 9
    assert [line[0] for line in lines] == ["one two", "a b", "a b", "–", "–", "–", "–", "–", "ü"]
    write_projector(tmp_path / "one", np.eye(8) - 0.5, {"only": nasty})
    assert len(_served(tmp_path / "one")["metadata"]) == 8  # no line of names


@pytest.mark.parametrize("vectors", [np.zeros((3, 2)), np.ones((3, 2)), np.float32([[1e-40, 2.5], [1e30, -1]])])
def test_any_vectors_are_read(tmp_path: Path, vectors: np.ndarray) -> None:
    write_projector(tmp_path / "p", vectors)
    np.testing.assert_array_equal(_served(tmp_path / "p")["vectors"], vectors.astype(np.float32))


def test_many_images_become_smaller_and_some_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projector, "MOST_POINTS", 100)
    monkeypatch.setattr(projector, "SPRITE", 64)
    images = np.arange(150, dtype=np.uint8)[:, None, None, None].repeat(12, 2).repeat(24, 3)
    with pytest.warns(UserWarning, match="50 of 150"):
        rows = write_projector(tmp_path / "p", np.arange(300.0).reshape(150, 2) - 5, {"n": list(range(150))}, images)
    found = _served(tmp_path / "p")
    assert len(rows) == len(np.unique(rows)) == 100 and found["vectors"].shape == (100, 2)
    assert [int(line[0]) for line in found["metadata"]] == rows.tolist()
    assert found["config"]["sprite"]["singleImageDim"] == [6, 3]
    assert found["sprite"].shape == (30, 60, 3)
    assert found["sprite"][::3, ::6, 0].ravel().tolist() == rows.tolist()


def test_it_replaces_itself_and_nothing_else(tmp_path: Path) -> None:
    for _ in range(2):
        write_projector(tmp_path / "p", np.eye(3) - 0.5)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="name a new folder"):
        write_projector(tmp_path, np.eye(3))
    assert (tmp_path / "notes.txt").exists()


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="shows vectors"):
        write_projector(tmp_path / "p", np.zeros(3))
    with pytest.raises(ValueError, match="the column label has 2 rows"):
        write_projector(tmp_path / "p", np.eye(3), {"label": [1, 2]})
    with pytest.raises(ValueError, match="thumbnails has 1 rows"):
        write_projector(tmp_path / "p", np.eye(3), None, np.zeros((1, 1, 2, 2), np.uint8))
    assert not (tmp_path / "p").exists()
