"""predictions.parquet: one row an image, and the same scores as the model folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.downstream import Classifier, Full, Scratch, load_model
from ssl_transfer.encoders import EncoderSpec, load_encoder
from ssl_transfer.pretraining import SimCLR
from ssl_transfer.running import fit as running
from ssl_transfer.running.folder import RunFolder

SPEC = EncoderSpec(arguments={"widths": [8, 16], "strides": [1, 2]}, pool=2)


def _images(data: ImageDataModule) -> torch.Tensor:
    return torch.cat([batch.images for batch in data.predict_dataloader()])


def _matrix(path: Path, column: str) -> np.ndarray:
    return np.stack(pq.read_table(path)[column].to_numpy())


def test_predictions_agree_with_the_model_folder(classified: RunFolder, digits: ImageDataModule) -> None:
    path = running.predict(Classifier(SPEC), digits, classified.path)
    table, model = pq.read_table(path), load_model(classified.model)
    assert path == classified.predictions and table.num_rows == 1797
    assert table.column_names == ["path", "split", "prediction", "scores"]
    assert table["path"].to_pylist() == digits.table.paths.tolist()
    assert table["split"].to_pylist() == digits.table.splits.tolist()
    expected = model.predict(_images(digits))
    np.testing.assert_allclose(_matrix(path, "scores"), expected.scores.numpy(), atol=1e-6)
    assert table["prediction"].to_pylist() == expected.labels
    assert table.schema.metadata[b"classes"].decode().split("\n") == model.classes


@pytest.mark.parametrize("tuning", [Scratch(), Full()])
def test_other_images_are_seen_as_the_fit_s_were(
    tuning: Scratch | Full, digits: ImageDataModule, tmp_path: Path
) -> None:
    """Images of another brightness, without labels: normalised as in the fit, not by their own mean."""
    options = {"max_epochs": 1, "enable_progress_bar": False, "verbose": False}
    run = running.fit(Classifier(SPEC, tuning=tuning), digits, tmp_path / "run", **options)
    pale = _images(digits)[:300, 0] // 2 + 100
    np.save(tmp_path / "pale.npy", pale.numpy())
    path = running.predict(Classifier(SPEC, tuning=tuning), ImageDataModule(str(tmp_path / "pale.npy")), run.path)
    expected = load_model(run.model).predict(pale[:, None]).scores.numpy()
    assert pq.read_table(path).num_rows == 300
    np.testing.assert_allclose(_matrix(path, "scores"), expected, atol=1e-6)


def test_pretraining_predicts_features(pretrained: RunFolder, digits: ImageDataModule) -> None:
    path = running.predict(SimCLR(SPEC, hidden_dim=16, output_dim=8), digits, pretrained.path)
    assert pq.read_table(path).column_names == ["path", "split", "features"]
    with torch.no_grad():
        expected = load_encoder(pretrained.encoder)(_images(digits)).numpy()
    np.testing.assert_allclose(_matrix(path, "features"), expected, atol=1e-5)
