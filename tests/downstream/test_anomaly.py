"""The anomaly detector on digits: what it fits on, what it says, and that saying so twice gives the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.metrics import roc_auc_score

from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.downstream import (
    AnomalyDetector,
    Compact,
    Frozen,
    Full,
    KNNDistance,
    Mahalanobis,
    PatchMemoryBank,
    ReconstructionError,
    detectors,
    load_model,
)
from ssl_transfer.downstream.anomaly_fit import heat_scale
from ssl_transfer.downstream.base import check_one_process
from ssl_transfer.downstream.detectors import Detector
from ssl_transfer.downstream.estimators import known_estimators, make_estimator
from ssl_transfer.encoders import EncoderSpec
from ssl_transfer.optimisation import Optimisation
from ssl_transfer.pretraining import Autoencoder
from ssl_transfer.running import fit as running
from ssl_transfer.running.folder import RunFolder

QUIET: dict[str, Any] = {"enable_progress_bar": False, "verbose": False, "precision": "32-true"}
SPEC = EncoderSpec(arguments={"widths": [8, 16], "strides": [1, 2]}, pool=2)
STATED = "ignore:.*are left out of train, val and test"  # the digits state a test split

pytestmark = pytest.mark.filterwarnings(STATED)


def ones(**options: Any) -> ImageDataModule:
    return ImageDataModule("digits", normal="1", val_fraction=0.3, batch_size=50, **options)


def fitted(tmp_path: Path, **options: Any) -> tuple[AnomalyDetector, RunFolder]:
    module = AnomalyDetector(SPEC, **options)
    return module, running.fit(module, ones(), tmp_path / "run", **QUIET)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[AnomalyDetector, RunFolder, dict[str, Any]]:
    """A run of a patch memory bank, tested."""
    module, run = fitted(tmp_path_factory.mktemp("anomaly"), detector=PatchMemoryBank(coreset=0.5))
    return module, run, running.test(module, ones(), run.path)


def test_it_tells_ones_from_other_digits(finished: tuple[AnomalyDetector, RunFolder, dict[str, Any]]) -> None:
    _, _, figures = finished
    assert figures["test/auroc"] > 0.9  # by an encoder that has learned nothing
    assert figures["test/auroc_low"] < figures["test/auroc"] < figures["test/auroc_high"]
    assert {f"test/auroc/{digit}" for digit in "023456789"} <= figures.keys()
    assert figures["test/false_alarm_rate"] < 0.2 and figures["test/detected"] > 0.3


def test_predictions_equal_those_of_the_model_folder_in_any_batch_and_order(
    finished: tuple[AnomalyDetector, RunFolder, dict[str, Any]],
) -> None:
    _, run, _ = finished
    data = ones()
    written = pq.read_table(running.predict(AnomalyDetector(SPEC, PatchMemoryBank(coreset=0.5)), data, run.path))
    assert written.column_names == ["path", "split", "anomaly_score", "p_value", "anomalous"]
    order = np.random.default_rng(0).permutation(len(data.table))
    found = load_model(run.model).predict(torch.from_numpy(data.images(order)), batch_size=17)
    np.testing.assert_allclose(found.scores, np.array(written["anomaly_score"])[order], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(found.anomalous, np.array(written["anomalous"])[order])
    np.testing.assert_allclose(found.p_values, np.array(written["p_value"])[order])
    assert found.maps.shape == (len(order), 8, 8)
    threshold = float(written.schema.metadata[b"threshold"])
    np.testing.assert_array_equal(np.array(written["anomaly_score"]) > threshold, written["anomalous"])


def test_it_leaves_a_gallery_and_heat_maps(finished: tuple[AnomalyDetector, RunFolder, dict[str, Any]]) -> None:
    _, run, _ = finished
    assert "Anomalies in digits" in run.gallery.read_text(encoding="utf-8")
    assert len(list(run.heat_maps.glob("*.png"))) > 100


@pytest.mark.parametrize(
    "name", sorted({*known_estimators(detectors, Detector)} - {"PatchMemoryBank", "ReconstructionError"})
)
def test_every_detector_on_features(name: str, tmp_path: Path) -> None:
    module, run = fitted(tmp_path, detector=make_estimator({"name": name, "parameters": {}}, detectors, Detector))
    figures = running.test(module, ones(), run.path)
    assert figures["test/auroc"] > 0.8
    data = ones()
    data.setup()
    images = torch.from_numpy(data.images(data.indices("test")))
    targets = np.asarray(data.table.targets)[data.indices("test")]
    again = load_model(run.model).predict(images)
    assert roc_auc_score(targets != 1, again.scores) == pytest.approx(figures["test/auroc"], abs=1e-5)
    assert again.maps is None


def test_by_reconstruction_error(tmp_path: Path) -> None:
    objective = Autoencoder(SPEC.__class__(arguments=SPEC.arguments), bottleneck=8, optimisation=Optimisation(lr=1e-2))
    pretrained = running.fit(objective, ones(), tmp_path / "ae", max_epochs=40, **QUIET)
    module = AnomalyDetector(str(pretrained.encoder), ReconstructionError())
    run = running.fit(module, ones(), tmp_path / "run", **QUIET)
    figures = running.test(module, ones(), run.path)
    assert figures["test/auroc"] > 0.85
    found = load_model(run.model).predict(torch.zeros(2, 1, 8, 8, dtype=torch.uint8))
    assert found.maps is not None and found.maps.shape == (2, 8, 8)
    with pytest.raises(ValueError, match="ReconstructionError needs the encoder folder of an autoencoder"):
        running.fit(AnomalyDetector(SPEC, ReconstructionError()), ones(), tmp_path / "none", **QUIET)


def test_compact_tuning_draws_features_together_and_keeps_the_best_epoch(tmp_path: Path) -> None:
    tuning = Compact(n_stages=1, patience=2)
    module = AnomalyDetector(SPEC, tuning=tuning, optimisation=Optimisation("sgd", lr=0.05))
    run = running.fit(module, ones(), tmp_path / "run", max_epochs=8, **QUIET)
    metrics = run.metrics()
    assert metrics["best_by"] == "val/pasted_auroc"
    assert metrics["val/pasted_auroc"] > 0.5
    assert run.encoder.exists()
    figures = running.test(AnomalyDetector(SPEC, tuning=tuning), ones(), run.path)
    assert figures["test/auroc"] > 0.85
    data = ones()
    data.setup()
    images = torch.from_numpy(data.images(data.indices("val")))
    np.testing.assert_allclose(load_model(run.model).predict(images).scores, module(images).numpy(), atol=1e-6)


def test_a_threshold_by_f1_is_chosen_on_validation_anomalies(tmp_path: Path) -> None:
    data = ones(anomaly_val_fraction=0.3)
    module = AnomalyDetector(SPEC, threshold="f1")
    run = running.fit(module, data, tmp_path / "run", **QUIET)
    assert running.test(module, data, run.path)["test/detected"] > 0.8
    with pytest.raises(ValueError, match="needs labelled anomalies in the validation split"):
        running.fit(AnomalyDetector(SPEC, threshold="f1"), ones(), tmp_path / "other", **QUIET)


def test_only_normal_images_are_fitted_on(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has images of 10 classes .* name the normal ones with data.normal"):
        running.fit(AnomalyDetector(SPEC), ImageDataModule("digits"), tmp_path / "run", **QUIET)
    assert not (tmp_path / "run" / "model").exists()


def test_images_without_labels_are_normal_and_cannot_be_tested(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    data = ImageDataModule(str(tmp_path / "images.npy"), test_fraction=0.2, val_fraction=0.4)
    module = AnomalyDetector(SPEC)
    run = running.fit(module, data, tmp_path / "run", **QUIET)
    assert len(module.calibration.scores) == len(data.indices("val"))
    with pytest.raises(ValueError, match="does not say which images are normal"):
        running.test(module, data, run.path)
    assert running.predict(AnomalyDetector(SPEC), data, run.path).exists()
    assert run.gallery.exists()


def test_one_kind_of_image_in_the_test_split(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "data.npz", images=images, labels=np.zeros(60, np.int64))
    data = ImageDataModule(str(tmp_path / "data.npz"), normal="0", val_fraction=0.4)
    module = AnomalyDetector(SPEC)
    run = running.fit(module, data, tmp_path / "run", **QUIET)
    with pytest.raises(ValueError, match="has normal images only, and AUROC needs both"):
        running.test(module, data, run.path)


def test_no_images_to_calibrate_with(tmp_path: Path) -> None:
    data = ImageDataModule("digits", normal="1", val_fraction=0.0)
    with pytest.raises(ValueError, match=r"the validation split has none: set data.val_fraction"):
        running.fit(AnomalyDetector(SPEC), data, tmp_path / "run", **QUIET)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tuning": Full()}, "must be Frozen or Compact, not Full"),
        ({"false_alarm_rate": 0.0}, "model.false_alarm_rate must lie between 0 and 1, not 0.0"),
        ({"threshold": "best"}, "model.threshold must be conformal or f1"),
        ({"stages": ["stem"]}, "KNNDistance reads no maps of stages"),
        ({"tuning": Compact(), "detector": PatchMemoryBank()}, "PatchMemoryBank reads none"),
    ],
)
def test_what_it_refuses(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        AnomalyDetector(**options)


def test_a_checkpoint_of_another_module(tmp_path: Path) -> None:
    _, run = fitted(tmp_path)
    with pytest.raises(ValueError, match=r"[Cc]lassifier"):
        from ssl_transfer.downstream import Classifier

        running.test(Classifier(SPEC), ImageDataModule("digits"), run.path)


def test_a_frozen_encoder_stays_to_the_bit(tmp_path: Path) -> None:
    first, _ = fitted(tmp_path / "a", detector=KNNDistance(), tuning=Frozen())
    second, _ = fitted(tmp_path / "b", detector=Mahalanobis())
    for name, value in first.encoder.state_dict().items():
        assert torch.equal(value, second.encoder.state_dict()[name])


def test_heat_begins_above_normal_pixels() -> None:
    maps = torch.rand(10, 20, 20, generator=torch.Generator().manual_seed(0))
    low, high = heat_scale(maps).tolist()
    assert 0.98 < low < 1.0 and 1.4 < high < 1.6


def test_the_rate_of_the_fit_holds_until_another_is_given(tmp_path: Path) -> None:
    data = ones()
    module = AnomalyDetector(SPEC, false_alarm_rate=0.3)
    run = running.fit(module, data, tmp_path / "run", **QUIET)
    later = AnomalyDetector(SPEC)
    first = pq.read_table(running.predict(later, data, run.path))
    assert later.rate == 0.3 and later.limit == module.limit
    np.testing.assert_array_equal(np.array(first["p_value"]) <= 0.3, first["anomalous"])
    moved = pq.read_table(running.predict(AnomalyDetector(SPEC, false_alarm_rate=0.1), data, run.path))
    assert sum(moved["anomalous"].to_pylist()) < sum(first["anomalous"].to_pylist())
    np.testing.assert_array_equal(np.array(moved["p_value"]) <= 0.1, moved["anomalous"])
    assert moved.schema.metadata[b"false_alarm_rate"] == b"0.1"


def test_another_detector_than_the_fitted_one_is_refused(tmp_path: Path) -> None:
    _, run = fitted(tmp_path, detector=KNNDistance(n_neighbors=3))
    with pytest.raises(ValueError, match="was fitted with KNNDistance, and this is Mahalanobis"):
        running.predict(AnomalyDetector(SPEC, Mahalanobis()), ones(), run.path)


def test_images_prepared_otherwise_are_refused(tmp_path: Path) -> None:
    _, run = fitted(tmp_path)
    with pytest.raises(ValueError, match=r"data.resize is pad here and was crop in the fit: give --data.resize crop"):
        running.predict(AnomalyDetector(SPEC), ones(resize="pad"), run.path)


def test_equal_images_and_training_images_without_labels(tmp_path: Path) -> None:
    np.save(tmp_path / "same.npy", np.full((60, 8, 8), 7, np.uint8))
    with pytest.raises(ValueError, match="training images are all the same"):
        running.fit(AnomalyDetector(SPEC), ImageDataModule(str(tmp_path / "same.npy")), tmp_path / "run", **QUIET)


def test_compact_needs_the_validation_split_after_every_epoch(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="tuning Compact looks at the validation split after every epoch"):
        running.fit(AnomalyDetector(SPEC, tuning=Compact()), ones(), tmp_path / "run", limit_val_batches=0, **QUIET)


def test_compact_tuning_that_harms_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proxies = iter([0.9, 0.8, 0.7])
    monkeypatch.setattr(AnomalyDetector, "_proxy", lambda _: next(proxies))
    module = AnomalyDetector(SPEC, tuning=Compact())
    run = running.fit(module, ones(), tmp_path / "run", max_epochs=2, **QUIET)
    assert run.metrics()["val/pasted_auroc_untuned"] == 0.9
    assert any("AUROC of 0.800, untuned 0.900" in remark for remark in run.metrics()["warnings"])


def test_a_frozen_fit_in_several_processes_is_refused() -> None:
    check_one_process(1, "a detector")
    with pytest.raises(ValueError, match="one process fits a detector, not 2"):
        check_one_process(2, "a detector")


def test_compact_with_too_few_images_to_choose_by(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "few.npy", images)
    data = ImageDataModule(str(tmp_path / "few.npy"), val_fraction=0.1)  # two images: one calibrates, one is left
    with pytest.raises(ValueError, match=r"and has 1 of them, not two: raise data.val_fraction"):
        running.fit(AnomalyDetector(SPEC, tuning=Compact()), data, tmp_path / "run", max_epochs=1, **QUIET)
