"""Feature maps from the stages inside an encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_transfer.encoders.encoder import Encoder
from ssl_transfer.encoders.network import quiet

Grid = Literal["coarsest", "finest"]
LEAST_CELLS = 7  # a side: coarser maps say too little of where


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
    """The stages that suit patches: the last of each of the two coarsest grids with 7 cells a side or more.

    Deep maps tell most of a patch, but a large network's last stage says more of what it was trained for than of what
    is seen: it is left out where two grids of an eighth of the image's side or less remain without it.

    >>> from ssl_transfer.encoders import build_encoder
    >>> default_stages(build_encoder("resnet18", (3, 224, 224), [0.5] * 3, [0.5] * 3))
    ['layer2', 'layer3']
    >>> default_stages(build_encoder("small_resnet", (1, 28, 28), [0.5], [0.5]))
    ['stage1', 'stage2']
    """
    shapes = list(stage_shapes(encoder).items())
    without_last = _by_grid(shapes[:-1])
    deep = [cells for cells in without_last if LEAST_CELLS <= cells <= -(-min(encoder.shape[1:]) // 8)]
    last = without_last if len(deep) >= 2 else _by_grid(shapes)
    coarsest = sorted(last, key=lambda cells: (cells < LEAST_CELLS, abs(cells - LEAST_CELLS)))[:2]
    return [name for cells, name in last.items() if cells in coarsest]


def _by_grid(shapes: Sequence[tuple[str, tuple[int, int, int]]]) -> dict[int, str]:
    """The last stage of each grid, by the cells of its shorter side."""
    return {min(height, width): name for name, (_, height, width) in shapes}


def one_grid(maps: Sequence[Tensor], grid: Grid = "coarsest") -> Tensor:
    """Maps of several stages, brought to one grid and stacked: `(B, D₁ + D₂ + …, h, w)`.

    On the `coarsest` the cells of finer maps are averaged, on the `finest` coarser maps are interpolated.

    >>> one_grid([torch.zeros(1, 2, 4, 4), torch.ones(1, 3, 2, 2)]).shape
    torch.Size([1, 5, 2, 2])
    """
    size = _joined(maps, grid)
    return torch.cat([_resized(m, size) for m in maps], dim=1)


def joined_shape(shapes: Sequence[tuple[int, int, int]], grid: Grid = "coarsest") -> tuple[int, int, int]:
    """The shape `(D, h, w)` of maps of some shapes `(D, h, w)` by `one_grid`.

    >>> joined_shape([(2, 4, 4), (3, 2, 2)])
    (5, 2, 2)
    """
    size = _joined([torch.empty(1, *shape, device="meta") for shape in shapes], grid)
    return (sum(shape[0] for shape in shapes), *size)


def _joined(maps: Sequence[Tensor], grid: Grid) -> tuple[int, int]:
    choose = min if grid == "coarsest" else max
    chosen = choose(maps, key=lambda m: m.shape[2] * m.shape[3])
    return (chosen.shape[2], chosen.shape[3])


def _resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    if maps.shape[2:] == size:
        return maps
    if maps.shape[2] >= size[0] and maps.shape[3] >= size[1]:
        return F.adaptive_avg_pool2d(maps, size)
    return F.interpolate(maps, size, mode="bilinear")


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
