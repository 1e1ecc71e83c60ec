"""`ssl-transfer explore` from folders to pages; what the page does is tested in tests/reporting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ssl_transfer.cli import main
from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.downstream import PCA, Reducer
from ssl_transfer.encoders import EncoderSpec, build_encoder, save_encoder
from ssl_transfer.running.fit import fit

QUIET: dict[str, Any] = {"enable_progress_bar": False, "verbose": False}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    spec = EncoderSpec(arguments={"widths": [8, 16], "strides": [1, 2]})
    network = build_encoder(spec, (1, 8, 8), [0.5], [0.5])
    data = {"resize": "crop", "value_range": None}
    return str(save_encoder(network, tmp_path_factory.mktemp("e") / "encoder", objective="none", data=data))


@pytest.fixture(scope="module")
def reducer(encoder: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    data = ImageDataModule("digits")
    return str(fit(Reducer(encoder, PCA()), data, tmp_path_factory.mktemp("reducer"), **QUIET).path)


def test_a_reducer_s_run_becomes_a_page_and_tables(reducer: str, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out"
    assert main(["explore", reducer, "digits", "--limit", "200", "--out", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == {"explore.html", "map.parquet", "oddities.csv", "projector"}
    table = pq.read_table(out / "map.parquet")
    assert len(table) == 200 and {"x", "y", "path", "label", "split"} <= set(table.column_names)
    assert "placed 200 images" in capsys.readouterr().out


def test_of_an_encoder_the_map_is_drawn_first(encoder: str, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out"
    assert main(["explore", encoder, "digits", "--method", "PCA", "--limit", "60", "--out", str(out)]) == 0
    assert "drew a PCA of 60 images" in capsys.readouterr().out


def test_columns_of_manifest_and_predictions_colour_it(encoder: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for row in range(8):
        Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(tmp_path / f"{row}.png")
    lines = "".join(f"{row}.png,{'north' if row % 2 else 'south'}\n" for row in range(8))
    (tmp_path / "m.csv").write_text(f"path,site\n{lines}", encoding="utf-8")
    scores = "".join(f"{row}.png,{row / 10}\n" for row in range(8))
    (tmp_path / "s.csv").write_text(f"path,score\n{scores}", encoding="utf-8")
    arguments = ["explore", encoder, str(tmp_path / "m.csv"), "--method", "PCA", "--columns", str(tmp_path / "s.csv")]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 0
    table = pq.read_table(tmp_path / "out" / "map.parquet")
    assert table["site"].to_pylist()[:2] == ["south", "north"] and table["score"].to_pylist()[3] == 0.3


def test_nothing_is_clobbered(encoder: str, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    arguments = ["explore", encoder, "digits", "--method", "PCA", "--limit", "20", "--out"]
    assert main([*arguments, str(out)]) == 0
    assert main([*arguments, str(out)]) == 2 and "give --overwrite or another --out" in capsys.readouterr().err
    assert main([*arguments, str(out), "--overwrite"]) == 0
    (out / "notes.txt").write_text("mine")
    assert main([*arguments, str(out), "--overwrite"]) == 2
    assert "holds other files (notes.txt)" in capsys.readouterr().err and (out / "notes.txt").exists()
    assert main([*arguments, str(out / "notes.txt")]) == 2 and "is a file" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    assert main([*arguments, "."]) == 2 and "is the folder you are in" in capsys.readouterr().err


def test_a_wide_encoder_and_few_images(tmp_path: Path) -> None:
    spec = EncoderSpec(arguments={"widths": [8, 300], "strides": [1, 2]})
    network = build_encoder(spec, (1, 8, 8), [0.5], [0.5])
    wide = save_encoder(network, tmp_path / "encoder", objective="none", data={"resize": "crop", "value_range": None})
    for limit in ("40", "280"):
        arguments = ["explore", str(wide), "digits", "--method", "PCA", "--limit", limit]
        assert main([*arguments, "--out", str(tmp_path / limit)]) == 0


def test_a_method_is_an_encoder_s_alone(reducer: str, tmp_path: Path, capsys: Any) -> None:
    assert main(["explore", reducer, "digits", "--method", "UMAP", "--out", str(tmp_path / "out")]) == 2
    assert "draws its own map, a PCA: leave it out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--method", "Isomap"], "--method must be ParametricMap, PCA, UMAP, TSNE or PaCMAP, not 'Isomap'"),
        (["--limit", "0"], "--limit must be 1 or more, not 0"),
        (["--limit", "2", "--method", "PCA"], "a map needs at least 5 images here, and there are 2: give more"),
        (["--limit", "10"], "at least 16 images here, and there are 10: give more, or --method PCA"),
        (["--columns", "missing.csv"], "--columns missing.csv: no such file"),
        (["--device", "abacus"], "--device must be cpu, cuda, mps or auto"),
        (["--device", "cuda:77"], "--device cuda:77 cannot be used here"),
    ],
)
def test_a_mistake_gets_a_line(encoder: str, tmp_path: Path, capsys: Any, arguments: list[str], told: str) -> None:
    out = tmp_path / "out"
    assert main(["explore", encoder, "digits", "--out", str(out), *arguments]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1 and not out.exists()


def test_another_model_is_refused(encoder: str, tmp_path: Path, capsys: Any) -> None:
    data = ImageDataModule("digits")
    run = fit(Reducer(encoder, PCA(), n_components=3), data, tmp_path / "three", **QUIET)
    assert main(["explore", str(run.model), "digits", "--out", str(tmp_path / "out")]) == 2
    assert "gives 3 coordinates and a page has two" in capsys.readouterr().err
