"""Our scikit-learn style estimators by name: what a folder or a checkpoint tells of one, and one made from that."""

from __future__ import annotations

from types import ModuleType
from typing import Any, TypeVar

import numpy as np
from sklearn.base import BaseEstimator

T = TypeVar("T", bound=BaseEstimator)


def describe_estimator(estimator: Any) -> dict[str, Any]:
    """Name and parameters, plain types: what `make_estimator` makes it again from, unfitted."""
    parameters = {name: _plain(value) for name, value in estimator.get_params().items()}
    return {"name": type(estimator).__name__, "parameters": parameters}


def make_estimator(described: dict[str, Any], module: ModuleType, base: type[T]) -> T:
    """An estimator of a kind `base` that `module` lists. ValueError if the name is none of these."""
    what, known = base.__name__.lower(), known_estimators(module, base)
    if described["name"] not in known:
        raise ValueError(f"{what} {described['name']!r} is unknown; known are {', '.join(known)}")
    try:
        made: T = getattr(module, described["name"])(**described["parameters"])
    except TypeError as error:
        raise ValueError(f"{what} {described['name']} is of another version: {error}") from error
    return made


def known_estimators(module: ModuleType, base: type) -> list[str]:
    """The names of the kinds of `base` that `module` lists in `__all__`."""
    found = {name: getattr(module, name) for name in module.__all__}
    return sorted(n for n, kind in found.items() if isinstance(kind, type) and issubclass(kind, base) and kind != base)


def check_known(estimator: Any, module: ModuleType, base: type, argument: str) -> None:
    """ValueError unless `estimator` is of a kind that `module` lists."""
    known, name = known_estimators(module, base), type(estimator).__name__
    if name not in known:
        raise ValueError(f"{argument} {name} is unknown; known are {', '.join(known)}")
    if not isinstance(estimator, base):
        raise ValueError(f"{argument} {name} is that of {type(estimator).__module__}: give ssl_transfer's {name}")


def check_same(own: dict[str, Any], fitted: dict[str, Any], run: Any) -> None:
    """ValueError unless arguments are those that a run was fitted with; estimators are given as described."""
    for name, value in own.items():
        if value != fitted[name]:
            before, now = _told(fitted[name], value), _told(value, fitted[name])
            raise ValueError(
                f"model.{name}: {run} was fitted with {before}, and this is {now}: give the arguments of its fit, "
                "which stand in its config.yaml"
            )


def _plain(value: Any) -> Any:
    """NumPy's numbers as Python's, which JSON can hold."""
    return value.item() if isinstance(value, np.generic) else value


def _told(value: Any, other: Any) -> str:
    """A value; of two estimators of a kind the parameters in which they differ."""
    if not (isinstance(value, dict) and isinstance(other, dict)):
        return str(value["name"] if isinstance(value, dict) else value)
    if value["name"] != other["name"]:
        return str(value["name"])
    theirs = other["parameters"]
    differing = {k: v for k, v in value["parameters"].items() if k not in theirs or theirs[k] != v}
    return f"{value['name']}({', '.join(f'{k}={v!r}' for k, v in differing.items())})"
