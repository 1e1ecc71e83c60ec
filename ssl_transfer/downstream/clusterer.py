"""Clustering on an encoder: images fall into groups that nobody named."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from sklearn.base import clone
from torch import Tensor, nn

from ssl_transfer.data.batch import Batch
from ssl_transfer.downstream import clusterings, reductions
from ssl_transfer.downstream.base import check_one_process
from ssl_transfer.downstream.clusterings import Clustering, GaussianMixture, KMeans
from ssl_transfer.downstream.estimators import check_known, check_same, describe_estimator, make_estimator
from ssl_transfer.downstream.feature_task import FeatureTask, class_labels
from ssl_transfer.downstream.fitted_clusterer import (
    CLUSTERING,
    REDUCTION,
    FittedClusterer,
    joint_state,
    part_of,
    placed,
)
from ssl_transfer.downstream.fitted_reducer import FittedReducer
from ssl_transfer.downstream.model_folder import load_model
from ssl_transfer.downstream.reductions import Reduction
from ssl_transfer.downstream.tuning import Frozen
from ssl_transfer.encoders import EncoderSpec
from ssl_transfer.evaluation.clustering import cluster_figures
from ssl_transfer.evaluation.features import Features, encode
from ssl_transfer.pretraining.base import run_seed

ENCODER = "small_resnet"
REPRESENTATIVES = 9  # training images of each cluster


class Found(NamedTuple):
    """What a fit gives: the clustering's tensors, the rows `(K, 9)` of its representatives in the store, remarks."""

    state: dict[str, Tensor]
    representatives: list[list[int]]
    remarks: list[str]


class Clusterer(FeatureTask):
    """Sorts images into groups by what a frozen encoder sees in them.

    Fitted once on the training split. Labels are never read in the fit; they only score.

    Args:
        encoder: the folder of a pretrained encoder, an `EncoderSpec`, the name of a network, or a module.
        method: `KMeans` (default), `GaussianMixture` or `HDBSCAN`.
        reducer: the model folder of a fitted `Reducer`, whose encoder is taken and whose coordinates are clustered; by
            default the encoder's features are.

    Example:
        >>> Clusterer(method=KMeans(n_clusters=10)).method
        KMeans(n_clusters=10)
    """

    reduction: Reduction | None = None
    representatives: list[list[str]]  # paths of each cluster's most typical training images

    def __init__(
        self,
        encoder: EncoderSpec | str | nn.Module = ENCODER,
        method: Clustering | None = None,
        reducer: str | None = None,
    ) -> None:
        super().__init__(encoder, Frozen())
        method = method if method is not None else KMeans()
        check_known(method, clusterings, Clustering, "model.method")
        self.method: Clustering = clone(method)  # what is given stays as it is
        if reducer is not None and encoder != ENCODER:
            raise ValueError(
                f"model.reducer {reducer} brings its own encoder: leave model.encoder out, or cluster its features by "
                "leaving model.reducer out"
            )
        self.reducer = None if reducer is None else str(Path(reducer).expanduser().absolute())
        self.solves = True
        self.automatic_optimization = False
        self.begin()
        self.remarks: list[str] = []  # what a user must know of the fit

    # building

    def configure_model(self) -> None:
        if hasattr(self, "encoder"):
            return
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        fits = self.trainer.state.fn == "fit"
        if fits:
            check_one_process(self.trainer.world_size, f"a {type(self.method).__name__}")
        torch.manual_seed(run_seed())
        if self.reducer is None or (not fits and isinstance(self.reduction, Reduction)):
            encoder = self.tuning.encoder(self.chosen_encoder[0], data.shape, data.mean, data.std)
        else:
            fitted = load_reducer(self.reducer, data.shape)
            encoder, self.reduction = fitted.encoder, fitted.method
            self.preparation = {name: fitted.config["data"].get(name) for name in ("resize", "value_range")}
        self.encoder = encoder.requires_grad_(False)
        if fits:
            self.check_preparation()
            width = self.encoder.feature_dim if self.reduction is None else self.reduction.n_components
            self.method.check(len(data.indices("train")), width)
        self.train(self.training)

    def configure_optimizers(self) -> None:
        return None

    # fitting

    def on_fit_start(self) -> None:
        self.check_no_budget()
        if self.trainer.ckpt_path:
            return
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        fitted: Any = self._find(data) if self.trainer.is_global_zero else None
        state, rows, self.remarks = self.trainer.strategy.broadcast(fitted)
        self.method.load_state(state)
        self.representatives = [[str(data.table.paths[row]) for row in cluster] for cluster in rows]
        for remark in self.remarks:
            self.print(f"warning: {remark}")

    def _find(self, data: Any) -> Found:
        """Fit the method on the training split, each image encoded once."""
        batches = data.loader("train", everywhere=True)
        with torch.autocast(self.device.type, enabled=False):
            train = encode(self.encoder, self.with_progress(batches, "encoding"), self.device)
            vectors = placed(self.reduction, train.features)
            self.fit_method(vectors)
            rows = self.method.representatives(vectors, REPRESENTATIVES)
        index = train.index.cpu().numpy()
        return Found(self.method.state(), [index[r[r >= 0]].tolist() for r in rows], remarks(self.method))

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Nothing: all was done before the first step."""

    # evaluating

    def score(self, seen: Features) -> dict[str, float]:
        """How good the clusters of a split are, by themselves and by its labels."""
        vectors = placed(self.reduction, seen.features)
        labels = class_labels(seen.targets)
        own = None if labels is None else labels.cpu()
        return cluster_figures(self.method.predict(vectors), own, vectors, seed=run_seed())

    # predicting

    def forward(self, images: Tensor) -> Tensor:
        """Clusters `(B,)` int64 of images `(B, C, H, W)`, uint8 or float in [0, 1]; −1 is noise."""
        return torch.from_numpy(self.method.predict(placed(self.reduction, self.exact_features(images))))

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        return {"index": batch.index, "features": self.exact_features(batch.images).cpu()}

    def columns(self, outputs: list[Any]) -> tuple[dict[str, Any], dict[str, str]]:
        """`cluster`, −1 for noise, and `distance` from its centre or `probability` of it, by the method."""
        features = torch.cat([output["features"] for output in outputs])
        found = self.method.assign(placed(self.reduction, features))
        notes = {"method": type(self.method).__name__, "clusters": str(self.method.n_clusters_)}
        return {"cluster": found.labels.tolist(), self.method.belonging: found.belonging.tolist()}, notes

    # saving

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["clustering"] = joint_state(self.method, self.reduction)
        checkpoint["clusterer"] = {
            **self._described(),
            "reduction": None if self.reduction is None else describe_estimator(self.reduction),
            "representatives": self.representatives,
            "remarks": self.remarks,
            "preparation": self.describe_preparation(),
        }

    def _described(self) -> dict[str, Any]:
        return {"method": describe_estimator(self.method), "reducer": self.reducer}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        fitted = checkpoint["clusterer"]
        check_same(self._described(), fitted, "this run")
        self.method.load_state(part_of(checkpoint["clustering"], CLUSTERING))
        self._take_reduction(checkpoint)
        self.representatives, self.remarks = fitted["representatives"], fitted["remarks"]
        self.preparation = fitted["preparation"]

    def _take_reduction(self, checkpoint: dict[str, Any]) -> None:
        """Take the reduction of the fit: its folder may hold another by now."""
        described = checkpoint["clusterer"]["reduction"]
        if described is not None:
            self.reduction = make_estimator(described, reductions, Reduction)
            self.reduction.load_state(part_of(checkpoint["clustering"], REDUCTION))

    def learn_from(self, checkpoint: dict[str, Any], path: Path) -> None:
        """Take reducer and encoder of the fit, from its own model folder where that stands."""
        if "clusterer" not in checkpoint:
            raise ValueError(f"{path} was not written by the fit of a Clusterer: give the folder of one")
        fitted, run = checkpoint["clusterer"], path.parent.parent
        self.reducer = self.reducer or fitted["reducer"]
        check_same(self._described(), fitted, run)
        if self.reducer is not None and (run / "model" / "encoder").is_dir():
            self.chosen_encoder = [str(run / "model" / "encoder")]
            self._take_reduction(checkpoint)

    def fitted(self, data: dict[str, Any], metrics: dict[str, float]) -> FittedClusterer:
        config = {
            "tuning": type(self.tuning).__name__,
            "method": describe_estimator(self.method),
            "reduction": None if self.reduction is None else describe_estimator(self.reduction),
            "n_clusters": self.method.n_clusters_,
            "chosen_by": self.method.chosen_by if self.method.choice_ else None,
            "choice": {str(k): score for k, score in self.method.choice_.items()},
            "representatives": self.representatives,
            "data": data,
            "metrics": metrics,
        }
        return FittedClusterer(self.encoder, self.method, self.reduction, config)


def load_reducer(path: str, shape: tuple[int, int, int]) -> FittedReducer:
    """A fitted reducer. ValueError unless it is one, and for images of this shape."""
    fitted = load_model(path)
    if not isinstance(fitted, FittedReducer):
        raise ValueError(f"model.reducer {path} holds a {fitted.kind}: give the DIR/model of a Reducer's fit")
    if tuple(fitted.encoder.shape) != tuple(shape):
        own, given = ("×".join(map(str, each)) for each in (fitted.encoder.shape, shape))
        raise ValueError(f"model.reducer {path} reads images of {own} and these are {given}: set data.size to suit")
    return fitted


def remarks(method: Clustering) -> list[str]:
    """What a user must know of a fitted clustering."""
    if method.n_clusters_ == 0:
        return ["HDBSCAN found no cluster, all is noise: lower model.method.min_cluster_size, or cluster coordinates"]
    found = []
    if method.n_clusters_ == 1:
        found.append(
            "one cluster only: state model.method.n_clusters, cluster the coordinates of a Reducer (model.reducer), or "
            "take covariance diag for a GaussianMixture"
        )
    if method.choice_ and method.n_clusters_ == max(method.choice_):
        found.append(
            f"the best number of clusters is the largest that was tried, {method.n_clusters_}: raise model.method.most"
        )
    if isinstance(method, GaussianMixture) and not method.converged_:
        found.append("the mixture did not settle in 200 steps: take fewer clusters, or covariance diag")
    return found
