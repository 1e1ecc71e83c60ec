"""Features that nobody trains: how strong the edges of each direction are, cell by cell.

After Dalal and Triggs, Histograms of oriented gradients for human detection, 2005 (https://doi.org/10.1109/CVPR.2005.177).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_transfer.encoders.network import Built, Network, Shape
from ssl_transfer.encoders.spec import EncoderSpec

CONTRAST = 3.0  # added to a cell's strength before it is divided by that: weak edges stay weak
ROOT = 0.4  # power that strengths are raised to, so that strong edges do not decide alone


@dataclass(frozen=True)
class Cells:
    """A grid of cells and the directions that are told apart in it.

    Args:
        stride: from one cell to the next, in pixels; a cell reaches over twice as many.
        directions: how many; `signed`: whether dark to bright differs from bright to dark.
        sharpness: power of the cosine by which an edge counts for a direction.
        weight: length of the block among the features.
    """

    stride: int
    directions: int
    signed: bool
    sharpness: int
    weight: float


class OrientedGradients(Network):
    """Strengths of edges by direction in fine cells and in coarse ones, without a weight to learn.

    A strong floor for images that show one thing each, and for one-class detection on small grey images hard to beat.
    Maps `(B, 6, h, w)` are those of the fine cells; features are the maps of all cells, each block of unit length.

    Args:
        fine, coarse: sizes of the cells in pixels; by default a fourteenth and a quarter of the side.

    >>> network = OrientedGradients(2, 7)
    >>> network.features(torch.rand(2, 1, 28, 28)).shape, network.maps(torch.rand(2, 1, 28, 28)).shape
    (torch.Size([2, 1302]), torch.Size([2, 6, 14, 14]))
    """

    own_features = True

    def __init__(self, fine: int, coarse: int) -> None:
        super().__init__()
        self.fine = Cells(fine, 6, signed=False, sharpness=6, weight=1.0)
        self.coarse = Cells(coarse, 6, signed=False, sharpness=6, weight=1.0)
        self.signed = Cells(coarse, 8, signed=True, sharpness=4, weight=1.5)
        self.whole = nn.Identity()  # the one stage

    def maps(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, 6, h, w)
        """Strengths in the fine cells."""
        found: Tensor = self.whole(strengths(*gradients(x), self.fine))
        return found

    def features(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, D)
        """Strengths in all cells."""
        edges = gradients(x)
        blocks = (self.fine, self.coarse, self.signed)
        return torch.cat([cells.weight * F.normalize(strengths(*edges, cells).flatten(1)) for cells in blocks], dim=1)

    def stages(self) -> list[tuple[str, nn.Module]]:
        """One, without parameters."""
        return [("whole", self.whole)]


def gradients(x: Tensor) -> tuple[Tensor, Tensor]:
    """Strength and angle of the gradient at each pixel, `(B, 1, H, W)` each: of the channel where it is strongest.

    >>> ramp = torch.arange(4.0).expand(1, 1, 4, 4)
    >>> [float(part[0, 0, 1, 1]) for part in gradients(ramp)]
    [1.0, 0.0]
    """
    padded = F.pad(x.float(), (1, 1, 1, 1), mode="replicate")
    across = (padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]) / 2
    down = (padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]) / 2
    strength, strongest = (across.square() + down.square()).sqrt().max(1, keepdim=True)
    return strength, torch.atan2(down.gather(1, strongest), across.gather(1, strongest))


def strengths(strength: Tensor, angle: Tensor, cells: Cells) -> Tensor:  # -> (B, directions, h, w)
    """Summed strength of the edges of each direction in each cell, evened out."""
    turn = 2 * math.pi if cells.signed else math.pi
    centres = torch.arange(cells.directions, device=angle.device).view(-1, 1, 1) * (turn / cells.directions)
    cosine = torch.cos(angle - centres)
    towards = cosine.clamp(min=0) if cells.signed else cosine.abs()
    margin = cells.stride // 2
    edges = F.pad(towards**cells.sharpness * strength, (margin,) * 4)
    summed = F.avg_pool2d(edges, 2 * cells.stride, cells.stride, divisor_override=1)
    return (summed / (summed.norm(dim=1, keepdim=True) + CONTRAST)) ** ROOT


def build(spec: EncoderSpec, shape: Shape) -> Built:
    """Build `OrientedGradients` for images of `shape`, whose pixels it reads in [0, 1]."""
    arguments: dict[str, Any] = dict(spec.arguments)
    unknown = set(arguments) - {"fine", "coarse"}
    if unknown:
        raise ValueError(f"oriented_gradients has no argument {sorted(unknown)[0]!r}: it takes fine and coarse")
    side = min(shape[1:])
    resolved = {"fine": max(1, round(side / 14)), "coarse": max(1, round(side / 4))} | arguments
    if min(resolved.values()) < 1 or 2 * max(resolved.values()) > side + 2 * (max(resolved.values()) // 2):
        raise ValueError(f"oriented_gradients: cells must be of 1 to {side} pixels, not {resolved}")
    if spec.weights:
        raise ValueError(f"encoder.weights {spec.weights!r}: oriented_gradients has no weights, leave it out")
    network = OrientedGradients(**resolved)
    return Built(network, replace(spec, arguments=resolved), ([0.0] * shape[0], [1.0] * shape[0]))
