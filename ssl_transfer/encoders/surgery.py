"""Changes to a ready network: other input channels, and a stem that suits small images."""

from __future__ import annotations

import torch
from torch import nn


def first_convolution(network: nn.Module) -> nn.Conv2d | None:
    """The convolution that reads the image: the first in the order of definition."""
    return next((module for module in network.modules() if isinstance(module, nn.Conv2d)), None)


def adapt_channels(network: nn.Module, channels: int, pretrained: bool) -> None:
    """Make the first convolution read `channels` channels, in place.

    A pretrained kernel is summed over its channels and spread evenly over the new ones, so that a grey image gives
    what the same image repeated in every channel gave before. A random kernel is drawn anew.
    """
    convolution = first_convolution(network)
    if convolution is None or convolution.in_channels == channels or convolution.groups != 1:
        return
    old = convolution.weight.detach()  # (D, C, k, k)
    convolution.in_channels = channels
    if pretrained:
        kernel = old.sum(1, keepdim=True).expand(-1, channels, -1, -1) / channels
        convolution.weight = nn.Parameter(kernel.clone())
    else:
        convolution.weight = nn.Parameter(torch.empty(old.shape[0], channels, *old.shape[2:]))
        _draw(convolution)


def shrink_stem(network: nn.Module, pool: str | None, pretrained: bool) -> None:
    """Halve the stride of the first convolution and take out the max-pool behind it, in place.

    An odd kernel becomes 3x3, an even one (a patch embedding) half as wide. A pretrained kernel keeps its centre.
    """
    convolution = first_convolution(network)
    assert convolution is not None
    old = convolution.weight.detach()
    side = old.shape[-1]
    small = min(side, 3) if side % 2 else side // 2
    padding = convolution.padding[0]
    assert isinstance(padding, int)
    convolution.stride = tuple(max(1, stride // 2) for stride in convolution.stride)
    convolution.kernel_size = (small, small)
    convolution.padding = (padding and small // 2,) * 2
    if small != side:
        start = (side - small) // 2
        kernel = old[:, :, start : start + small, start : start + small]
        convolution.weight = nn.Parameter(kernel.clone())
        if not pretrained:
            _draw(convolution)
    if pool is not None:
        parent, _, name = pool.rpartition(".")
        setattr(network.get_submodule(parent), name, nn.Identity())


def _draw(convolution: nn.Conv2d) -> None:
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
