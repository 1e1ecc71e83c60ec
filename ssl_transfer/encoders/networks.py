"""From a spec to a network: ours, torchvision's, or any other."""

from __future__ import annotations

from difflib import get_close_matches

from ssl_transfer.encoders import foreign, oriented_gradients, small_resnet, torchvision_networks
from ssl_transfer.encoders.network import Built, Shape
from ssl_transfer.encoders.spec import EncoderSpec
from ssl_transfer.encoders.weights import is_file_name, load_weights

OWN = ("small_resnet", "oriented_gradients")


def known_names() -> list[str]:
    """Architectures by name."""
    return [*OWN, *torchvision_networks.names()]


def build_network(spec: EncoderSpec, shape: Shape) -> Built:
    """Build the network of `spec` for images of `shape`; the choices made by image size enter the spec it returns.

    Raises:
        ValueError: an unknown name, arguments or weights.
    """
    if "." in spec.name:
        return foreign.build(spec, shape)
    if spec.own_head and spec.name in OWN:
        raise ValueError(
            f"encoder.own_head: {spec.name} has no head of its own; choose a pretrained network, such as resnet18 with "
            "encoder.weights=DEFAULT, or set encoder.own_head to false"
        )
    if spec.name == "small_resnet":
        built = small_resnet.build(spec, shape)
        if spec.weights:
            if not is_file_name(spec.weights):
                raise ValueError(f"encoder.weights {spec.weights!r}: small_resnet has no named weights, give a file")
            load_weights(built.network, spec.weights)
        return built
    if spec.name == "oriented_gradients":
        return oriented_gradients.build(spec, shape)
    if spec.name in torchvision_networks.names():
        return torchvision_networks.build(spec, shape)
    raise ValueError(unknown(spec.name))


def unknown(name: str) -> str:
    """What to say of a name that is no encoder."""
    close = get_close_matches(name.lower(), known_names(), n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    return (
        f"encoder {name!r} is unknown: {hint}Known are {', '.join(known_names())}, the dotted path of a class or "
        "callable such as timm.create_model, and an encoder folder"
    )
