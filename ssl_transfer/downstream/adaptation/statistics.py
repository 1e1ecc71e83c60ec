"""BatchNorm's statistics, measured on the images of one domain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ssl_transfer.encoders.network import device_of

IMAGES = 4_096  # that statistics are measured on
BATCH = 512


@torch.no_grad()
def measure(encoder: nn.Module, norms: Sequence[_BatchNorm], data: Any, rows: np.ndarray) -> None:
    """Set the statistics of `norms` to those of some images, at most 4,096 of the `rows` of a DataModule's store.

    The weights stay as they are; all other layers work as in evaluation.
    """
    modes = [(module, module.training) for module in encoder.modules()]
    momenta = [norm.momentum for norm in norms]
    encoder.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean of all batches
        norm.train()
    for part in _batches(rows):
        encoder(torch.from_numpy(data.images(part)).to(device_of(encoder)))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    for module, training in modes:
        module.training = training


@contextmanager
def restored(norms: Sequence[_BatchNorm]) -> Iterator[None]:
    """Whatever is measured within, `norms` have their statistics of before afterwards."""
    before = [{name: buffer.clone() for name, buffer in norm.named_buffers()} for norm in norms]
    try:
        yield
    finally:
        for norm, buffers in zip(norms, before, strict=True):
            norm.load_state_dict(buffers, strict=False)


def moving_norms(encoder: nn.Module) -> list[_BatchNorm]:
    """The BatchNorm layers that are in training mode, whose statistics are the data's."""
    layers = (module for module in encoder.modules() if isinstance(module, _BatchNorm))
    return [layer for layer in layers if layer.training and layer.running_mean is not None]


def _batches(rows: np.ndarray) -> list[np.ndarray]:
    """Batches of about equal size, each of images from everywhere: a folder's come class by class."""
    order = np.random.default_rng(0).permutation(len(rows))[:IMAGES]
    return np.array_split(rows[order], max(1, round(len(order) / BATCH)))
