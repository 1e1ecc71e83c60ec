"""A finished run as it is compared with others: what its files say."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ssl_transfer.running.folder import RunFolder
from ssl_transfer.running.settings import settings_of


@dataclass(frozen=True)
class ComparedRun:
    """One of them: its folder, `metrics.json`, flat settings, and the data as its saved network describes them."""

    name: str
    folder: RunFolder
    metrics: dict[str, Any]
    settings: dict[str, Any]
    data: dict[str, Any]

    def figure(self, name: str) -> float | None:
        """One of its figures, or `None` if it was not measured or is not finite."""
        value = self.metrics.get(name)
        usable = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        return float(value) if usable else None  # type: ignore[arg-type]

    @property
    def verdict(self) -> str:
        """That of an adaptation, where validators compared it with another network; empty without."""
        return str(self.metrics.get("verdict") or "") if "val/validators_asked" in self.metrics else ""

    @property
    def warnings(self) -> list[str]:
        """Those of its metrics.json."""
        told = self.metrics.get("warnings")
        return [str(each) for each in told] if isinstance(told, list) else []

    @property
    def judged(self) -> float:
        """By how many validation images it was judged, of the poorer domain where there are two."""
        domains = self.data.get("domains")
        parts = list(domains.values()) if isinstance(domains, dict) else [self.data.get("counts")]
        counts = [part.get("val") for part in parts if isinstance(part, dict)]
        return min((count for count in counts if isinstance(count, int) and count > 0), default=math.inf)


def read_runs(folders: Sequence[RunFolder]) -> list[ComparedRun]:
    """What the files of folders say.

    ValueError unless they are two or more, each once, with a finished fit; and for a damaged file, with its path.
    """
    if len(folders) < 2:
        raise ValueError(f"two or more runs can be compared, not {len(folders)}: give their folders")
    metrics = [_mapping(folder.metrics_file, json.loads) for folder in folders]
    without = [str(folder.path) for folder, told in zip(folders, metrics, strict=True) if "checkpoint" not in told]
    if without:
        raise ValueError(f"no finished fit (no checkpoint in metrics.json) in {', '.join(without)}: leave it out")
    paths = [folder.path.resolve() for folder in folders]
    twice = [str(folder.path) for number, folder in enumerate(folders) if paths[number] in paths[:number]]
    if twice:
        raise ValueError(f"{twice[0]} is given twice")
    return [_read(folder, told) for folder, told in zip(folders, metrics, strict=True)]


def _read(folder: RunFolder, metrics: dict[str, Any]) -> ComparedRun:
    told = _mapping(folder.config, yaml.safe_load)
    saved = next((path for path in (folder.model, folder.encoder) if (path / "config.json").exists()), folder.model)
    data = _mapping(saved / "config.json", json.loads).get("data")
    return ComparedRun(str(folder.path), folder, metrics, settings_of(told), data if isinstance(data, dict) else {})


def _mapping(path: Path, parse: Callable[[str], Any]) -> dict[str, Any]:
    """What a file holds; nothing without the file."""
    if not path.exists():
        return {}
    try:
        found = parse(path.read_text(encoding="utf-8"))
    except (ValueError, yaml.YAMLError):
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"{path} is damaged, as it holds no mapping: leave its run out, or fit it again")
    return found
