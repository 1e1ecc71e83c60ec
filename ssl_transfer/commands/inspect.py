"""`ssl-transfer inspect`: an encoder folder in words and a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from ssl_transfer.encoders.encoder import Encoder


def inspect(encoder: str) -> int:
    """Tell what an encoder folder holds: its stages, input, objective, data and figures.

    The folder is loaded, and so checked, first.

    Args:
        encoder: the folder.

    Raises:
        ValueError: no encoder folder, or one that does not load.
    """
    from rich.console import Console

    from ssl_transfer.encoders.config import read_config
    from ssl_transfer.encoders.folder import load_encoder

    path = Path(encoder).expanduser()
    loaded = load_encoder(path)
    config = read_config(path)
    console = Console(highlight=False)
    console.print(f"[bold]Encoder {config['architecture']}[/bold], trained by {config['objective']}")
    console.print(_words(loaded, config, path))
    console.print(_stages(loaded))
    for title in ("metrics", "training", "data", "versions"):
        if config.get(title):
            console.print(_facts(title, config[title]))
    return 0


def _words(encoder: Encoder, config: dict[str, Any], path: Path) -> str:
    from rich.markup import escape

    channels, height, width = encoder.shape
    size = sum(file.stat().st_size for file in path.iterdir() if file.is_file())
    maps = "It gives no maps."
    if encoder.map_dim is not None and encoder.map_size is not None:
        maps = f"Its maps are (B, {encoder.map_dim}, {encoder.map_size[0]}, {encoder.map_size[1]})."
    reading = "the features are the network's own, such as a class token"
    if encoder.bottleneck is not None:
        reading = f"the features are a linear map of them to {encoder.feature_dim} values"
    elif encoder.pools_maps:
        reading = f"the features are the maps pooled {encoder.spec.pool}x{encoder.spec.pool}"
    mean = ", ".join(f"{value:.4g}" for value in encoder.mean.tolist())
    std = ", ".join(f"{value:.4g}" for value in encoder.std.tolist())
    return (
        f"It turns images (B, {channels}, {height}, {width}), uint8 or float in \\[0, 1], into features "
        f"(B, {encoder.feature_dim}). {maps} How: {reading}.\n"
        f"It normalises by itself: mean {mean}, standard deviation {std}. "
        f"Trained from {config.get('initial_weights') or 'random weights'}.\n"
        f"{size / 2**20:.1f} MiB in {escape(str(path))}; unaltered since it was written, golden features reproduced."
    )


def _stages(encoder: Encoder) -> Table:
    from rich.table import Table

    table = Table("stage", show_footer=True)
    table.add_column("output", justify="right")
    table.add_column("parameters", justify="right")
    shapes = _output_shapes(encoder)
    for name, stage in encoder.stages():
        parameters = sum(parameter.numel() for parameter in stage.parameters())
        table.add_row(name, shapes.get(name, "-"), f"{parameters:,}")
    total = sum(parameter.numel() for parameter in encoder.parameters())
    for column, footer in zip(table.columns, ("total", f"{encoder.feature_dim}", f"{total:,}"), strict=True):
        column.footer = footer
    return table


def _output_shapes(encoder: Encoder) -> dict[str, str]:
    """Shape of what each stage gives for one image, without the batch."""
    import torch

    from ssl_transfer.encoders.network import quiet

    shapes: dict[str, str] = {}

    def record(name: str, output: Any) -> None:
        if isinstance(output, torch.Tensor):
            shapes[name] = " x ".join(str(size) for size in output.shape[1:])

    hooks = [
        part.register_forward_hook(lambda _, __, output, name=name: record(name, output))
        for name, stage in encoder.stages()
        for part in stage.modules()
    ]
    with quiet(encoder):
        encoder(torch.zeros(1, *encoder.shape, dtype=torch.uint8))
    for hook in hooks:
        hook.remove()
    return shapes


def _facts(title: str, facts: dict[str, Any]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title, "", show_header=True)
    for key, value in facts.items():
        table.add_row(escape(str(key)), f"{value:.4f}" if isinstance(value, float) else escape(_short(value)))
    return table


def _short(value: Any) -> str:
    """A value in at most about six items."""
    if isinstance(value, dict):
        return _short([f"{key}: {_short(inner)}" for key, inner in value.items()])
    if isinstance(value, list):
        return ", ".join(str(inner) for inner in value[:6]) + (f" and {len(value) - 6} more" if len(value) > 6 else "")
    return str(value)
