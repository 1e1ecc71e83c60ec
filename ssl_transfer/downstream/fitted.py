"""What a model folder holds: a fitted model that predicts without its training run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from ssl_transfer.encoders import Encoder, save_encoder


class Fitted(nn.Module):
    """Base of the fitted models: an encoder, what was fitted on it, and what config.json tells.

    A subclass gives `state`, `rebuild`, `scores` and `card`, and a `predict` of its own.

    Attributes:
        kind: of the model, in config.json.
        encoder: the `Encoder`; `config`: what config.json holds.
    """

    kind: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ("data",)  # of config.json

    def __init__(self, encoder: Encoder, config: dict[str, Any]) -> None:
        super().__init__()
        self.encoder = encoder
        self.config = config

    def state(self) -> dict[str, Tensor]:
        """What was fitted, beside the encoder: the tensors of model.safetensors."""
        raise NotImplementedError

    @classmethod
    def rebuild(
        cls, folder: Path, encoder: Encoder, config: dict[str, Any], state: dict[str, Tensor], trust: Sequence[str]
    ) -> Self:
        """The model of a folder. RuntimeError or KeyError if `state` is not what it needs."""
        raise NotImplementedError

    def scores(self, images: Tensor) -> Tensor:
        """What the golden pair compares: scores `(B, …)` of images `(B, C, H, W)`."""
        raise NotImplementedError

    def card(self, name: str) -> str:
        """The model card: what it is, and how it is used."""
        raise NotImplementedError

    def save_encoder(self, path: Path, **told: Any) -> None:
        """Write the encoder's folder; `told` as for `encoders.save_encoder`."""
        save_encoder(self.encoder, path, **told)

    def images_of(self, images: Tensor | Sequence[str | Path]) -> Tensor:
        """Images `(B, C, H, W)` as they are, or read from the paths of files as training images were."""
        if isinstance(images, Tensor):
            return images
        from ssl_transfer.data.single import read_images

        data = self.config["data"]
        read = read_images(images, self.encoder.shape, data.get("resize", "crop"), data.get("value_range"))
        return torch.from_numpy(read)

    def in_parts(self, images: Tensor, batch_size: int) -> list[Tensor]:
        """Images in batches, on the encoder's device."""
        return [part.to(self.encoder.mean.device) for part in images.split(batch_size)]


def table_of(figures: dict[str, Any]) -> str:
    """A Markdown table of figures, for a card."""
    rows = "\n".join(f"| {name} | {value} |" for name, value in sorted(figures.items()))
    return f"| figure | value |\n| --- | --- |\n{rows}\n"
