"""What targets made of weights share: the subjects that they hold, the file of weights, the frame of the example."""

from __future__ import annotations

from pathlib import Path
from textwrap import indent
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ssl_transfer.downstream.fitted_classifier import FittedClassifier
from ssl_transfer.downstream.targets import MultiLabelTarget, RegressionTarget, TargetKind
from ssl_transfer.encoders import Encoder
from ssl_transfer.export import snippets
from ssl_transfer.export.subject import Subject, answers_of

MODEL, HEAD, GOLDEN = "model.safetensors", "head.safetensors", "golden.safetensors"
GRAPHS = "torch, onnx or torch_export"

NORMALISED = "(images.float() / (255 if images.dtype == torch.uint8 else 1) - MEAN) / STD"


def check_holdable(name: str, subject: Subject) -> None:
    """ValueError for what no target made of a network's own weights holds: other kinds, and a bottleneck."""
    if subject.kind not in ("Encoder", "Classifier"):
        raise ValueError(
            f"target {name} holds encoders and classifiers, and {subject.path} is of kind {subject.kind}: use {GRAPHS}"
        )
    if subject.encoder.spec.bottleneck is not None:
        raise ValueError(
            f"target {name} holds the network's own weights, and {subject.path} ends in a bottleneck of "
            f"{subject.encoder.spec.bottleneck}, which it has not: use {GRAPHS}"
        )


def network_state(encoder: Encoder) -> dict[str, Tensor]:
    """The weights by the network's own keys, those of torchvision or timm."""
    prefix = prefix_of(encoder.spec.name, encoder.spec.own_head)
    return {
        key.removeprefix(prefix): value.clone(memory_format=torch.contiguous_format)
        for key, value in encoder.state_dict().items()
        if key.startswith(prefix)
    }


def prefix_of(name: str, own_head: bool) -> str:
    """What stands before the network's own keys in those of the encoder."""
    return "network.module." if own_head or "." in name else "network.network."


def save_weights(state: dict[str, Tensor], path: Path) -> None:
    """Write the weights of a network, those of a head among them; the same weights give the same file."""
    save_file({key: value.contiguous() for key, value in state.items()}, path, {"format": "pt"})


def encoder_state(folder: Path, config: dict[str, Any]) -> dict[str, Tensor]:
    """The weights of a folder by the encoder's own keys, with what was added; `config`: that of `export.json`."""
    told = config["encoder"]["encoder"]
    prefix = prefix_of(told["name"], told["own_head"])
    return {prefix + key: value for key, value in load_file(folder / MODEL).items()}


def linear_head(subject: Subject) -> nn.Linear | None:
    """The head of a classifier if it is a linear map of the features, as the last layer of most networks is."""
    head = subject.fitted.head if isinstance(subject.fitted, FittedClassifier) else None
    return head if isinstance(head, nn.Linear) else None


def save_head(subject: Subject, folder: Path) -> None:
    """Write the head of a classifier as a file of its own."""
    assert isinstance(subject.fitted, FittedClassifier)
    save_file({key: value.contiguous() for key, value in subject.fitted.head.state_dict().items()}, folder / HEAD)


def head_line(subject: Subject) -> str:
    """The line of an example that reads `save_head`'s file."""
    if linear_head(subject) is None:
        return f'table = load_file(FOLDER / "{HEAD}")["table"]  # log P(class | class of the network)\n'
    return (
        f'weights = load_file(FOLDER / "{HEAD}")\n'
        'head = torch.nn.Linear(weights["weight"].shape[1], weights["weight"].shape[0])\n'
        "head.load_state_dict(weights)\n"
    )


def logits_line(subject: Subject) -> str:
    """The expression of an example that takes features to what `answers` reads."""
    if linear_head(subject) is None:
        return "(features.softmax(1) @ table.exp()).clamp(min=torch.finfo(torch.float32).tiny).log()"
    return "head(features)"


def answers(subject: Subject) -> list[str]:
    """What a classifier tells, from `logits`, as entries of a dict."""
    if not isinstance(subject.fitted, FittedClassifier):
        return []
    kinds = answers_of(subject.fitted)
    if len(kinds) == 1:
        return [f"{name!r}: {_answer('logits', kind)}" for name, kind in kinds.items()]
    entries, first = [], 0
    for name, kind in kinds.items():
        own = f"logits[:, {first} : {first + kind.width}]"
        entries.append(f"{name!r}: {_answer(own, kind)}")
        first += kind.width
    return entries


def _answer(logits: str, kind: TargetKind) -> str:
    if isinstance(kind, RegressionTarget):
        return f"{logits} * {kind.deviation!r} + {kind.mean!r}"
    return f"{logits}.{'sigmoid()' if isinstance(kind, MultiLabelTarget) else 'softmax(1)'}"


def normalisation(subject: Subject) -> str:
    """The constants of an example that normalise images."""
    mean, std = short(subject.encoder.mean), short(subject.encoder.std)
    return f"MEAN = torch.tensor({mean}).view(-1, 1, 1)\nSTD = torch.tensor({std}).view(-1, 1, 1)\n"


def short(values: Tensor) -> list[float]:
    """Float32 values in as few digits as give them again.

    >>> short(torch.tensor([0.4]))
    [0.4]
    """
    return [float(str(value)) for value in values.numpy()]


def pooled(pool: int) -> str:
    """The expression of an example that takes maps to features."""
    return "maps.mean((2, 3))" if pool == 1 else f"torch.nn.functional.adaptive_avg_pool2d(maps, {pool}).flatten(1)"


def example(subject: Subject, title: str, package: str, network: str, lines: list[str], maps: bool) -> str:
    """The source of an example that builds a network of `package` and reads it.

    Args:
        title: what it is.
        package: that builds the network.
        network: lines that make `net`.
        lines: from `x`, normalised images, to `features`, and to `maps` and `logits` where they are told.
        maps: whether maps are an output.
    """
    read = "\n".join([f"x = {NORMALISED}", *lines, f"return {outputs(subject, maps)}"])
    imports = "".join(f"import {name}\n" for name in sorted(("torch", package)))
    return (
        f"{snippets.header(subject, title, f'torch, {package} and safetensors')}\n"
        f"import sys\nfrom pathlib import Path\n\n{imports}from safetensors.torch import load_file\n\n"
        f"FOLDER = Path(__file__).resolve().parent\n{normalisation(subject)}{snippets.constants(subject)}\n"
        f"{network}\n\n"
        "@torch.no_grad()\ndef predict(images):\n"
        '    """Outputs by name of images (B, C, H, W), uint8 or float in [0, 1]."""\n'
        f"{indent(read, '    ')}\n\n\n"
        f'def golden():\n    """Golden images and outputs."""\n    return load_file(FOLDER / "{GOLDEN}")\n\n'
        f"{snippets.reader(subject)}\n{snippets.tail('torch')}"
    )


def outputs(subject: Subject, maps: bool) -> str:
    """The dict that an example's `predict` returns, from its variables `features`, `maps` and `logits`."""
    entries = ['"features": features', *answers(subject)] + ['"maps": maps'] * maps
    return "{" + ", ".join(entries) + "}"
