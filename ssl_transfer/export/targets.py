"""The export targets by name."""

from __future__ import annotations

from difflib import get_close_matches

from ssl_transfer.export.base import Target
from ssl_transfer.export.huggingface import HuggingFace
from ssl_transfer.export.lightly_train import LightlyTrain
from ssl_transfer.export.onnx import Onnx
from ssl_transfer.export.segmentation import Segmentation
from ssl_transfer.export.timm import Timm
from ssl_transfer.export.torch_export import TorchExport
from ssl_transfer.export.torch_source import TorchSource
from ssl_transfer.export.torchvision import Torchvision

_ALL: tuple[type[Target], ...] = (
    Torchvision,
    Timm,
    HuggingFace,
    LightlyTrain,
    Segmentation,
    Onnx,
    TorchExport,
    TorchSource,
)
TARGETS: dict[str, type[Target]] = {target.name: target for target in _ALL}


def target_named(name: str) -> type[Target]:
    """The class of a target. ValueError naming the known ones for any other name."""
    if name not in TARGETS:
        known = [*TARGETS, "encoder"]
        close = get_close_matches(name.lower(), known, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise ValueError(f"--to {name!r} is unknown: {hint}known are {', '.join(known)}")
    return TARGETS[name]
