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
from ssl_transfer.downstream import detectors
from ssl_transfer.downstream.anomaly_checks import check_fit, check_test, labelled_anomalies
from ssl_transfer.downstream.anomaly_fit import PREFIX, conformal_threshold, fit_and_calibrate, own_state
from ssl_transfer.downstream.base import Downstream, check_one_process
from ssl_transfer.downstream.compact import Compact, distance_to_centre, pasted_auroc
from ssl_transfer.downstream.conformal import ConformalCalibration
from ssl_transfer.downstream.detectors import Detector, KNNDistance
from ssl_transfer.downstream.estimators import check_known, check_same, describe_estimator
from ssl_transfer.downstream.fitted_anomaly import FittedAnomalyDetector, full_size
from ssl_transfer.downstream.scorer import Scorer
from ssl_transfer.downstream.tuning import Frozen, Tuning
from ssl_transfer.encoders import EncoderSpec
from ssl_transfer.encoders.reconstruction import load_autoencoder
from ssl_transfer.encoders.stage_maps import Grid, default_stages, stage_maps
from ssl_transfer.evaluation.features import encode
from ssl_transfer.evaluation.report import Scored, anomaly_report, unpadded
from ssl_transfer.optimisation import Optimisation, total_steps
from ssl_transfer.pretraining.base import run_seed

PROXY = "val/pasted_auroc"
CALIBRATING, CHOOSING = slice(0, None, 2), slice(1, None, 2)  # held-out normal images under Compact tuning


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
        false_alarm_rate: the share of normal images that may be called anomalies, in (0, 1). By default 0.05, and after
            a fit that of the fit; another one given then moves the threshold. The detector's own argument of this name
            serves its `predict` alone.
        threshold: `conformal` (default), from held-out normal images alone (Vovk et al. 2005; Laxhammar and Falkman
            2010), or `f1`, which is best for the validation split's labelled anomalies
            (see `data.anomaly_val_fraction`).
        stages: whose maps `PatchMemoryBank` reads; by default those that suit the images' size. grid: to which they are
            brought, that of the coarsest stage or of the finest.
        optimisation: for `Compact`.

    Example:
        >>> AnomalyDetector(false_alarm_rate=0.01).detector
        KNNDistance()
    """

    centre: Tensor
    spread: Tensor

    def __init__(
        self,
        encoder: EncoderSpec | str | nn.Module = "small_resnet",
        detector: Detector | None = None,
        tuning: Tuning | None = None,
        false_alarm_rate: float | None = None,
        threshold: Literal["conformal", "f1"] | None = None,
        stages: list[str] | None = None,
        grid: Grid = "coarsest",
        optimisation: Optimisation | None = None,
    ) -> None:
        super().__init__(encoder, tuning or Frozen())
        if not isinstance(self.tuning, Frozen | Compact):
            raise ValueError(f"an AnomalyDetector's tuning must be Frozen or Compact, not {type(tuning).__name__}")
        self.check_label_options()
        if false_alarm_rate is not None and not 0 < false_alarm_rate < 1:
            raise ValueError(f"model.false_alarm_rate must lie between 0 and 1, not {false_alarm_rate}; 0.01 is 1 %")
        if threshold not in (None, "conformal", "f1"):
            raise ValueError(f"model.threshold must be conformal or f1, not {threshold!r}")
        self.detector = detector if detector is not None else KNNDistance()
        check_known(self.detector, detectors, Detector, "model.detector")
        if stages == []:
            raise ValueError("model.stages must name a stage at least, or be left out for those that suit the size")
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
        self.false_alarm_rate, self.rate = false_alarm_rate, false_alarm_rate or 0.05
        self.threshold, self.by = threshold, threshold or "conformal"
        self.stages = stages
        self.grid = grid
        self.optimisation = optimisation or Optimisation(optimiser="sgd", lr=1e-2, weight_decay=5e-5)
        self.solves = isinstance(self.tuning, Frozen)
        self.automatic_optimization = not self.solves
        self.selects_by = None if self.solves else PROXY
        self.scored: list[Scored] = []
        self.remarks: list[str] = []  # what a user must know of the fit
        self.untuned, self.best_proxy = 0.0, 0.0  # of Compact: the proxy before the first epoch, and of the best
        self.moved = False  # whether the threshold is for another rate than the fit's

    # building

    def configure_model(self) -> None:
        if hasattr(self, "encoder"):
            return
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if self.solves and self.trainer.state.fn == "fit":
            check_one_process(self.trainer.world_size, "a detector on a frozen encoder")
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
            self.encoder, decoder = autoencoder.encoder.requires_grad_(False), autoencoder.decoder
            self.decoder = decoder.requires_grad_(False)
        else:
            self.start_encoder(data)
        if isinstance(self.tuning, Compact):
            self.register_buffer("centre", torch.zeros(self.encoder.feature_dim))
            self.register_buffer("spread", torch.ones(()))
        stages = self._stages() if self.detector.reads == "maps" else []
        self.scorer = Scorer(self.encoder, self.detector, stages, decoder, self.grid)
        self.train(self.training)

    def _stages(self) -> list[str]:
        if self.stages is None:
            return default_stages(self.encoder)
        stage_maps(self.encoder, torch.zeros(1, *self.encoder.shape, device=self.encoder.mean.device), self.stages)
        return self.stages

    def configure_optimizers(self) -> Any:
        if self.solves:
            return None
        return self.optimisation.configure(self.tuning.groups(self.encoder), total_steps(self.trainer))

    def configure_callbacks(self) -> list[pl.Callback]:
        if not isinstance(self.tuning, Compact):
            return []
        return [EarlyStopping(PROXY, patience=self.tuning.patience, mode="max", check_on_train_epoch_end=False)]

    # fitting

    def on_fit_start(self) -> None:
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        check_fit(data, self.by)
        if self.solves:
            self._fit_detector(slice(None))
            return
        if self.trainer.limit_val_batches == 0 or self.trainer.check_val_every_n_epoch != 1:
            raise ValueError(
                "tuning Compact looks at the validation split after every epoch: leave trainer.limit_val_batches and "
                "trainer.check_val_every_n_epoch as they are"
            )
        if not self.trainer.ckpt_path:
            features = encode(self.encoder, data.loader("train", everywhere=True), self.device).features
            self.centre.copy_(features.mean(0))
            self.spread.copy_(distance_to_centre(features, self.centre).clamp(min=torch.finfo(torch.float32).tiny))
            self._fit_detector(CALIBRATING)
            self.untuned = self._proxy()

    def _fit_detector(self, calibrating: slice) -> None:
        """Fit and calibrate: the first process, for all."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        options = (self.scorer, data, self.rate, self.by, self._say, self.with_progress, calibrating)
        state, self.remarks = self.from_first(lambda: fit_and_calibrate(*options))
        self._take(state)

    def _say(self, text: str) -> None:
        """A line on the screen, unless the trainer is to be quiet or there would be one an epoch."""
        if self.solves and self.trainer.progress_bar_callback is not None:
            self.print(text)

    def _take(self, state: dict[str, Any]) -> None:
        """Make a fitted state this detector's."""
        self.detector.load_state(own_state(state))
        self.calibration = ConformalCalibration(state["calibration"].numpy())
        self.limit = float(state["threshold"])
        if self.moved:  # another rate than the fit's
            self.limit, self.remarks = conformal_threshold(self.calibration.scores, self.rate, self.print)
        self.heat_scale: tuple[float, float] = tuple(state.get("heat_scale", torch.tensor([0.0, 1.0])).tolist())

    def on_train_epoch_end(self) -> None:
        if self.solves:
            self._log_calibration()

    def _log_calibration(self) -> None:
        self.log_dict({"val/threshold": self.limit, "val/calibration_images": float(len(self.calibration.scores))})

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any] | None:
        if self.solves:
            return None  # all was done before the first step
        loss = distance_to_centre(self.encoder(batch.images).float(), self.centre) / self.spread
        self.log("loss", loss, prog_bar=True, logger=False)
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=len(batch.index), sync_dist=True)
        return {"loss": loss}

    # while it is tuned

    def on_validation_epoch_end(self) -> None:
        if self.solves or self.trainer.state.fn != "fit":
            return
        self._fit_detector(CALIBRATING)
        self._log_calibration()
        proxy = self._proxy()
        self.log(PROXY, proxy, prog_bar=True, sync_dist=True)
        self.log(f"{PROXY}_untuned", self.untuned, sync_dist=True)
        self.best_proxy = max(self.best_proxy, proxy)

    def on_fit_end(self) -> None:
        if not self.solves and self.best_proxy < self.untuned:
            self.remarks.append(
                "tuning has not helped: held-out normal images are told from pasted ones with an AUROC of "
                f"{self.best_proxy:.3f}, untuned {self.untuned:.3f}; lower --model.optimisation.lr, or take Frozen"
            )
            self.print(f"warning: {self.remarks[-1]}")

    def _proxy(self) -> float:
        """AUROC of held-out normal images, those that do not calibrate, against copies with a pasted patch."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        rows = data.indices("val")[~labelled_anomalies(data, "val")][CHOOSING]
        return pasted_auroc(self.scorer, data, rows, run_seed())

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Nothing a batch: what is looked at needs all of them."""

    # evaluating

    def on_validation_start(self) -> None:
        if self.trainer.state.fn == "validate":
            raise ValueError("the validation split calibrated the threshold of an AnomalyDetector: score it by `test`")

    def on_test_start(self) -> None:
        check_test(self.trainer.datamodule)  # type: ignore[attr-defined]
        self.check_preparation()

    def on_predict_start(self) -> None:
        self.check_preparation()

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        found = self.scorer(batch.images)
        masks = None if batch.masks is None or found.maps is None else batch.masks[:, 0].bool().cpu().numpy()
        maps = None if masks is None or found.maps is None else found.maps.numpy()
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
            seen=unpadded(data),
        )
        self.found = scored
        self.log_dict({f"test/{name}": value for name, value in figures.items()})

    # predicting

    def forward(self, images: Tensor) -> Tensor:
        """Anomaly scores `(B,)` of images `(B, C, H, W)`, uint8 or float in [0, 1]."""
        return self.scorer(images).scores

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        found = self.scorer(batch.images)
        return {"index": batch.index, "anomaly_score": found.scores}

    def columns(self, outputs: list[Any]) -> tuple[dict[str, Any], dict[str, str]]:
        """`anomaly_score`, `p_value` and `anomalous`, the decision; the notes tell threshold and false-alarm rate."""
        scores = torch.cat([output["anomaly_score"] for output in outputs]).numpy()
        columns = {
            "anomaly_score": scores.tolist(),
            "p_value": self.calibration.p_values(scores).tolist(),
            "anomalous": (scores > self.limit).tolist(),
        }
        return columns, {"threshold": repr(self.limit), "threshold_by": self.by, "false_alarm_rate": repr(self.rate)}

    # saving

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if hasattr(self, "calibration"):
            checkpoint["anomaly"] = {
                **{PREFIX + name: value for name, value in self.detector.state().items()},
                "calibration": torch.from_numpy(self.calibration.scores),
                "threshold": torch.tensor(self.limit, dtype=torch.float64),
                "heat_scale": torch.tensor(self.heat_scale),
            }
            checkpoint["fitted"] = {
                "detector": describe_estimator(self.detector),
                "stages": self.scorer.stages,
                "grid": self.grid,
                "rate": self.rate,
                "by": self.by,
                "untuned": self.untuned,
                "best_proxy": self.best_proxy,
                "preparation": self.describe_preparation(),
            }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if "anomaly" not in checkpoint:
            return
        self._take(checkpoint["anomaly"])
        fitted = checkpoint["fitted"]
        self.untuned, self.best_proxy = fitted["untuned"], fitted["best_proxy"]
        self.preparation = fitted["preparation"]

    def learn_from(self, checkpoint: dict[str, Any], path: Path) -> None:
        if "anomaly" not in checkpoint:
            raise ValueError(f"{path} was not written by the fit of an AnomalyDetector: give the folder of one")
        fitted = checkpoint["fitted"]
        own: dict[str, Any] = {"detector": describe_estimator(self.detector), "grid": self.grid}
        if self.stages is not None:
            own["stages"] = self.stages
        check_same(own, fitted, path.parent.parent)
        self.stages = fitted["stages"] or None
        if self.threshold == "f1" and fitted["by"] != "f1":
            raise ValueError("model.threshold f1: this run was fitted with a conformal one; fit again to change that")
        self.by, self.rate = self.threshold or fitted["by"], self.false_alarm_rate or fitted["rate"]
        self.moved = self.by == "conformal" and (self.by, self.rate) != (fitted["by"], fitted["rate"])

    def fitted(self, data: dict[str, Any], metrics: dict[str, float]) -> FittedAnomalyDetector:
        config = {
            "tuning": self.tuning.describe(),
            "detector": describe_estimator(self.detector),
            "stages": self.scorer.stages,
            "grid": self.grid,
            "false_alarm_rate": self.rate,
            "threshold": self.limit if np.isfinite(self.limit) else None,
            "threshold_by": self.by,
            "normal": data.get("normal"),
            "data": data,
            "metrics": metrics,
        }
        return FittedAnomalyDetector(self.scorer, self.calibration, config)


def _folder(chosen: EncoderSpec | str | nn.Module) -> str:
    if not isinstance(chosen, str):
        raise ValueError(
            "detector ReconstructionError needs the encoder folder of an autoencoder, which holds its decoder: "
            "pretrain with Autoencoder or DenoisingAutoencoder and give its encoder folder"
        )
    return chosen
