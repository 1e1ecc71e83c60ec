"""Labels for unlabelled training images, spread from the few that are known."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_transfer.evaluation.features import Features
from ssl_transfer.evaluation.label_propagation import propagate_labels, surest_labels

MOST = 20_000  # unlabelled images that are guessed, spread evenly over all


def guessed_labels(train: Features, targets: Tensor, classes: int) -> Tensor:
    """Rows of the store and their guessed classes, `(N, 2)`; unlabelled images that are not sure are left out.

    Args:
        train: features of the training split.
        targets: `(N,)`, -1 without a label.
        classes: how many.

    Raises:
        ValueError: no image is unlabelled, or none is labelled.
    """
    unlabelled = torch.nonzero(targets < 0)[:, 0]
    if not len(unlabelled):
        raise ValueError(
            "tuning.unlabelled: the training split has no unlabelled image; add some, or keep those that the label "
            "budget leaves out with --data.keep_unlabelled true"
        )
    if len(unlabelled) > MOST:
        unlabelled = unlabelled[torch.linspace(0, len(unlabelled) - 1, MOST).round().long()]
    rows = torch.cat([torch.nonzero(targets >= 0)[:, 0].to(unlabelled), unlabelled])
    known = targets[rows]
    shares, certainty = propagate_labels(train.features[rows], known, classes)
    labels = surest_labels(shares, certainty, known)
    guessed = (known < 0) & (labels >= 0)
    return torch.stack([train.index[rows][guessed], labels[guessed]], dim=1)
