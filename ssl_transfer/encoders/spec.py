"""What an encoder is made of, in plain types."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class EncoderSpec:
    """An encoder by name and arguments: all that is needed to build it again.

    Args:
        name: `small_resnet`, `oriented_gradients` (never trained), a torchvision classification network (`resnet18`,
            `vit_b_16` ...), or the dotted path of a class or callable that returns an `nn.Module`
            (`timm.create_model`).
        arguments: for the builder; plain types only.
        weights: torchvision weights by name (`DEFAULT`, `IMAGENET1K_V1`), a local `.safetensors`, `.pt` or `.pth`
            file, or `package:path/in/package` for a file that an installed package ships.
        pool: features are the maps, average-pooled to `pool x pool` and flattened.
        bottleneck: if set, features are a linear map of the flattened maps to this width, and `pool` stays 1.
        own_head: features are the class logits of the pretrained network's own head. The network stays as it was
            pretrained, without a small stem, with all its pools.

    >>> EncoderSpec("resnet18", pool=2)
    EncoderSpec(name='resnet18', arguments={}, weights=None, pool=2, bottleneck=None, own_head=False)
    """

    name: str = "small_resnet"
    arguments: dict[str, Any] = field(default_factory=dict)
    weights: str | None = None
    pool: int = 1
    bottleneck: int | None = None
    own_head: bool = False

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("encoder.name is empty: give an architecture, such as small_resnet or resnet18")
        if self.pool < 1:
            raise ValueError(f"encoder.pool must be at least 1, not {self.pool}")
        if self.bottleneck is not None and self.bottleneck < 1:
            raise ValueError(f"encoder.bottleneck must be at least 1, not {self.bottleneck}; leave it out for none")
        if self.bottleneck is not None and self.pool != 1:
            raise ValueError(
                f"encoder.bottleneck reads the whole maps, so encoder.pool must stay 1, not {self.pool}: drop one"
            )
        if self.own_head and (self.pool != 1 or self.bottleneck is not None):
            raise ValueError(
                f"encoder.own_head reads class logits, so encoder.pool must stay 1, not {self.pool}, and "
                f"encoder.bottleneck null, not {self.bottleneck}: drop one or the other"
            )
