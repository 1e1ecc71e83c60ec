"""The page of the command line, from what `--help` is made of: the verbs' summary, signatures and docstrings."""

from __future__ import annotations

from html import escape
from pathlib import Path

import griffe

from ssl_transfer.cli import HELP, TRAINING, VERBS

ROOT = Path(__file__).resolve().parents[1]


def command_line() -> str:
    """Markdown of all verbs, in the order of `ssl-transfer --help`."""
    return "\n\n".join([f"```text\n{HELP.rstrip()}\n```", *(_verb(name) for name in VERBS if name not in TRAINING)])


def _verb(name: str) -> str:
    """A verb's section: what it does, how it is called, and a table of its arguments."""
    path = ROOT / "ssl_transfer" / "commands" / f"{name}.py"
    function = griffe.visit(name, filepath=path, code=path.read_text(encoding="utf-8"))[name]
    function.docstring.parser = "google"
    sections = function.docstring.parse("google", warnings=False)
    text = [section.value.strip() for section in sections if section.kind.value == "text"]
    told = {p.name: p.description for s in sections if s.kind.value == "parameters" for p in s.value}
    arguments = [p for p in function.parameters if p.name in told or p.default is not None]
    call = " ".join(p.name.upper() for p in function.parameters if p.default is None)
    rows = [_row(p, told.get(p.name, "")) for p in arguments]
    table = "\n".join(["| argument | type | default | |", "| --- | --- | --- | --- |", *rows])
    return (
        f"## {name}\n\n```text\nssl-transfer {name} {call}".rstrip() + "\n```\n\n" + "\n\n".join(text) + f"\n\n{table}"
    )


def _row(parameter: griffe.Parameter, told: str) -> str:
    required = parameter.default is None
    name = parameter.name.upper() if required else f"--{parameter.name}"
    default = "" if required else f"`{parameter.default}`"
    kind = escape(str(parameter.annotation or "")).replace("|", "or")
    return f"| `{name}` | {kind} | {default} | {' '.join(told.split()).replace('|', chr(92) + '|')} |"
