"""Patches of feature maps: pooled over their neighbours, and drawn from each image."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor


def pooled(maps: Tensor, neighbourhood: int) -> Tensor:
    """Maps `(N, D, h, w)` whose every cell is the mean of the cells about it that lie inside."""
    if neighbourhood == 1:
        return maps.float()
    pad = neighbourhood // 2
    return F.avg_pool2d(maps.float(), neighbourhood, stride=1, padding=pad, count_include_pad=False)


def rows_of(maps: Tensor, position: float = 0.0) -> Tensor:
    """Maps `(N, D, h, w)` as patches `(N, h·w, D)`, contiguous.

    With a weight `position` above 0 each patch ends with its place: that weight times y and x in (0, 1), `(…, D + 2)`.

    >>> rows_of(torch.zeros(1, 1, 1, 2), position=2.0)
    tensor([[[0.0000, 1.0000, 0.5000],
             [0.0000, 1.0000, 1.5000]]])
    """
    rows = maps.flatten(2).transpose(1, 2)
    if not position:
        return rows.contiguous()
    height, width = maps.shape[2:]
    y, x = ((torch.arange(size, device=maps.device) + 0.5) * (position / size) for size in (height, width))
    places = torch.cartesian_prod(y, x).expand(len(rows), -1, -1)  # (N, h·w, 2)
    return torch.cat([rows, places], dim=2)


@dataclass
class Collected:
    """Candidates for a memory bank, and some whole images to find a threshold with, gathered batch by batch.

    Which patches and images are taken depends on the seed and the image's turn, not on the batches.

    Args:
        share: of each image's patches, rounded up.
        whole: images kept whole, drawn evenly from all that come.
        position: weight of the two coordinates that follow a patch's values, 0 for none.
    """

    share: float
    whole: int
    dtype: torch.dtype
    seed: int
    position: float = 0.0
    images: int = 0
    grid: tuple[int, int, int] | None = None
    parts: list[Tensor] = field(default_factory=list)
    kept: list[tuple[int, Tensor]] = field(default_factory=list)

    def add(self, maps: Tensor) -> None:
        """Take from a batch of pooled maps `(N, D, h, w)`."""
        self.grid = (maps.shape[1], maps.shape[2], maps.shape[3])
        for patches in rows_of(maps, self.position):
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.images)
            drawn = torch.randperm(len(patches), generator=generator)[: candidates(self.share, len(patches))]
            self.parts.append(patches[drawn.sort().values.to(patches.device)].to(self.dtype))
            place = int(torch.randint(self.images + 1, (1,), generator=generator))  # reservoir sampling
            if len(self.kept) < self.whole:
                self.kept.append((self.images, patches.clone()))
            elif place < self.whole:
                self.kept[place] = (self.images, patches.clone())
            self.images += 1

    def finish(self) -> tuple[Tensor, Tensor]:
        """The candidates `(C, D)`, or `(C, D + 2)` with their places, and the image of each, int64 `(C,)`.

        What was gathered is let go on the way.
        """
        each = len(self.parts[0])
        first = self.parts[0]
        points = torch.empty(each * self.images, first.shape[1], dtype=self.dtype, device=first.device)
        for start in range(len(points) - each, -1, -each):
            points[start : start + each] = self.parts.pop()
        return points, torch.arange(self.images, device=first.device).repeat_interleave(each)


def candidates(share: float, patches: int) -> int:
    """How many of an image's patches a share is, at least one."""
    return max(1, min(patches, -int(-share * patches // 1)))
