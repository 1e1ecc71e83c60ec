"""Target `torchvision`: safetensors with torchvision's own keys, and the lines that build the network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torchvision
from torch import Tensor

from ssl_transfer.export import weights
from ssl_transfer.export.base import Target
from ssl_transfer.export.subject import Subject
from ssl_transfer.export.torchvision_code import Reading, build_line, change_lines, change_notes, reading_of
from ssl_transfer.export.weights import GRAPHS, HEAD, MODEL


class Torchvision(Target):
    """Weights by torchvision's own keys: `torchvision.models.resnet18().load_state_dict(...)` takes them.

    A classifier's head becomes the network's own last layer where that is a linear map of the features; of the other
    networks, and of features pooled otherwise, it is a file of its own.
    """

    name = "torchvision"
    takes = ("maps",)
    hidden = ("lightly", "pytorch_lightning", "timm")

    def check(self, subject: Subject) -> None:
        weights.check_holdable(self.name, subject)
        spec = subject.encoder.spec
        if reading_of(spec.name) is None or spec.name not in torchvision.models.list_models(module=torchvision.models):
            raise ValueError(
                f"target {self.name} holds torchvision's networks, and {subject.path} is of {spec.name}: use {GRAPHS}"
                + (", or timm" if spec.name.startswith("timm.") else "")
            )

    def write(self, subject: Subject, folder: Path) -> None:
        state, linear = weights.network_state(subject.encoder), own_layer(subject)
        added: dict[str, Tensor] = {}
        if linear is not None:
            head = weights.linear_head(subject)
            assert head is not None
            added = {f"{linear}.weight": head.weight.detach(), f"{linear}.bias": head.bias.detach()}
        elif subject.fitted is not None:
            weights.save_head(subject, folder)
        weights.save_weights(state | added, folder / MODEL)

    def example(self, subject: Subject) -> str:
        head = "with" if subject.fitted else "without"
        title = f"A torchvision {subject.encoder.spec.name} {head} its head."
        maps = self.options.maps
        return weights.example(subject, title, "torchvision", network(subject), _read(subject, maps), maps)

    def notes(self, subject: Subject) -> list[str]:
        notes = change_notes(subject.encoder)
        linear = own_layer(subject)
        if linear is not None:
            notes.append(f"The classifier is the network's own last layer, `{linear}`.")
        elif subject.fitted is not None:
            notes.append(f"The classifier is in `{HEAD}`, as it reads features that the network's own head does not.")
        if subject.encoder.spec.pool > 1:
            notes.append(f"Features are the maps averaged over a grid of {subject.encoder.spec.pool} × as many cells.")
        return notes

    def state(self, folder: Path, config: dict[str, Any]) -> dict[str, Tensor]:
        return weights.encoder_state(folder, config)


def own_layer(subject: Subject) -> str | None:
    """The key of the network's own last layer if a classifier's head can take its place."""
    reading = _reading(subject)
    held = weights.linear_head(subject) is not None and not subject.encoder.spec.own_head
    return reading.linear if held and reading.whole and _is_whole(subject, reading) else None


def network(subject: Subject) -> str:
    """Lines that build the network and load its weights; `net` gives features, or is read by its parts."""
    encoder, reading, linear = subject.encoder, _reading(subject), own_layer(subject)
    loaded = f'net.load_state_dict(load_file(FOLDER / "{MODEL}"))\nnet.eval()\n'
    classes = None if linear is None else len(_bias(subject))
    built = build_line(encoder, classes) + "".join(f"{line}\n" for line in change_lines(encoder))
    if encoder.spec.own_head:
        return built + loaded + (weights.head_line(subject) if subject.fitted else "")
    if linear is not None:
        split = f"head, net.{reading.head} = net.{reading.head}, torch.nn.Identity()"
        return f"{built}{loaded}{split}  # net gives features, head(features) the logits\n"
    bare = f"net.{reading.head} = {reading.kept}  # no head\n"
    return built + bare + loaded + (weights.head_line(subject) if subject.fitted else "")


def _bias(subject: Subject) -> Tensor:
    head = weights.linear_head(subject)
    assert head is not None
    return head.bias


def _reading(subject: Subject) -> Reading:
    reading = reading_of(subject.encoder.spec.name)
    assert reading is not None
    return reading


def _is_whole(subject: Subject, reading: Reading) -> bool:
    """Whether the network without its head, run as a whole, gives the features."""
    return subject.encoder.spec.own_head or (reading.whole and subject.encoder.spec.pool == 1)


def _read(subject: Subject, maps: bool) -> list[str]:
    """Lines from `x` to `features`, and to `maps` and `logits` where they are told."""
    reading = _reading(subject)
    whole = _is_whole(subject, reading)
    lines = ["features = net(x)"] if whole else []
    if maps or not whole:
        assert reading.maps is not None
        lines.append(reading.maps)
    if not whole:
        lines.append(f"features = {weights.pooled(subject.encoder.spec.pool)}")
    return lines + ([f"logits = {weights.logits_line(subject)}"] if subject.fitted is not None else [])
