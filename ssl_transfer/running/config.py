"""A module or DataModule as its configuration, in the form that the command line reads."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Any


def describe(thing: Any) -> Any:
    """Plain types for anything whose constructor stores its arguments under their own names.

    >>> from ssl_transfer.downstream import Frozen
    >>> describe(Frozen(l2=0.1))
    {'class_path': 'ssl_transfer.downstream.tuning.Frozen', 'init_args': {'solve': True, 'l2': 0.1}}
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
    path = f"{kind.__module__}.{kind.__qualname__}"
    names = [n for n in inspect.signature(kind).parameters if hasattr(thing, n) or hasattr(thing, f"chosen_{n}")]
    arguments = {
        n: describe(getattr(thing, f"chosen_{n}")[0] if hasattr(thing, f"chosen_{n}") else getattr(thing, n))
        for n in names
    }
    return {"class_path": path, **({"init_args": arguments} if arguments else {})}
