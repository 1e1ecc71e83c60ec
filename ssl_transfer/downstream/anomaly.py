"""Anomaly detection on an encoder: fitted on normal images, with a threshold from normal images."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping
from torch import Tensor, nn

from ssl_transfer.data.batch import Batch
from ssl_transfer.data.randomness import KeyedRandom, mix_integers
from ssl_transfer.downstream.base import Downstream
from ssl_transfer.downstream.compact import Compact, distance_to_centre, pasted
from ssl_transfer.downstream.conformal import ConformalCalibration
from ssl_transfer.downstream.detectors import Detector, KNNDistance
from ssl_transfer.downstream.fitted_anomaly import STATE, FittedAnomalyDetector, full_size, known_detectors
from ssl_transfer.downstream.scorer import Scorer, Scores
from ssl_transfer.downstream.tuning import Frozen, Tuning
from ssl_transfer.encoders import EncoderSpec
from ssl_transfer.encoders.reconstruction import load_autoencoder
from ssl_transfer.encoders.stage_maps import default_stages, stage_maps, stage_shapes
from ssl_transfer.evaluation.detection import image_metrics
from ssl_transfer.evaluation.features import encode
from ssl_transfer.evaluation.report import Scored, anomaly_report, best_f1_threshold
from ssl_transfer.optimisation import Optimisation, total_steps
from ssl_transfer.pretraining.base import run_seed

PROXY = "val/pasted_auroc"


class AnomalyDetector(Downstream):
    """Finds images, and places in images, that differ from the normal ones it was fitted on.

    It fits on normal images alone: `data.normal` names their classes, and without it the training split must have one
    class or no labels. Labels of anomalies serve testing. The validation split's normal images are held out to
    calibrate the threshold.

    Args:
        encoder: the folder of a pretrained encoder, an `EncoderSpec`, the name of a network, or a module. For
            `ReconstructionError` the folder of an autoencoder.
        detector: `KNNDistance` (default), `Mahalanobis`, `GaussianKDE`, `OneClassSVM` on features; `PatchMemoryBank` on
            the maps of several stages, with a map of each image's anomalies; `ReconstructionError`.
        tuning: `Frozen` (default) or `Compact`.
        false_alarm_rate: the share of normal images that may be called anomalies, in (0, 1).
        threshold: `conformal`, from held-out normal images alone (Vovk et al. 2005; Laxhammar and Falkman 2010), or
            `f1`, which is best for the validation split's labelled anomalies (see `data.anomaly_val_fraction`).
        stages: whose maps `PatchMemoryBank` reads; by default those that suit the images' size.
        optimisation: for `Compact`.

    Example:
        >>> AnomalyDetector(false_alarm_rate=0.01).detector
        KNNDistance()
    """

    centre: Tensor

    def __init__(
        self,
        encoder: EncoderSpec | str | nn.Module = "small_resnet",
        detector: Detector | None = None,
        tuning: Tuning | None = None,
        false_alarm_rate: float = 0.05,
        threshold: Literal["conformal", "f1"] = "conformal",
        stages: list[str] | None = None,
        optimisation: Optimisation | None = None,
    ) -> None:
        super().__init__(encoder, tuning or Frozen())
        if not isinstance(self.tuning, Frozen | Compact):
            raise ValueError(f"an AnomalyDetector's tuning must be Frozen or Compact, not {type(tuning).__name__}")
        if not 0 < false_alarm_rate < 1:
            raise ValueError(f"model.false_alarm_rate must lie between 0 and 1, not {false_alarm_rate}; 0.01 is 1 %")
        if threshold not in ("conformal", "f1"):
            raise ValueError(f"model.threshold must be conformal or f1, not {threshold!r}")
        self.detector = detector if detector is not None else KNNDistance()
        if type(self.detector).__name__ not in known_detectors():
            raise ValueError(
                f"model.detector {type(self.detector).__name__} is unknown; known are {', '.join(known_detectors())}"
            )
        if stages is not None and self.detector.reads != "maps":
            raise ValueError(
                f"model.stages: {type(self.detector).__name__} reads no maps of stages: leave it out, or take "
                "PatchMemoryBank"
            )
        if isinstance(self.tuning, Compact) and self.detector.reads != "features":
            raise ValueError(
                f"tuning Compact draws features together, and {type(self.detector).__name__} reads none: take Frozen, "
                "or KNNDistance"
            )
        self.false_alarm_rate = false_alarm_rate
        self.threshold = threshold
        self.stages = stages
        self.optimisation = optimisation or Optimisation(optimiser="sgd", lr=1e-2, weight_decay=5e-5)
        self.solves = isinstance(self.tuning, Frozen)
        self.automatic_optimization = not self.solves
        self.selects_by = None if self.solves else PROXY
        self.scored: list[Scored] = []

    # building

    def configure_model(self) -> None:
        if hasattr(self, "encoder"):
            return
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        torch.manual_seed(run_seed())
        chosen = self.chosen_encoder[0]
        decoder: nn.Module | None = None
        if self.detector.reads == "images":
            autoencoder = load_autoencoder(_folder(chosen))
            if autoencoder.encoder.shape != data.shape:
                own, given = ("×".join(map(str, shape)) for shape in (autoencoder.encoder.shape, data.shape))
                raise ValueError(
                    f"the autoencoder restores images of {own} and these are {given}: set data.size to suit"
                )
            self.encoder, decoder = autoencoder.encoder, autoencoder.decoder
            self.decoder = decoder.requires_grad_(False)
        else:
            self.encoder = self.tuning.encoder(chosen, data.shape, data.mean, data.std)
        self.encoder.requires_grad_(False)
        if isinstance(self.tuning, Compact):
            self.learning = [self.tuning.learning(self.encoder)]  # in a list: it is the encoder's, not another module
            self.register_buffer("centre", torch.zeros(self.encoder.feature_dim))
        stages = self._stages() if self.detector.reads == "maps" else []
        self.scorer = Scorer(self.encoder, self.detector, stages, decoder)
        self.train(self.training)

    def _stages(self) -> list[str]:
        if self.stages is None:
            return default_stages(self.encoder)
        stage_maps(self.encoder, torch.zeros(1, *self.encoder.shape, device=self.encoder.mean.device), self.stages)
        return self.stages

    def train(self, mode: bool = True) -> AnomalyDetector:
        super().train(mode)
        if hasattr(self, "encoder"):
            self.encoder.eval()  # BatchNorm statistics stay put under both tunings
        return self

    def configure_optimizers(self) -> Any:
        if self.solves:
            return None
        assert isinstance(self.tuning, Compact)
        modules, total = [self.learning[0]], total_steps(self.trainer)
        return self.optimisation.configure(modules, total, lr_factors=[self.tuning.encoder_lr])

    def configure_callbacks(self) -> list[pl.Callback]:
        if not isinstance(self.tuning, Compact):
            return []
        return [EarlyStopping(PROXY, patience=self.tuning.patience, mode="max", check_on_train_epoch_end=False)]

    # fitting

    def on_fit_start(self) -> None:
        self._check_normal()
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if not self.solves and not self.trainer.ckpt_path:
            self.centre.copy_(encode(self.encoder, data.loader("train", everywhere=True), self.device).features.mean(0))
        if self.solves:
            self._fit_detector()

    def _check_normal(self) -> None:
        """Only normal images may be fitted on, and some must be left for the calibration."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        targets = np.asarray(data.table.targets)
        if data.normal_targets is None and data.classes is not None:
            raise ValueError(
                f"data.source {data.source}: the training split has images of {len(data.classes)} classes "
                f"({_listed(data.classes)}) and an AnomalyDetector fits on normal images only: name the normal ones "
                "with data.normal"
            )
        assert not _anomalous(targets[data.indices("train")], data.normal_targets).any()
        if not len(data.indices("val")):
            raise ValueError(
                "an AnomalyDetector calibrates its threshold on held-out normal images, and there is no validation "
                "split: set data.val_fraction above 0"
            )
        if self.threshold == "f1" and not _anomalous(targets[data.indices("val")], data.normal_targets).any():
            raise ValueError(
                "model.threshold f1 needs labelled anomalies in the validation split, and there are none: set "
                "data.anomaly_val_fraction above 0, or take the conformal threshold"
            )

    def _fit_detector(self) -> None:
        """Fit and calibrate: the first process, for all."""
        state: Any = self._fitted_state() if self.trainer.is_global_zero else None
        self._take(self.trainer.strategy.broadcast(state))

    def _fitted_state(self) -> dict[str, Any]:
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        count = len(data.indices("train"))
        if self.detector.reads == "maps":
            shapes = [stage_shapes(self.encoder)[name] for name in self.scorer.stages]
            height, width = max((shape[1:] for shape in shapes), key=lambda size: size[0] * size[1])
            self.print(self.detector.forecast(count, sum(shape[0] for shape in shapes), height, width).text)
        self.scorer.fit(data.loader("train", everywhere=True), count)
        held_out, anomalous = self._held_out()
        scores = held_out.scores.numpy()
        normal = scores[~anomalous]
        if self.threshold == "f1":
            threshold = best_f1_threshold(scores, anomalous)
        else:
            threshold = ConformalCalibration(normal).threshold(self.false_alarm_rate)
        state = {STATE + name: value for name, value in self.detector.state().items()}
        state |= {"calibration": torch.from_numpy(normal), "threshold": torch.tensor(threshold).double()}
        if held_out.maps is not None:
            state["heat_scale"] = heat_scale(held_out.maps[torch.from_numpy(~anomalous)])
        return state

    def _held_out(self) -> tuple[Scores, np.ndarray]:
        """What the detector says of the validation split, and which of its images are labelled as anomalies."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        batches = list(data.loader("val", everywhere=True))
        found = [self.scorer(batch.images.to(self.device)) for batch in batches]
        maps = [part.maps for part in found if part.maps is not None]
        targets = torch.cat([batch.targets for batch in batches]).numpy()
        scores = Scores(torch.cat([part.scores for part in found]), torch.cat(maps) if maps else None)
        return scores, _anomalous(targets, data.normal_targets)

    def _take(self, state: dict[str, Any]) -> None:
        """Make a fitted state this detector's."""
        self.detector.load_state({k.removeprefix(STATE): v for k, v in state.items() if k.startswith(STATE)})
        self.calibration = ConformalCalibration(state["calibration"].numpy())
        self.limit = float(state["threshold"])
        self.heat_scale: tuple[float, float] = tuple(state.get("heat_scale", torch.tensor([0.0, 1.0])).tolist())

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        torch.manual_seed(mix_integers(run_seed(), self.current_epoch, batch_idx, self.global_rank))  # for dropout

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any] | None:
        if self.solves:
            return None  # all was done before the first step
        loss = distance_to_centre(self.encoder(batch.images).float(), self.centre)
        self.log("loss", loss, prog_bar=True, logger=False)
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=len(batch.index), sync_dist=True)
        return {"loss": loss}

    # While it is tuned: after each epoch, and once before the first.

    def on_validation_epoch_end(self) -> None:
        if self.solves or self.trainer.state.fn != "fit":
            return
        self._fit_detector()
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        batches = list(data.loader("val", everywhere=True))
        keep = [torch.from_numpy(~_anomalous(batch.targets.numpy(), data.normal_targets)) for batch in batches]
        pairs = [(b.images[k], b.index[k]) for b, k in zip(batches, keep, strict=True) if k.any()]
        made_up = [pasted(images, KeyedRandom(index, run_seed(), stream=7)) for images, index in pairs]
        found = torch.cat([self.scorer(images.to(self.device)).scores for images in made_up]).numpy()
        both = np.concatenate([self.calibration.scores, found])
        truth = np.arange(len(both)) >= len(self.calibration.scores)
        self.log(PROXY, image_metrics(both, truth)["auroc"], prog_bar=True, sync_dist=True)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Nothing a batch: what is looked at needs all of them."""

    # evaluating

    def on_test_start(self) -> None:
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        targets = np.asarray(data.table.targets)[data.indices("test")]
        if data.normal_targets is None:
            raise ValueError(
                f"data.source {data.source} does not say which images are normal: name their classes with data.normal, "
                "or score images without labels by `predict`"
            )
        anomalous = _anomalous(targets, data.normal_targets)
        normal = np.isin(targets, data.normal_targets)
        if not anomalous.any() or not normal.any():
            which = "normal images" if normal.any() else "anomalies" if anomalous.any() else "images without labels"
            raise ValueError(
                f"the test split of {data.source} has {which} only, and AUROC needs both normal images and anomalies: "
                "add some, set data.test_fraction, or score images without labels by `predict`"
            )

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        found = self.scorer(batch.images)
        masks = None if batch.masks is None or found.maps is None else batch.masks[:, 0].bool().cpu().numpy()
        maps = None if found.maps is None else found.maps.numpy()
        index, targets = batch.index.cpu().numpy(), batch.targets.cpu().numpy()
        self.scored.append(Scored(index, targets, found.scores.numpy(), maps, masks))

    def on_test_epoch_end(self) -> None:
        scored = Scored.gather(self.scored)
        self.scored = []
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        size = self.encoder.shape[1:]
        figures = anomaly_report(
            scored,
            decisions=scored.scores > self.limit,
            normal=data.normal_targets,
            classes=data.classes,
            enlarge=lambda maps: full_size(torch.from_numpy(maps), size).numpy(),
            seed=run_seed(),
        )
        self.found = scored
        self.log_dict({f"test/{name}": value for name, value in figures.items()})

    # predicting

    def forward(self, images: Tensor) -> Tensor:
        """Anomaly scores `(B,)` of images `(B, C, H, W)`, uint8 or float in [0, 1]."""
        return self.scorer(images).scores

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        found = self.scorer(batch.images)
        return {"index": batch.index, "anomaly_score": found.scores, "maps": found.maps}

    def columns(self, outputs: list[Any]) -> tuple[dict[str, Any], dict[str, str]]:
        """`anomaly_score`, `p_value` and `anomalous`, the decision; the notes tell threshold and false-alarm rate."""
        scores = torch.cat([output["anomaly_score"] for output in outputs]).numpy()
        columns = {
            "anomaly_score": scores.tolist(),
            "p_value": self.calibration.p_values(scores).tolist(),
            "anomalous": (scores > self.limit).tolist(),
        }
        return columns, {"threshold": repr(self.limit), "false_alarm_rate": repr(self.false_alarm_rate)}

    # saving

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if hasattr(self, "calibration"):
            state = {STATE + name: value for name, value in self.detector.state().items()}
            told = {
                "calibration": torch.from_numpy(self.calibration.scores),
                "heat_scale": torch.tensor(self.heat_scale),
            }
            checkpoint["anomaly"] = state | told | {"threshold": torch.tensor(self.limit).double()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if "anomaly" in checkpoint:
            self._take(checkpoint["anomaly"])

    def learn_from(self, checkpoint: dict[str, Any], path: Path) -> None:
        if "anomaly" not in checkpoint:
            raise ValueError(f"{path} was not written by the fit of an AnomalyDetector: give the folder of one")

    def fitted(self, data: dict[str, Any], metrics: dict[str, float]) -> FittedAnomalyDetector:
        detector = {"name": type(self.detector).__name__, "parameters": self.detector.get_params()}
        config = {
            "tuning": type(self.tuning).__name__,
            "detector": detector,
            "stages": self.scorer.stages,
            "false_alarm_rate": self.false_alarm_rate,
            "threshold": self.limit if np.isfinite(self.limit) else None,
            "threshold_by": self.threshold,
            "normal": data.get("normal"),
            "data": data,
            "metrics": metrics,
        }
        return FittedAnomalyDetector(self.scorer, self.calibration, config)


def heat_scale(maps: Tensor) -> Tensor:
    """The heats `(2,)` at which a picture of anomalies begins to colour and is fully coloured.

    It begins where one normal pixel in a hundred lies, and is full at twice the hottest normal pixels' distance from
    the median. maps: of normal images `(N, h, w)`.
    """
    values = maps.flatten().double().numpy()
    middle, begin, hottest = np.quantile(values, [0.5, 0.99, 0.9999])
    return torch.tensor([begin, max(middle + 2 * (hottest - middle), begin)])


def _anomalous(targets: np.ndarray, normal: list[int] | None) -> np.ndarray:
    """Which targets are labelled as anomalies: a class, and not a normal one."""
    if normal is None:
        return np.zeros(len(targets), bool)
    return (targets >= 0) & ~np.isin(targets, normal)


def _folder(chosen: EncoderSpec | str | nn.Module) -> str:
    if not isinstance(chosen, str):
        raise ValueError(
            "detector ReconstructionError needs the encoder folder of an autoencoder, which holds its decoder: "
            "pretrain with Autoencoder or DenoisingAutoencoder and give its encoder folder"
        )
    return chosen


def _listed(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (" …" if len(names) > most else "")
