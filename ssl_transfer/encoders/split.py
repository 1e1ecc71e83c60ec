"""An encoder cut in two: a front that stays as it is, run once an image, and a back that trains on what it gave."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ssl_transfer.encoders.encoder import Encoder
from ssl_transfer.encoders.network import Shape, quiet
from ssl_transfer.encoders.recorded import Call, chain, record

BOTTLENECK = "bottleneck"
RECORDED, CHECKED = 13, 3  # images, to record a run and to prove it


@dataclass
class _Back:
    """The calls from a stage to the end, and whether what it receives is laid out with the channels last."""

    calls: list[Call]
    channels_last: bool = False


@dataclass
class _Plan:
    """The back of each stage before which the encoder can be cut; made for images of `shape`."""

    shape: Shape
    backs: dict[str, _Back]


_PLANS: WeakKeyDictionary[Encoder, _Plan] = WeakKeyDictionary()


def cut_points(encoder: Encoder) -> list[str]:
    """Names of the stages before which `encoder` can be cut, first to last; never the first stage, and maybe none.

    A stage is offered where a run on random images shows that the modules behind it read one tensor after another,
    none of them with parameters of an earlier stage, and that running them again gives the same features to the bit.

    >>> from ssl_transfer.encoders import build_encoder
    >>> cut_points(build_encoder("small_resnet", (1, 28, 28), [0.5], [0.5]))
    ['stage1', 'stage2']
    """
    return list(_plan(encoder).backs)


def front(encoder: Encoder, images: Tensor, stage: str) -> Tensor:
    """What the named stage receives of images `(B, C, H, W)`, without gradients.

    Put the encoder's front in evaluation mode before keeping the result: here it runs in the mode that it is in.

    Returns:
        As the network has it, such as maps `(B, D, h, w)` or tokens `(B, N, D)`; in half precision under autocast.

    Raises:
        ValueError: the encoder cannot be cut before `stage`.

    >>> from ssl_transfer.encoders import build_encoder
    >>> encoder = build_encoder("small_resnet", (1, 28, 28), [0.5], [0.5]).eval()
    >>> images = torch.rand(2, 1, 28, 28)
    >>> x = front(encoder, images, "stage2")
    >>> x.shape, torch.equal(back(encoder, x, "stage2"), encoder(images))
    (torch.Size([2, 64, 14, 14]), True)
    """
    calls = _back(encoder, stage).calls
    with torch.no_grad():
        return _stopped(encoder, images, calls[0]) if calls else encoder.maps(images)


def back(encoder: Encoder, x: Tensor, stage: str) -> Tensor:
    """Features `(B, feature_dim)` from what the named stage receives, pooling and bottleneck included.

    Only parameters of this stage and later ones take part, so gradients reach no others. `x` is left as it is; it may
    have been stored and indexed in between.

    Raises:
        ValueError: the encoder cannot be cut before `stage`.
    """
    found = _back(encoder, stage)
    if found.channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    for call in found.calls:
        x = call(encoder.network, x)
    return encoder.features_from_maps(x) if encoder.pools_maps else x


def _back(encoder: Encoder, stage: str) -> _Back:
    backs = _plan(encoder).backs
    if stage not in backs:
        known = ", ".join(backs) or "none"
        raise ValueError(f"encoder {encoder.spec.name} cannot be cut before {stage!r}: stages that it can are {known}")
    return backs[stage]


def _plan(encoder: Encoder) -> _Plan:
    """The plan of an encoder, made on first use and again at another image size."""
    plan = _PLANS.get(encoder)
    if plan is None or plan.shape != encoder.shape:
        with quiet(encoder):
            backs = _proved(encoder, _candidates(encoder))
        if encoder.bottleneck is not None:
            backs[BOTTLENECK] = _Back([], channels_last=True)
        plan = _PLANS[encoder] = _Plan(encoder.shape, backs)
    return plan


def _candidates(encoder: Encoder) -> dict[str, list[Call]]:
    """The calls from each stage on, by the record of one run."""
    stages = encoder.network.stages()
    x = encoder.normalise(_images(encoder, RECORDED))
    outputs: list[Tensor] = []

    def run() -> Tensor:
        outputs.append(_read(encoder, x))
        return outputs[0]

    calls = record(encoder.network, [_modules(stage) for _, stage in stages], run, RECORDED)
    numbers = chain(calls, outputs[0])
    backs = {}
    for part, (name, _) in enumerate(stages[1:], 1):
        start = next((i for i, call in enumerate(calls) if call.part is not None and call.part >= part), None)
        if start is None or start not in numbers or calls[start].part != part:
            continue
        if all(call.part is None or call.part >= part for call in calls[start:]):
            kept = [calls[number] for number in numbers if number >= start]
            backs[name] = [replace(call, read=None, gave=None) for call in kept]
    return backs


def _proved(encoder: Encoder, backs: dict[str, list[Call]]) -> dict[str, _Back]:
    """Those of the candidates that give the encoder's features of other images and leave what they receive alone."""
    images = _images(encoder, CHECKED)
    features = encoder(images)
    names = list(backs)
    for first, name in enumerate(names):
        received: dict[str, tuple[Tensor, int]] = {}
        starts = {len(backs[later]): later for later in names[first:]}  # by the calls that remain
        try:
            x = _stopped(encoder, images, backs[name][0])
            for number, call in enumerate(backs[name]):
                if later := starts.get(len(backs[name]) - number):
                    received[later] = (x, x._version)
                x = call(encoder.network, x)
            again = encoder.features_from_maps(x) if encoder.pools_maps else x
        except (RuntimeError, ValueError, TypeError, IndexError, AssertionError):  # such as a recorded batch size
            continue
        if torch.equal(again, features):
            return {
                later: _Back(backs[later], x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last))
                for later, (x, version) in received.items()
                if x._version == version
            }
    return {}


class _Reached(Exception):
    """The run has come to the cut."""

    def __init__(self, x: Tensor) -> None:
        self.x = x


def _stopped(encoder: Encoder, images: Tensor, call: Call) -> Tensor:
    """Run the encoder up to `call`, and return what that would read."""

    def stop(module: nn.Module, args: Any, kwargs: Any) -> None:
        raise _Reached(call.given(args, kwargs))

    assert isinstance(call.target, str)
    hook = encoder.network.get_submodule(call.target).register_forward_pre_hook(stop, with_kwargs=True)
    try:
        _read(encoder, encoder.normalise(images))
    except _Reached as reached:
        return reached.x
    finally:
        hook.remove()
    raise AssertionError(f"{call.target} was not called")


def _read(encoder: Encoder, x: Tensor) -> Tensor:
    """What the features come from."""
    return encoder.network.maps(x) if encoder.pools_maps else encoder.network.features(x)


def _modules(stage: nn.Module) -> list[nn.Module]:
    """The modules of a stage that are called."""
    if isinstance(stage, nn.ModuleList):
        return [module for part in stage for module in _modules(part)]
    return [] if isinstance(stage, nn.ParameterList) else [stage]


def _images(encoder: Encoder, count: int) -> Tensor:
    return torch.rand(count, *encoder.shape, device=encoder.mean.device)
