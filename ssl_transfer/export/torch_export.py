"""A program of torch.export: `model.pt2`, which torch alone opens, compiles and runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.export import ExportedProgram

from ssl_transfer.export.base import Target
from ssl_transfer.export.graph import graph_notes, graph_of, hushed, one_line, trace
from ssl_transfer.export.program_file import read_weights
from ssl_transfer.export.snippets import constants, header, reader, tail
from ssl_transfer.export.subject import Subject
from ssl_transfer.export.tensor_file import READ_TENSORS

MODEL, PREFIX = "model.pt2", "encoder."


class TorchExport(Target):
    """The whole of an encoder or a downstream run as an exported program, batch size free."""

    name: ClassVar[str] = "torch_export"
    takes: ClassVar[tuple[str, ...]] = ("input", "maps")
    hidden: ClassVar[tuple[str, ...]] = ("torchvision", "safetensors", "lightly", "pytorch_lightning", "timm")

    def check(self, subject: Subject) -> None:
        graph_of(subject)

    def write(self, subject: Subject, folder: Path) -> None:
        program = trace(graph_of(subject), as_input(subject.images, self.options.input))
        check_type(program)
        with hushed():
            try:
                torch.export.save(program, folder / MODEL)
            except Exception as error:  # whatever torch's own writer raises
                raise ValueError(f"torch cannot save the program ({one_line(error)}): take target torch") from error

    def example(self, subject: Subject) -> str:
        return (
            header(subject, f"What {MODEL} gives of images, by torch alone.", f"torch {torch.__version__} or later")
            + _TOP.format(imports="json\nimport sys", model=MODEL)
            + constants(subject)
            + READ_TENSORS
            + _PREDICT.format(checked=_CHECKED[self.options.input])
            + reader(subject)
            + tail("torch")
        )

    def notes(self, subject: Subject) -> list[str]:
        takes = "uint8" if self.options.input == "uint8" else "float32 in [0, 1]"
        return [
            f"The program takes images as {takes}, on the CPU, and refuses another type; the batch size is free, the "
            "images' size is not.",
            "`torch.export.load(path).module()` is a module in eval mode; `torch.compile` and AOTInductor take it.",
            f"A program opens with the torch that wrote it ({torch.__version__}) or a later one.",
            "To open a `.pt2` file with torch is to run code that it may hold: open none of a stranger's. This package "
            "reads the weights alone.",
            *graph_notes(subject),
        ]

    def state(self, folder: Path, config: dict[str, Any]) -> dict[str, Tensor]:
        state = read_weights(folder / MODEL)  # not by torch.export.load, which runs what the file says
        return {key.removeprefix(PREFIX): value for key, value in state.items() if key.startswith(PREFIX)}


def as_input(images: Tensor, kind: str) -> Tensor:
    """Golden images as a graph takes them: uint8, or float32 in [0, 1]."""
    return images if kind == "uint8" else images.float() / 255


def check_type(program: ExportedProgram) -> None:
    """Let a program fail, instead of giving wrong outputs, on images of another type than it was traced with."""
    graph = program.graph_module.graph
    name = program.graph_signature.user_inputs[0]
    (images,) = [node for node in graph.nodes if node.op == "placeholder" and node.name == name]
    first = next(node for node in graph.nodes if node.op == "call_function")
    with graph.inserting_before(first):
        graph.call_function(
            torch.ops.aten._assert_tensor_metadata.default, (images, None, None, images.meta["val"].dtype)
        )
    program.graph_module.recompile()


_CHECKED = {
    "uint8": """\
    if images.dtype != torch.uint8:
        raise ValueError(f"images must be uint8 (0 to 255), as the program was made for, not {images.dtype}")
""",
    "float": """\
    if images.dtype == torch.uint8:
        images = images.float() / 255
    if images.dtype != torch.float32:
        raise ValueError(f"images must be uint8, or float32 in [0, 1], not {images.dtype}")
""",
}

_TOP = """
import {imports}
from pathlib import Path

import torch

FOLDER = Path(__file__).resolve().parent
PROGRAM = torch.export.load(FOLDER / "{model}").module()
"""

_PREDICT = '''
def predict(images):
    """Outputs by name, of uint8 images (B, C, H, W)."""
{checked}    with torch.no_grad():
        return PROGRAM(images)


def golden():
    """Golden images and what was expected of them."""
    return read_tensors(FOLDER / "golden.safetensors")
'''
