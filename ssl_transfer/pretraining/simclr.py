"""SimCLR: two views of an image agree with each other and with no other image."""

from __future__ import annotations

import math

import torch
from lightly.loss import NTXentLoss
from torch import Tensor, nn

from ssl_transfer.data.batch import Batch
from ssl_transfer.data.views import Views
from ssl_transfer.encoders import EncoderSpec
from ssl_transfer.optimisation import Optimisation
from ssl_transfer.pretraining.base import Objective
from ssl_transfer.pretraining.rotation import TURNS, check_square, quarter_turns


class SimCLR(Objective):
    """Contrastive pretraining (Chen et al. 2020, https://arxiv.org/abs/2002.05709).

    The loss is NT-Xent over the global batch: lightly's, which gathers the projections of all processes. Its gradient,
    averaged over the processes, is that of one process with the whole batch.

    Args:
        encoder: see `Objective`; by default the small residual network with features pooled to 3 × 3.
        views: the augmentations; what is not set suits the size and the channels.
        temperature: of the softmax over similarities, above 0.
        hidden_dim, output_dim: widths of the projector, a perceptron that is thrown away after pretraining.
        optimisation: optimiser, learning rate and schedule.
        distribution_augmentation: take the four rotations of an image for four images, which repel each other like any
            others (Sohn et al. 2021, https://arxiv.org/abs/2011.02578, section 3.2). Features then spread less evenly
            over the sphere and leave room for anomalies: better for one-class detection. A step sees 4B images, which
            must be square, and costs four times as much.

    Example:
        >>> SimCLR(temperature=0.5).temperature
        0.5
    """

    compares_views = True

    def __init__(
        self,
        encoder: EncoderSpec | str | nn.Module | None = None,
        views: Views | None = None,
        temperature: float = 0.2,
        hidden_dim: int = 512,
        output_dim: int = 128,
        optimisation: Optimisation | None = None,
        distribution_augmentation: bool = False,
    ) -> None:
        super().__init__(encoder or EncoderSpec(pool=3), optimisation)
        if temperature <= 0:
            raise ValueError(f"model.temperature must be above 0, not {temperature}; 0.1 to 0.5 is usual")
        self.chosen_views = [views]  # as it was given, for config.yaml
        self.views = views or Views()
        self.temperature = temperature
        self.hidden_dim = hidden_dim
        self.output_dim = output_dim
        self.distribution_augmentation = distribution_augmentation

    def build_heads(self) -> None:
        if self.distribution_augmentation:
            check_square(self.encoder.shape, "SimCLR with distribution_augmentation")
        self.projector = nn.Sequential(
            nn.Linear(self.encoder.feature_dim, self.hidden_dim, bias=False),
            nn.BatchNorm1d(self.hidden_dim),
            nn.ReLU(inplace=True),
            nn.Linear(self.hidden_dim, self.output_dim),
        )
        self.criterion = NTXentLoss(temperature=self.temperature, gather_distributed=True)

    def chance_loss(self, batch_size: int) -> float:
        instances = TURNS * batch_size if self.distribution_augmentation else batch_size
        return math.log(2 * instances - 1)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._evaluate_evenly("val", batch, batch_idx)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._evaluate_evenly("test", batch, batch_idx)

    def _evaluate_evenly(self, split: str, batch: Batch, number: int) -> None:
        """Leave out what not every process has of its batch (an image at most): equally many are gathered from each."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        count = len(data.indices(split)) // self.trainer.world_size - number * data.batch_size
        if count > 0:
            self._evaluate(split, Batch(batch.images[:count], batch.targets[:count], batch.index[:count]))

    def loss(self, batch: Batch, epoch: int) -> tuple[Tensor, dict[str, Tensor]]:
        if self.distribution_augmentation:
            batch = turned(batch)  # B is now four times as large
        views = torch.cat(self.two_views(batch, epoch))  # (2B, C, H, W)
        z0, z1 = self.projector(self.encoder(views)).chunk(2)  # (B, output_dim) each
        with torch.autocast(views.device.type, enabled=False):
            return self.criterion(z0.float(), z1.float()), {}


def turned(batch: Batch) -> Batch:
    """The four rotations of a batch's images, `(4B, C, H, H)`, as images of their own: each has an index of its own."""
    turn = torch.arange(TURNS, device=batch.index.device).repeat_interleave(len(batch.index))
    return Batch(quarter_turns(batch.images), batch.targets, TURNS * batch.index.repeat(TURNS) + turn)
