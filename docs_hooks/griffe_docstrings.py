"""Examples of docstrings, written as doctests, as the section that mkdocstrings knows."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

_DOCTEST = re.compile(r"(?:^Example:\n)?((?:^ *>>> .*\n(?:^ *\S.*\n?)*\n?)+)", re.MULTILINE)


def with_examples(text: str) -> str:
    """A docstring whose doctests stand in a section `Examples:`.

    >>> with_examples("Add.\\n\\n>>> 1 + 1\\n2").splitlines()
    ['Add.', '', 'Examples:', '    >>> 1 + 1', '    2']
    """
    return _DOCTEST.sub(_section, text + "\n").rstrip()


def _section(match: re.Match[str]) -> str:
    lines = match.group(1).strip("\n").splitlines()
    margin = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
    return "Examples:\n" + "".join(f"    {line[margin:]}\n" for line in lines)


class Doctests(Extension):
    """Every object's docstring, as griffe reads it."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        """Rewrite the docstring of one object."""
        if obj.docstring:
            obj.docstring.value = with_examples(obj.docstring.value)
