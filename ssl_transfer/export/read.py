"""Back from an export to an encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ssl_transfer.encoders import Encoder
from ssl_transfer.encoders.config import spec_from
from ssl_transfer.encoders.folder import difference, sha256
from ssl_transfer.encoders.networks import build_network
from ssl_transfer.encoders.trust import check_trust
from ssl_transfer.export.config import read_config
from ssl_transfer.export.targets import target_named


def read_export(path: str | Path) -> Encoder:
    """The encoder of an export, in eval mode on the CPU: its features are those before the export, to the bit.

    Every target that keeps weights by name comes back: torchvision, timm, torch, torch_export, huggingface,
    lightly_train, segmentation. Of a downstream run the encoder alone does.

    Raises:
        ValueError: no export, a damaged or altered one, or one of a target that holds a graph alone (onnx).
    """
    return read_export_with_config(Path(path).expanduser())[0]


def read_export_with_config(path: Path) -> tuple[Encoder, dict[str, Any]]:
    """The encoder, and what `export.json` holds."""
    try:
        return _read(path, read_config(path))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"export {path} is damaged (export.json: {error!r}); copy it again") from error


def _read(path: Path, config: dict[str, Any]) -> tuple[Encoder, dict[str, Any]]:
    for name, checksum in config["sha256"].items():
        if not (path / name).is_file() or sha256(path / name) != checksum:
            raise ValueError(f"export {path}: {name} is missing or has changed since it was written; copy it again")
    target = target_named(config["target"])
    told = config["encoder"]
    spec = spec_from(told, path)
    check_trust(spec, (), path)
    shape = tuple(told["pretrained_cfg"]["input_size"])
    mean, std = told["pretrained_cfg"]["mean"], told["pretrained_cfg"]["std"]
    with torch.random.fork_rng(devices=[]):
        network = build_network(spec, shape).network  # type: ignore[arg-type]
        encoder = Encoder(spec, network, shape, mean, std, told.get("own_classes"))  # type: ignore[arg-type]
    known = encoder.state_dict()  # an export may hold more: the head of a classifier
    held = {name: value for name, value in target().state(path, config).items() if name in known}
    state = {name: encoder.get_buffer(name) for name in ("mean", "std")} | held
    if differs := difference(encoder, state):
        raise ValueError(f"export {path} does not hold its encoder: {differs}; copy it again")
    encoder.load_state_dict(state)
    return encoder.eval(), config
