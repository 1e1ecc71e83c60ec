"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path` that takes its place when the block ends well, and vanishes when it does not.

    A folder already at `path` is replaced; the caller checks that it may be.
    """
    new = path.parent / f".{path.name}.{uuid.uuid4().hex}.new"
    new.mkdir(parents=True)
    try:
        yield new
        _open_to_readers(new)
        _swap(new, path)
    finally:
        shutil.rmtree(new, ignore_errors=True)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary file name beside `path` whose content takes its place when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.parent / f".{path.name}.{uuid.uuid4().hex}.new"
    try:
        yield new
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write plain types as JSON, whole or not at all; a figure that is no number becomes null."""
    with whole_file(path) as unfinished:
        unfinished.write_text(json.dumps(_finite(value), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and value != value else value


def _open_to_readers(folder: Path) -> None:
    """Give every file the mode that a new one has here; some libraries write files that their owner alone can read."""
    mask = os.umask(0)
    os.umask(mask)
    for file in folder.rglob("*"):
        if file.is_file() and not file.is_symlink():
            file.chmod(0o666 & ~mask)


def _swap(new: Path, path: Path) -> None:
    """Put `new` at `path`. What was there is moved aside first, and put back should the move fail."""
    if not path.exists():
        new.rename(path)
        return
    old = path.parent / f".{path.name}.{uuid.uuid4().hex}.old"
    path.rename(old)
    try:
        new.rename(path)
    except OSError:
        old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)
