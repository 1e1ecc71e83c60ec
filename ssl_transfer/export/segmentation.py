"""Target `segmentation`: torchvision's weights, and `start.py` that starts a segmentation network from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ssl_transfer.export import weights
from ssl_transfer.export.base import Target
from ssl_transfer.export.layered import Layered
from ssl_transfer.export.subject import Subject
from ssl_transfer.export.torchvision import Torchvision
from ssl_transfer.export.torchvision_code import change_lines, reading_of
from ssl_transfer.export.weights import MODEL

UNETS = (  # encoders of segmentation_models_pytorch with torchvision's own keys
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d", "resnext101_32x8d"),
    *("vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn", "mobilenet_v2"),
    *("densenet121", "densenet161", "densenet169", "densenet201"),
)
DEEPLABS = ("resnet50", "resnet101", "mobilenet_v3_large")  # of torchvision


class Segmentation(Layered):
    """The layout of target torchvision, and `start.py`.

    It builds torchvision's DeepLabV3 and the Unet of segmentation_models_pytorch, whichever has the network, with these
    weights in its encoder, and compares that encoder's maps with golden ones.
    """

    name = "segmentation"
    takes = ("maps",)

    def choose(self, subject: Subject) -> Target:
        weights.check_holdable(self.name, subject)
        spec = subject.encoder.spec
        if spec.name not in UNETS and spec.name not in DEEPLABS:
            raise ValueError(
                f"target segmentation holds networks that torchvision or segmentation_models_pytorch segment with, and "
                f"{subject.path} is of {spec.name}: known are {', '.join(sorted({*UNETS, *DEEPLABS}))}"
            )
        if spec.own_head or (spec.name.startswith("vgg") and spec.arguments.get("pools", 5) != 5):
            why = (
                "reads its own head" if spec.own_head else "has fewer max-pools than segmentation_models_pytorch needs"
            )
            raise ValueError(f"target segmentation cannot hold {subject.path}, which {why}: use torchvision")
        return self.of(Torchvision, subject)

    def write(self, subject: Subject, folder: Path) -> None:
        super().write(subject, folder)
        (folder / "start.py").write_text(start(subject), encoding="utf-8")
        with torch.inference_mode():
            maps = subject.encoder.maps(subject.images).clone().contiguous()
        save_file({"images": subject.images, "maps": maps}, folder / "golden_maps.safetensors")

    def notes(self, subject: Subject) -> list[str]:
        name = subject.encoder.spec.name
        notes = ["`python start.py` compares, and trains for two steps on made-up masks."]
        if name in UNETS:
            notes.append("`unet` of `start.py` takes images whose sides are multiples of 32.")
        if name in DEEPLABS:
            notes.append("`deeplab` of `start.py` replaces strides by dilation, so that its maps are larger.")
        return notes + super().notes(subject)

    def state(self, folder: Path, config: dict[str, Any]) -> dict[str, Tensor]:
        return weights.encoder_state(folder, config)


def start(subject: Subject) -> str:
    """The source of `start.py`."""
    name = subject.encoder.spec.name
    parts = [_unet(subject)] * (name in UNETS) + [_deeplab(subject)] * (name in DEEPLABS)
    reading = reading_of(name)
    assert reading is not None
    uses = [use for use, names in (("torchvision", DEEPLABS), ("segmentation_models_pytorch", UNETS)) if name in names]
    return (
        f'"""Starts a segmentation network from the weights of this {name}.\n\n'
        f"Needs {' or '.join(uses)}. "
        "`python start.py` compares with golden maps and makes two steps.\n"
        '"""\n\n'
        "from pathlib import Path\n\nimport torch\nfrom safetensors.torch import load_file\n\n"
        "FOLDER = Path(__file__).resolve().parent\n"
        f"{weights.normalisation(subject)}\n\n"
        'def weights():\n    """Those of the encoder, without a head."""\n'
        f'    loaded = load_file(FOLDER / "{MODEL}")\n'
        f'    return {{key: value for key, value in loaded.items() if not key.startswith("{reading.head}.")}}\n\n\n'
        'def normalise(images):\n    """Images (B, C, H, W), uint8 or float in [0, 1], as the network takes them."""\n'
        f"    return {weights.NORMALISED}\n"
        f"{''.join(parts)}\n\n"
        f"{_MAIN.format(channels=subject.encoder.shape[0], side=64, builders=', '.join(_builders(name)))}"
    )


def _builders(name: str) -> list[str]:
    return ["(unet, unet_maps)"] * (name in UNETS) + ["(deeplab, deeplab_maps)"] * (name in DEEPLABS)


def _unet(subject: Subject) -> str:
    name = subject.encoder.spec.name
    maps = "net.encoder(x)[-1]" + (".relu()" if name.startswith("densenet") else "")
    return _PART.format(
        builder="unet",
        what="A Unet.",
        imported="    import segmentation_models_pytorch as smp\n\n",
        call=f'smp.Unet("{name}", encoder_weights=None, in_channels={subject.encoder.shape[0]}, classes=classes)',
        changes=_changes(subject, "net.encoder."),
        loaded="net.encoder.load_state_dict(weights())",
        maps=maps,
    )


def _deeplab(subject: Subject) -> str:
    name = subject.encoder.spec.name
    mobile = name.startswith("mobilenet")
    dense = 'net.backbone(x)["out"][:, :, ::4, ::4]  # dilation in place of strides: every fourth place'
    renamed = '{key.removeprefix("features."): value for key, value in weights().items()}'
    return _PART.format(
        builder="deeplab",
        what="A DeepLabV3. `fcn_` in place of `deeplabv3_` starts alike.",
        imported="    from torchvision.models import segmentation\n\n",
        call=f"segmentation.deeplabv3_{name}(weights=None, weights_backbone=None, num_classes=classes)",
        changes=_changes(subject, "net.backbone."),
        loaded=f"net.backbone.load_state_dict({renamed if mobile else 'weights()'})",
        maps="None  # dilation gives others" if mobile else dense,
    )


def _changes(subject: Subject, prefix: str) -> str:
    """The lines that change the network, inside a larger one."""
    lines = [line.replace("net.", prefix, 1) for line in change_lines(subject.encoder)]
    lines = [line.replace("net.backbone.features[0]", 'net.backbone["0"]') for line in lines]
    return "".join(f"    {line}\n" for line in lines)


_PART = '''

def {builder}(classes):
    """{what}"""
{imported}    net = {call}
{changes}    {loaded}
    return net


def {builder}_maps(net, x):
    """What the golden maps are compared with."""
    return {maps}
'''

_MAIN = '''\
def compare(net, maps):
    """Largest difference of the encoder's maps from the golden ones; None where they are others by design."""
    golden = load_file(FOLDER / "golden_maps.safetensors")
    net.eval()
    with torch.no_grad():
        found = maps(net, normalise(golden["images"]))
    return None if found is None else float((found - golden["maps"]).abs().max())


def train(net, images, masks, steps=2):
    """Losses of some steps on images (B, C, H, W) and masks (B, H, W) of class numbers."""
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3)
    losses = []
    net.train()
    for _ in range(steps):
        given = net(normalise(images))
        logits = given["out"] if isinstance(given, dict) else given
        loss = torch.nn.functional.cross_entropy(logits, masks)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


if __name__ == "__main__":
    images = torch.randint(0, 256, (4, {channels}, {side}, {side}), dtype=torch.uint8)
    masks = (images[:, 0] > 127).long()
    for build, maps in [{builders}]:
        try:
            net = build(classes=2)
        except ImportError as error:
            print(f"{{build.__name__}}: {{error}}")
            continue
        print(f"{{build.__name__}}: maps differ by {{compare(net, maps)}}, losses {{train(net, images, masks)}}")
'''
