"""A patch memory bank: from stages' maps `(B, D, h, w)` to anomaly scores `(B,)` and anomaly maps `(B, h, w)`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssl_transfer.downstream.detectors import PatchMemoryBank
from ssl_transfer.downstream.detectors.patch_bank import NEIGHBOURS
from ssl_transfer.downstream.detectors.patches import pooled, rows_of
from ssl_transfer.downstream.detectors.whole_image import SIDE
from ssl_transfer.export.graph.maps import Cells, Smooth
from ssl_transfer.export.graph.nearest import NearestRows


class PatchBankPart(nn.Module):
    """What `PatchMemoryBank.score_maps` gives, of all images at once."""

    centre: Tensor
    axes: Tensor
    places: Tensor
    usual_mean: Tensor
    usual_deviation: Tensor

    def __init__(self, bank: PatchMemoryBank) -> None:
        super().__init__()
        self.depth, self.height, self.width = bank.depth_, bank.height_, bank.width_
        self.k, self.neighbourhood, self.image_score = bank.n_neighbors, bank.neighbourhood, bank.image_score
        rows, self.whitens, self.placed = bank.bank_.float(), bank.whiten is not None, bank.position > 0
        if self.whitens:
            self.register_buffer("centre", bank.centre_)
            self.register_buffer("axes", bank.axes_)
            rows = torch.cat([rows[:, : bank.axes_.shape[1]], rows[:, self.depth :]], dim=1)  # the others are zero
        if self.placed:
            self.register_buffer("places", rows_of(torch.zeros(1, 0, self.height, self.width), bank.position)[0])
        self.nearest = NearestRows(rows, queries=self.height * self.width)
        self.smooth = Smooth((self.height, self.width), bank.smoothing)
        self.register_buffer("usual_mean", bank.usual_mean_)
        self.register_buffer("usual_deviation", bank.usual_deviation_)
        self.whole = WholeImagePart(bank) if bank.whole_image else None

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Anomaly scores and maps."""
        maps = pooled(maps, self.neighbourhood)
        patches = self._patches(maps)  # (B · h · w, D)
        distances, near = self.nearest(patches, self.k)
        anomaly = distances.mean(1).reshape(-1, self.height * self.width)
        each = anomaly.reshape(-1, self.height, self.width)
        smoothed = self.smooth(each)
        judged = smoothed
        if self.image_score == "standardised":
            judged = self.smooth((each - self.usual_mean) / self.usual_deviation)
        scores = judged.flatten(1).amax(1)
        if self.image_score == "reweighted":
            scores = scores * self._weights(anomaly, patches, near)
        return (scores if self.whole is None else self.whole(scores, maps)), smoothed

    def _patches(self, maps: Tensor) -> Tensor:
        """Patches `(B · h · w, D)`, whitened, with their places."""
        rows = maps.flatten(2).transpose(1, 2)  # (B, h · w, D)
        if self.whitens:
            rows = (rows - self.centre) @ self.axes
        if self.placed:
            rows = torch.cat([rows, self.places.expand(rows.shape[0], -1, -1)], dim=2)
        return rows.reshape(-1, rows.shape[2])

    def _weights(self, anomaly: Tensor, patches: Tensor, near: Tensor) -> Tensor:
        """PatchCore's weight of each image's worst patch, `(B,)` (Roth et al. 2022, equation 7)."""
        count = self.nearest.rows.shape[0]
        if count == 1:
            return torch.ones_like(anomaly[:, 0])
        worst = anomaly.argmax(1, keepdim=True)  # (B, 1)
        patch = _picked(patches.reshape(-1, anomaly.shape[1], patches.shape[1]), worst)  # (B, D)
        closest = _picked(near.reshape(-1, anomaly.shape[1], near.shape[1]), worst)[:, :1]  # (B, 1)
        centred = self.nearest.rows
        around = self.nearest(centred[closest[:, 0]] + self.nearest.centre, min(NEIGHBOURS, count))[1]
        patch = patch - self.nearest.centre
        first = (centred[closest[:, 0]] - patch).square().sum(1, keepdim=True).sqrt()
        others = (centred[around] - patch[:, None]).square().sum(2).sqrt()  # (B, 9)
        others = torch.where(around == closest, torch.full_like(others, -1e30), others)  # it is the first already
        return 1 - torch.cat([first, others], dim=1).softmax(1)[:, 0]


class WholeImagePart(nn.Module):
    """Scores of patches joined with the distance of the image as a whole, each in its own deviations."""

    centre: Tensor
    axes: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(self, bank: PatchMemoryBank) -> None:
        super().__init__()
        size = (bank.height_, bank.width_)
        self.weight = bank.whole_image
        self.cells = Cells(size, (min(SIDE, size[0]), min(SIDE, size[1])))
        self.nearest = NearestRows(bank.whole_)
        for name, value in (("centre", bank.whole_centre_), ("axes", bank.whole_axes_)):
            self.register_buffer(name, value)
        self.register_buffer("mean", bank.both_mean_)
        self.register_buffer("deviation", bank.both_deviation_)

    def forward(self, scores: Tensor, maps: Tensor) -> Tensor:
        """Scores `(B,)` of patches' scores `(B,)` and pooled maps `(B, D, h, w)`."""
        vectors = (self.cells(maps).flatten(1) - self.centre) @ self.axes
        whole = self.nearest(vectors, 1)[0][:, 0]
        both = (torch.stack([scores, whole], dim=1) - self.mean) / self.deviation
        return both[:, 0] + self.weight * both[:, 1]


def _picked(rows: Tensor, at: Tensor) -> Tensor:
    """Row `at` `(B, 1)` of each of `rows` `(B, N, D)`: `(B, D)`."""
    return rows.gather(1, at[:, :, None].expand(-1, -1, rows.shape[2]))[:, 0]
