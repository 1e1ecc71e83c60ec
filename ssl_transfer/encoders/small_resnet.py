"""A small residual network for images of 8 to 96 pixels.

He et al., Deep residual learning for image recognition, 2016; the shortcut with average pooling is that of
He et al., Bag of tricks for image classification, 2019.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ssl_transfer.encoders.network import Built, Network, Shape, group_stages
from ssl_transfer.encoders.spec import EncoderSpec


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch normalisation and a shortcut around them."""

    def __init__(self, in_width: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_width, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential()
        if stride > 1:
            self.shortcut.append(nn.AvgPool2d(stride, ceil_mode=True))
        if stride > 1 or in_width != width:
            self.shortcut.extend([nn.Conv2d(in_width, width, 1, bias=False), nn.BatchNorm2d(width)])

    def forward(self, x: Tensor) -> Tensor:  # (B, D, h, w) -> (B, D', h', w')
        """Maps of the block."""
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x), inplace=True)


class SmallResNet(Network):
    """A 3x3 stem and then, for each further width, `blocks` basic residual blocks.

    Args:
        in_channels: channels of the images.
        widths: channels of the stem and of each stage behind it.
        strides: of the stem and of the first block of each stage.
        blocks: residual blocks a stage.

    >>> import torch
    >>> SmallResNet(1).maps(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 128, 7, 7])
    """

    def __init__(
        self,
        in_channels: int,
        widths: Sequence[int] = (32, 64, 128),
        strides: Sequence[int] = (2, 1, 2),
        blocks: int = 1,
    ) -> None:
        super().__init__()
        if len(widths) != len(strides) or not widths or min(*widths, *strides, blocks) < 1:
            raise ValueError(
                "small_resnet needs as many strides as widths, all positive, and at least one block: "
                f"widths={list(widths)}, strides={list(strides)}, blocks={blocks}"
            )
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, widths[0], 3, strides[0], 1, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(inplace=True),
        )
        self.body = nn.Sequential()
        for number, (before, width, stride) in enumerate(zip(widths, widths[1:], strides[1:], strict=False), 1):
            stage = [BasicBlock(before if i == 0 else width, width, stride if i == 0 else 1) for i in range(blocks)]
            self.body.add_module(f"stage{number}", nn.Sequential(*stage))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def maps(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, widths[-1], h, w)
        """Feature maps, not negative."""
        maps: Tensor = self.body(self.stem(x))
        return maps

    def forward(self, x: Tensor) -> Tensor:
        """The maps."""
        return self.maps(x)

    def stages(self) -> list[tuple[str, nn.Module]]:
        """The stem and each stage."""
        return group_stages([("stem", self.stem), *self.body.named_children()])


def choose_layout(side: int, stages: int | None = None) -> tuple[int, ...]:
    """Strides that leave maps of about 4 to 8 pixels a side: images are halved until 8 or fewer remain, at least once.

    The last stage halves first, then the stem, then those between. Three stages serve up to 64 pixels, and each
    doubling beyond adds one, unless the number of `stages` is given.

    >>> [choose_layout(side) for side in (8, 28, 64, 96)]
    [(1, 1, 2), (2, 1, 2), (2, 2, 2), (2, 2, 2, 2)]
    """
    halvings = max(1, math.ceil(math.log2(side / 8)))
    count = stages or max(3, halvings)
    order = [count - 1, 0, *range(1, count - 1)] if count > 1 else [0]
    halved = order[:halvings]
    return tuple(2 if stage in halved else 1 for stage in range(count))


def build(spec: EncoderSpec, shape: Shape) -> Built:
    """Build a `SmallResNet` for images of `shape`; the layout chosen is written into the spec's arguments.

    Widths that are not given start at 32 and double, up to 512.
    """
    arguments: dict[str, Any] = dict(spec.arguments)
    unknown = set(arguments) - {"widths", "strides", "blocks"}
    if unknown:
        raise ValueError(f"small_resnet has no argument {sorted(unknown)[0]!r}: it takes widths, strides and blocks")
    widths, strides = arguments.get("widths"), arguments.get("strides")
    given = widths if widths is not None else strides
    if strides is None:
        strides = choose_layout(min(shape[1:]), len(given) if given is not None else None)
    if widths is None:
        widths = [min(512, 32 * 2**stage) for stage in range(len(strides))]
    resolved = {"widths": list(widths), "strides": list(strides), "blocks": arguments.get("blocks", 1)}
    network = SmallResNet(shape[0], **resolved)
    return Built(network, replace(spec, arguments=resolved))
