"""The model card that lies in an encoder folder."""

from __future__ import annotations

from typing import Any


def card(config: dict[str, Any], name: str) -> str:
    """Markdown of the card, from the configuration of the folder called `name`."""
    settings = config["pretrained_cfg"]
    channels, height, width = settings["input_size"]
    maps = "none"
    if config["map_dim"] is not None:
        maps = f"(B, {config['map_dim']}, {config['map_size'][0]}, {config['map_size'][1]})"
    spec = config["encoder"]
    reading = f"a bottleneck of {spec['bottleneck']}" if spec["bottleneck"] else f"pooled {spec['pool']}x{spec['pool']}"
    if spec.get("own_head"):
        reading = "class logits of the network's own head"
    return f"""---
library_name: ssl_transfer
tags: [image-feature-extraction]
---
# Encoder {config["architecture"]}, trained by {config["objective"]}

Turns images into vectors of {config["num_features"]} features, for classifiers, anomaly detectors and other tasks.
{config["parameters"]:,} parameters; {reading}.

## Use

```python
import ssl_transfer

encoder = ssl_transfer.load_encoder("{name}")
features = encoder(images)  # (B, {channels}, {height}, {width}) -> (B, {config["num_features"]})
```

| | |
| --- | --- |
| images | (B, {channels}, {height}, {width}), uint8 or float in [0, 1] |
| features | (B, {config["num_features"]}) |
| maps | {maps} |

## Preprocessing
Resize to {height} x {width} ({settings["interpolation"]}). Normalisation is inside the encoder:
mean {_list(settings["mean"])}, standard deviation {_list(settings["std"])}, of values in [0, 1].

## Figures
{_table(config["metrics"], "None were given.")}

## Training
Objective {config["objective"]}, from {config["initial_weights"] or "random weights"}.

{_table(config["training"], "No settings were given.")}

## Data
{_table(config["data"], "Nothing was told of the data.")}

## Limits
The features suit images like those it was trained on. Measure them on your own against raw pixels and a random
encoder before relying on them: what the training images lacked, the features may not tell apart.

Loading checks the weights against `golden.safetensors`, four made-up images and their features.
Written with {", ".join(f"{package} {version}" for package, version in config["versions"].items())}.
"""


def _list(values: list[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def _table(values: dict[str, Any], otherwise: str) -> str:
    if not values:
        return otherwise
    rows = [f"| {_cell(key)} | {_cell(value)} |" for key, value in values.items()]
    return "\n".join(["| | |", "| --- | --- |", *rows])


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{_cell(key)}: {_cell(inner)}" for key, inner in value.items())
    if isinstance(value, (list, tuple)):
        shown = ", ".join(_cell(inner) for inner in value[:20])
        return shown + (f" and {len(value) - 20} more" if len(value) > 20 else "")
    return str(value).replace("|", "\\|").replace("\n", " ")
