"""A traced graph without the steps that no output needs."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch.fx import GraphModule, Node

END = 2**63 - 1  # of a slice that has none


def prune(module: GraphModule) -> None:
    """Take out the steps whose results nobody reads, steps in place too, and checks of what the trace has fixed."""
    _skip_whole_slices(module)
    live: set[Node] = set()
    touched: set[Node] = set()  # what later live steps read, as the tensors whose memory that is
    for node in reversed(module.graph.nodes):
        schema = _schema(node)
        needed = node.op != "call_function" or any(user in live for user in node.users)
        if needed or (schema is not None and schema.is_mutable and _owner(node) in touched):
            live.add(node)
            touched.update(_owner(given) for given in node.all_input_nodes)
    for node in reversed(module.graph.nodes):
        if node not in live:
            module.graph.erase_node(node)
    module.recompile()


def _skip_whole_slices(module: GraphModule) -> None:
    """Read `x` wherever `x[:]` is read."""
    for node in module.graph.find_nodes(op="call_function", target=torch.ops.aten.slice.Tensor):
        whole, bounds = node.args[0], list(node.args[2:])
        start, end, step = bounds + [None, END, 1][len(bounds) :]
        if start in (None, 0) and end in (None, END) and step == 1:
            assert isinstance(whole, Node)
            node.replace_all_uses_with(whole)


def _owner(node: Node) -> Node:
    """The node that made the memory of a node's result."""
    while node.target is operator.getitem or _is_view(node):
        node = node.all_input_nodes[0]
    return node


def _is_view(node: Node) -> bool:
    schema = _schema(node)
    return schema is not None and bool(schema.returns) and schema.returns[0].alias_info is not None


def _schema(node: Node) -> Any:
    return getattr(node.target, "_schema", None) if node.op == "call_function" else None
