"""`export.json`: what an export folder says of itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FILE, FORMAT, VERSION = "export.json", "ssl_transfer.export", 1


def is_export(path: str | Path) -> bool:
    """Whether `path` is a folder that `write_export` wrote."""
    return _read(Path(path)).get("format") == FORMAT


def read_config(path: Path) -> dict[str, Any]:
    """Read and check `export.json`. ValueError if it is missing, or of a later format."""
    config = _read(path)
    if config.get("format") != FORMAT:
        raise ValueError(f"{path} is no export, as it lacks {FILE}: give a folder that ssl-transfer export wrote")
    if config.get("format_version") != VERSION:
        raise ValueError(
            f"export {path} has format {config.get('format_version')}, this ssl_transfer reads {VERSION}: use "
            f"ssl_transfer {(config.get('versions') or {}).get('ssl_transfer', 'of that time')}"
        )
    return config


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """Write `export.json`."""
    told = {"format": FORMAT, "format_version": VERSION, **config}
    (folder / FILE).write_text(json.dumps(told, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _read(path: Path) -> dict[str, Any]:
    try:
        config = json.loads((path / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}
