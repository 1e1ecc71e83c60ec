"""Compactness fine-tuning: the features of normal images draw together, and stop before they collapse."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssl_transfer.data.randomness import KeyedRandom
from ssl_transfer.downstream.scorer import Scorer
from ssl_transfer.downstream.tuning.base import Tuning, of_stages, stage_names
from ssl_transfer.encoders import Encoder
from ssl_transfer.evaluation.detection import image_metrics


class Compact(Tuning):
    """Fine-tuning for anomaly detection: each normal image's features move towards the mean of all.

    The loss is the squared distance to a centre that stays where it was before tuning (Deep SVDD, Ruff et al. 2018,
    https://proceedings.mlr.press/v80/ruff18a.html; PANDA, Reiss et al. 2021, https://arxiv.org/abs/2010.05903), as a
    share of what it was then, so that a learning rate suits features of every width and scale. Left alone it ends in
    features that are equal for every image, anomalies too. So after each epoch held-out normal images are told from
    copies of themselves into which a patch of another image was pasted: the epoch that does so best is kept, and
    `patience` epochs without a better one end the fit.

    Args:
        n_stages: how many of the encoder's last stages learn; `None`: all. BatchNorm statistics stay as they are.
        encoder_lr: the learning rate as a share of the optimisation's.
        patience: epochs without a better one before the fit ends, at least 1.

    Example:
        >>> Compact(n_stages=1).trains_encoder
        True
    """

    def __init__(self, n_stages: int | None = 2, encoder_lr: float = 1.0, patience: int = 3) -> None:
        if n_stages is not None and n_stages < 1:
            raise ValueError(
                f"tuning.n_stages must be at least 1, or null for all, not {n_stages}; for none use Frozen"
            )
        if patience < 1:
            raise ValueError(f"tuning.patience must be at least 1, not {patience}")
        self._set_rates(encoder_lr, batch_norm="frozen")
        self.n_stages = n_stages
        self.patience = patience

    def chosen(self, encoder: Encoder) -> set[str]:
        stages = stage_names(encoder)
        if not stages:
            raise ValueError(f"tuning Compact: encoder {encoder.spec.name} has nothing that learns: use Frozen")
        return of_stages(encoder, stages if self.n_stages is None else stages[-self.n_stages :])

    def set_modes(self, encoder: Encoder, awake: set[str]) -> None:
        encoder.eval()  # nothing is dropped either: a normal image has one place


def distance_to_centre(features: Tensor, centre: Tensor) -> Tensor:
    """The mean squared distance of features `(B, D)` to the centre `(D,)`.

    >>> distance_to_centre(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.zeros(2))
    tensor(12.5000)
    """
    return (features - centre).square().sum(1).mean()


def pasted(images: Tensor, random: KeyedRandom) -> Tensor:
    """Images `(B, C, H, W)` with a patch of another one of them: made-up anomalies (after CutPaste, Li et al. 2021).

    The patch covers between an eighth and a quarter of the image, anywhere, and comes from the same place of the
    image's neighbour in the batch.
    """
    count, _, height, width = images.shape
    area, aspect, top, left = random.uniform(4).to(images.device).unbind(1)  # (B,) each
    side = (0.125 + 0.125 * area).sqrt()
    ratio = torch.exp2(2 * aspect - 1).sqrt()  # between 1:2 and 2:1 in area
    tall, wide = (side * ratio).clamp(max=1), (side / ratio).clamp(max=1)
    low_y, low_x = top * (1 - tall) * height, left * (1 - wide) * width
    rows = torch.arange(height, device=images.device) + 0.5
    columns = torch.arange(width, device=images.device) + 0.5
    inside_y = (rows >= low_y[:, None]) & (rows < (low_y + tall * height)[:, None])  # (B, H)
    inside_x = (columns >= low_x[:, None]) & (columns < (low_x + wide * width)[:, None])  # (B, W)
    patch = (inside_y[:, :, None] & inside_x[:, None, :])[:, None]  # (B, 1, H, W)
    return torch.where(patch, images.roll(1, 0), images) if count > 1 else images


def pasted_auroc(scorer: Scorer, data: Any, rows: np.ndarray, seed: int) -> float:
    """How well `scorer` tells normal images, `rows` of the store, from copies with a pasted patch: AUROC.

    Raises ValueError for fewer than two images: there is nothing to paste from.
    """
    if len(rows) < 2:
        raise ValueError(
            f"tuning Compact chooses its epoch by held-out normal images that do not calibrate, and has {len(rows)} of "
            "them, not two: raise data.val_fraction"
        )
    normal: list[Tensor] = []
    made_up: list[Tensor] = []
    for part in np.array_split(rows, -(-len(rows) // data.batch_size)):
        images, index = torch.from_numpy(data.images(part)), torch.from_numpy(part)
        for found, some in ((normal, images), (made_up, pasted(images, KeyedRandom(index, seed, stream=7)))):
            found.append(scorer(some.to(scorer.encoder.mean.device)).scores)
    scores = torch.cat([*normal, *made_up]).numpy()
    return image_metrics(scores, np.arange(len(scores)) >= len(rows))["auroc"]
