"""What a graph reads of an encoder: features, maps, the maps of its stages, or reconstruction errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_transfer.encoders import Encoder
from ssl_transfer.encoders.reconstruction import denormalise
from ssl_transfer.encoders.stage_maps import Grid, joined_shape, stage_shapes
from ssl_transfer.export.graph.maps import Cells


class Reader(nn.Module):
    """Features and maps of normalised images `(B, C, H, W)`."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self._encoder = [encoder]  # in a list, so that its weights are held once, by the graph
        pools = encoder.pools_maps and encoder.bottleneck is None and encoder.spec.pool > 1
        self.cells = None
        if pools:
            assert encoder.map_size is not None
            self.cells = Cells(encoder.map_size, (encoder.spec.pool, encoder.spec.pool))

    @property
    def encoder(self) -> Encoder:
        """The encoder."""
        return self._encoder[0]

    def maps(self, x: Tensor) -> Tensor:
        """Feature maps `(B, D, h, w)`."""
        return self.encoder.network.maps(x)

    def features(self, x: Tensor) -> Tensor:
        """Features `(B, D)`."""
        return self.features_of(self.maps(x)) if self.encoder.pools_maps else self.encoder.network.features(x)

    def features_of(self, maps: Tensor) -> Tensor:
        """Features of maps, of an encoder that pools these."""
        return self.encoder.features_from_maps(maps) if self.cells is None else self.cells(maps).flatten(1)


class StageReader(nn.Module):
    """Maps `(B, D₁ + D₂ + …, h, w)` of some stages on one grid, as `stage_maps` and `one_grid` give them."""

    def __init__(self, encoder: Encoder, names: Sequence[str], grid: Grid) -> None:
        super().__init__()
        self._encoder = [encoder]
        self.names = list(names)
        shapes = stage_shapes(encoder)
        chosen = [shapes[name] for name in names]
        self.size = joined_shape(chosen, grid)[1:]
        self.cells = nn.ModuleList(
            Cells(shape[1:], self.size) if grid == "coarsest" and shape[1:] != self.size else nn.Identity()
            for shape in chosen
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps of normalised images `(B, C, H, W)`."""
        found = [cells(maps) for cells, maps in zip(self.cells, self.stages(x), strict=True)]
        sized = [
            m if m.shape[2:] == self.size else F.interpolate(m, self.size, mode="bilinear", align_corners=False)
            for m in found
        ]
        return torch.cat(sized, dim=1)

    def stages(self, x: Tensor) -> list[Tensor]:
        """The maps of each stage, in the order of the names. The network runs on; a trace is pruned of that."""
        encoder = self._encoder[0]
        outputs: dict[str, Tensor] = {}

        def keeper(name: str) -> Callable[[nn.Module, Any, Any], None]:
            def keep(module: nn.Module, inputs: Any, output: Any) -> None:
                if isinstance(output, Tensor) and output.ndim == 4 and len(outputs) < len(set(self.names)):
                    outputs[name] = output.clone()  # what follows may change it in place

            return keep

        stages = [(name, stage) for name, stage in encoder.stages() if name in self.names]
        ends = [(name, list(s)[-1] if isinstance(s, nn.ModuleList) else s) for name, s in stages]
        hooks = [part.register_forward_hook(keeper(name)) for name, part in ends]
        try:
            (encoder.network.maps if encoder.network.has_maps else encoder.network.features)(x)
        finally:
            for hook in hooks:
                hook.remove()
        return [outputs[name] for name in self.names]


class ErrorReader(nn.Module):
    """Squared errors `(B, H, W)` of restored images, of values in [0, 1]."""

    def __init__(self, encoder: Encoder, reader: Reader) -> None:
        super().__init__()
        self._parts = [encoder, reader]

    def forward(self, x: Tensor, pixels: Tensor, decoder: nn.Module) -> Tensor:
        """Errors of normalised images x `(B, C, H, W)`, and of the same in [0, 1]."""
        encoder, reader = self._parts
        assert isinstance(encoder, Encoder) and isinstance(reader, Reader)
        found = reader.features(x) if encoder.spec.bottleneck else reader.maps(x)
        return (denormalise(decoder(found), encoder) - pixels).square().mean(1)
