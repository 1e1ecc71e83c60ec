"""The clusterer on digits: what it finds, that saying so twice gives the same, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.downstream import Classifier, load_model
from ssl_transfer.downstream.clusterer import Clusterer, remarks
from ssl_transfer.downstream.clusterings import HDBSCAN, Clustering, GaussianMixture, KMeans
from ssl_transfer.downstream.fitted_clusterer import FittedClusterer
from ssl_transfer.downstream.reducer import Reducer
from ssl_transfer.downstream.reductions import PCA
from ssl_transfer.encoders import EncoderSpec
from ssl_transfer.running import fit as running
from ssl_transfer.running.folder import RunFolder

QUIET: dict[str, Any] = {"enable_progress_bar": False, "verbose": False, "precision": "32-true"}
SPEC = EncoderSpec(arguments={"widths": [8, 16], "strides": [1, 2]}, pool=2)
Finished = tuple[Clusterer, RunFolder, dict[str, Any]]


def digits(**options: Any) -> ImageDataModule:
    return ImageDataModule("digits", batch_size=100, **options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A run of k-means with ten clusters, tested."""
    module = Clusterer(SPEC, KMeans(10))
    run = running.fit(module, digits(), tmp_path_factory.mktemp("clusters") / "run", **QUIET)
    return module, run, running.test(Clusterer(SPEC, KMeans(10)), digits(), run.path)


@pytest.fixture(scope="module")
def reducer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model folder of a fitted reducer."""
    run = running.fit(Reducer(SPEC, PCA(5)), digits(), tmp_path_factory.mktemp("reducer") / "run", **QUIET)
    return run.model


def test_clusters_are_beside_the_labels(finished: Finished) -> None:
    _, _, figures = finished
    assert figures["test/clusters"] == 10 and figures["test/noise_share"] == 0
    assert 0.4 < figures["test/hungarian_accuracy"] < 1 and 0.4 < figures["test/nmi"] < 1  # nothing has been learned
    assert figures["test/hungarian_accuracy_low"] < figures["test/hungarian_accuracy"]
    assert {"test/ari", "test/silhouette", "val/nmi", "val/silhouette"} <= figures.keys()


def test_predictions_equal_those_of_the_model_folder_in_any_batch_and_order(finished: Finished) -> None:
    _, run, _ = finished
    data = digits()
    written = pq.read_table(running.predict(Clusterer(SPEC, KMeans(10)), data, run.path))
    assert written.column_names == ["path", "split", "cluster", "distance"]
    assert written.schema.metadata[b"method"] == b"KMeans" and written.schema.metadata[b"clusters"] == b"10"
    order = np.random.default_rng(0).permutation(len(data.table))
    model = load_model(run.model)
    assert isinstance(model, FittedClusterer)
    found = model.predict(torch.from_numpy(data.images(order)), batch_size=17)
    np.testing.assert_array_equal(found.clusters, np.array(written["cluster"])[order])
    np.testing.assert_allclose(found.belonging, np.array(written["distance"])[order], rtol=1e-4)


def test_the_folder_tells_of_representatives(finished: Finished) -> None:
    module, run, _ = finished
    config = json.loads((run.model / "config.json").read_text())
    assert config["n_clusters"] == 10 and config["choice"] == {} and config["chosen_by"] is None
    assert config["reduction"] is None
    assert [len(paths) for paths in config["representatives"]] == [9] * 10
    data = digits()
    data.setup()
    row_of = {str(path): row for row, path in enumerate(data.table.paths)}
    for cluster, paths in enumerate(config["representatives"]):
        rows = [row_of[path] for path in paths]
        assert set(rows) <= set(data.indices("train").tolist())
        assert (module(torch.from_numpy(data.images(rows))) == cluster).all()
    assert "found 10 clusters, without labels" in (run.model / "README.md").read_text()


@pytest.mark.parametrize(
    ("method", "column"), [(GaussianMixture(8, "diag"), "probability"), (HDBSCAN(15, 5), "probability")]
)
def test_the_other_methods_on_coordinates(method: Clustering, column: str, reducer: Path, tmp_path: Path) -> None:
    module = Clusterer(method=method, reducer=str(reducer))
    run = running.fit(module, digits(), tmp_path / "run", **QUIET)
    figures = running.test(Clusterer(method=type(method)(**method.get_params())), digits(), run.path)
    assert figures["test/clusters"] >= 1
    data = digits()
    later = Clusterer(method=type(method)(**method.get_params()))  # the run knows its reducer
    written = pq.read_table(running.predict(later, data, run.path))
    assert written.column_names[2:] == ["cluster", column]
    found = load_model(run.model).predict(torch.from_numpy(data.images(np.arange(50))))
    np.testing.assert_array_equal(found.clusters, np.array(written["cluster"])[:50])
    np.testing.assert_allclose(found.belonging, np.array(written[column])[:50], atol=1e-4)


def test_a_number_of_clusters_is_chosen_and_kept_with_its_curve(tmp_path: Path) -> None:
    module = Clusterer(SPEC, KMeans(most=4))
    run = running.fit(module, digits(), tmp_path / "run", **QUIET)
    config = json.loads((run.model / "config.json").read_text())
    assert config["choice"].keys() == {"2", "3", "4"} and config["chosen_by"] == "silhouette"
    assert config["n_clusters"] == int(max(config["choice"], key=config["choice"].get))


def test_the_largest_number_that_was_tried_is_told() -> None:
    x = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
    assert "raise model.method.most" in remarks(KMeans(most=2).fit(x))[0]
    assert remarks(KMeans(2).fit(x)) == []


def test_only_noise_is_told(tmp_path: Path, reducer: Path) -> None:
    run = running.fit(Clusterer(method=HDBSCAN(1000), reducer=str(reducer)), digits(), tmp_path / "run", **QUIET)
    assert any("HDBSCAN found no cluster" in remark for remark in run.metrics()["warnings"])
    assert run.metrics()["val/noise_share"] == 1


def test_images_without_labels(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8))
    data = ImageDataModule(str(tmp_path / "images.npy"), test_fraction=0.3)
    module = Clusterer(SPEC, KMeans(3))
    run = running.fit(module, data, tmp_path / "run", **QUIET)
    figures = running.test(module, data, run.path)
    assert figures["test/clusters"] <= 3 and "test/nmi" not in figures


def test_what_it_refuses(finished: Finished, reducer: Path, tmp_path: Path) -> None:
    _, run, _ = finished
    with pytest.raises(ValueError, match=r"brings its own encoder: leave model.encoder out"):
        Clusterer(SPEC, reducer=str(reducer))
    with pytest.raises(ValueError, match=r"model.method PCA is unknown; known are GaussianMixture, HDBSCAN, KMeans"):
        Clusterer(SPEC, PCA())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="is no model folder"):
        running.fit(Clusterer(reducer=str(tmp_path)), digits(), tmp_path / "a", **QUIET)
    with pytest.raises(ValueError, match=r"holds a Clusterer: give the DIR/model of a Reducer's fit"):
        running.fit(Clusterer(reducer=str(run.model)), digits(), tmp_path / "b", **QUIET)
    with pytest.raises(ValueError, match=r"reads images of 1×8×8 and these are 1×16×16: set data.size"):
        running.fit(Clusterer(reducer=str(reducer)), digits(size=16), tmp_path / "c", **QUIET)
    with pytest.raises(ValueError, match="do not settle 40 full covariances of 64 features"):
        running.fit(Clusterer(SPEC, GaussianMixture(40)), digits(), tmp_path / "d", **QUIET)
    with pytest.raises(ValueError, match=r"was fitted with KMeans.*n_clusters=10.* and this is KMeans.*n_clusters=3"):
        running.predict(Clusterer(SPEC, KMeans(3)), digits(), run.path)
    with pytest.raises(ValueError, match=r"model.reducer: .* was fitted with None"):
        running.predict(Clusterer(method=KMeans(10), reducer=str(reducer)), digits(), run.path)
    with pytest.raises(ValueError, match="not written by the fit of a Classifier"):
        running.test(Classifier(SPEC), digits(), run.path)


def test_a_reducer_that_was_fitted_anew_changes_nothing(tmp_path: Path) -> None:
    run = running.fit(Reducer(SPEC, PCA(3)), digits(), tmp_path / "map", **QUIET)
    module = Clusterer(method=KMeans(5), reducer=str(run.model))
    clusters = running.fit(module, digits(), tmp_path / "clusters", **QUIET)
    before = running.test(Clusterer(method=KMeans(5)), digits(), clusters.path)["test/silhouette"]
    running.fit(Reducer(SPEC, PCA(3, whiten=True)), digits(), tmp_path / "map", overwrite=True, **QUIET)
    assert running.test(Clusterer(method=KMeans(5)), digits(), clusters.path)["test/silhouette"] == before
    shutil.rmtree(tmp_path / "map")
    assert running.test(Clusterer(method=KMeans(5)), digits(), clusters.path)["test/silhouette"] == before


def test_a_resumed_fit_must_be_the_same(tmp_path: Path) -> None:
    running.fit(Clusterer(SPEC, KMeans(5)), digits(), tmp_path, **QUIET)
    with pytest.raises(ValueError, match=r"was fitted with KMeans\(n_clusters=5\), and this is KMeans\(n_clusters=4"):
        running.fit(Clusterer(SPEC, KMeans(4)), digits(), tmp_path, resume=True, max_epochs=2, **QUIET)


def test_a_single_cluster_is_told() -> None:
    rows = np.random.default_rng(0).normal(size=(60, 2))
    assert "one cluster only" in remarks(KMeans(1).fit(rows))[0]
