"""What `Encoder` asks of a network: maps or features of normalised images, and its stages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ssl_transfer.encoders.spec import EncoderSpec

Shape = tuple[int, int, int]  # (C, H, W)


class Network(nn.Module):
    """A network without its head.

    `has_maps`: it gives maps. `own_features`: it gives features that are not pooled maps, such as a class token.
    A network has at least one of the two. `memory_format`: the layout of images and weights that it takes.
    """

    has_maps: bool = True
    own_features: bool = False
    memory_format: torch.memory_format = torch.channels_last

    def maps(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, D, h, w)
        """Feature maps of normalised images."""
        raise NotImplementedError

    def features(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, D)
        """Features of normalised images, of a network with features of its own."""
        raise NotImplementedError

    def stages(self) -> list[tuple[str, nn.Module]]:
        """Named parts, first to last; together they hold every parameter once."""
        raise NotImplementedError


class NoPool(nn.Identity):
    """Stands where a max-pool was taken out: the block before it ends there all the same."""


@dataclass
class Built:
    """A network with the spec that builds it again.

    Args:
        normalisation: mean and deviation that its pretrained weights expect.
        own_classes: names of the classes that its own head tells apart, where they are known.
    """

    network: Network
    spec: EncoderSpec
    normalisation: tuple[list[float], list[float]] | None = None
    own_classes: list[str] | None = None


@contextmanager
def quiet(module: nn.Module) -> Iterator[None]:
    """Run `module` in eval mode, without gradients, autocast, or a trace in its state and the random state."""
    flags = [(part, part.training) for part in module.modules()]
    device = device_of(module)
    cuda = [device] if device.type == "cuda" else []
    module.eval()
    try:
        with torch.random.fork_rng(devices=cuda), torch.no_grad(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        for part, training in flags:
            part.training = training


def device_of(module: nn.Module) -> torch.device:
    """Where the module's parameters lie."""
    return next((parameter.device for parameter in module.parameters()), torch.device("cpu"))


def group_stages(
    units: Iterable[tuple[str, nn.Module]], loose: Iterable[nn.Parameter] = ()
) -> list[tuple[str, nn.Module]]:
    """Group the modules that a network runs in order into stages.

    A container starts a stage; single layers join the stage before them, or make one up to the next max-pool.
    A stage is named after its first module. Parameters held by no module (`loose`) join the first stage.

    >>> parts = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Sequential(nn.Conv2d(8, 8, 3)))
    >>> [name for name, stage in group_stages(parts.named_children())]
    ['0', '3']
    """
    groups: list[tuple[str, list[nn.Module]]] = []
    closed = True
    for name, module in units:
        single = not any(True for _ in module.children())
        has_parameters = any(True for _ in module.parameters())
        if groups and (not has_parameters or (single and not closed)):
            groups[-1][1].append(module)
        else:
            groups.append((name, [module]))
            closed = False
        if isinstance(module, nn.MaxPool2d | NoPool):
            closed = True
    alone = list(loose)
    if alone:
        name, modules = groups[0]
        groups[0] = (name, [nn.ParameterList(alone), *modules])
    return [(name, modules[0] if len(modules) == 1 else nn.ModuleList(modules)) for name, modules in groups]
