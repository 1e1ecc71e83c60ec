"""The encoder: normalisation, a network without its head, and the reading of its maps as features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ssl_transfer.encoders.network import Network, Shape, device_of, quiet
from ssl_transfer.encoders.spec import EncoderSpec


class Encoder(nn.Module):
    """From images to features `(B, feature_dim)`, and to maps `(B, map_dim, h, w)` where the network has them.

    Images are `(B, C, H, W)`: uint8, or float in [0, 1]. Normalisation is inside.
    Features are the maps averaged over a `pool x pool` grid and flattened, or a linear map of the flattened maps to
    `bottleneck` values. Networks with a class token give that instead while `pool` is 1 and there is no bottleneck;
    `pools_maps` says which, and only where it is true does `forward` equal `features_from_maps(maps(images))`.

    Args:
        spec: what builds the network again.
        network: the network without its head.
        shape: `(C, H, W)` of the images.
        mean, std: per channel, of values in [0, 1].
        own_classes: names of the classes whose logits the features are; None without `spec.own_head` or if unknown.

    Attributes:
        feature_dim: width of the features.
        map_dim, map_size: channels and `(h, w)` of the maps of images of `shape`; None without maps.

    >>> from ssl_transfer.encoders import build_encoder
    >>> encoder = build_encoder("small_resnet", (1, 28, 28), [0.5], [0.5])
    >>> encoder(torch.zeros(2, 1, 28, 28, dtype=torch.uint8)).shape
    torch.Size([2, 128])
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        spec: EncoderSpec,
        network: Network,
        shape: Shape,
        mean: Sequence[float],
        std: Sequence[float],
        own_classes: list[str] | None = None,
    ) -> None:
        super().__init__()
        channels = shape[0]
        if len(mean) != channels or len(std) != channels:
            raise ValueError(
                f"mean and std need one value a channel: images have {channels}, mean {len(mean)} and std {len(std)}"
            )
        if min(std) <= 0:
            raise ValueError(f"std must be positive in every channel, not {list(std)}")
        self.spec = spec
        self.shape = shape
        self.own_classes = own_classes
        self.network = network.to(memory_format=network.memory_format)
        device = device_of(network)
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32, device=device))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32, device=device))
        self.pools_maps = network.has_maps and (
            not network.own_features or spec.pool > 1 or spec.bottleneck is not None
        )
        self.map_dim: int | None = None
        self.map_size: tuple[int, int] | None = None
        self.bottleneck: nn.Linear | None = None
        self.feature_dim = self._measure()

    def _measure(self) -> int:
        """Set `map_dim`, `map_size` and the bottleneck from a dry run, and return the feature width."""
        images = torch.zeros(2, *self.shape, dtype=torch.uint8, device=self.mean.device)
        if not self.network.has_maps and (self.spec.pool > 1 or self.spec.bottleneck is not None):
            raise ValueError(f"encoder {self.spec.name} has no maps: leave encoder.pool at 1 and drop the bottleneck")
        with quiet(self.network):
            try:
                if self.network.has_maps:
                    maps = self.maps(images)
                    self.map_dim, self.map_size = maps.shape[1], (maps.shape[2], maps.shape[3])
                features = None if self.pools_maps else self.network.features(self.normalise(images))
            except (RuntimeError, AssertionError, ValueError, TypeError) as error:
                raise ValueError(_failed(self.spec.name, self.shape, error)) from error
        if features is not None:
            return int(features.shape[1])
        assert self.map_dim is not None and self.map_size is not None
        if self.spec.bottleneck is not None:
            if self.bottleneck is None:
                flat = self.map_dim * self.map_size[0] * self.map_size[1]
                self.bottleneck = nn.Linear(flat, self.spec.bottleneck, device=self.mean.device)
            return self.spec.bottleneck
        if self.spec.pool > min(self.map_size):
            raise ValueError(
                f"encoder.pool must not exceed the maps: {self.spec.name} gives {_by(self.map_size)} maps of "
                f"{_by(self.shape[1:])} images, not the {self.spec.pool}x{self.spec.pool} asked for"
            )
        return self.map_dim * self.spec.pool**2

    def resize(self, shape: Shape) -> Encoder:
        """Declare another image size of the same channels; the weights stay. ValueError if the network cannot."""
        if shape[0] != self.shape[0]:
            raise ValueError(f"encoder {self.spec.name} reads {self.shape[0]} channels, the images have {shape[0]}")
        if shape == self.shape:
            return self
        if self.bottleneck is not None:
            raise ValueError(
                f"an encoder with a bottleneck reads one image size: this one {_by(self.shape[1:])}, "
                f"the images are {_by(shape[1:])}; set data.size to suit"
            )
        before = self.shape
        self.shape = shape
        try:
            self.feature_dim = self._measure()
        except ValueError:
            self.shape = before
            raise
        return self

    def normalise(self, images: Tensor) -> Tensor:
        """Uint8, or float in [0, 1], to zero mean and unit deviation a channel; channels_last if the network can."""
        if images.ndim != 4 or images.shape[1] != self.shape[0]:
            raise ValueError(
                f"images must be (B, {self.shape[0]}, H, W) for this encoder, not {tuple(images.shape)}"
                + (": add a batch dimension with images[None]" if images.ndim == 3 else "")
            )
        if images.dtype != torch.uint8 and not images.is_floating_point():
            raise ValueError(f"images must be uint8, or float in [0, 1], not {images.dtype}: convert them first")
        scale = 255.0 if images.dtype == torch.uint8 else 1.0
        gain = (1 / (scale * self.std)).view(-1, 1, 1)
        shift = (-self.mean / self.std).view(-1, 1, 1)
        layout = self.network.memory_format
        x = images.to(self.mean.dtype, memory_format=layout)
        return torch.addcmul(shift, x, gain).contiguous(memory_format=layout)

    def maps(self, images: Tensor) -> Tensor:  # (B, C, H, W) -> (B, map_dim, h, w)
        """Feature maps. ValueError if the network has none."""
        if not self.network.has_maps:
            raise ValueError(f"encoder {self.spec.name} gives features only, no maps: choose another, such as resnet18")
        return self.network.maps(self.normalise(images))

    def features_from_maps(self, maps: Tensor) -> Tensor:  # (B, map_dim, h, w) -> (B, D)
        """Pooled and flattened maps, or their bottleneck."""
        if self.bottleneck is not None:
            if maps[0].numel() != self.bottleneck.in_features:
                raise ValueError(
                    f"the bottleneck reads maps of {_by(self.map_size or ())} from {_by(self.shape[1:])} images, "
                    f"not of {_by(maps.shape[2:])}: resize the images"
                )
            features: Tensor = self.bottleneck(maps.flatten(1))
            return features
        return pool_maps(maps, self.spec.pool)

    def forward(self, images: Tensor) -> Tensor:  # (B, C, H, W) -> (B, feature_dim)
        """Features."""
        if self.pools_maps:
            return self.features_from_maps(self.maps(images))
        return self.network.features(self.normalise(images))

    def stages(self) -> list[tuple[str, nn.Module]]:
        """Named parts, first to last; together they hold every parameter once."""
        last = [] if self.bottleneck is None else [("bottleneck", self.bottleneck)]
        return [*self.network.stages(), *last]


def pool_maps(maps: Tensor, pool: int) -> Tensor:
    """Average maps over a `pool x pool` grid and flatten: `(B, D, h, w)` to `(B, D * pool**2)`, channels outermost.

    >>> pool_maps(torch.arange(4.0).view(1, 1, 2, 2), 1)
    tensor([[1.5000]])
    """
    if pool == 1:
        return maps.mean((2, 3))
    height, width = maps.shape[2:]
    weights = torch.kron(_cells(height, pool), _cells(width, pool)).to(maps)  # (pool², h·w)
    pixels = maps.permute(0, 2, 3, 1).reshape(len(maps), height * width, -1)  # (B, h·w, D), a view of channels_last
    return (weights @ pixels).transpose(1, 2).flatten(1)  # (B, D·pool²)


def _cells(size: int, pool: int) -> Tensor:
    """Averaging weights `(pool, size)` of `adaptive_avg_pool2d` along one axis.

    As a product with a small matrix, pooling is several times faster backward, and deterministic on every device.
    """
    weights = torch.zeros(pool, size)
    for cell in range(pool):
        start, end = cell * size // pool, -(-(cell + 1) * size // pool)
        weights[cell, start:end] = 1 / (end - start)
    return weights


def _by(size: Sequence[int]) -> str:
    return "x".join(str(side) for side in size)


def _failed(name: str, shape: Shape, error: Exception) -> str:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return f"encoder {name} cannot process images of shape {shape}: {reason}; try another size or network"
