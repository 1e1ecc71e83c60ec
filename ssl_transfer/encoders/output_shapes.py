"""What each module of an encoder gives, by a run on one blank image."""

from __future__ import annotations

import torch

from ssl_transfer.encoders.encoder import Encoder
from ssl_transfer.encoders.network import quiet


def output_shapes(encoder: Encoder) -> dict[str, tuple[int, ...]]:
    """Shape of what each module gives for one image, without the batch, by the module's name."""
    shapes: dict[str, tuple[int, ...]] = {}

    def record(name: str, output: object) -> None:
        output = output[0] if isinstance(output, tuple) and output else output  # of attention
        if isinstance(output, torch.Tensor):
            shapes[name] = tuple(output.shape[1:])

    hooks = [
        module.register_forward_hook(lambda _, __, output, name=name: record(name, output))
        for name, module in encoder.named_modules()
    ]
    try:
        with quiet(encoder):
            encoder(torch.zeros(1, *encoder.shape, dtype=torch.uint8, device=encoder.mean.device))
    finally:
        for hook in hooks:
            hook.remove()
    return shapes
