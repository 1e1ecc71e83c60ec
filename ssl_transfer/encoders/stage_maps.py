"""Feature maps from the stages inside an encoder."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_transfer.encoders.encoder import Encoder
from ssl_transfer.encoders.network import quiet


def stage_maps(encoder: Encoder, images: Tensor, names: Sequence[str]) -> list[Tensor]:
    """Maps `(B, D, h, w)` that the named stages of `encoder.stages()` give of images `(B, C, H, W)`, in that order.

    Works for every network whose stages give maps. Raises ValueError naming the known stages for any other name.

    >>> from ssl_transfer.encoders import build_encoder
    >>> encoder = build_encoder("small_resnet", (1, 28, 28), [0.5], [0.5])
    >>> maps = stage_maps(encoder, torch.zeros(2, 1, 28, 28), ["stem", "stage2"])
    >>> [tuple(m.shape) for m in maps]
    [(2, 32, 14, 14), (2, 128, 7, 7)]
    """
    outputs = _run(encoder, images, names)
    for name in names:
        if name not in outputs:
            known = ", ".join(stage_shapes(encoder))
            raise ValueError(f"stage {name!r} of encoder {encoder.spec.name} gives no maps; those that do are {known}")
    return [outputs[name] for name in names]


def stage_shapes(encoder: Encoder) -> dict[str, tuple[int, int, int]]:
    """`(D, h, w)` of the maps of each stage that gives some, first to last."""
    with quiet(encoder):
        images = torch.zeros(2, *encoder.shape, dtype=torch.uint8, device=encoder.mean.device)
        names = [name for name, _ in encoder.stages()]
        outputs = _run(encoder, images, names)
    turns = {name: turn for turn, name in enumerate(outputs)}
    shapes: dict[str, tuple[int, int, int]] = {}
    for name in filter(outputs.__contains__, names):
        if all(turns[name] > turns[earlier] for earlier in shapes):  # else its last module serves elsewhere too
            shapes[name] = (outputs[name].shape[1], outputs[name].shape[2], outputs[name].shape[3])
    if not shapes:
        raise ValueError(f"encoder {encoder.spec.name} has no stage that gives maps: choose a convolutional network")
    return shapes


def default_stages(encoder: Encoder) -> list[str]:
    """The stages that suit patches: the last of each of the two grids next to 1/8 and 1/16 of the image's side.

    >>> from ssl_transfer.encoders import build_encoder
    >>> default_stages(build_encoder("resnet18", (3, 224, 224), [0.5] * 3, [0.5] * 3))
    ['layer2', 'layer3']
    >>> default_stages(build_encoder("small_resnet", (1, 28, 28), [0.5], [0.5]))
    ['stage1', 'stage2']
    """
    last: dict[int, str] = {}  # by the height of the grid
    for name, (_, height, _) in stage_shapes(encoder).items():
        last[height] = name
    wanted = sorted(last, key=lambda height: abs(math.log2(encoder.shape[1] / height) - 3.5))[:2]
    return [name for height, name in last.items() if height in wanted]


def one_grid(maps: Sequence[Tensor]) -> Tensor:
    """Maps of several stages, brought to the grid of the finest and stacked: `(B, D₁ + D₂ + …, h, w)`.

    >>> one_grid([torch.zeros(1, 2, 4, 4), torch.ones(1, 3, 2, 2)]).shape
    torch.Size([1, 5, 4, 4])
    """
    size = max((m.shape[2:] for m in maps), key=lambda shape: shape[0] * shape[1])
    resized = [m if m.shape[2:] == size else F.interpolate(m, tuple(size), mode="bilinear") for m in maps]
    return torch.cat(resized, dim=1)


class _Enough(Exception):
    """All the maps that were asked for are there: the rest of the network need not run."""


def _run(encoder: Encoder, images: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
    outputs: dict[str, Tensor] = {}

    def keeper(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.ndim == 4:
                outputs[name] = output.clone()  # what follows may change it in place
                if len(outputs) == len(set(names)):
                    raise _Enough

        return keep

    stages = [(name, stage) for name, stage in encoder.stages() if name in names]
    ends = [(name, list(s)[-1] if isinstance(s, nn.ModuleList) else s) for name, s in stages]  # lists are not called
    hooks = [part.register_forward_hook(keeper(name)) for name, part in ends]
    try:
        if encoder.network.has_maps:
            encoder.network.maps(encoder.normalise(images))
        else:
            encoder(images)
    except _Enough:
        pass
    finally:
        for hook in hooks:
            hook.remove()
    return outputs
