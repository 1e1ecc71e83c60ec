"""An ONNX model: one file, which onnxruntime and many others run."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch.fx import GraphModule

from ssl_transfer.export.base import Target
from ssl_transfer.export.graph import graph_notes, graph_of, hushed, one_line, trace
from ssl_transfer.export.snippets import constants, header, reader, tail
from ssl_transfer.export.subject import Subject
from ssl_transfer.export.torch_export import as_input

MODEL, OPSET = "model.onnx", 23
LARGEST = 2**31  # bytes that one file of protocol buffers can hold


class Onnx(Target):
    """The whole of an encoder or a downstream run as one graph; the input is `images`, outputs have their names."""

    name: ClassVar[str] = "onnx"
    takes: ClassVar[tuple[str, ...]] = ("input", "maps")
    packages: ClassVar[dict[str, str]] = {"onnx": "export", "onnxscript": "export", "onnxruntime": "export"}
    golden: ClassVar[str] = "golden.npz"
    hidden: ClassVar[tuple[str, ...]] = ("torch",)

    def check(self, subject: Subject) -> None:
        graph = graph_of(subject)
        size = sum(value.numel() * value.element_size() for value in graph.state_dict().values())
        if size > 0.95 * LARGEST:
            raise ValueError(
                f"an ONNX file holds at most 2 GB, and {subject.path} has {size / 1e9:.1f} GB: take target torch_export"
            )

    def write(self, subject: Subject, folder: Path) -> None:
        images = as_input(subject.images, self.options.input)
        program = trace(graph_of(subject), images)
        divide_pools(program.graph_module)
        try:
            with hushed():
                made = torch.onnx.export(
                    program,
                    (images,),
                    dynamo=True,
                    input_names=["images"],
                    output_names=list(subject.expected),
                    opset_version=OPSET,
                    verbose=False,
                )
                assert made is not None
                made.model.producer_name = "ssl_transfer"
                name_batch(made.model)
                forget_source(made.model)
                made.model.metadata_props.update(metadata(subject, self.options.input))
                made.save(folder / MODEL, external_data=False)
            _check(folder / MODEL)
        except Exception as error:  # whatever the converter or the checker raises: a step that ONNX lacks, mostly
            raise ValueError(
                f"the network cannot be written as ONNX ({_reason(error)}): take target torch or torch_export"
            ) from error

    def example(self, subject: Subject) -> str:
        return (
            header(subject, f"What {MODEL} gives of images, by onnxruntime.", "onnxruntime and numpy")
            + _TOP.format(model=MODEL)
            + constants(subject)
            + _PREDICT.format(checked=_CHECKED[self.options.input])
            + reader(subject)
            + tail("numpy")
        )

    def notes(self, subject: Subject) -> list[str]:
        takes = "uint8" if self.options.input == "uint8" else "float32 in [0, 1]"
        return [
            f"The graph is of opset {OPSET}; its input `images` is {takes}, its outputs have the names below.",
            "Its `metadata_props` hold labels, threshold and preprocessing, as JSON.",
            *graph_notes(subject),
        ]


def metadata(subject: Subject, kind: str) -> dict[str, str]:
    """What the file says of itself, as JSON values."""
    told: dict[str, Any] = {
        "format": "ssl_transfer.onnx",
        "kind": subject.kind,
        "input": kind,
        "labels": subject.labels,
        "threshold": subject.threshold,
        "preprocessing": subject.preprocessing,
    }
    return {name: json.dumps(value) for name, value in told.items()}


def divide_pools(module: GraphModule) -> None:
    """Average pools that divide by another number than their cells, as pools and products: ONNX has no such number."""
    pool = torch.ops.aten.avg_pool2d.default
    for node in module.graph.find_nodes(op="call_function", target=pool):
        if len(node.args) < 7 or node.args[6] is None:
            continue
        kernel, divisor = node.args[1], node.args[6]
        cells = math.prod(kernel) if len(kernel) == 2 else kernel[0] ** 2
        node.args = (*node.args[:5], True)
        with module.graph.inserting_after(node):
            scaled = module.graph.call_function(torch.ops.aten.mul.Tensor, (node, cells / divisor))
        scaled.meta = dict(node.meta)
        node.replace_all_uses_with(scaled, delete_user_cb=lambda user, own=scaled: user is not own)
    module.recompile()


def name_batch(model: Any) -> None:
    """Call the free axis `batch` in all shapes of an `onnx_ir.Model`."""
    graph = model.graph
    for value in {*graph.inputs, *graph.outputs, *(value for node in graph for value in node.outputs)}:
        for axis, side in enumerate(value.shape or ()):
            if not isinstance(side, int) and side.value is not None:
                value.shape[axis] = re.sub(r"\bs\d+\b", "batch", side.value)


def forget_source(model: Any) -> None:
    """Drop what an `onnx_ir.Model` says of the files and modules that its steps came from."""
    for graph in model.graphs():
        graph.metadata_props.clear()
        nodes = list(graph)
        for told in [
            *nodes,
            *graph.inputs,
            *graph.initializers.values(),
            *(out for node in nodes for out in node.outputs),
        ]:
            told.metadata_props.clear()


def _reason(error: BaseException) -> str:
    """The first line of what began it, without the converter's advice to its own developers."""
    while error.__cause__ is not None:
        error = error.__cause__
    return one_line(error)


def _check(path: Path) -> None:
    import onnx

    onnx.checker.check_model(path, full_check=True)


_CHECKED = {
    "uint8": """\
    if images.dtype != np.uint8:
        raise ValueError(f"images must be uint8 (0 to 255), as the graph was made for, not {images.dtype}")
""",
    "float": """\
    if images.dtype == np.uint8:
        images = images.astype(np.float32) / 255
    if images.dtype != np.float32:
        raise ValueError(f"images must be uint8, or float32 in [0, 1], not {images.dtype}")
""",
}

_TOP = """
import sys
from pathlib import Path

import numpy as np
import onnxruntime

FOLDER = Path(__file__).resolve().parent
SESSION = onnxruntime.InferenceSession(FOLDER / "{model}", providers=["CPUExecutionProvider"])
"""

_PREDICT = '''

def predict(images):
    """Outputs by name, of uint8 images (B, C, H, W)."""
    images = np.asarray(images)
{checked}    names = [output.name for output in SESSION.get_outputs()]
    return dict(zip(names, SESSION.run(None, {{"images": images}})))


def golden():
    """Golden images and what was expected of them."""
    return dict(np.load(FOLDER / "golden.npz"))

'''
