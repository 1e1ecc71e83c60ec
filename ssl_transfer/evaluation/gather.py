"""Features that several processes encoded, brought together."""

from __future__ import annotations

import torch
import torch.distributed
from torchmetrics.utilities.distributed import gather_all_tensors

from ssl_transfer.evaluation.features import Features


def gather_features(own: Features) -> Features:
    """The features of all processes' images, on each of them, ordered by row; in one process `own` itself.

    The processes may have encoded unequally many images, but each at least one. What comes back is as large as
    everything together: N × D floats on every process.
    """
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return own
    features, targets, index = (torch.cat(gather_all_tensors(x)) for x in (own.features, own.targets, own.index))
    order = index.argsort()
    return Features(features[order], targets[order], index[order])
