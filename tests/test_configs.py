"""Every configuration that is shipped parses, builds, and trains a step on the digits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from ssl_transfer.cli import main
from ssl_transfer.downstream import load_model
from ssl_transfer.encoders import load_encoder
from ssl_transfer.running.folder import RunFolder

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
FILES = sorted(CONFIGS.rglob("*.yaml"))


def test_they_are_there() -> None:
    assert {"simclr.yaml", "autoencoder.yaml", "denoising.yaml", "frozen.yaml", "full.yaml", "scratch.yaml"} <= {
        path.name for path in FILES
    }


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The encoder folder of an autoencoder that has made a step."""
    directory = tmp_path_factory.mktemp("autoencoder")
    quick = ["--trainer.max_steps", "1", "--trainer.enable_progress_bar", "false"]
    quick += ["--trainer.default_root_dir", str(directory), "--data.source", "digits"]
    assert main(["fit", "--config", str(CONFIGS / "pretrain" / "autoencoder.yaml"), *quick]) == 0
    return RunFolder(directory).encoder


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(CONFIGS).as_posix())
@pytest.mark.filterwarnings("ignore:.*are left out of train, val and test")  # the digits state their test split
def test_each_fits_the_digits(path: Path, tmp_path: Path, autoencoder: Path) -> None:
    options = ["--data.source", "digits", "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "1"]
    options += ["--trainer.enable_progress_bar", "false", "--trainer.default_root_dir", str(tmp_path / "run")]
    if path.parent.name == "anomaly":
        options += ["--data.normal", "1", "--data.val_fraction", "0.3"]
    if path.parent.name == "adapt":
        options += ["--data.target", "digits"]
    if path.name == "shape_alone.yaml":
        options += ["--data.size", "16"]  # its network halves them thrice
    if path.name == "reconstruction.yaml":
        options += ["--model.encoder", str(autoencoder)]
    assert main(["fit", "--config", str(path), *options]) == 0
    run = RunFolder(tmp_path / "run")
    shipped, ran = yaml.safe_load(path.read_text()), yaml.safe_load(run.config.read_text())
    assert ran["model"]["class_path"].endswith(shipped["model"]["class_path"])
    if path.parent.name == "pretrain":
        assert load_encoder(run.encoder).feature_dim > 0
    elif path.parent.name == "anomaly":
        assert len(load_model(run.model).calibration.scores) > 10
    elif path.parent.name == "reduce":
        assert load_model(run.model).transform(torch.zeros(3, 1, 8, 8)).shape == (3, shipped_components(shipped))
    elif path.parent.name == "cluster":
        assert load_model(run.model).config["n_clusters"] >= 0 and run.clusters.exists()
    else:
        assert len(load_model(run.model).classes) == 10


def shipped_components(shipped: dict[str, Any]) -> int:
    return int(shipped["model"]["init_args"].get("n_components", 2))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(CONFIGS).as_posix())
def test_each_says_how_it_is_used(path: Path) -> None:
    """The comment on top holds a command with this very file."""
    comment = " ".join(line.lstrip("# ") for line in path.read_text().splitlines() if line.startswith("#"))
    assert f"ssl-transfer fit --config {path.relative_to(CONFIGS.parent).as_posix()}" in comment
