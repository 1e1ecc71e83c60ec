"""Reductions that are learned together with the encoder, by gradient."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from sklearn.base import clone
from torch import Tensor, nn

from ssl_transfer.data.batch import Batch
from ssl_transfer.data.randomness import KeyedRandom
from ssl_transfer.downstream.reductions import BottleneckAutoencoder, ParametricMap, Reduction
from ssl_transfer.downstream.reductions.learned import LearnedReduction
from ssl_transfer.downstream.reductions.parametric_loss import neighbour_graph, neighbour_loss
from ssl_transfer.encoders import Encoder
from ssl_transfer.encoders.decoders import Decoder
from ssl_transfer.evaluation.features import encode, pixel_features
from ssl_transfer.pretraining.base import run_seed

NeighboursOf = Literal["features", "pixels"]


class TunedReduction(nn.Module):
    """A method's network as a head on an encoder that learns with it.

    Args:
        method: builds the head, and is fitted by it in the end.
        encoder: whose features the head takes.
    """

    def __init__(self, method: LearnedReduction, encoder: Encoder) -> None:
        super().__init__()
        self.method = method
        self.head = method.build(encoder.feature_dim)

    def prepare(self, encoder: Encoder, data: Any, neighbours_of: NeighboursOf, device: torch.device) -> Tensor:
        """Before the first epoch: read what the loss needs of the training split; returns its features `(N, D)`."""
        features = encode(encoder, data.loader("train", everywhere=True), device).features
        self.head.measure(features)
        return features

    def prepared(self) -> dict[str, Tensor]:
        """What `prepare` found, beside weights and buffers, for the checkpoint."""
        return {}

    def take(self, prepared: dict[str, Tensor], device: torch.device) -> None:
        """Take what another's `prepared` gave."""

    def loss(self, encoder: Encoder, batch: Batch, data: Any, epoch: int) -> Tensor:
        """The loss of a batch."""
        raise NotImplementedError

    def fitted(self) -> Reduction:
        """The method, fitted: its network is the head."""
        return self.method.adopt(self.head)

    def code(self, encoder: Encoder, images: Tensor) -> Tensor:
        """Coordinates `(B, n_components)` of images, the head's part in float32."""
        features = encoder(images)
        with torch.autocast(images.device.type, enabled=False):
            return self.head(features.float())


class TunedMap(TunedReduction):
    """`ParametricMap` on a learning encoder: an image and a neighbour of it come together."""

    def prepare(self, encoder: Encoder, data: Any, neighbours_of: NeighboursOf, device: torch.device) -> Tensor:
        """Find the neighbours of every training image, by the features as they are now or by the pixels."""
        features = super().prepare(encoder, data, neighbours_of, device)
        assert isinstance(self.method, ParametricMap)
        self.rows = torch.from_numpy(data.indices("train")).to(device)
        by_pixels = neighbours_of == "pixels"
        vectors = pixel_features(data, data.indices("train")).to(device) if by_pixels else features
        self.graph = neighbour_graph(vectors, self.method.n_neighbors, self.method.metric)
        return features

    def prepared(self) -> dict[str, Tensor]:
        return {"rows": self.rows.cpu(), "graph": self.graph.int().cpu()}

    def take(self, prepared: dict[str, Tensor], device: torch.device) -> None:
        self.rows, self.graph = prepared["rows"].to(device), prepared["graph"].long().to(device)

    def loss(self, encoder: Encoder, batch: Batch, data: Any, epoch: int) -> Tensor:
        self.take({"rows": self.rows, "graph": self.graph}, batch.index.device)  # a checkpoint comes on the CPU
        places = torch.searchsorted(self.rows, batch.index)
        choices = self.graph[places]  # (B, k)
        column = KeyedRandom(batch.index, run_seed(), epoch).uniform().mul(choices.shape[1]).long()
        partners = self.rows[choices.gather(1, column[:, None])[:, 0]]
        images = torch.from_numpy(data.images(partners.cpu().numpy())).to(batch.images.device)
        a, b = self.code(encoder, torch.cat([batch.images, images])).chunk(2)
        with torch.autocast(images.device.type, enabled=False):
            return neighbour_loss(a, b)

    def fitted(self) -> Reduction:
        method = clone(self.method).set_params(landmarks=0)  # the head is a network of layers
        return method.adopt(self.head)


class TunedAutoencoder(TunedReduction):
    """`BottleneckAutoencoder` on a learning encoder: images are restored from their few coordinates."""

    def __init__(self, method: LearnedReduction, encoder: Encoder) -> None:
        super().__init__(method, encoder)
        if encoder.map_dim is None or encoder.map_size is None:
            raise ValueError(
                f"a BottleneckAutoencoder that tunes its encoder mirrors the encoder's maps, and {encoder.spec.name} "
                "has none: take tuning Frozen, or a network with maps such as small_resnet"
            )
        self.decoder = Decoder(encoder.map_dim, encoder.map_size, encoder.shape, from_features=method.n_components)

    def loss(self, encoder: Encoder, batch: Batch, data: Any, epoch: int) -> Tensor:
        restored = self.decoder(self.code(encoder, batch.images))
        return F.mse_loss(restored.float(), encoder.normalise(batch.images))


UNUSED = ("epochs", "batch_size", "learning_rate", "landmarks", "noise", "masking", "whitening")


def check_used(method: Reduction) -> None:
    """Raise ValueError for an argument that means nothing while the encoder learns with the method."""
    given, usual = method.get_params(), type(method)().get_params()
    for name in UNUSED:
        if name in given and given[name] != usual[name]:
            raise ValueError(
                f"model.method.{name} is for tuning Frozen: with a learning encoder leave it out, and use "
                "trainer.max_epochs, data.batch_size and model.optimisation"
            )


TUNED: dict[type[Reduction], type[TunedReduction]] = {
    ParametricMap: TunedMap,
    BottleneckAutoencoder: TunedAutoencoder,
}
