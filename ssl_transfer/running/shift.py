"""Two sets of images compared: how far apart, in what, and which classes are more frequent; no target label is read."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ssl_transfer.data.batch import Batch
from ssl_transfer.encoders import Encoder
from ssl_transfer.evaluation.features import encode
from ssl_transfer.evaluation.image_style import Images, evened_out, style
from ssl_transfer.evaluation.label_shift import ClassShares, class_shares
from ssl_transfer.evaluation.neighbours import nearest
from ssl_transfer.evaluation.pixels import pixel_vectors
from ssl_transfer.evaluation.shift import Shift, Space, discrepancy, distances

BATCH = 256
PAIRS = 8  # images shown with their nearest of the other side
FEW = 4  # labelled images a class below which class shares are left out
LEAST = 40  # images of a side below which nothing is measured


@dataclass(frozen=True)
class Side:
    """Images of one domain, without labels.

    Args:
        name: what the user called it.
        images: uint8 `(N, C, H, W)`, of the same shape on both sides.
        size: (height, width) as they came.
    """

    name: str
    images: Images
    size: tuple[int, int]


@dataclass(frozen=True)
class Comparison:
    """What is asked.

    Args:
        source, target: the two sides.
        encoder: what features are read with, for images of their shape.
        targets: int64 `(N,)` classes of the source's images, −1 none; None to leave class shares out.
        classes: their names.
        seed: of draws and permutations.
        device: where the encoder works.
    """

    source: Side
    target: Side
    encoder: Encoder
    targets: NDArray[np.int64] | None = None
    classes: tuple[str, ...] = ()
    seed: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))


@dataclass(frozen=True)
class Pairs:
    """Images `(PAIRS, C, H, W)` by column: of the source, and nearest to each in the target; and `odd`, target images
    that are farthest from any of the source.
    """

    source: Images
    target: Images
    odd: Images


def compare(
    asked: Comparison, remarks: tuple[str, ...] = (), say: Callable[[str], None] = print
) -> tuple[Shift, Pairs]:
    """Measure the shift from source to target. Raises ValueError where a side has too few images."""
    for name, side in (("source", asked.source), ("target", asked.target)):
        if len(side.images) < LEAST:
            raise ValueError(f"{name} {side.name} has {len(side.images)} images to compare: give {LEAST} or more")
    started = time.monotonic()
    source, target = (_encoded(asked, side.images) for side in (asked.source, asked.target))
    say(f"encoded {len(source):,} source and {len(target):,} target images in {time.monotonic() - started:.1f} s")
    here, there = (_pixels(side.images) for side in (asked.source, asked.target))
    spaces = distances("pixels", here, there, asked.seed), distances("features", source, target, asked.seed)
    shares, left_out = _class_shares(asked, source, target)
    pixels, features = _made_alike(asked, spaces, here, source)
    if shares is not None:
        features = replace(features, matched=_matched(asked, source, target, shares))
    copies = _copies(asked)
    if 0.01 <= copies < 1:
        left_out = (*left_out, f"{100 * copies:.0f} % of the target's images are among the source's, byte for byte")
    styles = tuple(style(side.images, side.size) for side in (asked.source, asked.target))
    shift = Shift((pixels, features), (styles[0], styles[1]), shares, asked.classes, (*remarks, *left_out), copies == 1)
    say(f"measured the shift in {time.monotonic() - started:.1f} s")
    return shift, _pairs(asked, source, target)


def _made_alike(asked: Comparison, spaces: tuple[Space, Space], pixels: Tensor, features: Tensor) -> list[Space]:
    """Both spaces with what is left of the discrepancy when the target, or its inverse, is made to look alike."""
    left: dict[str, tuple[float, float]] = {}
    for name, images in (("evened", asked.target.images), ("inverted", 255 - asked.target.images)):
        alike = evened_out(images, asked.source.images)
        left[name] = (
            discrepancy(pixels, _pixels(alike), asked.seed),
            discrepancy(features, _encoded(asked, alike), asked.seed),
        )
    return [replace(space, evened=left["evened"][n], inverted=left["inverted"][n]) for n, space in enumerate(spaces)]


def _copies(asked: Comparison) -> float:
    """The share of target images that are among the source's."""
    known = {image.tobytes() for image in asked.source.images}
    return sum(image.tobytes() in known for image in asked.target.images) / len(asked.target.images)


def _pixels(images: Images) -> Tensor:
    return pixel_vectors(torch.from_numpy(images))


def _encoded(asked: Comparison, images: Images) -> Tensor:
    """Features of unit length `(N, D)`, on the CPU."""

    def batches() -> Iterator[Batch]:
        for start in range(0, len(images), BATCH):
            part = torch.from_numpy(images[start : start + BATCH])
            rows = torch.arange(start, start + len(part))
            yield Batch(part, torch.full_like(rows, -1), rows)

    return F.normalize(encode(asked.encoder.to(asked.device), batches(), asked.device).features.cpu(), dim=1)


def _class_shares(asked: Comparison, source: Tensor, target: Tensor) -> tuple[ClassShares | None, tuple[str, ...]]:
    """Class shares, or why they are left out."""
    if asked.targets is None:
        return None, ()
    known = asked.targets >= 0
    targets = torch.from_numpy(asked.targets[known])
    counts = torch.bincount(targets, minlength=len(asked.classes))
    if len(asked.classes) < 2 or counts.min() < FEW:
        why = f"a class of the source has fewer than {FEW} labelled images here"
        return None, (f"class frequencies are left out, as {why if len(asked.classes) > 1 else 'there is one class'}",)
    passed = int((~known).sum())
    told = (f"{passed:,} source images have no label and do not count for class frequencies",) if passed else ()
    rows = torch.from_numpy(np.flatnonzero(known))
    return class_shares((source[rows], targets), target, len(asked.classes), seed=asked.seed), told


def _matched(asked: Comparison, source: Tensor, target: Tensor, shares: ClassShares) -> float:
    """The discrepancy of the target from source images whose classes are as frequent; NaN where too few are left."""
    assert asked.targets is not None
    generator = np.random.default_rng(asked.seed)
    rows = [generator.permutation(np.flatnonzero(asked.targets == k)) for k in range(len(shares.target))]
    scale = min(len(own) / share for own, share in zip(rows, shares.target, strict=True) if share > 0)
    drawn = np.concatenate([own[: int(scale * share)] for own, share in zip(rows, shares.target, strict=True)])
    return discrepancy(source[torch.from_numpy(drawn)], target, asked.seed) if len(drawn) >= LEAST else math.nan


def _pairs(asked: Comparison, source: Tensor, target: Tensor) -> Pairs:
    rows = np.linspace(0, len(source) - 1, PAIRS).round().astype(np.int64)
    found = nearest(target, 1, source[torch.from_numpy(rows)])[1][:, 0].numpy()
    farthest = nearest(source, 1, target)[0][:, 0].topk(PAIRS).indices.numpy()
    there = asked.target.images
    return Pairs(asked.source.images[rows], there[found], there[farthest])
