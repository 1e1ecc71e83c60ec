"""A graph traced by torch.export, without a word on the screen."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx import GraphModule

from ssl_transfer.export.graph.prune import prune

ORIGINS = ("stack_trace", "source_fn_stack", "from_node", "torch_fn", "custom")  # of a node
LOGGERS = ("torch.export", "torch.onnx", "torch.fx", "torch._export", "onnxscript", "onnx_ir", "torch._dynamo")


def trace(module: nn.Module, *examples: Tensor) -> ExportedProgram:
    """The program of a module in eval mode; the first axis of every input is the free batch size.

    It holds no line of source, and no path of this machine. A module may say in `instead` what to do if it fails.

    Raises:
        ValueError: some step depends on the values, or on the batch size, in a way that no graph holds.
    """
    batch = Dim("batch", min=1)
    with hushed(), _plain_attention():
        try:
            program = torch.export.export(module, examples, dynamic_shapes=[{0: batch}] * len(examples), strict=False)
        except Exception as error:  # whatever a network's own code raises when it is traced
            instead = getattr(module, "instead", "take target torchvision, timm or encoder")
            raise ValueError(f"the network cannot be written as a graph ({one_line(error)}): {instead}") from error
        prune(program.graph_module)
        _forget_source(program.graph_module)
        return program


def one_line(error: BaseException) -> str:
    """The first line of what an exception says, or its type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _forget_source(module: GraphModule) -> None:
    """Drop the files and lines that each step came from."""
    for node in module.graph.nodes:
        for key in ORIGINS:
            node.meta.pop(key, None)


@contextmanager
def hushed() -> Iterator[None]:
    """Nothing is printed, warned of or logged inside."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Attention in steps that have names, not in one kernel of torch's own."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
