"""A parser's complaint in one line: what is wrong, where, and what would be right."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib import import_module
from typing import Any

_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "tuple": "a list such as [0.2, 1.0]",
    "list": "a list",
    "dict": "a mapping",
    "NoneType": "null",
}
_FRAME = re.compile(
    r"Does not validate against|Errors:$|Given value type:|Expected a path but|Subclass types expect"
    r"|a (class path|dict) "
)


@dataclass
class Complaint:
    """One reason among those that a parser lists: the option's path, the words, and the classes that were possible."""

    path: list[str]
    words: str
    classes: list[str] = field(default_factory=list)

    @property
    def of_type(self) -> str | None:
        """The type asked for, if that is all there is to say."""
        match = re.match(r"Expected an? (?:<class '([\w.]+)'>|(typing\.Literal\[.*?\]))", self.words)
        return (match.group(1) or match.group(2)) if match else None


def plain(message: str, options: Sequence[str] = ()) -> str:
    """jsonargparse's message in one line. Messages that are not its own, such as a constructor's, stay as they are.

    options: the long options that exist, to suggest one from.

    >>> plain("unrecognized arguments: --overwite", ["--overwrite"])
    'unknown option --overwite; did you mean --overwrite?'
    """
    if match := re.search(r"(?:Problems parsing|Unexpected) config:?(.*)", message, re.DOTALL):
        return f"--config is not a YAML file of options: {' '.join(match.group(1).split())}"
    complaints = _complaints(message)
    if not complaints:
        return " ".join(message.split())
    deepest = max(len(c.path) for c in complaints)
    first = next(c for c in complaints if c.of_type is None or len(c.path) == deepest)
    if first.of_type is None:
        return _in_words(first, options)
    asked = [c.of_type for c in complaints if c.path == first.path and c.of_type is not None]
    return f"{_option(first.path, options)} must be {_any_of(asked)}{_given(message, first.words)}"


def _complaints(message: str) -> list[Complaint]:
    """The leaves of the tree that the message draws by indentation, first to last."""
    found: list[Complaint] = []
    keys: list[tuple[int, str]] = []
    classes: list[tuple[int, list[str]]] = []
    for line in message.splitlines():
        text = re.sub(r"^[\s-]+(?=\S)", "", line) if not line.lstrip().startswith("--") else line.lstrip()
        depth = len(line) - len(line.lstrip(" -"))
        if not text.strip() or text.startswith(("usage:", "tip:")):
            continue
        keys = [entry for entry in keys if entry[0] < depth]
        classes = [entry for entry in classes if entry[0] <= depth]
        if match := re.match(r'Parser key "([^"]*)":\s*(.*)', text):
            keys.append((depth, match.group(1)))
            text = match.group(2)
        elif text.startswith("Subtypes:"):
            classes.append((depth, re.findall(r"<class '([\w.]+)'>", text)))
            continue
        elif text.startswith("Given value:"):
            continue
        if text and not _FRAME.match(text):
            path = [part for _, key in keys for part in key.split(".")]
            found.append(Complaint(path, text.strip(), classes[-1][1] if classes else []))
    return found


def _in_words(complaint: Complaint, options: Sequence[str]) -> str:
    words, path = complaint.words, complaint.path
    if match := re.match(r"Option '([\w.]+)' is not accepted", words):
        return _unknown(path, match.group(1).split("."), complaint.classes)
    if path and (match := re.match(r"[Uu]nrecognized arguments?: --([\w.]+)", words)):
        return _unknown(path, match.group(1).split("."), complaint.classes)
    if match := re.match(r"[Uu]nrecognized arguments?: (\S+)", words):
        return _misspelt(match.group(1).split("=")[0], options)
    if match := re.match(r"Subcommand '\w+' does not accept option '([\w.]+)'", words):
        return _misspelt(f"--{match.group(1)}", options)
    if match := re.match(r"the following arguments are required: (.+)", words):
        return _missing(path, match.group(1), options)
    if match := re.match(r"Expected a dot import path string: (.*)|Import path does not correspond", words):
        return _unknown_class(path, match.group(1), complaint.classes)
    if match := re.match(r"argument (\S+): expected one argument", words):
        return f"an option that begins with {match.group(1)} lacks its value"
    if match := re.match(r"File does not exist: '?(.*?)'?$", words):
        return f"{_option(path, options)}: no such file: {match.group(1)}"
    if words.startswith("Not a valid subclass of"):
        return f"{_option(path, options)} must be a name, or a mapping with class_path and init_args"
    return words


def _unknown(path: list[str], option: list[str], classes: Sequence[str]) -> str:
    """An option that the class at `path` does not have: another spelling, or another class that has it."""
    name, above = option[0], ".".join(path)
    given = f"unknown option --{'.'.join([*path, *option])}"
    owners = {owner.__name__: list(inspect.signature(owner).parameters) for owner in _candidates(classes)}
    having = [owner for owner, names in owners.items() if name in names]
    if having:
        return f"{given}: it belongs to {' and '.join(having)}, which --{above} does not name"
    close = get_close_matches(name, sorted({n for names in owners.values() for n in names}), n=1)
    return f"{given}; " + (f"did you mean --{'.'.join([*path, close[0], *option[1:]])}?" if close else "see --help")


def _unknown_class(path: list[str], given: str | None, classes: Sequence[str]) -> str:
    known = sorted(owner.__name__ for owner in _candidates(classes))
    close = get_close_matches(given or "", known, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"--{'.'.join(path)} {given or ''}".rstrip() + f" is no class for it: {hint}Known are {', '.join(known)}"


def _candidates(classes: Sequence[str]) -> list[type[Any]]:
    """The classes that may be chosen where these are expected: ours among them and their subclasses, without bases."""
    found: list[type[Any]] = []
    todo = [_imported(path) for path in classes]
    public = import_module("ssl_transfer").__all__
    while todo:
        owner = todo.pop(0)
        if owner is None:
            continue
        below = owner.__subclasses__()
        todo += below
        base = owner.__name__ not in public and any(_ours(subclass) for subclass in below)
        if _ours(owner) and not base and owner not in found:
            found.append(owner)
    return found


def _ours(owner: type[Any]) -> bool:
    return owner.__module__.startswith("ssl_transfer.")


def _imported(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return (
        getattr(import_module(module), name, None) if module.startswith(("ssl_transfer", "pytorch_lightning")) else None
    )


def _misspelt(given: str, options: Sequence[str]) -> str:
    if not given.startswith("-"):
        return f"{given!r} belongs to no option; see --help"
    close = get_close_matches(given, options, n=1) or get_close_matches(given.split(".")[0], options, n=1)
    return f"unknown option {given}; " + (f"did you mean {close[0]}?" if close else "see --help")


def _missing(path: list[str], names: str, options: Sequence[str]) -> str:
    first = names.split(",")[0].strip()
    first = first.split(".", 1)[1] if first.split(".")[0] in ("fit", "validate", "test", "predict") else first
    return f"{_option([*path, first], options)} is missing: it has no default; see --help"


def _option(path: list[str], options: Sequence[str]) -> str:
    """How an option is written; a positional argument by its bare name."""
    if not path:  # of a value within a list
        return "an option"
    name = ".".join(path)
    return name if options and f"--{path[0]}" not in options and f"--{name}" not in options else f"--{name}"


def _any_of(asked: Sequence[str]) -> str:
    """What may be given, in words, `null` last.

    >>> _any_of(["int", "NoneType"]), _any_of(["typing.Literal['crop', 'pad', 'stretch']"])
    ('a whole number or null', 'crop, pad or stretch')
    """
    words: list[str] = []
    for name in asked:
        words += re.findall(r"'([^']*)'", name) if "Literal" in name else [_TYPES.get(name, name.rpartition(".")[2])]
    words = sorted(dict.fromkeys(words), key=lambda word: word == "null")
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _given(message: str, words: str) -> str:
    match = re.search(r"Got value: (.*)", words) or re.search(r"Given value: (.*)", message)
    return f", not {match.group(1).strip()!r}" if match else ""
