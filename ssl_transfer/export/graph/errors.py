"""Reconstruction errors: from errors `(B, H, W)` to anomaly scores `(B,)` and anomaly maps `(B, H, W)`."""

from __future__ import annotations

from torch import Tensor, nn

from ssl_transfer.downstream.detectors import ReconstructionError
from ssl_transfer.export.graph.maps import Smooth


class ReconstructionErrorPart(nn.Module):
    """What `ReconstructionError.score_maps` gives, of all images at once."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, detector: ReconstructionError) -> None:
        super().__init__()
        self.standardise = detector.standardise
        self.worst = max(1, round(detector.top * detector.mean_.numel())) if detector.top < 1 else None
        self.register_buffer("mean", detector.mean_)
        self.register_buffer("deviation", detector.deviation_)
        self.smooth = Smooth((detector.mean_.shape[0], detector.mean_.shape[1]), detector.smoothing)

    def forward(self, errors: Tensor) -> tuple[Tensor, Tensor]:
        """Anomaly scores and maps."""
        maps = self.smooth((errors - self.mean) / self.deviation if self.standardise else errors)
        flat = maps.flatten(1)
        return (flat if self.worst is None else flat.topk(self.worst, dim=1).values).mean(1), maps
