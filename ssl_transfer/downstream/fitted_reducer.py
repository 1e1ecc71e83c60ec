"""A reducer loaded from its folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssl_transfer.downstream import reductions
from ssl_transfer.downstream.estimators import make_estimator
from ssl_transfer.downstream.fitted import Fitted, table_of
from ssl_transfer.downstream.reductions import Reduction
from ssl_transfer.encoders import Encoder


class FittedReducer(Fitted):
    """From images to coordinates, for prediction alone.

    Attributes:
        method: the fitted `Reduction`, which takes features `(N, D)`.
        encoder: gives them; `config`: what config.json holds.
    """

    kind = "Reducer"
    needs = ("data", "method")

    def __init__(self, encoder: Encoder, method: Reduction, config: dict[str, Any]) -> None:
        super().__init__(encoder, config)
        self.method = method

    @torch.inference_mode()
    def transform(self, images: Tensor | Sequence[str | Path], batch_size: int = 256) -> NDArray[np.float32]:
        """Coordinates `(B, n_components)` of images: a tensor `(B, C, H, W)`, or paths of files."""
        parts = self.in_parts(self.images_of(images), batch_size)
        return self.method.transform(torch.cat([self.encoder(part).float() for part in parts]))

    def predict(self, images: Tensor | Sequence[str | Path], batch_size: int = 256) -> NDArray[np.float32]:
        """The same as `transform`."""
        return self.transform(images, batch_size)

    def scores(self, images: Tensor) -> Tensor:
        return torch.from_numpy(self.transform(images))

    def state(self) -> dict[str, Tensor]:
        return self.method.state()

    @classmethod
    def rebuild(
        cls, folder: Path, encoder: Encoder, config: dict[str, Any], state: dict[str, Tensor], trust: Sequence[str]
    ) -> Self:
        return cls(encoder, make_estimator(config["method"], reductions, Reduction).load_state(state), config)

    def card(self, name: str) -> str:
        method = self.config["method"]
        return (
            f"# Reducer\n\n{method['name']} to {self.method.n_components} coordinates on an encoder, tuning "
            f"{self.config['tuning']}.\n\n"
            "```python\nfrom ssl_transfer import load_model\n\n"
            f'model = load_model("{name}")\nprint(model.transform(["image.png"]))\n```\n\n'
            f"{table_of(self.config['metrics'])}"
        )
