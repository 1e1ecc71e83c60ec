"""Any torchvision classification network, without its head.

Images of at most 64 pixels get a small stem in the families that `torchvision_trunks.FAMILIES` marks `shrinks`: the
first strided convolution takes half the stride (7x7/2 and 3x3/2 become 3x3/1, patches of 4 become patches of 2) and a
max-pool right behind it goes. VGG, which has no stem, keeps as many max-pools as leave maps of at least 2x2. Both
choices are made once, when an encoder is first built, and stay in its spec as the arguments `small_stem` and `pools`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torchvision
from torch import Tensor, nn

from ssl_transfer.encoders.foreign import Foreign
from ssl_transfer.encoders.network import Built, NoPool, Shape
from ssl_transfer.encoders.spec import EncoderSpec
from ssl_transfer.encoders.surgery import adapt_channels, shrink_stem
from ssl_transfer.encoders.torchvision_trunks import family_of, wrap
from ssl_transfer.encoders.weights import is_file_name, load_weights

SMALL = 64  # pixels


def names() -> list[str]:
    """Names of the torchvision classification networks."""
    listed: list[str] = torchvision.models.list_models(module=torchvision.models)
    return listed


def build(spec: EncoderSpec, shape: Shape) -> Built:
    """Build a torchvision network for images of `shape`.

    Besides the builder's own arguments it takes `small_stem` (bool) and, for VGG, `pools` (max-pools kept); what is
    not given is chosen by the image size and written into the spec. Named weights bring their own normalisation.

    Raises:
        ValueError: unknown weights or arguments, or a size that the network cannot take.
    """
    family = family_of(spec.name)
    arguments: dict[str, Any] = dict(spec.arguments)
    own: dict[str, Any] = {key: arguments.pop(key) for key in ("small_stem", "pools") if key in arguments}
    small = min(shape[1:]) <= SMALL
    named = _named_weights(spec.name, spec.weights) if spec.weights and not is_file_name(spec.weights) else None
    if spec.name.startswith("vit"):
        arguments.setdefault("image_size", _vit_side(spec.name, shape))
    network = _stock(spec.name, arguments, named)
    if getattr(network, "aux_logits", False):  # heads for training alone
        network.aux_logits = False  # type: ignore[assignment]
        for head in ("aux1", "aux2", "AuxLogits"):
            setattr(network, head, None)
    trunk = None if spec.own_head else wrap(spec.name, network)
    if spec.weights and named is None:
        load_weights(network, spec.weights, _suited(network))
    pretrained = spec.weights is not None
    adapt_channels(network, shape[0], pretrained)
    if family is not None and family.shrinks:
        own.setdefault("small_stem", small and not spec.own_head)
        if own["small_stem"]:
            shrink_stem(network, family.pool, pretrained)
    if spec.name.startswith("vgg"):
        pools = max(1, min(5, int(math.log2(min(shape[1:]))) - 1))
        own.setdefault("pools", 5 if spec.own_head else pools)
        _keep_pools(network, own["pools"])
    if spec.own_head and own not in ({}, {"small_stem": False}, {"pools": 5}):
        raise ValueError(
            f"encoder.own_head reads {spec.name} as it was pretrained, not with {own}: leave these arguments out"
        )
    if hasattr(network, "transform_input"):
        arguments["transform_input"] = bool(network.transform_input) and shape[0] == 3
        setattr(network, "transform_input", arguments["transform_input"])  # noqa: B010 (mypy takes it for a module)
    return Built(
        trunk or Foreign(network, shape, own_head=True),
        replace(spec, arguments=arguments | own),
        _normalisation(named, shape[0]),
        named.meta.get("categories") if spec.own_head and named is not None else None,
    )


def _stock(name: str, arguments: dict[str, Any], named: Any) -> nn.Module:
    """The network as torchvision builds it, with its named weights if any."""
    extra: dict[str, Any] = {}
    if named is None and name in ("googlenet", "inception_v3"):
        extra = {"aux_logits": False, "init_weights": False}
    side = arguments.get("image_size")
    try:
        if named is None or side is None or side == named.meta["min_size"][0]:
            network: nn.Module = torchvision.models.get_model(name, weights=named, **(extra | arguments))
            return network
        network = torchvision.models.get_model(name, **arguments)
        state = named.get_state_dict(progress=False, check_hash=True)
        network.load_state_dict(_suited(network)(state))
        return network
    except TypeError as error:
        reason = str(error).rpartition("() ")[2]
        raise ValueError(f"encoder {name} refuses its arguments {arguments}: {reason}; correct them") from error
    except OSError as error:
        raise ValueError(
            f"encoder.weights {named} could not be fetched ({error}): connect, or give a local file"
        ) from error


def _suited(network: nn.Module) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    """What brings weights to the image size of a ViT, by interpolation of its position embeddings."""
    if not isinstance(network, torchvision.models.VisionTransformer):
        return lambda state: state
    side, patch = network.image_size, network.patch_size
    return lambda state: dict(torchvision.models.vision_transformer.interpolate_embeddings(side, patch, state))


def _named_weights(name: str, weights: str) -> Any:
    known = torchvision.models.get_model_weights(name)
    try:
        return known[weights.rpartition(".")[2]]
    except KeyError:
        listed = ", ".join(["DEFAULT", *known.__members__])
        raise ValueError(
            f"encoder.weights {weights!r} is unknown for {name}: known are {listed}, or a local file"
        ) from None


def _normalisation(named: Any, channels: int) -> tuple[list[float], list[float]] | None:
    if named is None or channels != 3:
        return None
    preset = named.transforms()
    return list(preset.mean), list(preset.std)


def _vit_side(name: str, shape: Shape) -> int:
    patch = int(name.rpartition("_")[2])
    if shape[1] != shape[2] or shape[1] % patch:
        raise ValueError(
            f"encoder {name} needs square images of a multiple of {patch} pixels, not {shape[1]}x{shape[2]}: "
            "set data.size to suit"
        )
    return shape[1]


def _keep_pools(network: nn.Module, pools: int) -> None:
    """Take out the last max-pools of a VGG until `pools` remain."""
    features = network.get_submodule("features")
    found = [name for name, layer in features.named_children() if isinstance(layer, nn.MaxPool2d)]
    for name in found[pools:]:
        setattr(features, name, NoPool())
