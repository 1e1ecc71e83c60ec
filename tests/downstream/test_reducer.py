"""The reducer on digits: what it fits, what it leaves, and what its figures mean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import pytorch_lightning as pl
import torch

from ssl_transfer import load_model
from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.downstream import (
    PCA,
    BottleneckAutoencoder,
    Compact,
    Frozen,
    Full,
    ParametricMap,
    Reducer,
    Scratch,
)
from ssl_transfer.encoders import load_encoder
from ssl_transfer.evaluation.floors import RawPixels
from ssl_transfer.optimisation import Optimisation
from ssl_transfer.running.fit import fit, predict
from ssl_transfer.running.fit import test as score
from ssl_transfer.running.folder import RunFolder

QUIET: dict[str, Any] = {"enable_progress_bar": False, "verbose": False}


def quick() -> ParametricMap:
    return ParametricMap(epochs=4, hidden_dim=32, landmarks=200)


def small() -> ParametricMap:
    return ParametricMap(hidden_dim=32)


@pytest.fixture(scope="module")
def digits_module() -> ImageDataModule:
    data = ImageDataModule("digits", batch_size=128)
    data.setup()
    return data


@pytest.fixture(scope="module")
def run(encoder_folder: Path, digits_module: ImageDataModule, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    module = Reducer(encoder=str(encoder_folder), method=PCA(), n_components=3)
    return fit(module, digits_module, tmp_path_factory.mktemp("reducer"), **QUIET)


def same_again(encoder_folder: Path) -> Reducer:
    return Reducer(encoder=str(encoder_folder), method=PCA(n_components=3))


def test_fit_leaves_a_model_and_figures_but_no_encoder(run: RunFolder) -> None:
    figures = run.metrics()
    assert 0.5 < figures["val/features_trustworthiness_10"] <= 1
    assert 0 <= figures["val/pixels_knn_recall_10"] <= 1 and 0 < figures["val/knn_accuracy_1"] <= 1
    assert run.model.exists() and not run.encoder.exists()


def test_the_map_is_that_of_the_method_on_the_training_features(
    run: RunFolder, encoder_folder: Path, digits_module: ImageDataModule
) -> None:
    encoder = load_encoder(encoder_folder)
    with torch.inference_mode():
        train = encoder(torch.from_numpy(digits_module.images(digits_module.indices("train")))).float()
        images = torch.from_numpy(digits_module.images(np.arange(20)))
        expected = PCA(n_components=3).fit(train.numpy()).transform(encoder(images).float().numpy())
    assert np.allclose(load_model(run.model).transform(images), expected, atol=1e-4)


def test_predict_and_the_model_folder_agree(
    run: RunFolder, encoder_folder: Path, digits_module: ImageDataModule
) -> None:
    table = pq.read_table(predict(same_again(encoder_folder), digits_module, run.path))
    found = np.array(table["coordinates"].to_pylist())
    images = torch.from_numpy(digits_module.images(np.arange(len(found))))
    assert np.allclose(found, load_model(run.model).predict(images, batch_size=100), atol=1e-5)
    assert "x" not in table.column_names


def test_two_coordinates_are_x_and_y(tmp_path: Path, encoder_folder: Path, digits_module: ImageDataModule) -> None:
    fit(Reducer(encoder=str(encoder_folder), method=PCA()), digits_module, tmp_path, **QUIET)
    table = pq.read_table(predict(Reducer(encoder=str(encoder_folder), method=PCA()), digits_module, tmp_path))
    pairs = np.array([table["x"].to_pylist(), table["y"].to_pylist()]).T
    assert np.array_equal(pairs, np.array(table["coordinates"].to_pylist()))


def test_test_scores_the_test_split(run: RunFolder, encoder_folder: Path, digits_module: ImageDataModule) -> None:
    figures = score(same_again(encoder_folder), digits_module, run.path, enable_progress_bar=False)
    assert {f"test/{space}_continuity_15" for space in ("pixels", "features")} <= set(figures)
    assert 0.2 < figures["test/knn_accuracy_10"] <= 1


def test_another_method_than_the_fits_is_refused(
    run: RunFolder, encoder_folder: Path, digits_module: ImageDataModule
) -> None:
    with pytest.raises(ValueError, match=r"model.method: .* was fitted with PCA\(.*and this is PCA\(n_components=2"):
        predict(Reducer(encoder=str(encoder_folder), method=PCA()), digits_module, run.path)


@pytest.mark.parametrize("tuning", [Full(), Scratch()], ids=["full", "scratch"])
@pytest.mark.parametrize("neighbours_of", ["features", "pixels"])
def test_a_map_tunes_its_encoder(
    tmp_path: Path, encoder_folder: Path, digits_module: ImageDataModule, tuning: Any, neighbours_of: Any
) -> None:
    module = Reducer(str(encoder_folder), small(), tuning=tuning, neighbours_of=neighbours_of)
    run = fit(module, digits_module, tmp_path, max_epochs=1, **QUIET)
    images = torch.from_numpy(digits_module.images(np.arange(30)))
    with torch.inference_mode():
        assert np.allclose(load_model(run.model).transform(images), module.eval()(images).numpy(), atol=1e-5)
        changed = load_encoder(run.encoder)(images) - load_encoder(encoder_folder)(images)
    assert changed.abs().max() > 1e-4


class KillAt(pl.Callback):
    """Ends a fit before a step, as a power cut would."""

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == 12:
            raise InterruptedError


def test_a_resumed_fit_ends_where_an_uninterrupted_one_does(
    tmp_path: Path, encoder_folder: Path, digits_module: ImageDataModule
) -> None:
    options: dict[str, Any] = {"max_epochs": 2, "precision": "32-true", **QUIET}

    def module() -> Reducer:
        return Reducer(str(encoder_folder), small(), tuning=Full(1.0))

    with pytest.raises(InterruptedError):
        fit(module(), digits_module, tmp_path / "a", callbacks=[KillAt()], **options)
    resumed = fit(module(), digits_module, tmp_path / "a", resume=True, **options)
    through = fit(module(), digits_module, tmp_path / "b", **options)
    images = torch.from_numpy(digits_module.images(np.arange(10)))
    assert np.array_equal(load_model(resumed.model).predict(images), load_model(through.model).predict(images))


def test_a_tuned_map_learns(tmp_path: Path, encoder_folder: Path, digits_module: ImageDataModule) -> None:
    settings: dict[str, Any] = {"neighbours_of": "pixels", "optimisation": Optimisation(lr=1e-2)}
    module = Reducer(str(encoder_folder), small(), tuning=Full(1.0), **settings)
    figures = fit(module, digits_module, tmp_path, max_epochs=8, **QUIET).metrics()
    assert figures["val/pixels_trustworthiness_10"] > 0.85


def test_a_tuned_autoencoder_restores(tmp_path: Path, encoder_folder: Path, digits_module: ImageDataModule) -> None:
    module = Reducer(str(encoder_folder), BottleneckAutoencoder(hidden_dim=32), n_components=5, tuning=Scratch())
    run = fit(module, digits_module, tmp_path, max_epochs=2, **QUIET)
    assert load_model(run.model).transform(torch.zeros(2, 1, 8, 8)).shape == (2, 5)
    assert run.metrics()["train/loss"] < 1.0  # below what the mean image gives


def test_pixels_may_say_who_is_near(tmp_path: Path, digits_module: ImageDataModule) -> None:
    by = {}
    for neighbours_of in ("features", "pixels"):
        module = Reducer("small_resnet", quick(), neighbours_of=neighbours_of)  # type: ignore[arg-type]
        run = fit(module, digits_module, tmp_path / neighbours_of, **QUIET)
        by[neighbours_of] = run.metrics()["val/pixels_trustworthiness_10"]
    assert by["pixels"] > by["features"]


def test_a_module_of_pixels_will_do(tmp_path: Path, digits_module: ImageDataModule) -> None:
    module = Reducer(RawPixels(), PCA(), n_components=2)
    assert fit(module, digits_module, tmp_path, **QUIET).metrics()["val/pixels_trustworthiness_10"] > 0.7


def test_config_tells_what_was_fitted(run: RunFolder) -> None:
    config = json.loads((run.model / "config.json").read_text())
    assert config["kind"] == "Reducer" and config["method"]["name"] == "PCA" and config["n_components"] == 3


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"tuning": Compact()}, "a Reducer takes Frozen, Full or another"),
        ({"method": PCA(), "tuning": Full()}, "PCA learns nothing by gradient.* take ParametricMap or Bottleneck"),
        ({"method": PCA(), "neighbours_of": "pixels"}, "PCA fits what it is given"),
        ({"neighbours_of": "colour"}, "must be features or pixels, not 'colour'"),
        ({"method": object()}, "model.method object is unknown; known are"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Reducer(**arguments)


@pytest.mark.parametrize(
    ("method", "told"),
    [
        (PCA(n_components=500), "n_components is 500 and there are only"),
        (ParametricMap(n_neighbors=5000), "needs at least 5001 points .*set n_neighbors below"),
    ],
)
def test_bad_input_is_told_before_the_work(
    tmp_path: Path, encoder_folder: Path, digits_module: ImageDataModule, method: Any, told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        fit(Reducer(str(encoder_folder), method, tuning=Frozen()), digits_module, tmp_path, **QUIET)


def test_another_tuning_than_the_fits_is_refused(
    run: RunFolder, encoder_folder: Path, digits_module: ImageDataModule
) -> None:
    with pytest.raises(ValueError, match="was fitted with"):
        predict(Reducer(str(encoder_folder), small(), tuning=Full()), digits_module, run.path)


def test_a_resumed_fit_must_be_the_same(tmp_path: Path, encoder_folder: Path, digits_module: ImageDataModule) -> None:
    fit(Reducer(str(encoder_folder), PCA(3)), digits_module, tmp_path, **QUIET)
    with pytest.raises(ValueError, match=r"model.method: this run was fitted with PCA\(n_components=3"):
        fit(Reducer(str(encoder_folder), PCA(2)), digits_module, tmp_path, resume=True, max_epochs=2, **QUIET)


def test_the_given_method_stays_as_it_is() -> None:
    method = PCA()
    first, second = Reducer(method=method, n_components=2), Reducer(method=method, n_components=5)
    assert (method.n_components, first.method.n_components, second.method.n_components) == (2, 2, 5)


def test_the_seed_of_the_run_counts(tmp_path: Path, encoder_folder: Path, digits_module: ImageDataModule) -> None:
    found = []
    for seed in (0, 1):
        module = Reducer(str(encoder_folder), quick())
        run = fit(module, digits_module, tmp_path / str(seed), seed=seed, **QUIET)
        found.append(load_model(run.model).transform(torch.from_numpy(digits_module.images(np.arange(5)))))
    assert np.abs(found[0] - found[1]).max() > 1e-3


def test_training_images_need_no_labels(tmp_path: Path, encoder_folder: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (120, 8, 8), np.uint8)
    labels = np.where(np.arange(120) < 80, -1, np.arange(120) % 2)
    splits = np.where(np.arange(120) < 80, "train", "val")
    np.savez(tmp_path / "some.npz", images=images, labels=labels, splits=splits)
    data = ImageDataModule(str(tmp_path / "some.npz"))
    figures = fit(Reducer(str(encoder_folder), PCA()), data, tmp_path / "run", **QUIET).metrics()
    assert 0 < figures["val/knn_accuracy_1"] <= 1


def test_a_label_budget_is_refused(tmp_path: Path, encoder_folder: Path) -> None:
    with pytest.raises(ValueError, match=r"data.label_budget 3 leaves out training images, and a Reducer reads no"):
        fit(Reducer(str(encoder_folder), PCA()), ImageDataModule("digits", label_budget=3), tmp_path, **QUIET)


def test_arguments_without_meaning_for_a_learning_encoder_are_refused() -> None:
    with pytest.raises(ValueError, match=r"model.method.epochs is for tuning Frozen.*trainer.max_epochs"):
        Reducer(method=ParametricMap(epochs=3), tuning=Full())
