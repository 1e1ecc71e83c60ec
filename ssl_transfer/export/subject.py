"""What is exported: an encoder, alone or with what was fitted on it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssl_transfer.downstream.fitted import Fitted
from ssl_transfer.downstream.fitted_anomaly import FittedAnomalyDetector
from ssl_transfer.downstream.fitted_classifier import FittedClassifier
from ssl_transfer.downstream.fitted_clusterer import FittedClusterer
from ssl_transfer.downstream.fitted_reducer import FittedReducer
from ssl_transfer.downstream.model_folder import is_model_folder, load_model
from ssl_transfer.downstream.targets import ClassTarget
from ssl_transfer.downstream.targets.base import TargetKind
from ssl_transfer.encoders import Encoder, load_encoder
from ssl_transfer.encoders.config import read_config
from ssl_transfer.encoders.folder import golden_images, is_encoder_folder
from ssl_transfer.export.config import is_export


@dataclass
class Subject:
    """What is exported, and what it must give.

    Attributes:
        path: where it was read from.
        encoder: on the CPU, in eval mode.
        config: the `config.json` of the encoder's folder.
        fitted: what was fitted on the encoder, or None.
        labels: names of the classes in the order of the probabilities; empty unless a classifier tells one class.
        threshold: an anomaly score above it is called an anomaly; None without a detector, or without a threshold.
        held: of an export the kind of what it holds, of which the encoder alone comes back.
        images: golden images, uint8 `(4, C, H, W)`.
        expected: what this package gives of them, by the name of the output: `features` (and `maps` if asked for) of an
            encoder; `features` and `probabilities` (or `NAME_scores` of several targets) of a classifier;
            `anomaly_score`, `p_value`, `anomalous` and, where the detector has them, `anomaly_map` of a detector;
            `coordinates` of a reducer; `cluster` of a clusterer.
    """

    path: Path
    encoder: Encoder
    config: dict[str, Any]
    fitted: Fitted | None = None
    labels: list[str] = field(default_factory=list)
    threshold: float | None = None
    held: str = "Encoder"
    images: Tensor = field(default_factory=lambda: torch.empty(0))
    expected: dict[str, Tensor] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """`Encoder`, or the kind of the model folder (`Classifier`, `AnomalyDetector`, …)."""
        return "Encoder" if self.fitted is None else self.fitted.kind

    @property
    def preprocessing(self) -> dict[str, Any]:
        """How an image file becomes what the encoder takes, in plain types. ValueError if that is told wrongly."""
        data = self.config.get("data") or {}
        channels, height, width = self.encoder.shape
        check_told(self.path, data)
        return {
            "channels": channels,
            "size": [height, width],
            "resize": data.get("resize", "crop"),
            "interpolation": "bilinear, antialiased",
            "value_range": data.get("value_range"),
            "mean": self.encoder.mean.tolist(),
            "std": self.encoder.std.tolist(),
        }


def check_told(path: Path, data: dict[str, Any]) -> None:
    """ValueError unless what a folder tells of resizing is of the known words and numbers: it enters source text."""
    resize, span = data.get("resize", "crop"), data.get("value_range")
    if resize not in ("crop", "pad", "stretch"):
        raise ValueError(f"{path}: data.resize must be crop, pad or stretch, not {resize!r}; copy the folder again")
    if span is not None and not (
        isinstance(span, list | tuple)
        and len(span) == 2
        and all(type(end) is int for end in span)
        and span[0] <= span[1]
    ):
        raise ValueError(f"{path}: data.value_range must be two rising whole numbers, not {span!r}; copy it again")


def read_subject(source: str | Path, maps: bool = False) -> Subject:
    """Read an encoder folder, a model folder, an export, or the folder of a run that holds one of the first two.

    Of a run with both, the model is taken. maps: whether an encoder shall give its maps too.

    Raises:
        ValueError: none of these, a damaged one, or maps asked of an encoder without.
    """
    path = _found(Path(source).expanduser())
    if is_model_folder(path):
        return _with_expected(_of_model(path), maps)
    if is_export(path):
        from ssl_transfer.export.read import read_export_with_config

        encoder, told = read_export_with_config(path)
        return _with_expected(Subject(path, encoder, told["encoder"], held=told["kind"]), maps)
    return _with_expected(Subject(path, load_encoder(path), read_config(path)), maps)


def _found(path: Path) -> Path:
    for folder in (path, path / "model", path / "encoder"):
        if is_model_folder(folder) or is_encoder_folder(folder) or is_export(folder):
            return folder
    what = "holds no encoder, model or export" if path.is_dir() else "does not exist"
    raise ValueError(f"{path} {what}: give the DIR, DIR/encoder or DIR/model of a finished fit, or an export's folder")


def _of_model(path: Path) -> Subject:
    fitted: Fitted = load_model(path)
    config = read_config(path / "encoder")
    told = json.loads((path / "config.json").read_text(encoding="utf-8"))
    config = config | {"metrics": told.get("metrics", {}), "data": told["data"]}
    subject = Subject(path, fitted.encoder, config, fitted)
    if isinstance(fitted, FittedClassifier) and isinstance(fitted.targets.single, ClassTarget):
        subject.labels = fitted.classes
        for label in subject.labels:
            if not _is_text(label):
                raise ValueError(f"{path}: the label {label!r} is no valid text: rename the class and fit again")
    if isinstance(fitted, FittedAnomalyDetector) and fitted.config["threshold"] is not None:
        subject.threshold = fitted.threshold
    return subject


def _is_text(label: str) -> bool:
    try:
        label.encode()
    except UnicodeEncodeError:
        return False
    return True


def _with_expected(subject: Subject, maps: bool) -> Subject:
    subject.images = golden_images(subject.encoder.shape)
    subject.expected = expected_of(subject, subject.images, maps)
    return subject


@torch.inference_mode()
def expected_of(subject: Subject, images: Tensor, maps: bool = False) -> dict[str, Tensor]:
    """What this package gives of images `(B, C, H, W)`, by the name of the output."""
    if maps and not (subject.fitted is None and subject.encoder.network.has_maps):
        what = f"a {subject.kind}" if subject.fitted else f"encoder {subject.encoder.spec.name}"
        raise ValueError(f"--maps: {what} gives no feature maps: leave it out")
    outputs = _outputs(subject, images)
    if maps:
        outputs["maps"] = subject.encoder.maps(images)
    return {name: value.clone().contiguous() for name, value in outputs.items()}


def _outputs(subject: Subject, images: Tensor) -> dict[str, Tensor]:
    fitted = subject.fitted
    if fitted is None:
        return {"features": subject.encoder(images)}
    if isinstance(fitted, FittedClassifier):
        return {"features": subject.encoder(images)} | _answers(fitted, fitted.scores(images))
    if isinstance(fitted, FittedAnomalyDetector):
        found = fitted.predict(images)
        outputs = {
            "anomaly_score": torch.from_numpy(found.scores),
            "p_value": torch.from_numpy(found.p_values),
            "anomalous": torch.from_numpy(found.anomalous),
        }
        return outputs if found.maps is None else outputs | {"anomaly_map": found.maps}
    if isinstance(fitted, FittedReducer):
        return {"coordinates": torch.from_numpy(fitted.transform(images))}
    assert isinstance(fitted, FittedClusterer)
    return {"cluster": torch.as_tensor(fitted.predict(images).clusters)}


def _answers(fitted: FittedClassifier, scores: Tensor) -> dict[str, Tensor]:
    return dict(zip(answers_of(fitted), fitted.targets.split(scores), strict=True))


def answers_of(fitted: FittedClassifier) -> dict[str, TargetKind]:
    """What a classifier tells, by the name of the output: `probabilities` of a single target, else `NAME_scores`."""
    if single := fitted.targets.single:
        return {"probabilities": single}
    return {f"{kind.name}_scores": kind for kind in fitted.targets.kinds}
