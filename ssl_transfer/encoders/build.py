"""From whatever names an encoder to an `Encoder`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from ssl_transfer.encoders import torchvision_networks
from ssl_transfer.encoders.encoder import Encoder
from ssl_transfer.encoders.folder import load_encoder
from ssl_transfer.encoders.foreign import Foreign, class_path
from ssl_transfer.encoders.network import Shape
from ssl_transfer.encoders.networks import build_network, known_names
from ssl_transfer.encoders.spec import EncoderSpec


def build_encoder(
    encoder: EncoderSpec | str | nn.Module,
    shape: Shape,
    mean: Sequence[float],
    std: Sequence[float],
    trust: Sequence[str] = (),
) -> Encoder:
    """Build an encoder for images of `shape`.

    Args:
        encoder: a spec; an encoder folder or an architecture's name; an `Encoder`, which is returned; or any
            `nn.Module`, which is taken over without a copy. A module can be saved only if its class builds it
            without arguments, and a folder of a class from elsewhere than ssl_transfer, torchvision and timm loads
            only with `trust`.
        shape: `(C, H, W)`.
        mean, std: per channel, of values in [0, 1]. An encoder folder and named pretrained weights keep their own.
        trust: packages whose classes an encoder folder may name.

    Raises:
        ValueError: an unknown name, no such folder, or a network that cannot take these images.

    >>> build_encoder("small_resnet", (3, 32, 32), [0.5] * 3, [0.25] * 3).map_size
    (8, 8)
    """
    if isinstance(encoder, str):
        if is_folder_name(encoder):
            return load_encoder(encoder, trust=trust).resize(shape)
        encoder = EncoderSpec(encoder)
    if isinstance(encoder, Encoder):
        return encoder.resize(shape)
    if isinstance(encoder, nn.Module):
        return Encoder(EncoderSpec(class_path(encoder)), Foreign(encoder, shape), shape, mean, std)
    if encoder.own_head and not encoder.weights and not _brings_weights(encoder):
        raise ValueError(
            f"encoder.own_head needs a pretrained head, and {encoder.name} would be random: set encoder.weights to "
            "DEFAULT or to a local file"
        )
    built = build_network(encoder, shape)
    if built.normalisation is not None:
        mean, std = built.normalisation
    return Encoder(built.spec, built.network, shape, mean, std, built.own_classes)


def _brings_weights(spec: EncoderSpec) -> bool:
    """Whether what builds the network may load weights by itself; names without a head are refused elsewhere."""
    if spec.name == "timm.create_model":
        return bool(spec.arguments.get("pretrained") or spec.arguments.get("checkpoint_path"))
    return "." in spec.name or spec.name not in torchvision_networks.names()


def is_folder_name(encoder: str) -> bool:
    """Whether a string means a folder: it exists, or looks like a path, and is no known name."""
    if encoder in known_names():
        return False
    return Path(encoder).expanduser().exists() or os.sep in encoder or "/" in encoder or encoder.startswith((".", "~"))
