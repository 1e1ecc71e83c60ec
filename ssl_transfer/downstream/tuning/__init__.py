"""Tuning strategies: how much of a pretrained encoder is kept, one type each."""

from ssl_transfer.downstream.tuning.base import BatchNorm, Tuning
from ssl_transfer.downstream.tuning.frozen import AsIs, Frozen
from ssl_transfer.downstream.tuning.full import Full, LinearThenFull, Scratch
from ssl_transfer.downstream.tuning.lora import LoRA
from ssl_transfer.downstream.tuning.partial import Gradual, Partial, Surgical

__all__ = [
    "AsIs",
    "BatchNorm",
    "Frozen",
    "Full",
    "Gradual",
    "LinearThenFull",
    "LoRA",
    "Partial",
    "Scratch",
    "Surgical",
    "Tuning",
]
