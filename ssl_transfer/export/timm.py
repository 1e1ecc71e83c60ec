"""Target `timm`: a folder that `timm.create_model("local-dir:PATH", pretrained=True)` opens."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ssl_transfer.encoders import Encoder
from ssl_transfer.encoders.foreign import Foreign
from ssl_transfer.encoders.network import quiet
from ssl_transfer.export import weights
from ssl_transfer.export.base import Target
from ssl_transfer.export.subject import Subject
from ssl_transfer.export.torchvision_code import reading_of
from ssl_transfer.export.verify import LEAST
from ssl_transfer.export.weights import GRAPHS, HEAD, MODEL

CROPS = {"crop": "center", "pad": "border", "stretch": "squash"}


@dataclass
class Twin:
    """The network as timm builds it, with the encoder's weights.

    Attributes:
        name, arguments: for `timm.create_model`.
        network: in eval mode.
        whole: whether `network(x)` gives the features (with a head of its own class logits, `forward_head` with
            `pre_logits=True` does).
        head: the key of the classifier's layer, None if the network has none.
        added: keys of weights that are not the encoder's.
    """

    name: str
    arguments: dict[str, Any]
    network: nn.Module
    whole: bool
    head: str | None = None
    added: list[str] = field(default_factory=list)


class Timm(Target):
    """Weights and config.json by timm's conventions, for its own networks and for those that it has of torchvision.

    A torchvision encoder is held if the network of the same name in timm has the same keys and gives the same
    features.
    """

    name = "timm"
    takes = ("maps",)
    packages = {"timm": "timm"}  # noqa: RUF012
    hidden = ("lightly", "pytorch_lightning")

    _twin: Twin | None = None

    def check(self, subject: Subject) -> None:
        weights.check_holdable(self.name, subject)
        self._twin = twin_of(subject)

    def write(self, subject: Subject, folder: Path) -> None:
        twin = self.twin(subject)
        weights.save_weights(twin.network.state_dict(), folder / MODEL)
        if subject.fitted is not None and twin.head is None:
            weights.save_head(subject, folder)
        config = configuration(subject, twin)
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")

    def twin(self, subject: Subject) -> Twin:
        """The network of the subject in timm."""
        if self._twin is None:
            self._twin = twin_of(subject)
        return self._twin

    def example(self, subject: Subject) -> str:
        twin, maps = self.twin(subject), self.options.maps
        title = f"A timm {twin.name} {'with' if subject.fitted else 'without'} its head."
        network = 'net = timm.create_model(f"local-dir:{FOLDER}", pretrained=True).eval()\n'
        if subject.fitted is not None and twin.head is None:
            network += weights.head_line(subject)
        return weights.example(subject, title, "timm", network, _read(subject, twin, maps), maps)

    def notes(self, subject: Subject) -> list[str]:
        twin = self.twin(subject)
        told = {"num_classes": _classes(twin)} | twin.arguments
        arguments = "".join(f", {key}={value!r}" for key, value in told.items())
        notes = [
            f'`timm.create_model("{twin.name}"{arguments}, checkpoint_path="{MODEL}")` opens the weights too.',
            "`timm.data.create_transform` prepares files nearly as in training, and `read` of the example exactly so.",
        ]
        if not twin.whole:
            notes.append("Features are made of `forward_features` as the example does; `forward` gives others.")
        if subject.fitted is not None and twin.head is None:
            notes.append(f"The classifier is in `{HEAD}`, as it reads features that the network's own head does not.")
        untrained = [key for key in twin.added if twin.head is None or not key.startswith(twin.head)]
        if untrained:
            notes.append(f"Never trained, and not read by the example: {', '.join(untrained)}.")
        return notes

    def state(self, folder: Path, config: dict[str, Any]) -> dict[str, Tensor]:
        return weights.encoder_state(folder, config)


def twin_of(subject: Subject) -> Twin:
    """The network of the subject as timm builds it. ValueError if timm has none that gives the same."""
    encoder = subject.encoder
    name, arguments = _named(subject)
    head = weights.linear_head(subject)
    if head is not None and not encoder.spec.own_head:
        twin = _built(subject, name, arguments | {"num_classes": head.out_features})
        if twin.whole and _put_head(twin, head) and _gives_features(twin, subject):
            return twin
    own = {} if encoder.spec.own_head else {"num_classes": 0}
    twin = _built(subject, name, own | arguments)
    twin.whole = _gives_features(twin, subject)
    if not twin.whole and not _gives_maps(twin, subject):
        raise ValueError(_refusal(subject, f"timm's {name} gives other features"))
    return twin


def _named(subject: Subject) -> tuple[str, dict[str, Any]]:
    """The name and the arguments for `timm.create_model`."""
    import timm

    spec = subject.encoder.spec
    channels = {"in_chans": subject.encoder.shape[0]}
    if spec.name == "timm.create_model":
        left_out = ("model_name", "pretrained", "checkpoint_path")
        chosen = {key: value for key, value in spec.arguments.items() if key not in left_out}
        return spec.arguments["model_name"], channels | chosen
    stock = {"small_stem": False, "pools": 5, "transform_input": False}
    chosen = {key: value for key, value in spec.arguments.items() if stock.get(key, ...) != value}
    if spec.name not in timm.list_models():
        raise ValueError(_refusal(subject, f"timm has no {spec.name}"))
    if chosen:
        told = ", ".join(f"{key}={value}" for key, value in chosen.items())
        raise ValueError(_refusal(subject, f"timm builds no {spec.name} with {told}"))
    return spec.name, channels


def _built(subject: Subject, name: str, arguments: dict[str, Any]) -> Twin:
    import timm

    with torch.random.fork_rng(devices=[]):
        network = timm.create_model(name, pretrained=False, **arguments).eval()
    state = weights.network_state(subject.encoder)
    expected = network.state_dict()
    added = [key for key in expected if key not in state]
    fits = all(key in expected and expected[key].shape == value.shape for key, value in state.items())
    foreign = subject.encoder.spec.name != "timm.create_model"
    if not fits or (foreign and set(added) - _head_keys(network)):
        raise ValueError(_refusal(subject, f"timm builds {name} of other layers"))
    network.load_state_dict(state, strict=False)
    return Twin(name, arguments, network, whole=set(added) <= _head_keys(network), added=added)


def _head_keys(network: nn.Module) -> set[str]:
    layer = _layer(network)
    return set() if layer is None else {f"{layer}.weight", f"{layer}.bias"}


def _layer(network: Any) -> str | None:
    """The key of the network's classifier, if it is one linear layer."""
    layer = network.get_classifier() if hasattr(network, "get_classifier") else None
    found = (path for path, part in network.named_modules() if part is layer and isinstance(part, nn.Linear))
    return next(found, None)


def _put_head(twin: Twin, head: nn.Linear) -> bool:
    """Make a classifier's head the last layer of the network; False if that reads no features."""
    twin.head = _layer(twin.network)
    if twin.head is None:
        return False
    own = twin.network.get_submodule(twin.head)
    if own.weight.shape != head.weight.shape or own.bias is None:
        return False
    own.load_state_dict(head.state_dict())
    return True


def _gives_features(twin: Twin, subject: Subject) -> bool:
    with quiet(twin.network):
        x = subject.encoder.normalise(subject.images)
        features = _before_head(twin.network, x) if twin.head else twin.network(x)
    return _same(features, subject.expected["features"])


def _before_head(network: Any, x: Tensor) -> Tensor:
    features: Tensor = network.forward_head(network.forward_features(x), pre_logits=True)
    return features


def _gives_maps(twin: Twin, subject: Subject) -> bool:
    encoder = subject.encoder
    if not isinstance(encoder.network, Foreign) or not encoder.pools_maps:
        return False
    if encoder.network.reading != "forward_features":
        return False
    with quiet(encoder), quiet(twin.network):
        x = encoder.normalise(subject.images)
        ours = getattr(encoder.network.module, encoder.network.reading)(x)
        return _same(twin.network.forward_features(x), ours)  # type: ignore[operator]


def _same(found: Tensor, wanted: Tensor) -> bool:
    if found.shape != wanted.shape:
        return False
    return float((found - wanted).abs().max()) <= Timm.tolerance * max(LEAST, float(wanted.abs().max()))


def _read(subject: Subject, twin: Twin, maps: bool) -> list[str]:
    """Lines of the example from `x` to `features`, and to `maps` and `logits` where they are told."""
    lines = []
    if twin.head is not None:
        lines += ["given = net.forward_features(x)", "features = net.forward_head(given, pre_logits=True)"]
        return [*lines, "logits = net.forward_head(given)"]
    if twin.whole:
        lines.append("features = net(x)")
    if maps or not twin.whole:
        lines.append(f"maps = {_maps(subject.encoder)}")
    if not twin.whole:
        lines.append(f"features = {weights.pooled(subject.encoder.spec.pool)}")
    return lines + ([f"logits = {weights.logits_line(subject)}"] if subject.fitted is not None else [])


def _maps(encoder: Encoder) -> str:
    """The expression of an example that gives maps."""
    layout = encoder.network.layout if isinstance(encoder.network, Foreign) else "maps"
    if layout == "channels_last":
        return "net.forward_features(x).permute(0, 3, 1, 2)"
    if layout == "tokens":
        assert encoder.map_size is not None
        height, width = encoder.map_size
        tokens = f"net.forward_features(x)[:, -{height * width} :]"
        return f"{tokens}.transpose(1, 2).unflatten(2, ({height}, {width}))"
    return "net.forward_features(x)"


def _classes(twin: Twin) -> int:
    classes: int = twin.network.num_classes  # type: ignore[assignment]
    return classes


def configuration(subject: Subject, twin: Twin) -> dict[str, Any]:
    """timm's config.json."""
    told, network = subject.preprocessing, twin.network
    stock: dict[str, Any] = dict(network.pretrained_cfg)  # type: ignore[arg-type]
    names = subject.labels or (subject.encoder.own_classes or [])
    labels = {"label_names": names} if len(names) == _classes(twin) and names else {}
    arguments = {key: value for key, value in twin.arguments.items() if key != "num_classes"}
    return {
        "architecture": twin.name,
        "num_classes": _classes(twin),
        "num_features": network.num_features,
        **labels,
        "model_args": arguments,
        "pretrained_cfg": {
            "tag": "ssl_transfer",
            "custom_load": False,
            "input_size": list(subject.encoder.shape),
            "fixed_input_size": bool(stock.get("fixed_input_size", False)),
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "crop_mode": CROPS[told["resize"]],
            "mean": weights.short(subject.encoder.mean),
            "std": weights.short(subject.encoder.std),
            "num_classes": _classes(twin),
            "pool_size": None,
            "first_conv": stock.get("first_conv"),
            "classifier": stock.get("classifier"),
        },
    }


def _refusal(subject: Subject, why: str) -> str:
    name = subject.encoder.spec.name
    others = "" if reading_of(name) is None else "torchvision, "
    return f"target timm cannot hold {subject.path}: {why}; use {others}{GRAPHS}"
