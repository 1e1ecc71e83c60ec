"""An anomaly detector loaded from its folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_transfer.downstream import detectors
from ssl_transfer.downstream.anomaly_fit import PREFIX, own_state
from ssl_transfer.downstream.conformal import ConformalCalibration
from ssl_transfer.downstream.estimators import make_estimator
from ssl_transfer.downstream.fitted import Fitted, table_of
from ssl_transfer.downstream.scorer import Scorer
from ssl_transfer.encoders import Encoder, save_encoder
from ssl_transfer.encoders.reconstruction import load_autoencoder


class AnomalyPrediction(NamedTuple):
    """What a detector says of B images.

    scores: anomaly scores `(B,)` float64, higher is more anomalous.
    p_values: `(B,)`, the share of normal images that score as high.
    anomalous: decisions `(B,)` bool.
    maps: anomaly maps `(B, H, W)` of the size of the images, or None of a detector without.
    """

    scores: np.ndarray
    p_values: np.ndarray
    anomalous: np.ndarray
    maps: Tensor | None


class FittedAnomalyDetector(Fitted):
    """An anomaly detector with its calibration, for prediction alone.

    Attributes:
        scorer: encoder and detector; `calibration`: the scores of held-out normal images.
        threshold: an image above is called an anomaly.
    """

    kind = "AnomalyDetector"
    needs = ("data", "detector", "stages", "grid", "false_alarm_rate", "threshold", "threshold_by")

    def __init__(self, scorer: Scorer, calibration: ConformalCalibration, config: dict[str, Any]) -> None:
        super().__init__(scorer.encoder, config)
        self.scorer = scorer
        self.decoder = scorer.decoder  # so that it moves with the rest
        self.calibration = calibration
        self.threshold = float("inf") if config["threshold"] is None else float(config["threshold"])

    @torch.inference_mode()
    def predict(self, images: Tensor | Sequence[str | Path], batch_size: int = 64) -> AnomalyPrediction:
        """Score images: a tensor `(B, C, H, W)`, or the paths of image files, prepared as in training."""
        found = [self.scorer(part) for part in self.in_parts(self.images_of(images), batch_size)]
        scores = torch.cat([part.scores for part in found]).numpy()
        maps = [part.maps for part in found if part.maps is not None]
        p_values = self.calibration.p_values(scores)
        sized = full_size(torch.cat(maps), self.encoder.shape[1:]) if maps else None
        return AnomalyPrediction(scores, p_values, scores > self.threshold, sized)

    def scores(self, images: Tensor) -> Tensor:
        return torch.from_numpy(self.predict(images).scores)

    def save_encoder(self, path: Path, **told: Any) -> None:
        save_encoder(self.encoder, path, decoder=self.decoder, **told)

    def state(self) -> dict[str, Tensor]:
        state = {PREFIX + name: value for name, value in self.scorer.detector.state().items()}
        return state | {"calibration": torch.as_tensor(self.calibration.scores)}

    @classmethod
    def rebuild(
        cls, folder: Path, encoder: Encoder, config: dict[str, Any], state: dict[str, Tensor], trust: Sequence[str]
    ) -> Self:
        detector = make_estimator(config["detector"], detectors, detectors.Detector)
        detector.load_state(own_state(state))
        decoder: nn.Module | None = None
        if detector.reads == "images":
            autoencoder = load_autoencoder(folder / "encoder", trust=trust)
            encoder, decoder = autoencoder.encoder, autoencoder.decoder
        scorer = Scorer(encoder, detector, config["stages"], decoder, config["grid"])
        return cls(scorer, ConformalCalibration(state["calibration"].numpy()), config)

    def card(self, name: str) -> str:
        detector = self.config["detector"]["name"]
        if self.config["threshold_by"] == "f1":
            chosen = "the threshold has the best F1 on labelled validation images"
        else:
            rate = self.config["false_alarm_rate"]
            chosen = (
                f"calibrated on {len(self.calibration.scores)} held-out normal images for a false-alarm rate of {rate}"
            )
        flagged = (
            f"an anomaly score above {self.threshold:.6g} is called an anomaly"
            if self.config["threshold"] is not None
            else "these are too few for that rate, so that no image is called an anomaly"
        )
        return (
            f"# Anomaly detector\n\n{detector} on an encoder, tuning {self.config['tuning']}; {chosen}; {flagged}.\n\n"
            "```python\nfrom ssl_transfer import load_model\n\n"
            f'model = load_model("{name}")\nfound = model.predict(["image.png"])\n'
            "print(found.scores, found.p_values, found.anomalous)\n```\n\n"
            f"{table_of(self.config['metrics'])}"
        )


def full_size(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Maps `(B, h, w)` brought to the images' size, bilinearly: `(B, H, W)`."""
    return F.interpolate(maps[:, None].float(), tuple(size), mode="bilinear", align_corners=False)[:, 0]
