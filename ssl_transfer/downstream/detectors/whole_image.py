"""Images as wholes: their maps in a few cells, whitened, and the distance to the nearest of the normal images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_transfer.downstream.detectors.whitening import whitening

SIDE = 4  # cells a side
SAMPLE = 1000  # images whose principal axes are found
SHRINKAGE = 0.1
FOLDS = 5


def image_vector(maps: Tensor) -> Tensor:
    """A map `(D, h, w)` averaged over 4 × 4 cells, or fewer if it has fewer, as a vector `(1, V)`."""
    cells = (min(SIDE, maps.shape[1]), min(SIDE, maps.shape[2]))
    return F.adaptive_avg_pool2d(maps[None], cells).flatten(1)


def vector_width(depth: int, height: int, width: int) -> int:
    """V, the width of `image_vector`."""
    return depth * min(SIDE, height) * min(SIDE, width)


def remember(vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Centre `(V,)`, axes `(V, K)` and whitened vectors `(N, K)` of the vectors `(N, V)` of N images, 2 or more."""
    drawn = torch.linspace(0, len(vectors) - 1, min(len(vectors), SAMPLE)).round().long()
    centre, axes = whitening(vectors[drawn.to(vectors.device)], SHRINKAGE)
    return centre, axes, torch.cat([(vector - centre) @ axes for vector in vectors.split(1)])


def distance(vector: Tensor, memory: Tensor) -> Tensor:
    """Distance `()` of a whitened vector `(1, K)` from the nearest of `(N, K)`."""
    return (memory - vector).square().sum(1).min().sqrt()


def distances_from_others(vectors: Tensor, images: Sequence[int]) -> Tensor:
    """Distances of some of N images, 3 or more, each from the nearest of four fifths that leave it out.

    Whitening moves the images that it is found with apart, so that a memory does for no image that is in it.
    """
    number = torch.arange(len(vectors), device=vectors.device)
    found: dict[int, Tensor] = {}
    for fold in range(FOLDS):
        asked = [image for image in images if image % FOLDS == fold]
        if asked:
            centre, axes, memory = remember(vectors[number % FOLDS != fold])
            found |= {image: distance((vectors[image][None] - centre) @ axes, memory) for image in asked}
    return torch.stack([found[image] for image in images])
