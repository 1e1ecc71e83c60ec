"""The layer table in the terminal: what learns, how fast, and what stays."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from ssl_transfer.downstream.tuning.layers import Layer

STYLES = {"learns": "bold green", "partly": "green", "joins later": "yellow", "frozen": "cyan"}


def layer_table(
    layers: Sequence[Layer], network: str, tuning: str, shape: tuple[int, int, int], width: int, head_lr: float
) -> Table:
    """A table of layers, a section a stage, the head last, with totals in words below.

    Args:
        layers: first to last.
        network, tuning: their names.
        shape: `(C, H, W)` of the images; width: of the features.
        head_lr: the head's learning rate.
    """
    later = sum(layer.later for layer in layers)
    learning = sum(layer.learning for layer in layers)
    total = sum(layer.parameters for layer in layers)
    told = f"{learning:,} of {total:,} parameters of the encoder learn" + (f", {later:,} join later" if later else "")
    table = Table(
        title=f"[bold]{escape(network)}[/bold] under {escape(tuning)}, images {' x '.join(map(str, shape))}",
        caption=f"{told}; the head learns at {head_lr:g} where it is trained",
        title_justify="left",
        caption_justify="left",
    )
    for name in ("stage", "layer", "type"):
        table.add_column(name, overflow="fold")
    for name in ("output", "parameters", "lr"):
        table.add_column(name, justify="right")
    table.add_column("state")
    table.add_column("BatchNorm")
    for position, layer in enumerate(layers):
        state = _state(layer)
        first = position == 0 or layers[position - 1].stage != layer.stage
        last = position + 1 == len(layers) or layers[position + 1].stage != layer.stage
        table.add_row(
            layer.stage if first else "",
            layer.name,
            layer.kind,
            " x ".join(map(str, layer.shape)) or "-",
            f"{layer.parameters:,}",
            f"{layer.lr:.2g}" if layer.lr else "-",
            f"[{STYLES[state]}]{state}[/]",
            layer.batch_norm,
            end_section=last,
            style="dim" if state == "frozen" else None,
        )
    table.add_row("head", "", "Linear", "classes", f"({width} + 1) x classes", f"{head_lr:.2g}", "", "")
    return table


def _state(layer: Layer) -> str:
    if layer.learning == layer.parameters:
        return "learns"
    if layer.learning:
        return "partly"
    return "joins later" if layer.later else "frozen"
