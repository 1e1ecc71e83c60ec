"""The files of `configs/`, which an installed package carries, so that a command finds them from any folder."""

from __future__ import annotations

import sys
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import ssl_transfer

FOLDER = "configs"
OPTIONS = ("--config", "-c")


def with_shipped(arguments: list[str]) -> list[str]:
    """Arguments in which a `--config configs/…` that is not here is the one that came with the package.

    A file of that name in the working folder goes first. Raises ValueError if neither has it.
    """
    found = list(arguments)
    for number, argument in enumerate(arguments):
        option, equals, value = argument.partition("=")
        if option not in OPTIONS:
            continue
        if equals:
            found[number] = f"{option}={_resolved(value)}"
        elif number + 1 < len(arguments):
            found[number + 1] = _resolved(arguments[number + 1])
    return found


def _resolved(name: str) -> str:
    path = Path(name)
    if path.is_absolute() or path.parts[:1] != (FOLDER,) or path.exists():
        return name
    own = shipped()
    if path.as_posix() in own:
        print(f"--config {name}: the file that came with ssl_transfer", file=sys.stderr)
        return str(own[path.as_posix()])
    close = get_close_matches(path.as_posix(), own, n=1)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(sorted(own))}"
    raise ValueError(f"--config {name}: no such file, here or in the package; {hint}")


def shipped() -> dict[str, Path]:
    """Where each file of the package's `configs/` lies, by its name from `configs/` on."""
    above = Path(ssl_transfer.__file__).resolve().parents[1]
    found = (above / FOLDER).glob("*/*.yaml") if _is_checkout(above) else _installed()
    return {"/".join((FOLDER, path.parent.name, path.name)): path for path in sorted(found)}


def _is_checkout(folder: Path) -> bool:
    project = folder / "pyproject.toml"
    return project.exists() and 'name = "ssl_transfer"' in project.read_text(encoding="utf-8")


def _installed() -> list[Path]:
    """Where the installer put the files, as its record tells."""
    try:
        record = files("ssl_transfer") or []
    except PackageNotFoundError:
        return []
    own = [path for path in record if path.parts[-4:-2] == ("ssl_transfer", FOLDER) and path.suffix == ".yaml"]
    found = [Path(str(path.locate())).resolve() for path in own]
    beside = Path(ssl_transfer.__file__).resolve().parents[1] / "share" / "ssl_transfer" / FOLDER
    return [path for path in found if path.exists()] or list(beside.glob("*/*.yaml"))  # of pip install --target
