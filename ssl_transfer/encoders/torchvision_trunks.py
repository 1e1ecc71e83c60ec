"""Torchvision networks without their heads: where each family's maps come from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torchvision
from torch import Tensor, nn

from ssl_transfer.encoders.network import Network, group_stages


@dataclass(frozen=True)
class Family:
    """Networks of one make.

    Args:
        prefixes: of their names.
        trunk: modules that give the maps, run in order; `name.*` stands for the children of `name`.
        shrinks: whether small images get a small stem; `pool` is the max-pool that goes then.
    """

    prefixes: tuple[str, ...]
    trunk: tuple[str, ...]
    shrinks: bool = True
    pool: str | None = None


_RESNET = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
FAMILIES = (
    Family(("resnet", "resnext", "wide_resnet"), _RESNET, pool="maxpool"),
    Family(("densenet",), ("features.*",), pool="features.pool0"),
    Family(("shufflenet",), ("conv1", "maxpool", "stage2", "stage3", "stage4", "conv5"), pool="maxpool"),
    Family(("efficientnet", "mobilenet", "squeezenet"), ("features.*",)),
    Family(("mnasnet",), ("layers.*",)),
    Family(("regnet",), ("stem", "trunk_output.*")),
    Family(("convnext",), ("features.*", "classifier.0")),
    Family(("swin",), ("features.*", "norm", "permute")),
    Family(("vgg", "alexnet"), ("features.*",), shrinks=False),
    Family(("maxvit",), ("stem", "blocks.*"), shrinks=False),
)


class Trunk(Network):
    """A network whose modules, run in order, give the maps."""

    def __init__(self, network: nn.Module, trunk: tuple[str, ...]) -> None:
        super().__init__()
        if isinstance(network, torchvision.models.DenseNet):
            network.features.add_module("relu5", nn.ReLU(inplace=True))
        self.paths: list[str] = []
        for path in trunk:
            parent = path.removesuffix(".*")
            inside = [f"{parent}.{name}" for name, _ in network.get_submodule(parent).named_children()]
            self.paths += inside if path.endswith(".*") else [path]
        if "classifier.0" in trunk:
            network.classifier = nn.Sequential(network.get_submodule("classifier.0"))
        kept = {path.split(".")[0] for path in self.paths}
        for name, _ in list(network.named_children()):
            if name not in kept:
                setattr(network, name, nn.Identity())
        self.network = network

    def maps(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, D, h, w)
        """Output of the last convolutional stage."""
        for path in self.paths:
            x = self.network.get_submodule(path)(x)
        return x

    def stages(self) -> list[tuple[str, nn.Module]]:
        """The stem and each block, by their torchvision names."""
        return group_stages((path, self.network.get_submodule(path)) for path in self.paths)


class VisionTransformer(Network):
    """A torchvision ViT: features are the class token, maps the patch tokens."""

    own_features = True

    def __init__(self, network: torchvision.models.VisionTransformer) -> None:
        super().__init__()
        network.heads = nn.Sequential()
        self.network = network

    def tokens(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, 1 + h*w, D)
        """The class token, then the patch tokens row by row."""
        patches = self.network._process_input(x)
        token = self.network.class_token.expand(x.shape[0], -1, -1).to(patches.dtype)
        tokens: Tensor = self.network.encoder(torch.cat([token, patches], dim=1))
        return tokens

    def features(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, D)
        """The class token."""
        return self.tokens(x)[:, 0]

    def maps(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, D, h, w)
        """The patch tokens on their grid."""
        tokens = self.tokens(x)[:, 1:]
        grid = (x.shape[2] // self.network.patch_size, x.shape[3] // self.network.patch_size)
        return tokens.transpose(1, 2).unflatten(2, grid)

    def stages(self) -> list[tuple[str, nn.Module]]:
        """The patch embedding and each transformer block."""
        blocks = self.network.encoder
        units = [("conv_proj", self.network.conv_proj), *blocks.layers.named_children(), ("ln", blocks.ln)]
        return group_stages(units, [self.network.class_token, blocks.pos_embedding])


class FeaturesOnly(Network):
    """A network that branches, run whole with its last layer taken out: no maps."""

    has_maps = False
    own_features = True

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        network.fc = nn.Identity()
        self.network = network

    def features(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, D)
        """Input of the layer taken out."""
        features: Tensor = self.network(x)
        return features

    def stages(self) -> list[tuple[str, nn.Module]]:
        """The children of the network."""
        return group_stages(self.network.named_children())


def wrap(name: str, network: nn.Module) -> Network:
    """Take the head off a torchvision network."""
    if isinstance(network, torchvision.models.VisionTransformer):
        return VisionTransformer(network)
    family = family_of(name)
    return FeaturesOnly(network) if family is None else Trunk(network, family.trunk)


def family_of(name: str) -> Family | None:
    """The family of a network, None for those of no family (ViT, GoogLeNet, Inception)."""
    return next((family for family in FAMILIES if name.startswith(family.prefixes)), None)
