"""What a graph says of images is what this package says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_transfer.downstream import clusterings, detectors, reductions
from ssl_transfer.downstream.conformal import ConformalCalibration
from ssl_transfer.downstream.detectors.smoothing import smooth
from ssl_transfer.downstream.fitted_anomaly import FittedAnomalyDetector
from ssl_transfer.downstream.fitted_classifier import FittedClassifier
from ssl_transfer.downstream.fitted_clusterer import FittedClusterer
from ssl_transfer.downstream.fitted_reducer import FittedReducer
from ssl_transfer.downstream.scorer import Scorer
from ssl_transfer.encoders import Encoder, EncoderSpec, build_encoder
from ssl_transfer.encoders.folder import golden_images
from ssl_transfer.encoders.reconstruction import mirrored_decoder
from ssl_transfer.encoders.stage_maps import one_grid, stage_maps
from ssl_transfer.export.graph import graph_notes, graph_of, trace
from ssl_transfer.export.graph.graph import AnomalyGraph
from ssl_transfer.export.graph.maps import Cells, Smooth
from ssl_transfer.export.graph.nearest import NearestRows
from ssl_transfer.export.graph.parts import cluster_part, detector_part, reduction_part
from ssl_transfer.export.graph.reading import StageReader
from ssl_transfer.export.subject import Subject, expected_of

DETECTORS = [
    detectors.KNNDistance(),
    detectors.KNNDistance(n_neighbors=1, metric="euclidean"),
    detectors.KNNDistance(metric="euclidean", relative_to=7, relative_power=0.5),
    detectors.Mahalanobis(),
    detectors.GaussianKDE(),
    detectors.OneClassSVM(),
]
BANKS = [
    detectors.PatchMemoryBank(),
    detectors.PatchMemoryBank(n_neighbors=3, neighbourhood=3, image_score="reweighted", whiten=None),
    detectors.PatchMemoryBank(whole_image=0.5, position=0.3, smoothing=0, coreset=0.6),
    detectors.PatchMemoryBank(precision="float16", image_score="max", candidates_per_centre=1),
]


def _vectors(count: int, width: int = 12, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, width, generator=generator) * torch.linspace(0.2, 3, width) + 1


def _images(count: int = 24, shape: tuple[int, int, int] = (1, 16, 16)) -> Tensor:
    rough = torch.rand(count, shape[0], 4, 4, generator=torch.Generator().manual_seed(3))
    return (255 * F.interpolate(rough, shape[1:], mode="bilinear")).byte()


def _encoder(name: str = "small_resnet", shape: tuple[int, int, int] = (1, 16, 16), **spec: Any) -> Encoder:
    torch.manual_seed(0)
    return build_encoder(EncoderSpec(name, **spec), shape, [0.4] * shape[0], [0.3] * shape[0]).eval()


def subject(encoder: Encoder, fitted: Any = None, maps: bool = False) -> Subject:
    """A subject as `read_subject` makes it, without a folder."""
    made = Subject(Path("made"), encoder, {}, fitted)
    made.images = golden_images(encoder.shape)
    made.expected = expected_of(made, made.images, maps)
    return made


def detecting(detector: detectors.Detector, stages: list[str], decoder: nn.Module | None = None) -> Subject:
    """A detector fitted on some images, with its calibration."""
    scorer = Scorer(_encoder(), detector, stages, decoder)
    detector.fit(scorer.read(_images()))
    scores = scorer(_images()).scores
    fitted = FittedAnomalyDetector(scorer, ConformalCalibration(scores), {"threshold": float(scores.median())})
    return subject(scorer.encoder, fitted)


def _agrees(made: Subject) -> None:
    with torch.no_grad():
        found = graph_of(made)(made.images)
    assert list(found) == list(made.expected)
    for name, value in made.expected.items():
        assert found[name].dtype == value.dtype, name
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("detector", DETECTORS, ids=repr)
def test_a_detector_on_features(detector: detectors.Detector) -> None:
    detector.fit(_vectors(80))
    asked = torch.cat([_vectors(20, seed=1), 5 * _vectors(5, seed=2), torch.zeros(1, 12), _vectors(80)[:2]])
    found = detector_part(detector)(asked)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, torch.from_numpy(-detector.score_samples(asked)), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("bank", BANKS, ids=repr)
def test_a_memory_bank(bank: detectors.PatchMemoryBank) -> None:
    maps = torch.randn(12, 6, 5, 7, generator=torch.Generator().manual_seed(0))
    bank.fit(maps)
    asked = torch.cat([maps[:2], 2 * maps.flip(0)[:3]])
    scores, heat = detector_part(bank)(asked)
    expected = bank.score_maps(asked)
    torch.testing.assert_close(scores, expected[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(heat, expected[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "detector",
    [detectors.ReconstructionError(), detectors.ReconstructionError(top=0.1, smoothing=0, standardise=False)],
    ids=repr,
)
def test_reconstruction_errors(detector: detectors.ReconstructionError) -> None:
    errors = torch.rand(10, 6, 5, generator=torch.Generator().manual_seed(0))
    detector.fit(errors)
    for found, expected in zip(detector_part(detector)(errors), detector.score_maps(errors), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "reduction",
    [
        reductions.PCA(n_components=3, whiten=True),
        reductions.BottleneckAutoencoder(epochs=1, hidden_dim=16),
        reductions.ParametricMap(epochs=1, landmarks=20),
        reductions.ParametricMap(epochs=1, landmarks=0, hidden_dim=16, metric="cosine"),
    ],
    ids=repr,
)
def test_a_reduction(reduction: reductions.Reduction) -> None:
    reduction.fit(_vectors(60))
    asked = _vectors(9, seed=1)
    with torch.no_grad():
        found = reduction_part(reduction)(asked)
    torch.testing.assert_close(found, torch.from_numpy(reduction.transform(asked)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "clustering",
    [clusterings.KMeans(3), clusterings.KMeans(3, normalise=True), clusterings.HDBSCAN(10)]
    + [clusterings.GaussianMixture(3, covariance=kind) for kind in ("full", "tied", "diag", "spherical")],  # type: ignore[arg-type]
    ids=repr,
)
def test_a_clustering(clustering: clusterings.Clustering) -> None:
    x = torch.cat([_vectors(50, 3, seed) + 12 * seed for seed in range(3)])
    clustering.fit(x)
    asked = torch.cat([x, _vectors(9, 3, seed=7) * 10])
    assert cluster_part(clustering)(asked).tolist() == clustering.predict(asked).tolist()


def test_a_method_without_fixed_steps_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^UMAP is no graph of fixed steps.*reduce by PCA, .*encoder alone"):
        reduction_part(reductions.UMAP())


def test_nearest_rows_of_a_bank_in_parts() -> None:
    bank, asked = _vectors(700), _vectors(8, seed=1)
    nearest = NearestRows(bank, queries=2**20)
    assert nearest.columns < len(bank)
    distances, rows = nearest(asked, 3)
    expected = torch.cdist(asked, bank).topk(3, largest=False)
    torch.testing.assert_close(distances, expected.values, rtol=1e-5, atol=1e-5)
    assert torch.equal(rows, expected.indices)


def test_cells_and_smoothing() -> None:
    maps = torch.rand(2, 3, 7, 5)
    torch.testing.assert_close(Cells((7, 5), (3, 2))(maps), F.adaptive_avg_pool2d(maps, (3, 2)))
    torch.testing.assert_close(Smooth((7, 5), 1.5)(maps[0]), smooth(maps[0], 1.5))


@pytest.mark.parametrize("grid", ["coarsest", "finest"])
def test_stages_on_one_grid(grid: Any) -> None:
    encoder, images, names = _encoder(shape=(3, 18, 14)), _images(shape=(3, 18, 14)), ["stem", "stage2"]
    with torch.no_grad():
        found = StageReader(encoder, names, grid)(encoder.normalise(images))
        torch.testing.assert_close(found, one_grid(stage_maps(encoder, images, names), grid))


@pytest.mark.parametrize("spec", [{}, {"pool": 2}, {"bottleneck": 5}], ids=str)
def test_features_and_maps(spec: dict[str, Any]) -> None:
    _agrees(subject(_encoder(shape=(3, 15, 18), **spec), maps=True))


def test_features_of_a_network_without_maps_to_pool() -> None:
    _agrees(subject(_encoder("oriented_gradients"), maps=True))


def test_answers_to_several_targets() -> None:
    told = [
        {"name": "animal", "kind": "class", "classes": ["ant", "bee"]},
        {"name": "parts", "kind": "multi_label", "classes": ["wing", "leg"]},
        {"name": "age", "kind": "regression", "mean": 40.0, "deviation": 10.0},
    ]
    encoder = _encoder()
    made = subject(encoder, FittedClassifier(encoder, nn.Linear(128, 5), {"classes": None, "targets": told}))
    assert list(made.expected) == ["features", "animal_scores", "parts_scores", "age_scores"]
    _agrees(made)


@pytest.mark.parametrize(
    ("detector", "stages"),
    [(detectors.KNNDistance(), []), (detectors.PatchMemoryBank(), ["stem", "stage1"])],
    ids=["features", "maps"],
)
def test_a_whole_detector(detector: detectors.Detector, stages: list[str]) -> None:
    _agrees(detecting(detector, stages))


@pytest.mark.parametrize("detector", DETECTORS, ids=repr)
def test_p_values_of_the_calibration_images_themselves(detector: detectors.Detector) -> None:
    detector.fit(_vectors(80))
    held_out = _vectors(100, seed=1)
    scores = -detector.score_samples(held_out)
    calibration = ConformalCalibration(scores)
    threshold = calibration.threshold(0.1)
    graph = AnomalyGraph(FittedAnomalyDetector(Scorer(_encoder(), detector, []), calibration, {"threshold": threshold}))
    found = graph._decided(graph.detector(held_out))
    assert found["p_value"].tolist() == calibration.p_values(scores).tolist()
    assert found["anomalous"].tolist() == (scores > threshold).tolist()
    nudged = torch.from_numpy(scores) + 1e-8 * torch.from_numpy(scores).abs()  # as another runtime rounds
    assert graph._decided(nudged)["p_value"].tolist() == found["p_value"].tolist()
    assert graph._decided(nudged)["anomalous"].tolist() == found["anomalous"].tolist()


def test_notes_of_a_detector() -> None:
    made = detecting(detectors.Mahalanobis(), [])
    made.threshold = 1.0
    (equal,) = graph_notes(made)
    assert "differ by less than 1e-06" in equal
    made.threshold = None
    assert "24 held-out normal images are too few" in graph_notes(made)[1]
    assert "`anomalous` is always False" in graph_notes(made)[1]
    assert graph_notes(subject(_encoder())) == []


def test_a_whole_detector_on_errors() -> None:
    torch.manual_seed(0)
    _agrees(detecting(detectors.ReconstructionError(), [], mirrored_decoder(_encoder()).eval()))


def test_a_reducer_and_a_clusterer_on_it() -> None:
    encoder = _encoder()
    with torch.no_grad():
        pca = reductions.PCA().fit(encoder(_images()))
        kmeans = clusterings.KMeans(3).fit(pca.transform(encoder(_images())))
    _agrees(subject(encoder, FittedReducer(encoder, pca, {})))
    _agrees(subject(encoder, FittedClusterer(encoder, kmeans, pca, {})))


def test_a_trace_holds_no_stage_that_nobody_reads() -> None:
    made = detecting(detectors.PatchMemoryBank(), ["stem"])
    program = trace(graph_of(made), made.images)
    steps = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert steps.count("aten.conv2d.default") == 1
    found = program.module()(made.images[:3])
    torch.testing.assert_close(found["anomaly_score"], made.expected["anomaly_score"][:3], rtol=1e-5, atol=1e-5)


def test_a_network_that_depends_on_values_is_refused() -> None:
    class Choosy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(ValueError, match=r"^the network cannot be written as a graph \(.*\): take target torchvision"):
        trace(Choosy(), torch.ones(2, 3))
    choosy = Choosy()
    choosy.instead = AnomalyGraph.instead  # type: ignore[assignment]
    with pytest.raises(ValueError, match=r"\): export its encoder alone \(the folder `encoder` of the model\)"):
        trace(choosy, torch.ones(2, 3))
