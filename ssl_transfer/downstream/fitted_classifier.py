"""A classifier loaded from its folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from ssl_transfer.downstream.fitted import Fitted, table_of
from ssl_transfer.downstream.heads import as_is_head
from ssl_transfer.downstream.targets import ClassTarget, Targets
from ssl_transfer.downstream.targets.column import OWN_LABEL
from ssl_transfer.encoders import Encoder


class Prediction(NamedTuple):
    """What a classifier says of B images: class names, class indices `(B,)` and probabilities `(B, K)`."""

    labels: list[str]
    classes: Tensor
    scores: Tensor


class Answer(NamedTuple):
    """What is said of B images about one target.

    `told` is a class name, a list of labels or a number an image; `scores` are probabilities `(B, K)`, or numbers
    `(B, 1)`.
    """

    told: list[Any]
    scores: Tensor


class Predictions(NamedTuple):
    """What is said of B images about each target, by its name."""

    targets: dict[str, Answer]


class FittedClassifier(Fitted):
    """A classifier loaded from its folder, for prediction alone.

    Attributes:
        encoder: the `Encoder`; `targets`: what it tells; `classes`: names in the order of the scores, empty unless one
            class or several labels are all that it tells; `config`: what config.json holds.
    """

    kind = "Classifier"
    needs = ("classes", "data")

    def __init__(self, encoder: Encoder, head: nn.Module, config: dict[str, Any]) -> None:
        super().__init__(encoder, config)
        self.head = head
        self.targets = targets_of(config)
        self.classes: list[str] = config["classes"] or []

    def forward(self, images: Tensor) -> Tensor:
        """Answers `(B, W)` about images `(B, C, H, W)`, uint8 or float in [0, 1]: of a class its probabilities."""
        return self.targets.answer(self.head(self.encoder(images)))

    @torch.inference_mode()
    def predict(self, images: Tensor | Sequence[str | Path], batch_size: int = 256) -> Any:
        """What is to be told of images: a tensor `(B, C, H, W)`, or paths of image files, prepared as in training.

        Returns a `Prediction` where one class is all that there is to tell, and `Predictions` by target otherwise.
        """
        parts = self.in_parts(self.images_of(images), batch_size)
        scores = torch.cat([self(part).cpu() for part in parts])
        if isinstance(self.targets.single, ClassTarget):
            return Prediction(self.targets.single.told(scores), scores.argmax(1), scores)
        told = self.targets.told(scores)
        split = zip(self.targets.kinds, self.targets.split(scores), strict=True)
        return Predictions({kind.name: Answer(told[kind.name], own) for kind, own in split})

    def scores(self, images: Tensor) -> Tensor:
        with torch.inference_mode():
            answers = torch.cat([self(part).cpu() for part in self.in_parts(images, 256)])
        return answers.clone()

    def state(self) -> dict[str, Tensor]:
        return self.head.state_dict()

    @classmethod
    def rebuild(
        cls, folder: Path, encoder: Encoder, config: dict[str, Any], state: dict[str, Tensor], trust: Sequence[str]
    ) -> Self:
        width = targets_of(config).width
        head = as_is_head(encoder, width) if "table" in state else nn.Linear(encoder.feature_dim, width)
        head.load_state_dict(state)
        return cls(encoder, head, config)

    def card(self, name: str) -> str:
        method = f"Method: {self.config['method']}. " if "method" in self.config else ""  # of an adaptation
        return (
            f"# Classifier{self._domains()}\n\n{method}Tuning: {self.config['tuning']}. {self._described()}.\n\n"
            "```python\nfrom ssl_transfer import load_model\n\n"
            f'model = load_model("{name}")\nprint(model.predict(["image.png"]).{self._used()})\n```\n\n'
            f"{table_of(self.config['metrics'])}"
        )

    def _domains(self) -> str:
        """Of an adaptation: from where to where, and of which domain a figure is."""
        data = self.config["data"]
        if "method" not in self.config or "target" not in data:
            return ""
        return (
            f" adapted from {data['source']} to {data['target']}\n\n"
            f"It is for images like those of {data['target']} (the target), whose labels taught it nothing. "
            f"`val/accuracy` and other figures of `val/` that read labels are of {data['source']} (the source); "
            "figures of `test/` are of the target."
        )

    def _described(self) -> str:
        if isinstance(self.targets.single, ClassTarget):
            return f"Classes: {', '.join(self.classes)}"
        each = [
            f"{kind.name} ({', '.join(kind.classes) or 'a number'}{', any of them' * (kind.kind == 'multi_label')})"
            for kind in self.targets.kinds
        ]
        return f"Targets: {'; '.join(each)}"

    def _used(self) -> str:
        single = isinstance(self.targets.single, ClassTarget)
        return "labels" if single else f'targets["{self.targets.kinds[0].name}"].told'


def told_of(targets: Targets) -> dict[str, Any]:
    """What config.json says of the targets: of one class, the source's own label, the names of the classes are all."""
    single = targets.single
    if isinstance(single, ClassTarget) and single.name == OWN_LABEL:
        return {"classes": single.classes}
    return {"classes": single.classes if single else None, "targets": targets.describe()}


def targets_of(told: Mapping[str, Any]) -> Targets:
    """The targets again, from a config.json or a checkpoint."""
    if told.get("targets") is None:
        return Targets([ClassTarget(OWN_LABEL, list(told["classes"]))])
    return Targets.from_description(told["targets"])
