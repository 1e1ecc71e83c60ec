"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path` that takes its place when the block ends well, and vanishes when it does not.

    A folder already at `path` is replaced; the caller checks that it may be.
    """
    new = path.parent / f".{path.name}.{uuid.uuid4().hex}.new"
    new.mkdir(parents=True)
    try:
        yield new
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
