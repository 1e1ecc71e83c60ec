"""Torchvision networks in plain lines of code: how each family is built, changed for small images, and read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from ssl_transfer.encoders import Encoder
from ssl_transfer.encoders.network import NoPool
from ssl_transfer.encoders.torchvision_trunks import family_of


@dataclass(frozen=True)
class Reading:
    """How the networks of one make are read.

    Args:
        prefixes: of their names.
        head: the attribute that holds the head.
        linear: the key of a last layer that is a linear map of the features; None if the head is more.
        maps: lines from `x` to `maps`; None without maps.
        whole: whether the network without its head gives the features, maps averaged or a class token.
        kept: what stays of the head.
    """

    prefixes: tuple[str, ...]
    head: str
    linear: str | None
    maps: str | None
    whole: bool = True
    kept: str = "torch.nn.Identity()"


_TOKENS = """\
tokens = torch.cat([net.class_token.expand(len(x), -1, -1), net._process_input(x)], dim=1)
grid = (x.shape[2] // net.patch_size, x.shape[3] // net.patch_size)
maps = net.encoder(tokens)[:, 1:].transpose(1, 2).unflatten(2, grid)"""
_RESNET = """\
x = net.maxpool(net.relu(net.bn1(net.conv1(x))))
maps = net.layer4(net.layer3(net.layer2(net.layer1(x))))"""
_SHUFFLENET = "maps = net.conv5(net.stage4(net.stage3(net.stage2(net.maxpool(net.conv1(x))))))"
_MAXVIT = """\
maps = net.stem(x)
for block in net.blocks:
    maps = block(maps)"""
_FEATURES = "maps = net.features(x)"
_NORM = "maps = net.classifier[0](net.features(x))"
READINGS = (
    Reading(("resnet", "resnext", "wide_resnet"), "fc", "fc", _RESNET),
    Reading(("densenet",), "classifier", "classifier", "maps = torch.relu(net.features(x))"),
    Reading(("shufflenet",), "fc", "fc", _SHUFFLENET),
    Reading(("efficientnet", "mobilenet_v2"), "classifier", "classifier.1", _FEATURES),
    Reading(("mobilenet_v3",), "classifier", None, _FEATURES),
    Reading(("regnet",), "fc", "fc", "maps = net.trunk_output(net.stem(x))"),
    Reading(("swin",), "head", "head", "maps = net.permute(net.norm(net.features(x)))"),
    Reading(("vit",), "heads", "heads.head", _TOKENS),
    Reading(("googlenet", "inception"), "fc", "fc", None),
    Reading(("convnext",), "classifier", None, _NORM, whole=False, kept="net.classifier[:1]"),
    Reading(("squeezenet", "vgg", "alexnet"), "classifier", None, _FEATURES, whole=False),
    Reading(("maxvit",), "classifier", None, _MAXVIT, whole=False),
)


def reading_of(name: str) -> Reading | None:
    """How a torchvision network is read; None for one that is not known here."""
    return next((reading for reading in READINGS if name.startswith(reading.prefixes)), None)


def build_line(encoder: Encoder, classes: int | None = None) -> str:
    """The call that builds the network, with a head for `classes` if given."""
    chosen = arguments_of(encoder) | ({} if classes is None else {"num_classes": classes})
    told = ", ".join(f"{key}={value!r}" for key, value in chosen.items())
    return f"net = torchvision.models.{encoder.spec.name}({told})\n"


def arguments_of(encoder: Encoder) -> dict[str, Any]:
    """Arguments for torchvision's own builder."""
    own = ("small_stem", "pools")
    chosen = {key: value for key, value in encoder.spec.arguments.items() if key not in own}
    if encoder.spec.name in ("googlenet", "inception_v3"):
        chosen |= {"aux_logits": False, "init_weights": False}
    return chosen


def change_lines(encoder: Encoder) -> list[str]:
    """What was changed after torchvision built the network, a line of code each: stem, channels, pools."""
    network = encoder.network.get_submodule("module" if encoder.spec.own_head else "network")
    lines = []
    if encoder.shape[0] != 3 or encoder.spec.arguments.get("small_stem"):
        path, layer = next((path, part) for path, part in network.named_modules() if isinstance(part, nn.Conv2d))
        lines.append(f"{_code(path)} = {_convolution(layer)}")
    family = family_of(encoder.spec.name)
    if family is not None and family.pool is not None and isinstance(network.get_submodule(family.pool), nn.Identity):
        lines.append(f"{_code(family.pool)} = torch.nn.Identity()")
    dropped = [path for path, part in network.named_modules() if isinstance(part, NoPool)]
    return lines + [f"{_code(path)} = torch.nn.Identity()" for path in dropped]


def change_notes(encoder: Encoder) -> list[str]:
    """The changes in words; none for a network as torchvision builds it."""
    lines = change_lines(encoder)
    if not lines:
        return []
    told = "; ".join(f"`{line}`" for line in lines)
    return [
        f"The network is not quite `torchvision.models.{encoder.spec.name}`: it is built for images of "
        f"{' × '.join(map(str, encoder.shape))}. Before the weights are loaded: {told}."
    ]


def _code(path: str) -> str:
    """`features.0.0` as `net.features[0][0]`."""
    return "net" + "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in path.split("."))


def _convolution(layer: nn.Conv2d) -> str:
    numbers = [layer.in_channels, layer.out_channels, *(_side(each) for each in (layer.kernel_size, layer.stride))]
    extra = "" if layer.padding == (0, 0) else f", padding={_side(layer.padding)}"
    bias = "" if layer.bias is not None else ", bias=False"
    return f"torch.nn.Conv2d({', '.join(map(str, numbers))}{extra}{bias})"


def _side(pair: Any) -> Any:
    return pair[0] if len(set(pair)) == 1 else pair
