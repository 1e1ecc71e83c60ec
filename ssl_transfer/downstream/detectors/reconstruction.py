"""How badly an autoencoder restores an image, beside how badly it restores normal ones."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from ssl_transfer.downstream.detectors.base import Detector, Scores, scores_of
from ssl_transfer.downstream.detectors.smoothing import smooth


class ReconstructionError(Detector):
    """Errors of each pixel, in deviations from their mean over the normal images.

    It reads errors `(N, h, w)`, 0 or more, of images that an autoencoder restored. Where normal images are hard to
    restore, an error says little: each pixel is standardised by its mean and deviation over the normal images. Fitted
    images are scored leave-one-out.

    Args:
        smoothing: standard deviation of the Gaussian over the anomaly map, in pixels; 0 for none.
        top: share of an image's pixels, the worst, whose mean is its score.
        standardise: `False` leaves the errors as they are.
        floor: smallest deviation of a pixel, as a share of the root mean square of all.
        false_alarm_rate: share of normal images that `predict` may call anomalies.

    Example:
        >>> errors = torch.rand(50, 6, 6, generator=torch.Generator().manual_seed(0))
        >>> detector = ReconstructionError(top=0.1).fit(errors)
        >>> broken = errors[:1].clone()
        >>> broken[0, 2:4, 2:4] += 3
        >>> detector.predict(broken)
        array([-1])
    """

    reads: ClassVar[Literal["features", "maps", "images"]] = "images"

    def __init__(
        self,
        smoothing: float = 1.0,
        top: float = 1.0,
        standardise: bool = True,
        floor: float = 0.1,
        false_alarm_rate: float = 0.05,
    ) -> None:
        self.smoothing = smoothing
        self.top = top
        self.standardise = standardise
        self.floor = floor
        self.false_alarm_rate = false_alarm_rate

    def fit(self, X: Tensor, y: object = None) -> Self:  # type: ignore[override]
        """Learn mean and deviation of each pixel from errors `(N, h, w)` of N ≥ 3 normal images.

        Raises:
            ValueError: an argument outside its range, too few images, errors all alike, negative or NaN.
        """
        self.check_rate()
        for name, holds, rule in (
            ("smoothing", self.smoothing >= 0, "0 or more pixels"),
            ("top", 0 < self.top <= 1, "a share above 0 and at most 1"),
            ("floor", 0 < self.floor <= 1, "a share above 0 and at most 1"),
        ):
            if not holds:
                raise ValueError(f"{name} must be {rule}, not {getattr(self, name)}")
        errors = self._read(X)
        n = len(errors)
        self.check_count(n, 3)
        self.check_varied(errors.flatten(1))
        self.mean_ = errors.mean(0)
        variance = errors.var(0, correction=0)
        self.floor_ = self.floor * float(variance.mean()) ** 0.5
        self.deviation_ = variance.sqrt().clamp(min=self.floor_)
        self.set_offset(scores_of(self._score(torch.cat([self._left_out(e, variance, n) for e in errors.split(32)]))))
        return self

    def score_samples(self, X: Tensor) -> Scores:  # type: ignore[override]
        """Minus the mean anomaly of the worst pixels, float64 `(N,)`, of errors `(N, h, w)`."""
        return scores_of(self.score_maps(X)[0])

    def anomaly_maps(self, errors: Tensor) -> Tensor:
        """The anomaly of each pixel, `(N, h, w)` float32, smoothed; high is abnormal."""
        return self.score_maps(errors)[1]

    @torch.no_grad()
    def score_maps(self, errors: Tensor) -> tuple[Tensor, Tensor]:
        """Anomaly scores `(N,)` and anomaly maps `(N, h, w)` of errors `(N, h, w)`; high is abnormal."""
        check_is_fitted(self)
        errors = self._read(errors).to(self.mean_.device)
        if errors.shape[1:] != self.mean_.shape:
            raise ValueError(
                f"ReconstructionError was fitted on errors of {tuple(self.mean_.shape)} pixels and reads no "
                f"{tuple(errors.shape[1:])}; bring the images to one size"
            )
        maps = (errors - self.mean_) / self.deviation_ if self.standardise else errors
        maps = smooth(maps, self.smoothing)
        return self._score(maps), maps

    def _left_out(self, errors: Tensor, variance: Tensor, n: int) -> Tensor:
        """Anomaly maps of fitted images, each by mean and deviation of the n − 1 others."""
        if not self.standardise:
            return smooth(errors, self.smoothing)
        off = errors - self.mean_
        others = ((n * variance - n / (n - 1) * off.square()) / (n - 1)).clamp(min=0).sqrt()
        return smooth(n / (n - 1) * off / others.clamp(min=self.floor_), self.smoothing)

    def _score(self, maps: Tensor) -> Tensor:
        """Mean of the worst pixels, `(N,)`: each image by itself, so that batches do not matter."""
        count = max(1, round(self.top * maps[0].numel())) if len(maps) else 1
        worst = [m.flatten() if self.top == 1 else m.flatten().topk(count).values for m in maps]
        return torch.stack([w.mean() for w in worst]) if worst else maps.new_zeros(0)

    def _read(self, errors: Tensor) -> Tensor:
        if errors.ndim != 3:
            raise ValueError(f"ReconstructionError reads errors of shape (N, h, w), not {tuple(errors.shape)}")
        errors = errors.detach().float()
        self.check_finite(errors, "reconstruction errors")
        if bool((errors < 0).any()):
            raise ValueError("reconstruction errors are 0 or more: give squared or absolute differences")
        return errors
