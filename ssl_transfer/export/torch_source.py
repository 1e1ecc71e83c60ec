"""Plain source: `model.py`, the network written out line by line, and its weights, for torch and nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, ClassVar

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ssl_transfer.downstream.fitted_classifier import FittedClassifier
from ssl_transfer.export.base import Target
from ssl_transfer.export.graph import Graph, graph_notes, graph_of, trace
from ssl_transfer.export.snippets import constants, header, reader, tail
from ssl_transfer.export.subject import Subject
from ssl_transfer.export.tensor_file import READ_TENSORS
from ssl_transfer.export.written_out import quoted, written_out

MODEL, WEIGHTS, ENCODER = "model.py", "model.safetensors", "encoder."


class TorchSource(Target):
    """A file of Python that needs torch alone, whose module can be read, changed and trained further."""

    name: ClassVar[str] = "torch"
    takes: ClassVar[tuple[str, ...]] = ("maps",)
    hidden: ClassVar[tuple[str, ...]] = (
        "numpy",
        "torchvision",
        "safetensors",
        "lightly",
        "pytorch_lightning",
        "timm",
        "onnx",
        "transformers",
    )

    def check(self, subject: Subject) -> None:
        graph_of(subject)

    def write(self, subject: Subject, folder: Path) -> None:
        graph = graph_of(subject)
        x = graph.encoder.normalise(subject.images).detach()
        program = trace(_Body(graph), x, subject.images.float() / 255)
        lines, kept = written_out(program, {f"graph.{name}": own for name, own in _names(graph).items()})
        state = {own: value.detach() for name, own in _names(graph).items() for value in [graph.state_dict()[name]]}
        state |= {name: value.detach() for name, value in kept.items()}
        learnt = [_names(graph)[name] for name, value in graph.named_parameters() if value.requires_grad]
        save_file(
            {name: value.clone().contiguous() for name, value in state.items()},
            folder / WEIGHTS,
            metadata={"parameters": json.dumps(learnt)},
        )
        (folder / MODEL).write_text(_source(subject, graph, lines), encoding="utf-8")

    def example(self, subject: Subject) -> str:
        return (
            header(subject, f"What the network in {MODEL} gives of images, by torch alone.", "torch 2.2 or later")
            + _EXAMPLE
            + constants(subject)
            + _PREDICT
            + reader(subject)
            + tail("torch")
        )

    def notes(self, subject: Subject) -> list[str]:
        trained = subject.fitted is None or isinstance(subject.fitted, FittedClassifier)
        precision = (
            f"What follows the features of {subject.kind} was fitted in float32 and float64: run it so, or under "
            "autocast; `.half()`, `.bfloat16()` and `.double()` are not for it."
        )
        return [
            f"Copy `{MODEL}` and `{WEIGHTS}` into a project: `load(folder)` gives an `nn.Module` in eval mode.",
            "It can be trained further: its parameters have the encoder's own names; in training mode batch "
            "normalisation takes the batch's statistics and dropout drops; stochastic depth is left out.",
            "Images are uint8, or float in [0, 1]; the batch size is free, the images' size is not.",
            *([] if trained else [precision]),
            *graph_notes(subject),
        ]

    def state(self, folder: Path, config: dict[str, Any]) -> dict[str, Tensor]:
        own = ("network.", "bottleneck.")
        state = load_file(folder / WEIGHTS)
        return {key: value for key, value in state.items() if key.startswith(own) or key in ("mean", "std")}


class _Body(nn.Module):
    """A graph from normalised images on: what comes before is the same for all, and written by hand."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph, self.instead = graph, graph.instead

    def forward(self, x: Tensor, pixels: Tensor) -> dict[str, Tensor]:
        return self.graph.outputs(x, pixels)


def _names(graph: Graph) -> dict[str, str]:
    """The name in the file of each tensor of a graph: the encoder's own names, and the others' as they are."""
    return {name: name.removeprefix(ENCODER) for name in graph.state_dict()}


def _source(subject: Subject, graph: Graph, lines: list[str]) -> str:
    layout = graph.encoder.network.memory_format
    shape = ", ".join(str(side) for side in subject.encoder.shape)
    outputs = ", ".join(f"{_inside(name)} (B{_sides(value)})" for name, value in subject.expected.items())
    body = "\n".join(f"        {line}" for line in lines)
    pixels = "        pixels = images.float() / 255 if images.dtype == torch.uint8 else images\n"
    return _SOURCE.format(
        name=_inside(subject.encoder.spec.name),
        kind=subject.kind,
        channels=subject.encoder.shape[0],
        shape=shape,
        outputs=outputs,
        layout=layout,
        before="        training = self.training\n" * ("training" in body) + pixels * ("pixels" in body),
        read_tensors=READ_TENSORS.strip("\n"),
        body=body,
        numbers=_numbers(body),
        batch_norm=_BATCH_NORM * (" batch_norm(" in body),
    )


def _numbers(body: str) -> str:
    """The import of the numbers that have names, where the lines use them outside of strings."""
    found = set(re.findall(r"\b(inf|nan)\b", re.sub(r'"(?:\\.|[^"\\])*"', "", body)))
    return f"from math import {', '.join(sorted(found))}\n" if found else ""


def _inside(text: str) -> str:
    """A text as it may stand inside a docstring: no quote ends it, no backslash escapes."""
    return quoted(text)[1:-1]


def _sides(value: Tensor) -> str:
    return "".join(f", {side}" for side in value.shape[1:])


_SOURCE = '''"""{kind} on {name}, written out for torch alone: images (B, {shape}), uint8 or float in [0, 1].

Outputs: {outputs}.
`load(folder)` reads the weights beside this file; `Model.forward` is all there is to the network.
"""

import json
{numbers}from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn


class Model(nn.Module):
    """From images to a dict of outputs.

    Parameters and buffers have dotted names (`model.state_dict()`); `forward` takes them by these from `w`.
    """

    def __init__(self, tensors, parameters):
        """tensors: by name; parameters: the names of those that training changes."""
        super().__init__()
        for name, value in tensors.items():
            *path, last = name.split(".")
            place = self
            for part in path:
                if part not in place._modules:
                    place.add_module(part, nn.Module())
                place = place._modules[part]
            if name in parameters:
                place.register_parameter(last, nn.Parameter(value))
            else:
                place.register_buffer(last, value)

    def normalise(self, images):
        """Images, uint8 or float in [0, 1], with mean zero and deviation one a channel."""
        if images.ndim != 4 or images.shape[1] != {channels}:
            raise ValueError(f"images must be (B, {shape}), not {{tuple(images.shape)}}")
        if images.dtype != torch.uint8 and not images.is_floating_point():
            raise ValueError(f"images must be uint8, or float in [0, 1], not {{images.dtype}}: convert them first")
        scale = 255.0 if images.dtype == torch.uint8 else 1.0
        gain = (1 / (scale * self.std)).view(-1, 1, 1)
        shift = (-self.mean / self.std).view(-1, 1, 1)
        x = images.to(self.mean.dtype, memory_format={layout})
        return torch.addcmul(shift, x, gain).contiguous(memory_format={layout})

    def forward(self, images):
        w = dict(self.named_parameters())
        w.update(self.named_buffers())
{before}        x = self.normalise(images)
{body}


def load(folder=Path(__file__).resolve().parent):
    """The network with its weights, in eval mode on the CPU."""
    path = Path(folder) / "model.safetensors"
    with path.open("rb") as file:
        told = json.loads(file.read(int.from_bytes(file.read(8), "little")))["__metadata__"]
    model = Model(read_tensors(path), set(json.loads(told["parameters"])))
    return model.to(memory_format={layout}).eval()


{read_tensors}
{batch_norm}'''

_BATCH_NORM = '''

def batch_norm(x, w, name, training, momentum, eps):
    """Batch normalisation by the layer called `name`; in training by the batch's own statistics."""
    mean, variance = w[name + ".running_mean"], w[name + ".running_var"]
    return F.batch_norm(x, mean, variance, w[name + ".weight"], w[name + ".bias"], training, momentum, eps)
'''

_EXAMPLE = """
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import torch

FOLDER = Path(__file__).resolve().parent
SPEC = spec_from_file_location(f"model in {FOLDER}", FOLDER / "model.py")  # whatever else is called `model`
SOURCE = sys.modules[SPEC.name] = module_from_spec(SPEC)
SPEC.loader.exec_module(SOURCE)
MODEL = SOURCE.load(FOLDER)
"""

_PREDICT = '''

def predict(images):
    """Outputs by name, of images (B, C, H, W), uint8 or float in [0, 1]."""
    with torch.no_grad():
        return MODEL(images)


def golden():
    """Golden images and what was expected of them."""
    return SOURCE.read_tensors(FOLDER / "golden.safetensors")

'''
