"""Parsing with one-line errors: jsonargparse does the work, its usage dumps and union errors are replaced."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

from jsonargparse import ActionConfigFile, ArgumentParser


class OneLineErrors:
    """Mixin for jsonargparse parsers: a mistake raises a ValueError of one line."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the mistake in our words."""
        raise ValueError(plain(message, known_options(self)))


def known_options(parser: Any) -> list[str]:
    """Every long option of a parser and of its subcommands."""
    options: list[str] = []
    for action in parser._actions:
        options += [o for o in action.option_strings if o.startswith("--")]
        for subparser in (getattr(action, "choices", None) or {}).values() if action.dest == "subcommand" else ():
            options += known_options(subparser)
    return options


def plain(message: str, options: Sequence[str]) -> str:
    """A parser's message in one line, with close matches for a misspelt option."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    if match := re.search(r"[Uu]nrecognized arguments?: (.+)", message):
        unknown = match.group(1).split()[0].split("=")[0]
        close = get_close_matches(unknown, options, n=1, cutoff=0.6)
        return f"unknown option {unknown}" + (f"; did you mean {close[0]}?" if close else "; see --help")
    kept = [line for line in lines if not line.startswith(("usage:", "tip:"))]
    return " ".join(kept)


class Parser(OneLineErrors, ArgumentParser):  # type: ignore[misc]
    """jsonargparse's parser with one-line errors."""


def call(function: Callable[..., int], arguments: Sequence[str], program: str) -> int:
    """Call a verb's function with arguments parsed by its signature."""
    parser = Parser(prog=program, description=(function.__doc__ or "").strip().split("\n\n")[0])
    parser.add_argument("--config", action=ActionConfigFile, help="read arguments from a YAML file")
    parser.add_function_arguments(function, as_positional=True)
    parsed = parser.parse_args(list(arguments))
    parsed = parser.instantiate_classes(parsed)
    values = parsed.as_dict()
    values.pop("config", None)
    return int(function(**values) or 0)
