"""`ssl-transfer inspect`: an encoder folder in words and a table, or what a tuning makes of its layers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from ssl_transfer.downstream.tuning import Tuning
    from ssl_transfer.encoders.encoder import Encoder


def inspect(
    encoder: str,
    tuning: Tuning | None = None,
    lr: float = 1e-3,
    epochs: int = 10,
    size: int | None = None,
    channels: int = 3,
) -> int:
    """Tell what an encoder folder holds, or what a tuning makes of each of its layers.

    A folder is loaded, and so checked, first. Examples: ssl-transfer inspect runs/simclr/encoder
    ssl-transfer inspect runs/simclr/encoder --tuning Partial --tuning.n_stages 1
    ssl-transfer inspect vgg16 --size 64 --tuning Gradual

    Args:
        encoder: the folder; with a tuning also the name of a network.
        tuning: Frozen, AsIs, Partial, Full, LinearThenFull, Gradual, Surgical, LoRA, Scratch or Compact: prints the
            layer table, with what learns and how fast, in the first epoch.
        lr: the learning rate of the optimisation.
        epochs: of the fit.
        size: side of the images in pixels; by default that of the folder, or 224 for a network's name.
        channels: of the images, for a network's name.

    Raises:
        ValueError: no encoder folder, or one that does not load; a tuning that does not suit it; a number below its
            least.
    """
    from rich.console import Console

    from ssl_transfer.encoders.build import is_folder_name
    from ssl_transfer.encoders.config import read_config
    from ssl_transfer.encoders.folder import load_encoder

    _check_numbers(lr, epochs, size, channels)
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=120)
    if tuning is not None:
        return _tell_layers(console, encoder, tuning, lr, epochs, size, channels)
    if not is_folder_name(encoder):
        raise ValueError(
            f"there is no encoder folder {encoder!r}: give the DIR/encoder of a finished fit; the name of a network "
            "needs --tuning, and --size for other images than 224 x 224"
        )
    path = Path(encoder).expanduser()
    loaded = load_encoder(path)
    config = read_config(path)
    console.print(f"[bold]Encoder {config['architecture']}[/bold], trained by {config['objective']}")
    console.print(_words(loaded, config, path))
    console.print(_stages(loaded))
    for title in ("metrics", "training", "data", "versions"):
        if config.get(title):
            console.print(_facts(title, config[title]))
    return 0


def _check_numbers(lr: float, epochs: int, size: int | None, channels: int) -> None:
    if not lr > 0:
        raise ValueError(f"--lr must be above 0, not {lr}")
    for option, value in (("epochs", epochs), ("size", size), ("channels", channels)):
        if value is not None and value < 1:
            raise ValueError(f"--{option} must be at least 1, not {value}")


def _tell_layers(
    console: Console, name: str, tuning: Tuning, lr: float, epochs: int, size: int | None, channels: int
) -> int:
    from ssl_transfer.downstream.tuning.layers import layers
    from ssl_transfer.encoders.build import is_folder_name
    from ssl_transfer.encoders.folder import load_encoder
    from ssl_transfer.reporting.layer_table import layer_table

    if is_folder_name(name):
        channels, height, width = load_encoder(name).shape
        shape = (channels, size or height, size or width)
    else:
        shape = (channels, size or 224, size or 224)
    encoder = tuning.encoder(name, shape, [0.5] * channels, [0.25] * channels)
    rows = layers(encoder, tuning, lr, epochs)
    console.print(
        layer_table(rows, encoder.spec.name, tuning.describe(), shape, encoder.feature_dim, lr * tuning.head_lr)
    )
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

    from ssl_transfer.encoders.output_shapes import output_shapes

    table = Table("stage", show_footer=True)
    table.add_column("output", justify="right")
    table.add_column("parameters", justify="right")
    shapes = output_shapes(encoder)
    names = {id(module): name for name, module in encoder.named_modules()}
    order = list(shapes)
    for name, stage in encoder.stages():
        given = [names[id(part)] for part in stage.modules() if names.get(id(part)) in shapes]
        last = shapes[max(given, key=order.index)] if given else ()
        parameters = sum(parameter.numel() for parameter in stage.parameters())
        table.add_row(name, " x ".join(map(str, last)) or "-", f"{parameters:,}")
    total = sum(parameter.numel() for parameter in encoder.parameters())
    for column, footer in zip(table.columns, ("total", f"{encoder.feature_dim}", f"{total:,}"), strict=True):
        column.footer = footer
    return table


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
