"""The settings of runs as flat names and values, and those in which runs differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from inspect import signature
from typing import Any

import pytorch_lightning as pl

from ssl_transfer.encoders.build import is_folder_name
from ssl_transfer.encoders.spec import EncoderSpec
from ssl_transfer.pretraining.monitor import Monitor
from ssl_transfer.running.recorder import RunCheckpoint

SETTINGS = ("model", "data", "trainer", "checkpoint", "monitor", "seed_everything")  # of config.yaml, in this order
DEFAULTS = {"trainer": pl.Trainer, "checkpoint": RunCheckpoint, "monitor": Monitor}  # whose defaults are not told
NO_SETTING = ("trainer.default_root_dir", "trainer.enable_", "trainer.logger", "trainer.callbacks", "trainer.profiler")


def settings_of(told: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a config.yaml, by their full names."""
    parts = [part for part in SETTINGS if part in told or part in DEFAULTS]
    settings = {name: value for part in parts for name, value in flat(part, _asked(part, told))}
    return {name: value for name, value in settings.items() if not name.startswith(NO_SETTING)}


def _asked(part: str, told: Mapping[str, Any]) -> Any:
    """What was asked of the trainer, say, without what is so by default, which Python's runs do not tell."""
    value = told.get(part) or {} if part in DEFAULTS else told[part]
    if part not in DEFAULTS or not isinstance(value, Mapping):
        return value
    known = signature(DEFAULTS[part].__init__).parameters  # type: ignore[misc]
    return {key: each for key, each in value.items() if key not in known or each != known[key].default}


def flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """A setting and those within it; of a class its bare name, whether a terminal or Python gave it.

    >>> list(flat("model", {"class_path": "ssl_transfer.SimCLR", "init_args": {"views": None, "sizes": [1, 2]}}))
    [('model', 'SimCLR'), ('model.views', None), ('model.sizes', [1, 2])]
    """
    if name == "model.encoder" and isinstance(value, str) and value and not is_folder_name(value):
        value = asdict(EncoderSpec(value))  # what the name of a network stands for
    if not isinstance(value, Mapping):
        yield name, value
        return
    inner: Any = value
    if "class_path" in value:
        path = str(value["class_path"])
        yield name, path.rsplit(".", 1)[-1] if path.startswith("ssl_transfer.") else path
        inner = value.get("init_args") or {}
    else:
        yield name, value.get("name", Given())
    for key, item in inner.items() if isinstance(inner, Mapping) else ():
        yield from flat(f"{name}.{key}", item)


class Given:
    """Stands for a mapping, whose settings are told one by one."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Given)

    def __hash__(self) -> int:
        return 0

    def __str__(self) -> str:
        return "given"


def differing_settings(settings: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The settings in which runs differ. What only a class of one of them has is told by the name of the class."""
    names = dict.fromkeys(name for each in settings for name in each)
    return tuple(name for name in names if _differs(name, settings))


def _differs(name: str, settings: Sequence[Mapping[str, Any]]) -> bool:
    values = [each[name] for each in settings if name in each]
    if any(value != values[0] for value in values):
        return True
    above = name.rpartition(".")[0]
    lacking = [each for each in settings if name not in each and _holds(each, above)]
    having = [each[above] for each in settings if name in each and above in each]
    return values[0] is not None and any(each[above] == value for each in lacking for value in having)


def _holds(settings: Mapping[str, Any], above: str) -> bool:
    """Whether a setting has others within it."""
    return any(name.startswith(f"{above}.") for name in settings) or isinstance(settings.get(above), Given)
