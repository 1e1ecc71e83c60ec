"""Rotation prediction: by how many quarter turns was the image rotated?"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_transfer.data.batch import Batch
from ssl_transfer.data.views import Views
from ssl_transfer.encoders import EncoderSpec
from ssl_transfer.encoders.network import Shape
from ssl_transfer.optimisation import Optimisation
from ssl_transfer.pretraining.base import Objective

TURNS = 4


class RotationPrediction(Objective):
    """Tell the four rotations of an image apart (Gidaris et al. 2018, https://arxiv.org/abs/1803.07728).

    To know which way is up, the encoder must learn what normal images look like. That makes it good for one-class
    detection (Golan and El-Yaniv 2018, https://arxiv.org/abs/1805.10917; Sohn et al. 2021,
    https://arxiv.org/abs/2011.02578). Images must be square, and their upright must show: there is nothing to learn
    from round things.

    Args:
        encoder: see `Objective`; by default the small residual network with features pooled to 3 × 3.
        views: the augmentations before the turns; by default crops and colour, and no flip. They must not turn
            images over themselves.
        hidden_dim: width of the perceptron that names the rotation; `None` for a linear layer. It is thrown away
            after pretraining.
        optimisation: optimiser, learning rate and schedule.

    Example:
        >>> RotationPrediction(hidden_dim=None).views.horizontal_flip
        0.0
    """

    def __init__(
        self,
        encoder: EncoderSpec | str | nn.Module | None = None,
        views: Views | None = None,
        hidden_dim: int | None = 512,
        optimisation: Optimisation | None = None,
    ) -> None:
        super().__init__(encoder or EncoderSpec(pool=3), optimisation)
        self.chosen_views = [views]  # as it was given, for config.yaml
        self.views = views or Views(crop_scale=(0.5, 1.0), horizontal_flip=0.0)
        if self.views.vertical_flip > 0:
            raise ValueError(
                f"model.views.vertical_flip must be 0, not {self.views.vertical_flip}: it turns images upside down, "
                "and by how much they were turned is the question"
            )
        if self.views.rotate >= 45:
            raise ValueError(
                f"model.views.rotate must be below 45 degrees, not {self.views.rotate}: beyond, nobody can tell which "
                "quarter turn an image was given"
            )
        if hidden_dim is not None and hidden_dim < 1:
            raise ValueError(f"model.hidden_dim must be at least 1, or null for a linear layer, not {hidden_dim}")
        self.hidden_dim = hidden_dim

    def build_heads(self) -> None:
        check_square(self.encoder.shape, type(self).__name__)
        width = self.encoder.feature_dim
        if self.hidden_dim is None:
            self.head = nn.Sequential(nn.Linear(width, TURNS))
            return
        self.head = nn.Sequential(
            nn.Linear(width, self.hidden_dim, bias=False),
            nn.BatchNorm1d(self.hidden_dim),
            nn.ReLU(inplace=True),
            nn.Linear(self.hidden_dim, TURNS),
        )

    def chance_loss(self, batch_size: int) -> float:
        return math.log(TURNS)

    def loss(self, batch: Batch, epoch: int) -> tuple[Tensor, dict[str, Tensor]]:
        views = self.views(batch.images, self.random(batch, epoch, stream=1))  # (B, C, H, W)
        logits = self.head(self.encoder(quarter_turns(views))).float()  # (4B, 4)
        turns = torch.arange(TURNS, device=logits.device).repeat_interleave(len(views))  # (4B,)
        return F.cross_entropy(logits, turns), {"accuracy": (logits.argmax(1) == turns).float().mean()}


def quarter_turns(images: Tensor) -> Tensor:
    """Square images `(B, C, H, H)` turned counter-clockwise by 0, 1, 2 and 3 quarters, one after the other.

    Returns `(4B, C, H, H)`; image `b` turned `k` times is row `k · B + b`.

    >>> quarter_turns(torch.tensor([[[[1, 2], [3, 4]]]]))[:, 0].tolist()
    [[[1, 2], [3, 4]], [[2, 4], [1, 3]], [[4, 3], [2, 1]], [[3, 1], [4, 2]]]
    """
    return torch.cat([images.rot90(turn, (2, 3)) for turn in range(TURNS)])


def check_square(shape: Shape, what: str) -> None:
    """ValueError if images of `shape` (C, H, W) change theirs when `what` turns them."""
    height, width = shape[1:]
    if height != width:
        raise ValueError(
            f"{what} turns images by quarters, so they must be square, not {height}x{width}: "
            f"make them so with data.size, say {min(height, width)}, and data.resize"
        )
