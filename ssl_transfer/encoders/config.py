"""`config.json` of the encoder folder."""

from __future__ import annotations

import importlib.metadata
import json
import math
import platform
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ssl_transfer.encoders.encoder import Encoder
from ssl_transfer.encoders.spec import EncoderSpec

FORMAT = "ssl_transfer.encoder"
VERSION = 1


def make_config(
    encoder: Encoder, objective: str, data: dict[str, Any], metrics: dict[str, float], training: dict[str, Any]
) -> dict[str, Any]:
    """All that is told of an encoder beside its weights, in plain types."""
    spec = rebuild_spec(encoder.spec)
    config = {
        "format": FORMAT,
        "format_version": VERSION,
        "architecture": spec.name,
        "encoder": asdict(spec),
        "initial_weights": encoder.spec.weights,
        "num_features": encoder.feature_dim,
        "map_dim": encoder.map_dim,
        "map_size": encoder.map_size,
        "parameters": sum(parameter.numel() for parameter in encoder.parameters()),
        "pretrained_cfg": {
            "architecture": spec.name,
            "input_size": encoder.shape,
            "fixed_input_size": encoder.bottleneck is not None,
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "mean": encoder.mean.float().tolist(),
            "std": encoder.std.float().tolist(),
            "num_classes": encoder.feature_dim if spec.own_head else 0,
        },
        "own_classes": encoder.own_classes,
        "objective": objective,
        "training": training,
        "data": data,
        "metrics": metrics,
        "versions": versions(spec.name),
    }
    plain: dict[str, Any] = _plain(config)
    return plain


def read_config(path: Path) -> dict[str, Any]:
    """Read and check `config.json`.

    Raises:
        ValueError: no folder, no configuration in it, not JSON, not ours, or of a later format.
    """
    file = path / "config.json"
    if not path.is_dir():
        raise ValueError(f"encoder folder {path} does not exist: give the DIR/encoder of a finished fit")
    if not file.is_file():
        raise ValueError(f"{path} is no encoder folder, as it lacks config.json: give the DIR/encoder of a fit")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"encoder folder {path}: config.json is no JSON ({error}); copy the folder again") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise ValueError(f"{path} is no encoder folder: its config.json lacks format={FORMAT!r}")
    if config.get("format_version") != VERSION:
        raise ValueError(
            f"encoder folder {path} has format {config.get('format_version')}, this ssl_transfer reads {VERSION}: "
            f"use ssl_transfer {(config.get('versions') or {}).get('ssl_transfer', 'of that time')}"
        )
    return config


def spec_from(config: dict[str, Any], path: Path) -> EncoderSpec:
    """The spec in a configuration; its weights are never fetched."""
    try:
        spec = EncoderSpec(**config["encoder"])
        if not isinstance(spec.name, str) or not isinstance(spec.arguments, dict):
            raise TypeError("name must be a string and arguments a mapping")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"encoder folder {path}: config.json tells no encoder ({error}); copy the folder again"
        ) from error
    return replace(spec, weights=None)


def rebuild_spec(spec: EncoderSpec) -> EncoderSpec:
    """The spec that builds the same network without reading or fetching weights."""
    arguments = {key: value for key, value in spec.arguments.items() if key != "checkpoint_path"}
    if arguments.get("pretrained"):
        arguments["pretrained"] = False
    return replace(spec, arguments=arguments, weights=None)


def versions(architecture: str = "") -> dict[str, str]:
    """Versions that a result depends on, that of the package a dotted `architecture` comes from among them."""
    found = {"python": platform.python_version()}
    foreign = architecture.partition(".")[0] if "." in architecture else ""
    for package in dict.fromkeys(("ssl_transfer", "torch", "torchvision", foreign or "torch")):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "0+unknown"
    return found


def _plain(value: Any) -> Any:
    """Plain JSON types; a figure that is not finite becomes null."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:  # NumPy scalars and 0-d tensors
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
