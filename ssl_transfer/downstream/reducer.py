"""Dimensionality reduction on an encoder: images become a few coordinates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from sklearn.base import clone
from torch import Tensor, nn

from ssl_transfer.data.batch import Batch
from ssl_transfer.downstream import reductions
from ssl_transfer.downstream.base import check_one_process
from ssl_transfer.downstream.compact import Compact
from ssl_transfer.downstream.estimators import check_known, check_same, describe_estimator
from ssl_transfer.downstream.feature_task import FeatureTask, class_labels
from ssl_transfer.downstream.fitted_reducer import FittedReducer
from ssl_transfer.downstream.reductions import ParametricMap, Reduction
from ssl_transfer.downstream.tuned_reduction import TUNED, NeighboursOf, check_used
from ssl_transfer.downstream.tuning import Frozen, LinearThenFull, Tuning
from ssl_transfer.encoders import EncoderSpec
from ssl_transfer.evaluation.features import Features, encode, pixel_features
from ssl_transfer.evaluation.map_quality import FEWEST, map_quality
from ssl_transfer.optimisation import Optimisation, ParameterGroup, total_steps
from ssl_transfer.pretraining.base import run_seed

BANK = 10_000  # training images whose labels are read by nearest neighbours


class Reducer(FeatureTask):
    """Gives each image a few coordinates: two to look at, or more to search and to cluster by.

    With a frozen encoder the method is fitted once on the features of the training split. `ParametricMap` and
    `BottleneckAutoencoder` may also tune the encoder by gradient. Labels are never read in the fit; they only score.

    Args:
        encoder: the folder of a pretrained encoder, an `EncoderSpec`, the name of a network, or a module.
        method: `ParametricMap` (default), `BottleneckAutoencoder`, `PCA`, `UMAP`, `TSNE` or `PaCMAP`.
        n_components: how many coordinates; by default the method's own number, which is 2 unless given.
        tuning: `Frozen` (default), or any that learns by gradient but `LinearThenFull` (see `downstream.tuning`).
        neighbours_of: what a `ParametricMap` keeps together, neighbours by the features (default) or by the pixels.
        optimisation: where the encoder is tuned.

    Example:
        >>> Reducer(n_components=3).method.n_components
        3
    """

    def __init__(
        self,
        encoder: EncoderSpec | str | nn.Module = "small_resnet",
        method: Reduction | None = None,
        n_components: int | None = None,
        tuning: Tuning | None = None,
        neighbours_of: NeighboursOf = "features",
        optimisation: Optimisation | None = None,
    ) -> None:
        super().__init__(encoder, tuning or Frozen())
        if isinstance(self.tuning, Compact | LinearThenFull):
            owner = "an AnomalyDetector" if isinstance(self.tuning, Compact) else "a Classifier"
            raise ValueError(f"tuning {self.tuning.describe()} is {owner}'s: a Reducer takes Frozen, Full or another")
        self.check_label_options()
        method = method if method is not None else ParametricMap()
        check_known(method, reductions, Reduction, "model.method")
        self.method: Reduction = clone(method)  # what is given stays as it is
        if n_components is not None:
            self.method.n_components = n_components
        self.solves = isinstance(self.tuning, Frozen)
        if not self.solves and type(self.method) not in TUNED:
            able = " or ".join(kind.__name__ for kind in TUNED)
            raise ValueError(
                f"model.method {type(self.method).__name__} learns nothing by gradient, so it cannot tune the encoder: "
                f"take {able}, or tuning Frozen"
            )
        if not self.solves:
            check_used(self.method)
        if neighbours_of not in ("features", "pixels"):
            raise ValueError(f"model.neighbours_of must be features or pixels, not {neighbours_of!r}")
        if neighbours_of == "pixels" and not isinstance(self.method, ParametricMap):
            raise ValueError(
                f"model.neighbours_of pixels: {type(self.method).__name__} fits what it is given, the features: leave "
                "it out, or take ParametricMap"
            )
        self.neighbours_of = neighbours_of
        self.optimisation = optimisation or Optimisation(lr=1e-3, weight_decay=1e-4)
        self.automatic_optimization = not self.solves
        self.begin()

    # building

    def configure_model(self) -> None:
        if hasattr(self, "encoder"):
            return
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        fits = self.trainer.state.fn == "fit"
        check_one_process(self.trainer.world_size, "and scores a Reducer")
        self.start_encoder(data)
        if fits:
            self.method.check(len(data.indices("train")), self.encoder.feature_dim)
        if not self.solves:
            self.learner = TUNED[type(self.method)](self.method, self.encoder)
        self.train(self.training)

    def configure_optimizers(self) -> Any:
        if self.solves:
            return None
        parts: list[nn.Module | ParameterGroup] = [self.learner, *self.tuning.groups(self.encoder)]
        return self.optimisation.configure(parts, total_steps(self.trainer))

    # fitting

    def on_fit_start(self) -> None:
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        self.check_no_budget()
        if self.trainer.ckpt_path:
            return  # what was prepared came with the checkpoint
        if self.solves:
            self._solve(data)
        else:
            self.learner.prepare(self.encoder, data, self.neighbours_of, self.device)

    def _solve(self, data: Any) -> None:
        """Fit the method on the features of the training split, each image encoded once."""
        batches = data.loader("train", everywhere=True)
        with torch.autocast(self.device.type, enabled=False):
            train = encode(self.encoder, self.with_progress(batches, "encoding"), self.device)
            if self.neighbours_of == "pixels":
                assert isinstance(self.method, ParametricMap)
                self.fit_method(train.features, graph_of=self._pixels(train.index).to(self.device))
            else:
                self.fit_method(train.features)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:
        if self.solves:
            return None  # all was done before the first step
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        loss = self.learner.loss(self.encoder, batch, data, self.current_epoch) + self.penalty()
        self.log("loss", loss, prog_bar=True, logger=False)
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=len(batch.index), sync_dist=True)
        return loss

    def _pixels(self, index: Tensor) -> Tensor:
        return pixel_features(self.trainer.datamodule, index.cpu().numpy())  # type: ignore[attr-defined]

    # evaluating

    def score(self, seen: Features) -> dict[str, float]:
        """How far the map of a split can be trusted, by its pixels, its features and its labels."""
        if len(seen.index) < FEWEST:
            return {}
        coordinates = self.place(seen.features)
        by_pixels = self._quality(self._pixels(seen.index), coordinates)
        figures = {f"pixels_{name}": value for name, value in by_pixels.items()}
        labels = class_labels(seen.targets)
        train = None if labels is None else self._labelled_bank()
        for name, value in self._quality(seen.features, coordinates, labels, train).items():
            figures[name if name.startswith("knn_accuracy") else f"features_{name}"] = value
        return figures

    def _quality(self, space: Tensor, coordinates: Tensor, labels: Any = None, train: Any = None) -> dict[str, float]:
        return map_quality(space.to(self.device), coordinates, labels, train, seed=run_seed())

    def _labelled_bank(self) -> tuple[Tensor, Tensor] | None:
        """Coordinates and labels of at most BANK training images, for nearest neighbours; None if none has a label."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if not len(data.indices("train")):
            return None
        with torch.autocast(self.device.type, enabled=False):
            bank = encode(self.encoder, data.loader("train", limit=BANK, everywhere=True), self.device)
        if class_labels(bank.targets) is None:
            return None
        bank = bank.labelled()
        return self.place(bank.features), bank.targets

    # predicting

    def place(self, features: Tensor) -> Tensor:
        """Coordinates `(B, n_components)` of features `(B, D)`."""
        if self.solves:
            return torch.from_numpy(self.method.transform(features))
        with torch.autocast(features.device.type, enabled=False):
            return self.learner.head(features).float()

    def forward(self, images: Tensor) -> Tensor:
        """Coordinates `(B, n_components)` of images `(B, C, H, W)`, uint8 or float in [0, 1]; always in float32."""
        return self.place(self.exact_features(images))

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        features = self.exact_features(batch.images)
        if self.method.streams:
            return {"index": batch.index, "coordinates": self.place(features).cpu()}
        return {"index": batch.index, "features": features.cpu()}

    def columns(self, outputs: list[Any]) -> tuple[dict[str, Any], dict[str, str]]:
        """`coordinates`, a list of `n_components` numbers an image; with two of them also `x` and `y`."""
        kind = "coordinates" if self.method.streams else "features"
        found = torch.cat([output[kind] for output in outputs])
        found = found if self.method.streams else self.place(found)
        columns: dict[str, Any] = {"coordinates": found}
        if found.shape[1] == 2:
            columns |= {"x": found[:, 0].tolist(), "y": found[:, 1].tolist()}
        return columns, {"method": type(self.method).__name__}

    # saving

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.solves:
            checkpoint["reduction"] = self.method.state()
        else:
            checkpoint["prepared"] = self.learner.prepared()
        checkpoint["reducer"] = {
            **self._described(),
            "preparation": self.describe_preparation(),
        }

    def _described(self) -> dict[str, Any]:
        return {"method": describe_estimator(self.method), "tuning": self.tuning.describe()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        check_same(self._described(), checkpoint["reducer"], "this run")
        if self.solves:
            self.method.load_state(checkpoint["reduction"])
        else:
            self.learner.take(checkpoint["prepared"], self.device)
        self.preparation = checkpoint["reducer"]["preparation"]

    def learn_from(self, checkpoint: dict[str, Any], path: Path) -> None:
        if "reducer" not in checkpoint:
            raise ValueError(f"{path} was not written by the fit of a Reducer: give the folder of one")
        check_same(self._described(), checkpoint["reducer"], path.parent.parent)

    def fitted(self, data: dict[str, Any], metrics: dict[str, float]) -> FittedReducer:
        method = self.method if self.solves else self.learner.fitted()
        config = {
            "tuning": self.tuning.describe(),
            "method": describe_estimator(method),
            "n_components": method.n_components,
            "neighbours_of": self.neighbours_of,
            "data": data,
            "metrics": metrics,
        }
        return FittedReducer(self.kept_encoder, method, config)
