"""Any `nn.Module`, by the dotted path of a class or callable, or as an object."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ssl_transfer.encoders.network import Built, Network, Shape, device_of, group_stages, quiet
from ssl_transfer.encoders.spec import EncoderSpec
from ssl_transfer.encoders.surgery import adapt_channels
from ssl_transfer.encoders.weights import load_weights

READINGS = ("extract_features", "forward_features", "forward")
EXPANDED = {"features", "blocks", "_blocks", "layers", "stages"}


class Foreign(Network):
    """A module read through the first of `extract_features`, `forward_features` and `forward` that serves.

    A run on two blank images tells what it gives: `(B, D, h, w)` or `(B, h, w, D)` are maps, `(B, D)` features, and
    timm's `(B, N, D)` tokens both. Children that the reading leaves out, such as a classifier, are taken out. With
    `own_head` it is `forward` that is read, and has to give class logits `(B, Z)`.
    """

    def __init__(self, module: nn.Module, shape: Shape, own_head: bool = False) -> None:
        super().__init__()
        self.module = module
        self.layout = ""  # maps | channels_last | tokens | features
        images = torch.zeros(2, *shape, device=device_of(module))
        tried = []
        for reading in ("forward",) if own_head else READINGS:
            if callable(getattr(module, reading, None)):
                self.reading = reading
                self.layout, outcome = self._probe(images)
                if self.layout:
                    break
                tried.append(f"{reading} {outcome}")
        else:
            raise ValueError(
                f"encoder {type(module).__name__} gives neither features (B, D) nor maps (B, D, h, w) for images of "
                f"shape {shape}: {'; '.join(tried)}; take off its head or choose another size"
            )
        if own_head and self.layout != "features":
            raise ValueError(
                f"encoder.own_head: {type(module).__name__} has no head that gives class logits (B, Z), as its forward "
                f"gives {self.layout}; set encoder.own_head to false"
            )
        self.has_maps = self.layout != "features"
        self.own_features = self.layout in ("tokens", "features")
        self.memory_format = self._memory_format(images)

    def _probe(self, images: Tensor) -> tuple[str, str]:
        """The layout that the reading gives, empty if none of ours, and what happened in words."""
        called: set[nn.Module] = set()
        hooks = [part.register_forward_hook(lambda part, *_: called.add(part)) for part in self.module.modules()]
        try:
            with quiet(self.module):
                output = getattr(self.module, self.reading)(images)
                layout = self._layout(output)
                if layout == "tokens":
                    self._token_features(output)
        except Exception as error:  # whatever a foreign network raises
            return "", f"fails with {(str(error).splitlines() or [type(error).__name__])[0]}"
        finally:
            for hook in hooks:
                hook.remove()
        if layout and self.reading != "forward":
            for name, child in list(self.module.named_children()):
                if not called.intersection(child.modules()):
                    setattr(self.module, name, nn.Identity())
        return layout, f"gives {tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__}"

    def _memory_format(self, images: Tensor) -> torch.memory_format:
        """Channels last, unless the module then fails, as one does that flattens maps with `view`."""
        self.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        try:
            with quiet(self.module):
                self._read(images.contiguous(memory_format=torch.channels_last))
        except RuntimeError:
            self.module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
            return torch.contiguous_format
        return torch.channels_last

    def _layout(self, output: Any) -> str:
        if not isinstance(output, Tensor) or len(output) != 2:
            return ""
        width = getattr(self.module, "num_features", None)
        if output.ndim == 4:
            return "channels_last" if width not in (None, output.shape[1]) and width == output.shape[3] else "maps"
        if output.ndim == 3 and self._grid() is not None and hasattr(self.module, "forward_head"):
            return "tokens"
        return "features" if output.ndim == 2 else ""

    def _grid(self) -> tuple[int, int] | None:
        grid = getattr(getattr(self.module, "patch_embed", None), "grid_size", None)
        return None if grid is None else (int(grid[0]), int(grid[1]))

    def _token_features(self, tokens: Tensor) -> Tensor:
        features: Tensor = self.module.forward_head(tokens, pre_logits=True)  # type: ignore[operator]
        return features

    def _read(self, x: Tensor) -> Tensor:
        output: Tensor = getattr(self.module, self.reading)(x)
        return output

    def maps(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, D, h, w)
        """Feature maps, or patch tokens on their grid."""
        output = self._read(x)
        if self.layout == "channels_last":
            return output.permute(0, 3, 1, 2)
        if self.layout == "tokens":
            grid = self._grid()
            assert grid is not None
            return output[:, -grid[0] * grid[1] :].transpose(1, 2).unflatten(2, grid)
        return output

    def features(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, D)
        """Features as the module gives them."""
        output = self._read(x)
        return self._token_features(output) if self.layout == "tokens" else output

    def stages(self) -> list[tuple[str, nn.Module]]:
        """The children of the module, with lists of blocks taken apart."""
        units: list[tuple[str, nn.Module]] = []
        for name, child in self.module.named_children():
            inside = [(f"{name}.{inner}", part) for inner, part in child.named_children()]
            whole = not inside or not (isinstance(child, nn.ModuleList) or name in EXPANDED)
            units += [(name, child)] if whole or next(child.parameters(recurse=False), None) is not None else inside
        return group_stages(units or [("module", self.module)], self.module.parameters(recurse=False) if units else ())


def resolve(path: str) -> Callable[..., Any]:
    """Import the class or callable at a dotted path. ValueError if there is none."""
    try:
        found = pkgutil.resolve_name(path)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"encoder {path!r} cannot be imported ({error}): check the path, or install it") from error
    if not callable(found):
        raise ValueError(f"encoder {path!r} is no class or callable: give one that returns an nn.Module")
    return found  # type: ignore[no-any-return]


def build(spec: EncoderSpec, shape: Shape) -> Built:
    """Build the network at a dotted path for images of `shape`.

    timm builds it for the channels at hand; elsewhere the first convolution is adapted if it reads others.

    Raises:
        ValueError: no such path, arguments refused, or a network that gives no features.
    """
    builder = resolve(spec.name)
    arguments: dict[str, Any] = dict(spec.arguments)
    if spec.name == "timm.create_model":
        arguments = ({} if spec.own_head else {"num_classes": 0}) | {"in_chans": shape[0]} | arguments
        if spec.own_head and arguments.get("num_classes") == 0:
            raise ValueError("encoder.own_head reads timm's classifier: leave num_classes=0 out of encoder.arguments")
    try:
        module = builder(**arguments)
    except (TypeError, ValueError, RuntimeError, KeyError, AssertionError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"encoder {spec.name} refuses its arguments {arguments}: {reason}; correct them") from error
    if not isinstance(module, nn.Module):
        raise ValueError(f"encoder {spec.name} must return an nn.Module, not {type(module).__name__}")
    if spec.weights:
        load_weights(module, spec.weights)
    pretrained = bool(spec.weights or arguments.get("pretrained"))
    adapt_channels(module, shape[0], pretrained)
    network = Foreign(module, shape, spec.own_head)
    return Built(
        network,
        replace(spec, arguments=arguments),
        _normalisation(module, shape[0]) if arguments.get("pretrained") else None,
    )


def class_path(module: nn.Module) -> str:
    """Dotted path of a module's class."""
    return f"{inspect.getmodule(type(module)).__name__}.{type(module).__qualname__}"  # type: ignore[union-attr]


def _normalisation(module: nn.Module, channels: int) -> tuple[list[float], list[float]] | None:
    """The mean and deviation that timm's weights expect."""
    settings = getattr(module, "pretrained_cfg", None)
    if not isinstance(settings, dict) or len(settings.get("mean", ())) != channels:
        return None
    return list(settings["mean"]), list(settings["std"])
