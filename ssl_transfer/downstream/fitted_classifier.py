"""A classifier loaded from its folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from ssl_transfer.downstream.fitted import Fitted, table_of
from ssl_transfer.encoders import Encoder


class Prediction(NamedTuple):
    """What a classifier says of B images: class names, class indices `(B,)` and probabilities `(B, K)`."""

    labels: list[str]
    classes: Tensor
    scores: Tensor


class FittedClassifier(Fitted):
    """A classifier loaded from its folder, for prediction alone.

    Attributes:
        encoder: the `Encoder`; `classes`: names in the order of the scores; `config`: what config.json holds.
    """

    kind = "Classifier"
    needs = ("classes", "data")

    def __init__(self, encoder: Encoder, head: nn.Linear, config: dict[str, Any]) -> None:
        super().__init__(encoder, config)
        self.head = head
        self.classes: list[str] = config["classes"]

    def forward(self, images: Tensor) -> Tensor:
        """Probabilities `(B, K)` of images `(B, C, H, W)`, uint8 or float in [0, 1]."""
        probabilities: Tensor = self.head(self.encoder(images)).softmax(1)
        return probabilities

    @torch.inference_mode()
    def predict(self, images: Tensor | Sequence[str | Path], batch_size: int = 256) -> Prediction:
        """Classify images: a tensor `(B, C, H, W)`, or the paths of image files, prepared as in training."""
        parts = self.in_parts(self.images_of(images), batch_size)
        scores = torch.cat([self(part).cpu() for part in parts])
        classes = scores.argmax(1)
        return Prediction([self.classes[i] for i in classes.tolist()], classes, scores)

    def scores(self, images: Tensor) -> Tensor:
        return self.predict(images).scores.clone()

    def state(self) -> dict[str, Tensor]:
        return self.head.state_dict()

    @classmethod
    def rebuild(
        cls, folder: Path, encoder: Encoder, config: dict[str, Any], state: dict[str, Tensor], trust: Sequence[str]
    ) -> Self:
        head = nn.Linear(encoder.feature_dim, len(config["classes"]))
        head.load_state_dict(state)
        return cls(encoder, head, config)

    def card(self, name: str) -> str:
        return (
            f"# Classifier\n\nTuning: {self.config['tuning']}. Classes: {', '.join(self.classes)}.\n\n"
            "```python\nfrom ssl_transfer import load_model\n\n"
            f'model = load_model("{name}")\nprint(model.predict(["image.png"]).labels)\n```\n\n'
            f"{table_of(self.config['metrics'])}"
        )
