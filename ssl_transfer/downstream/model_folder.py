"""The model folder: a fitted downstream model that predicts without its training run.

`encoder/` (an encoder folder), `model.safetensors` (the head), `config.json` (classes, figures, data), `README.md`, and
`golden.safetensors` (made-up images and their scores, which loading must reproduce). Nothing is pickled.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ssl_transfer.downstream.classifier import Classifier
from ssl_transfer.encoders import Encoder, load_encoder, save_encoder
from ssl_transfer.encoders.folder import golden_images
from ssl_transfer.files import whole_folder

FORMAT = "ssl_transfer.model"


class Prediction(NamedTuple):
    """What a classifier says of B images: class names, class indices `(B,)` and probabilities `(B, K)`."""

    labels: list[str]
    classes: Tensor
    scores: Tensor


class FittedClassifier(nn.Module):
    """A classifier loaded from its folder, for prediction alone.

    Attributes:
        encoder: the `Encoder`; `classes`: names in the order of the scores; `config`: what config.json holds.
    """

    def __init__(self, encoder: Encoder, head: nn.Linear, classes: list[str], config: dict[str, Any]) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.classes = classes
        self.config = config

    def forward(self, images: Tensor) -> Tensor:
        """Probabilities `(B, K)` of images `(B, C, H, W)`, uint8 or float in [0, 1]."""
        probabilities: Tensor = self.head(self.encoder(images)).softmax(1)
        return probabilities

    @torch.inference_mode()
    def predict(self, images: Tensor | Sequence[str | Path], batch_size: int = 256) -> Prediction:
        """Classify images: a tensor `(B, C, H, W)`, or the paths of image files, prepared as in training."""
        if not isinstance(images, Tensor):
            images = self._read(images)
        device = next(self.parameters()).device
        scores = torch.cat([self(part.to(device)).cpu() for part in images.split(batch_size)])
        classes = scores.argmax(1)
        return Prediction([self.classes[i] for i in classes.tolist()], classes, scores)

    def _read(self, paths: Sequence[str | Path]) -> Tensor:
        from ssl_transfer.data.single import read_images

        data = self.config["data"]
        images = read_images(paths, self.encoder.shape, data.get("resize", "crop"), data.get("value_range"))
        return torch.from_numpy(images)


def save_model(
    module: Classifier, path: str | Path, *, data: dict[str, Any], metrics: dict[str, float] | None = None
) -> Path:
    """Write the model folder of a fitted classifier, whole or not at all; a model folder already there is replaced.

    data: `ImageDataModule.describe()`. metrics: figures for the card.
    """
    path = Path(path).expanduser().absolute()
    if path.exists() and not _is_model_folder(path):
        raise ValueError(f"{path} exists and is no model folder: remove it or choose another path")
    module = module.cpu().eval()
    config: dict[str, Any] = {
        "format": FORMAT,
        "format_version": 1,
        "kind": "Classifier",
        "tuning": type(module.tuning).__name__,
        "classes": module.classes,
        "data": data,
        "metrics": metrics or {},
    }
    fitted = FittedClassifier(module.encoder, module.head, module.classes, config)
    images = golden_images(module.encoder.shape)
    with whole_folder(path) as folder:
        save_encoder(module.encoder, folder / "encoder", objective=config["tuning"], data=data, metrics=metrics)
        save_file({k: v.contiguous() for k, v in module.head.state_dict().items()}, folder / "model.safetensors")
        save_file({"images": images, "scores": fitted.predict(images).scores.clone()}, folder / "golden.safetensors")
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        (folder / "README.md").write_text(_card(config, path), encoding="utf-8")
    return path


def load_model(path: str | Path, trust: Sequence[str] = ()) -> FittedClassifier:
    """Load a model folder, on the CPU and in eval mode, and check it against its golden scores.

    trust: packages whose classes the encoder may name, as for `load_encoder`.
    Raises ValueError if a file is missing, damaged or altered.
    """
    path = Path(path).expanduser()
    if not _is_model_folder(path):
        raise ValueError(f"{path} is no model folder: give the DIR/model of a finished downstream fit")
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    for key in ("classes", "data"):
        if key not in config:
            raise ValueError(f"model folder {path} is damaged (config.json lacks {key!r}): copy it again")
    encoder = load_encoder(path / "encoder", trust=trust)
    head = nn.Linear(encoder.feature_dim, len(config["classes"]))
    try:
        head.load_state_dict(load_file(path / "model.safetensors"))
        golden = load_file(path / "golden.safetensors")
    except (OSError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"model folder {path} is damaged ({' '.join(str(error).split())}): copy it again") from error
    fitted = FittedClassifier(encoder, head, config["classes"], config).eval()
    if not torch.allclose(fitted.predict(golden["images"]).scores, golden["scores"], rtol=1e-3, atol=1e-5):
        raise ValueError(f"model folder {path} has changed since it was written: it no longer gives its golden scores")
    return fitted


def _is_model_folder(path: Path) -> bool:
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("format") == FORMAT


def _card(config: dict[str, Any], path: Path) -> str:
    figures = "\n".join(f"| {name} | {value} |" for name, value in sorted(config["metrics"].items()))
    return (
        f"# Classifier\n\nTuning: {config['tuning']}. Classes: {', '.join(config['classes'])}.\n\n"
        "```python\nfrom ssl_transfer import load_model\n\n"
        f'model = load_model("{path.name}")\nprint(model.predict(["image.png"]).labels)\n```\n\n'
        f"| figure | value |\n| --- | --- |\n{figures}\n"
    )
