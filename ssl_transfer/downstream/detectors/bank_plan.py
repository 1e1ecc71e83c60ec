"""What a memory bank will hold and need, reckoned before it is built."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from ssl_transfer.downstream.detectors.forecast import (
    GIB,
    MemoryForecast,
    duration,
    free_bytes,
    largest_share,
    matmul_rate,
    size,
)
from ssl_transfer.downstream.detectors.patches import candidates
from ssl_transfer.downstream.detectors.whole_image import SAMPLE, vector_width

BATCH = 32  # images pooled at once where all maps are given at once
WHOLE = 150  # fitted images that are scored without themselves


@dataclass(frozen=True)
class BankPlan:
    """A memory bank of `count` images with maps `(depth, height, width)`; the rest as in `PatchMemoryBank`.

    Args:
        per_centre: candidates for each patch of the bank.
        bytes_each: of a number in memory.
        whole_image: whether images are remembered as wholes too.
    """

    count: int
    depth: int
    height: int
    width: int
    coreset: float
    n_neighbors: int
    projection_dim: int
    per_centre: int
    bytes_each: int
    whole_image: bool

    @property
    def patches(self) -> int:
        """Patches an image."""
        return self.height * self.width

    @property
    def drawn(self) -> int:
        """Candidates of all images."""
        return self.count * candidates(candidate_share(self.coreset, self.per_centre), self.patches)

    @property
    def held(self) -> int:
        """Patches in the bank: never fewer than the neighbours that are asked for."""
        if self.drawn <= self.n_neighbors:
            raise ValueError(
                f"n_neighbors={self.n_neighbors} needs more patches than the {self.drawn} of {self.count} images: "
                f"give more images, or set n_neighbors lower"
            )
        wanted = max(self.n_neighbors + 1, round(self.coreset * self.count * self.patches))
        return min(self.drawn, wanted)

    @property
    def bytes(self) -> int:
        """Peak memory: candidates with their projection, the bank, whole images, and blocks in passing."""
        each = (self.depth + 2) * self.bytes_each
        projection = self.drawn * (4 * min(self.depth, self.projection_dim) + 24)
        whole = min(WHOLE, self.count) * self.patches * self.depth * 4
        batch = 3 * BATCH * self.patches * self.depth * 4 + 5 * 8 * self.depth**2
        bank = self.coreset * self.count * self.patches * each
        return int(self.drawn * each + projection + bank + whole + batch) + self._vectors()

    def _vectors(self) -> int:
        """Memory of the images as wholes, with their principal axes."""
        if not self.whole_image:
            return 0
        width, sample = vector_width(self.depth, self.height, self.width), min(SAMPLE, self.count)
        return 4 * self.count * (2 * width + sample) + 8 * 4 * sample * (width + sample)

    def forecast(self, device: torch.device) -> MemoryForecast:
        """Peak memory and time, on this machine."""
        project = self.drawn * self.depth * (self.projection_dim if self.depth > self.projection_dim else 0)
        whiten = self.drawn * self.depth**2 * 2
        select = self.drawn * self.held * min(self.depth, self.projection_dim) * 1.5
        score = min(WHOLE, self.count) * self.patches * self.held * self.depth * 1.5
        seconds = 2 * (project + whiten + select + score) / matmul_rate(device)
        text = (
            f"memory bank: {self.held:,} of {self.count * self.patches:,} patches, chosen among {self.drawn:,}; at "
            f"most {size(self.bytes)} of memory, and about {duration(seconds)}"
        )
        return MemoryForecast(self.bytes, seconds, text)

    def check_memory(self, device: torch.device, memory: float | None) -> None:
        """Raise ValueError, with a coreset that fits, for a need above `memory` GiB, or what is free."""
        allowed, which = (free_bytes(device), "free") if memory is None else (memory * GIB, "allowed")
        if self.bytes <= allowed:
            return
        smaller = largest_share(lambda share: replace(self, coreset=share).bytes <= allowed, self.coreset)
        cure = f"set coreset to {smaller:g}" if smaller else "give fewer images or coarser maps"
        raise ValueError(
            f"a memory bank with coreset={self.coreset:g} of {self.count:,} images with {self.height}×{self.width} "
            f"patches of {self.depth} values needs {size(self.bytes)}, and {size(allowed)} is {which}; {cure}"
        )


def candidate_share(coreset: float, per_centre: int) -> float:
    """Share of an image's patches that are candidates for the bank."""
    return min(1.0, per_centre * coreset)
