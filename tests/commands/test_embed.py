"""`embed`: one row an image, the encoder's own features, and a file that appears whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from ssl_transfer.commands.embed import embed
from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.encoders import EncoderSpec, build_encoder, load_encoder, save_encoder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    spec = EncoderSpec(arguments={"widths": [8, 16], "strides": [1, 2]}, pool=2)
    network = build_encoder(spec, (1, 8, 8), [0.3], [0.4])
    return save_encoder(network, tmp_path_factory.mktemp("embed") / "encoder", objective="SimCLR", data={})


def _vectors(path: Path) -> np.ndarray:
    return np.stack(pq.read_table(path)["features"].to_numpy())


def test_rows_are_the_encoder_s_features(encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "deep" / "features.parquet"
    assert embed(str(encoder), "digits", str(out), batch_size=100, device="cpu") == 0
    data = ImageDataModule("digits")
    data.setup()
    table = pq.read_table(out)
    assert table.column_names == ["path", "split", "label", "features"] and table.num_rows == 1797
    assert table["path"].to_pylist() == data.table.paths.tolist()
    assert table["split"].to_pylist() == data.table.splits.tolist()
    assert table["label"].to_pylist() == [str(target) for target in data.table.targets]
    with torch.no_grad():
        expected = torch.cat([load_encoder(encoder)(batch.images) for batch in data.loader("all")])
    np.testing.assert_allclose(_vectors(out), expected.numpy(), rtol=1e-4, atol=1e-5)
    assert "1797 images × 64 features" in capsys.readouterr().out
    assert [path.name for path in out.parent.iterdir()] == ["features.parquet"]


def test_it_streams(encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is encoded is written before the next batch is decoded: a row group a batch, and no more held than that."""
    monkeypatch.setattr(ImageDataModule, "setup", None)  # which would decode them all
    embed(str(encoder), "digits", str(tmp_path / "a.parquet"), batch_size=100, device="cpu")
    groups = pq.ParquetFile(tmp_path / "a.parquet").metadata
    assert [groups.row_group(i).num_rows for i in range(groups.num_row_groups)] == [100] * 17 + [97]


def test_images_are_brought_to_the_encoder_s_size_and_channels(encoder: Path, tmp_path: Path, photos: Path) -> None:
    (photos / "ant" / "empty.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"empty\.png"):
        embed(str(encoder), str(photos), str(tmp_path / "a.parquet"))
    assert not (tmp_path / "a.parquet").exists()
    with pytest.warns(UserWarning, match="unreadable images are left out"):
        embed(str(encoder), str(photos), str(tmp_path / "a.parquet"), on_bad_image="skip", device="cpu")
    table = pq.read_table(tmp_path / "a.parquet")
    assert table.num_rows == 20 and set(table["label"].to_pylist()) == {"ant", "bee"}


def test_unlabelled_images_have_no_label(encoder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.arange(5 * 64, dtype=np.uint16).reshape(5, 8, 8).astype(np.uint8))
    embed(str(encoder), str(tmp_path / "images.npy"), str(tmp_path / "a.parquet"), device="cpu")
    assert pq.read_table(tmp_path / "a.parquet")["label"].to_pylist() == [None] * 5


def test_a_failure_leaves_what_was_there(encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "features.parquet"
    out.write_bytes(b"an earlier file")
    write, calls = pq.ParquetWriter.write_batch, []

    def failing(writer: pq.ParquetWriter, table: object) -> None:
        calls.append(table)
        if len(calls) == 5:
            raise OSError("the disk is full")
        write(writer, table)

    monkeypatch.setattr(pq.ParquetWriter, "write_batch", failing)
    with pytest.raises(OSError, match="the disk is full"):
        embed(str(encoder), "digits", str(out), batch_size=100, device="cpu")
    assert out.read_bytes() == b"an earlier file" and [path.name for path in tmp_path.iterdir()] == [out.name]


def test_what_is_no_encoder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="encoder"):
        embed(str(tmp_path), "digits", str(tmp_path / "a.parquet"))
    assert not (tmp_path / "a.parquet").exists()


def test_an_unknown_device(encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="device"):
        embed(str(encoder), "digits", str(tmp_path / "a.parquet"), device="gpu")
