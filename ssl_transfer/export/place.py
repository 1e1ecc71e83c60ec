"""Where an export goes: a folder that is free, or an older export that may be replaced."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from ssl_transfer.export.config import FILE, is_export, read_config


def check_place(path: Path) -> None:
    """ValueError if no folder can be made at an absolute path."""
    if path.is_symlink():
        raise ValueError(f"--out {path} is a link: give the folder that it leads to")
    parent = next((parent for parent in path.parents if parent.exists()), None)
    if parent is None:
        raise ValueError(f"--out {path} is the root of the file system: choose a folder in it")
    if not parent.is_dir():
        raise ValueError(f"--out {path} cannot be made, as {parent} is a file: choose another folder")


def check_free(path: Path, overwrite: bool) -> None:
    """ValueError if something lies at `path` that must not be replaced."""
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if not is_export(path):
        raise ValueError(f"--out {path} exists and is no export: choose another folder")
    if not overwrite:
        raise ValueError(f"--out {path} holds an export already: choose another folder, or replace it with --overwrite")
    ours = {FILE, "README.md", *read_config(path).get("sha256", {})}
    foreign = [name for name in files_of(path) if name not in ours and "__pycache__" not in Path(name).parts]
    if foreign:
        raise ValueError(
            f"--out {path} holds {foreign[0]}, which no export wrote and --overwrite would remove: move it away"
        )


def files_of(path: Path) -> list[str]:
    """The files of a folder, relative to it."""
    return sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file())


@contextmanager
def made(path: Path) -> Iterator[None]:
    """While `path` is made: what the system refuses becomes one line, and parents that were made for nothing go."""
    missing = [parent for parent in path.parents if not parent.exists()]
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise ValueError(f"--out {path} cannot be written ({reason}): choose another folder") from error
    finally:
        for parent in missing:
            with suppress(OSError):  # it is not empty, or was not made
                parent.rmdir()
