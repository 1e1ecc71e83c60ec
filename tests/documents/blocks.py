"""Pages of the documentation, and what of them can be run."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ELSEWHERE = ("docs/notebooks",)  # notebooks have tests of their own
_FENCE = re.compile(r"^ *```(?! *\w+ *```)[ {.]*(\w*)")
_REASON = re.compile(r"<!-- *not run: *(.+?) *-->")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Args:
        page: its file, relative to the repository.
        line: the number of its first line of code.
        language: bash, python …, "" where the fence names none.
        text: the code, without the indentation of the fence.
        not_run: why it is not run, as the comment `<!-- not run: … -->` before it says; "" where it is.
    """

    page: str
    line: int
    language: str
    text: str
    not_run: str


@dataclass(frozen=True)
class Command:
    """A command of a block as the shell would split it, with the line that it begins on."""

    line: int
    words: list[str]


def pages() -> list[str]:
    """The pages, README first."""
    found = sorted((ROOT / "docs").rglob("*.md")) if (ROOT / "docs").is_dir() else []
    named = ["README.md", *(path.relative_to(ROOT).as_posix() for path in found)]
    return [name for name in named if not name.startswith(ELSEWHERE)]


def blocks_of(page: str) -> list[Block]:
    """The fenced blocks of a page, top to bottom."""
    return list(read_blocks((ROOT / page).read_text(encoding="utf-8"), page))


def read_blocks(text: str, page: str = "") -> Iterator[Block]:
    """The fenced blocks of Markdown, also those indented in lists and tabs."""
    reason, inside, language, start = "", None, "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        fence = _FENCE.match(line)
        if inside is None and fence:
            inside, language, start = [], fence[1], number + 1
        elif inside is not None and fence:
            yield Block(page, start, language, textwrap.dedent("\n".join(inside)), reason)
            inside, reason = None, ""
        elif inside is not None:
            inside.append(line)
        elif line.strip():
            told = _REASON.fullmatch(line.strip())
            reason = told[1] if told else ""
    assert inside is None, f"{page}:{start}: this block does not end"


def commands_of(block: Block) -> Iterator[Command]:
    """The commands of a bash block: comments are left out, lines that end in a backslash go on."""
    begun, start = "", block.line
    for number, line in enumerate(block.text.splitlines(), start=block.line):
        start = start if begun else number
        begun += line
        if begun.endswith("\\"):
            begun = begun[:-1] + " "
            continue
        words = shlex.split(begun, comments=True)
        if words:
            yield Command(start, words)
        begun = ""
