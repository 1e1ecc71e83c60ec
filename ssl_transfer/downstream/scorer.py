"""From images to anomaly scores: what a detector reads of an encoder, and what it says of that."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_transfer.data.batch import Batch
from ssl_transfer.downstream.detectors import Detector
from ssl_transfer.encoders import Encoder
from ssl_transfer.encoders.reconstruction import Reconstructor
from ssl_transfer.encoders.stage_maps import Grid, one_grid, stage_maps


class Scores(NamedTuple):
    """Anomaly scores `(B,)`, higher is more anomalous, and maps of them `(B, h, w)` where the detector has such."""

    scores: Tensor
    maps: Tensor | None


class Scorer:
    """An encoder and a detector on it.

    Args:
        encoder: in evaluation mode when it is read.
        detector: fitted by `fit`, or fitted already.
        stages: whose maps a detector on maps reads.
        decoder: of an autoencoder, for a detector on reconstruction errors.
        grid: to which the stages' maps are brought.
    """

    def __init__(
        self,
        encoder: Encoder,
        detector: Detector,
        stages: Sequence[str] = (),
        decoder: nn.Module | None = None,
        grid: Grid = "coarsest",
    ) -> None:
        self.encoder = encoder
        self.detector = detector
        self.stages = list(stages)
        self.decoder = decoder
        self.grid: Grid = grid

    @torch.inference_mode()
    def read(self, images: Tensor) -> Tensor:
        """What the detector takes of images `(B, C, H, W)`: features `(B, D)`, maps `(B, D, h, w)`, or errors.

        Always float32, so that scores do not depend on where they are computed more than they must.
        """
        with torch.autocast(images.device.type, enabled=False):
            if self.detector.reads == "maps":
                return one_grid(stage_maps(self.encoder, images, self.stages), self.grid)
            if self.detector.reads == "images":
                assert self.decoder is not None
                return reconstruction_errors(Reconstructor(self.encoder, self.decoder), images)
            return self.encoder(images).float()

    def forecast(self, count: int) -> str | None:
        """What fitting on `count` images will cost, in a line; None of a detector that costs little."""
        if self.detector.reads != "maps":
            return None
        shape = self.read(torch.zeros(1, *self.encoder.shape, device=self.encoder.mean.device)).shape[1:]
        forecast: str = self.detector.forecast(count, *shape, device=self.encoder.mean.device).text
        return forecast

    def fit(self, batches: Iterable[Batch], count: int) -> None:
        """Fit the detector on batches of `count` normal images."""
        readings = self._readings(batches)
        with torch.autocast(self.encoder.mean.device.type, enabled=False):
            if self.detector.reads == "maps":
                self.detector.fit_batches(readings, count)
            else:
                self.detector.fit(torch.cat(list(readings)))

    def _readings(self, batches: Iterable[Batch]) -> Iterator[Tensor]:
        self.encoder.eval()
        for batch in batches:
            yield self.read(batch.images.to(self.encoder.mean.device))

    def __call__(self, images: Tensor) -> Scores:
        """Scores of images `(B, C, H, W)`, uint8 or float in [0, 1], on the CPU."""
        if images.device.type in ("cpu", "cuda"):  # others lack float64
            self.detector.to(images.device)
        with torch.autocast(images.device.type, enabled=False):
            readings = self.read(images)
            if self.detector.reads == "features":
                return Scores(-torch.as_tensor(self.detector.score_samples(readings)).cpu().double(), None)
            scores, maps = self.detector.score_maps(readings)
        return Scores(scores.cpu().double(), maps.cpu())


def reconstruction_errors(autoencoder: Reconstructor, images: Tensor) -> Tensor:
    """Squared error of each pixel, averaged over channels, of values in [0, 1]: `(B, H, W)`."""
    target = images.float() / 255 if images.dtype == torch.uint8 else images
    return F.mse_loss(autoencoder.reconstruct(images), target, reduction="none").mean(1)
