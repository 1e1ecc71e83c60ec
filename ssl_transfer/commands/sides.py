"""Two sources of images brought to one shape, for verbs that compare them; mistakes name the side."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from ssl_transfer.commands.sources import images_for
from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.encoders import Encoder

SIZED = 50  # images whose size as they came is looked up


def for_encoder(
    network: Encoder, trained_on: dict[str, Any], sides: list[dict[str, Any]]
) -> tuple[ImageDataModule, ImageDataModule]:
    """Both sides, prepared as the encoder's images were."""
    first, second = (
        _ready(name, images_for, network=network, trained_on=trained_on, batch_size=256, **side)
        for name, side in zip(("source", "target"), sides, strict=True)
    )
    network.resize(first.shape)
    if second.shape != first.shape:
        raise ValueError(f"target images are {second.shape} and source images {first.shape}: give one --size")
    return first, second


def of_one_shape(sides: list[dict[str, Any]]) -> tuple[ImageDataModule, ImageDataModule]:
    """Both sides in the source's size, in three channels where one of them is in colour."""
    names, given = ("source", "target"), [{**side, "resize": side["resize"] or "crop"} for side in sides]
    first, second = (_ready(name, ImageDataModule, **side) for name, side in zip(names, given, strict=True))
    if first.shape == second.shape:
        return first, second
    channels = {first.shape[0], second.shape[0]}
    if len(channels) > 1 and channels != {1, 3}:
        raise ValueError(
            f"source {first.source} has {first.shape[0]} channels and target {second.source} {second.shape[0]}: "
            "only grey and colour can be compared"
        )
    height, width = first.shape[1:]
    if second.shape[1:] != first.shape[1:] and height != width:
        raise ValueError(
            f"source images are {width}×{height} and target images {second.shape[2]}×{second.shape[1]}: give one "
            "--size for both"
        )
    common = {"channels": max(channels)}
    if second.shape[1:] != first.shape[1:]:
        common["size"] = height
    shape = (max(channels), height, width)
    ready = [
        data if data.shape == shape else _ready(name, ImageDataModule, **{**side, **common})
        for name, side, data in zip(names, given, (first, second), strict=True)
    ]
    return ready[0], ready[1]


def _ready(name: str, make: Callable[..., ImageDataModule], **arguments: Any) -> ImageDataModule:
    """A DataModule, set up; its mistakes named by this verb's options."""
    try:
        data = make(**arguments)
        data.setup()
    except ValueError as error:
        raise ValueError(_own_words(str(error), name)) from error
    return data


def _own_words(message: str, side: str) -> str:
    """A DataModule's message with this verb's names of options.

    >>> _own_words("data.size is needed: give one, e.g. --data.size 96", "target")
    'target: --size is needed: give one, e.g. --size 96'
    """
    own = {"source": side}
    if side == "target":
        own |= {"root": "--target_root", "pattern": "--target_pattern"}
    options = "source|root|size|channels|resize|pattern|on_bad_image"
    told = re.sub(rf"(?<![\w/.-])(?:--)?data\.({options})\b", lambda m: own.get(m[1], f"--{m[1]}"), message)
    return told if told.startswith(side) else f"{side}: {told}"


def draw(data: ImageDataModule, name: str, count: int, seed: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Rows drawn by seed, ascending, of all images but a test split's, and what there is to say of it."""
    own = np.union1d(data.indices("train"), data.indices("val"))
    told = () if len(own) else (f"the {name} has none but test images, so these were looked at",)
    rows = own if len(own) else data.indices("all")
    return np.sort(np.random.default_rng(seed).permutation(rows)[:count]), told


def conversion(first: ImageDataModule, second: ImageDataModule) -> tuple[str, ...]:
    """The rule by which the sides got one shape, where something had to be done."""
    channels, height, width = first.shape
    own = [data.original(int(data.indices("all")[0])).shape for data in (first, second)]
    if all(shape == (height, width, channels) for shape in own):
        return ()
    kind = {1: "grey", 3: "colour, grey repeated"}.get(channels, f"{channels} channels")
    return (f"both were compared as {width}×{height} images ({kind}; {first.resize})",)


def size_as_it_came(data: ImageDataModule, rows: np.ndarray) -> tuple[int, int]:
    """Median height and width."""
    looked = rows[np.linspace(0, len(rows) - 1, min(SIZED, len(rows))).astype(np.int64)]
    height, width = np.median([data.original(int(row)).shape[:2] for row in looked], axis=0)
    return int(height), int(width)
