"""A subject as a graph of torch operations: what the targets `torch`, `torch_export` and `onnx` write."""

from ssl_transfer.export.graph.graph import Graph as Graph
from ssl_transfer.export.graph.graph import graph_of as graph_of
from ssl_transfer.export.graph.notes import graph_notes as graph_notes
from ssl_transfer.export.graph.trace import hushed as hushed
from ssl_transfer.export.graph.trace import one_line as one_line
from ssl_transfer.export.graph.trace import trace as trace
