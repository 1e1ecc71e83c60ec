"""A module or DataModule as its configuration, in the form that the command line reads."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Any


def describe(thing: Any) -> Any:
    """Plain types for anything whose constructor stores its arguments under their own names.

    >>> from ssl_transfer.downstream import Surgical
    >>> describe(Surgical("first"))["init_args"]
    {'part': 'first', 'encoder_lr': 0.1, 'batch_norm': 'train', 'l2_sp': 0.0}
    """
    if thing is None or isinstance(thing, bool | int | float | str):
        return thing
    if isinstance(thing, Path):
        return str(thing)
    if isinstance(thing, list | tuple):
        return [describe(item) for item in thing]
    if isinstance(thing, dict):
        return {key: describe(value) for key, value in thing.items()}
    if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        return {field.name: describe(getattr(thing, field.name)) for field in dataclasses.fields(thing)}
    kind = type(thing)
    try:
        parameters = inspect.signature(kind).parameters
    except ValueError:  # a builtin's or an extension's constructor, which tells nothing
        return repr(thing)
    values = {name: _stored(thing, name) for name in parameters if _has(thing, name)}
    path = f"{kind.__module__}.{kind.__qualname__}"
    return {"class_path": path, **({"init_args": describe(values)} if values else {})}


def _has(thing: Any, name: str) -> bool:
    return hasattr(thing, f"chosen_{name}") or hasattr(thing, name)


def _stored(thing: Any, name: str) -> Any:
    """An argument's value; an encoder is kept in a list of one, so that Lightning does not register it twice."""
    chosen = getattr(thing, f"chosen_{name}", None)
    if chosen is None:
        return getattr(thing, name)
    value = chosen[0]
    return str(Path(value).absolute()) if isinstance(value, str) and Path(value).exists() else value
