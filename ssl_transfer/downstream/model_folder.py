"""The model folder: a fitted downstream model that predicts without its training run.

`encoder/` (an encoder folder), `model.safetensors` (what was fitted on it), `config.json` (classes, figures, data),
`README.md`, and `golden.safetensors` (made-up images and their scores, which loading must reproduce). Nothing is
pickled.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ssl_transfer.downstream.fitted import Fitted
from ssl_transfer.downstream.fitted_anomaly import FittedAnomalyDetector
from ssl_transfer.downstream.fitted_classifier import FittedClassifier
from ssl_transfer.downstream.fitted_clusterer import FittedClusterer
from ssl_transfer.downstream.fitted_reducer import FittedReducer
from ssl_transfer.encoders import load_encoder
from ssl_transfer.encoders.folder import golden_images
from ssl_transfer.files import whole_folder

FORMAT = "ssl_transfer.model"
KINDS: dict[str, type[Fitted]] = {
    kind.kind: kind for kind in (FittedClassifier, FittedAnomalyDetector, FittedReducer, FittedClusterer)
}


def save_model(fitted: Fitted, path: str | Path) -> Path:
    """Write the folder of a fitted model, whole or not at all; a model folder already there is replaced."""
    path = Path(path).expanduser().absolute()
    if path.exists() and not is_model_folder(path):
        raise ValueError(f"{path} exists and is no model folder: remove it or choose another path")
    fitted = fitted.cpu().eval()
    config: dict[str, Any] = {"format": FORMAT, "format_version": 1, "kind": fitted.kind, **fitted.config}
    images = golden_images(fitted.encoder.shape)
    told = {"objective": config["tuning"], "data": config["data"], "metrics": config["metrics"]}
    with whole_folder(path) as folder:
        fitted.save_encoder(folder / "encoder", **told)
        save_file({k: v.cpu().contiguous() for k, v in fitted.state().items()}, folder / "model.safetensors")
        save_file({"images": images, "scores": fitted.scores(images)}, folder / "golden.safetensors")
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        (folder / "README.md").write_text(fitted.card(path.name), encoding="utf-8")
    return path


def load_model(path: str | Path, trust: Sequence[str] = ()) -> Any:
    """Load a model folder, on the CPU and in eval mode, and check it against its golden scores.

    Returns a `FittedClassifier`, `FittedAnomalyDetector`, `FittedReducer` or `FittedClusterer`.
    trust: packages whose classes the encoder may name, as for `load_encoder`.
    Raises ValueError if a file is missing, damaged or altered.
    """
    path = Path(path).expanduser()
    if not is_model_folder(path):
        raise ValueError(f"{path} is no model folder: give the DIR/model of a finished downstream fit")
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    kind = KINDS.get(config.get("kind"))
    if kind is None:
        raise ValueError(f"model folder {path} holds a {config.get('kind')}, known are {', '.join(sorted(KINDS))}")
    for key in kind.needs:
        if key not in config:
            raise ValueError(f"model folder {path} is damaged (config.json lacks {key!r}): copy it again")
    encoder = load_encoder(path / "encoder", trust=trust)
    try:
        fitted = kind.rebuild(path, encoder, config, load_file(path / "model.safetensors"), trust).eval()
        golden = load_file(path / "golden.safetensors")
    except (OSError, RuntimeError, KeyError, SafetensorError) as error:
        raise ValueError(f"model folder {path} is damaged ({' '.join(str(error).split())}): copy it again") from error
    if not torch.allclose(fitted.scores(golden["images"]), golden["scores"], rtol=1e-3, atol=1e-5):
        raise ValueError(f"model folder {path} has changed since it was written: it no longer gives its golden scores")
    return fitted


def is_model_folder(path: Path) -> bool:
    """Whether `path` holds the configuration of a fitted downstream model."""
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("format") == FORMAT
