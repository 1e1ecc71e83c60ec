"""Target `lightly_train`: torchvision's or timm's weights, and `start.py` that pretrains them further."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ssl_transfer.encoders.network import Network
from ssl_transfer.export import weights
from ssl_transfer.export.base import Target
from ssl_transfer.export.layered import Layered
from ssl_transfer.export.subject import Subject
from ssl_transfer.export.timm import Timm
from ssl_transfer.export.torchvision import Torchvision, own_layer
from ssl_transfer.export.torchvision_code import build_line, change_lines
from ssl_transfer.export.weights import MODEL

HELD = ("resnet", "resnext", "wide_resnet", "convnext", "shufflenet")  # torchvision's, that lightly-train trains


class LightlyTrain(Layered):
    """The layout of target torchvision or timm, and `start.py`, which hands the network to `lightly_train.pretrain`."""

    name = "lightly_train"
    takes = ("maps",)

    def choose(self, subject: Subject) -> Target:
        weights.check_holdable(self.name, subject)
        spec, channels = subject.encoder.spec, subject.encoder.shape[0]
        if channels not in (1, 3):
            raise ValueError(
                f"target lightly_train reads pictures of 1 or 3 channels, and {subject.path} reads {channels}: use "
                "torchvision"
            )
        if spec.own_head:
            raise ValueError(f"target lightly_train trains features, and {subject.path} gives logits: use torchvision")
        if spec.name == "timm.create_model":
            return self.of(Timm, subject)
        if spec.name.startswith(HELD):
            return self.of(Torchvision, subject)
        raise ValueError(
            f"target lightly_train holds torchvision's {', '.join(HELD)} and timm's networks, and {subject.path} is of "
            f"{spec.name}: use {weights.GRAPHS}"
        )

    def write(self, subject: Subject, folder: Path) -> None:
        super().write(subject, folder)
        (folder / "start.py").write_text(self._start(subject), encoding="utf-8")

    def notes(self, subject: Subject) -> list[str]:
        notes = [
            "`python start.py IMAGES OUT` pretrains further with lightly-train, a package under the AGPL; "
            "LIGHTLY_TRAIN_EVENTS_DISABLED=1 in the environment switches off what it reports of its use."
        ]
        if subject.encoder.shape[0] == 1:
            notes.append("lightly-train reads colour: `start.py` spreads the first layer over three equal channels.")
        return notes + super().notes(subject)

    def state(self, folder: Path, config: dict[str, Any]) -> dict[str, Tensor]:
        return weights.encoder_state(folder, config)

    def _start(self, subject: Subject) -> str:
        channels, height, width = subject.encoder.shape
        package, lines = self._network(subject)
        spread = 3 // channels
        return _START.format(
            name=subject.encoder.spec.name,
            package=package,
            imports=f"import torch\nimport {package}" if "torch.nn" in "".join(lines) else f"import {package}",
            lines="".join(f"    {line}\n" for line in lines),
            size=(height, width),
            mean=tuple(weights.short(subject.encoder.mean)) * spread,
            std=tuple(weights.short(subject.encoder.std)) * spread,
        )

    def _network(self, subject: Subject) -> tuple[str, list[str]]:
        """The package that builds the network, and the lines that do."""
        encoder = subject.encoder
        grey = encoder.shape[0] == 1
        first = first_key(encoder.network)
        read = [f'weights = load_file(FOLDER / "{MODEL}")']
        spread = [f'weights["{first}"] = weights["{first}"].expand(-1, 3, -1, -1) / 3  # grey to colour'] * grey
        loaded = "net.load_state_dict(weights)"
        if isinstance(self.layout, Timm):
            twin = self.layout.twin(subject)
            told = twin.arguments | ({"in_chans": 3} if grey else {})
            arguments = "".join(f", {key}={value!r}" for key, value in told.items())
            return "timm", [f'net = timm.create_model("{twin.name}"{arguments})', *read, *spread, loaded]
        linear, head = own_layer(subject), weights.linear_head(subject)
        if linear is None:
            loaded = "net.load_state_dict(weights, strict=False)  # all but a head"
        built = build_line(encoder, None if linear is None or head is None else head.out_features).strip()
        changes = [line.replace("Conv2d(1, ", "Conv2d(3, ") for line in change_lines(encoder)]
        if grey and not encoder.spec.arguments.get("small_stem"):
            changes = []  # torchvision's own first layer reads colour
        return "torchvision", [built, *changes, *read, *spread, loaded]


def first_key(network: Network) -> str:
    """The network's own key of the weights that read the image."""
    path = next(path for path, part in network.named_modules() if isinstance(part, nn.Conv2d))
    return f"{path.partition('.')[2]}.weight"


_START = '''\
"""Pretrains further with lightly-train, from the weights of this {name}.

Needs lightly-train, {package} and safetensors. `python start.py IMAGES OUT` trains on the pictures of a folder.
"""

import sys
from pathlib import Path

{imports}
from safetensors.torch import load_file

FOLDER = Path(__file__).resolve().parent
TRANSFORM = {{
    "image_size": {size},
    "normalize": {{
        "mean": {mean},
        "std": {std},
    }},
}}


def network():
    """The network with these weights, for `lightly_train.pretrain(model=...)`."""
{lines}    return net


def pretrain(images, out, **options):
    """Pretrain on the pictures of a folder; `options` are those of `lightly_train.pretrain`."""
    import lightly_train

    chosen = {{"method": "simclr", "transform_args": TRANSFORM}} | options
    lightly_train.pretrain(out=out, data=images, model=network(), **chosen)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python start.py IMAGES OUT")
    pretrain(*sys.argv[1:])
'''
