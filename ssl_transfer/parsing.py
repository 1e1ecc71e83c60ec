"""Parsing with one-line errors: jsonargparse does the work, its usage dumps and union errors are put into our words."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from inspect import signature
from typing import Any, NoReturn

from jsonargparse import ActionConfigFile, ArgumentParser

from ssl_transfer.mistakes import plain


class OneLineErrors:
    """Mixin for jsonargparse parsers: a mistake raises a ValueError, whose message `in_plain_words` shortens.

    Parsers of nested options raise theirs within those of the outer ones, so the words are chosen outermost.
    """

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the mistake."""
        raise ValueError(message)


class Parser(OneLineErrors, ArgumentParser):  # type: ignore[misc]
    """jsonargparse's parser with our errors."""


@contextmanager
def in_plain_words(parser: Any) -> Iterator[None]:
    """Turn the parser's ValueErrors, and those of the constructors it calls, into ones of one line."""
    try:
        yield
    except ValueError as error:
        raise ValueError(plain(str(error), known_options(parser))) from error


def known_options(parser: Any) -> list[str]:
    """Every long option of a parser and of its subcommands."""
    options: list[str] = []
    for action in parser._actions:
        options += [o for o in action.option_strings if o.startswith("--")]
        for subparser in (getattr(action, "choices", None) or {}).values() if action.dest == "subcommand" else ():
            options += known_options(subparser)
    return options


def call(function: Callable[..., int], arguments: Sequence[str], program: str) -> int:
    """Call a verb's function with arguments parsed by its signature."""
    return int(function(**values_of(function, arguments, program)) or 0)


def values_of(function: Callable[..., int], arguments: Sequence[str], program: str) -> dict[str, Any]:
    """A verb's arguments as its function takes them."""
    parser = Parser(prog=program, description=(function.__doc__ or "").strip().split("\n\n")[0])
    parser.add_argument("--config", action=ActionConfigFile, help="read arguments from a YAML file")
    parser.add_function_arguments(function, as_positional=True)
    for action in parser._actions:
        if action.dest == _list_parameter(function):
            action.metavar = f"{action.dest} ..."
    with in_plain_words(parser):
        parsed = parser.instantiate(parser.parse_args(with_list(function, with_flags(function, arguments))))
    values: dict[str, Any] = parsed.as_dict()
    values.pop("config", None)
    return values


def with_list(function: Callable[..., int], arguments: Sequence[str]) -> list[str]:
    """Arguments of which all words beside options are one list, where the function's first parameter is a list.

    >>> def verb(runs: list[str], by: str = "") -> int: return 0
    >>> with_list(verb, ["a", "b", "--by", "c"]), with_list(verb, ["--by=c", "a"])
    (['["a", "b"]', '--by', 'c'], ['["a"]', '--by=c'])
    """
    if _list_parameter(function) is None:
        return list(arguments)
    end = list(arguments).index("--") if "--" in arguments else len(arguments)
    words = list(arguments[end + 1 :])
    options: list[str] = []
    for argument, before in zip(arguments[:end], ["", *arguments], strict=False):
        of_an_option = before.startswith("-") and "=" not in before
        (options if argument.startswith("-") or of_an_option else words).append(argument)
    return [json.dumps(words, ensure_ascii=False), *options] if words else options


def _list_parameter(function: Callable[..., int]) -> str | None:
    """The name of the first parameter, if it is a list."""
    first = next(iter(signature(function).parameters.values()))
    return first.name if first.annotation in ("list[str]", list[str]) else None


def with_flags(function: Callable[..., int], arguments: Sequence[str]) -> list[str]:
    """Arguments in which an option that is true or false may stand without a value, and then is true.

    >>> def verb(out: str, overwrite: bool = False) -> int: return 0
    >>> with_flags(verb, ["a", "--overwrite"]), with_flags(verb, ["--overwrite", "false", "a"])
    (['a', '--overwrite=true'], ['--overwrite', 'false', 'a'])
    """
    flags = {f"--{name}" for name, told in signature(function).parameters.items() if isinstance(told.default, bool)}
    following = [*arguments[1:], ""][: len(arguments)]
    return [
        f"{argument}=true" if argument in flags and value.lower() not in ("true", "false", "yes", "no") else argument
        for argument, value in zip(arguments, following, strict=True)
    ]
