"""What a user asks of the evidence, read from words: encoders, label budgets and strategies."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from inspect import signature
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from ssl_transfer.downstream import tuning as strategies
from ssl_transfer.downstream.tuning import Scratch, Tuning

BUDGETS = (1, 5, 10, 50, 100, None)
KNOWN = {
    name: kind
    for name, kind in vars(strategies).items()
    if isinstance(kind, type) and issubclass(kind, Tuning) and kind not in (Tuning, Scratch)
}


def named_encoders(text: str) -> dict[str, Path]:
    """Encoder folders, or the runs that hold them, separated by commas, by the names of their runs.

    >>> list(named_encoders("runs/simclr/encoder,runs/rotation"))
    ['simclr', 'rotation']
    """
    given = [Path(part).expanduser() for part in _parts(text)]
    if not given:
        raise ValueError("no encoder is named: give an encoder folder, or several separated by commas")
    paths = [path / "encoder" if (path / "encoder").is_dir() else path for path in given]
    names = [_run(path).name for path in paths]
    if len(set(names)) < len(names):
        names = [str(_run(path)) for path in paths]
    if len(set(names)) < len(names):
        raise ValueError(f"an encoder is given twice in {text}: give each once")
    return dict(zip(names, paths, strict=True))


def _run(path: Path) -> Path:
    return path.parent if path.name == "encoder" and path.parent.name else path


def label_budgets(text: str | None, data: Any) -> list[int | None]:
    """Labelled images a class, and None for "all", ascending; by default those of `BUDGETS` that every class has.

    A number that draws as many labels as all are is dropped beside them. Raises ValueError for what is no number, and
    naming a class that has fewer images than asked for.
    """
    _check_classes(data, "test")
    if text is None:
        return _distinct([budget for budget in BUDGETS if budget is None or _drawn(data, budget)], data)
    counts = {_budget(part) for part in _parts(text.strip("[]()"))}
    if not counts:
        raise ValueError("--budgets is empty: give numbers of labelled images a class, such as 1,10,all")
    numbers = sorted(count for count in counts if count is not None)
    if numbers:
        _check(data, numbers[-1])
    return _distinct([*numbers, *([None] if None in counts else [])], data)


def _distinct(budgets: list[int | None], data: Any) -> list[int | None]:
    """Without a number that is as good as all, where all are asked for too."""
    if None not in budgets:
        return budgets
    whole = _drawn(data, None)
    return [budget for budget in budgets if budget is None or _drawn(data, budget) < whole]


def _drawn(data: Any, budget: int | None) -> int:
    """Labelled images in all at a budget; 0 where a class has fewer."""
    try:
        return len(data.few(budget, seed=0).indices("train"))
    except ValueError:
        return 0


def _budget(text: str) -> int | None:
    if text.strip("'\"").lower() == "all":
        return None
    try:
        count = int(text)
    except ValueError:
        count = 0
    if count < 1:
        raise ValueError(f"--budgets takes whole numbers from 1 and all, such as 1,10,all, not {text!r}")
    return count


def _check(data: Any, budget: int) -> None:
    """Raise ValueError unless the training split has so many labelled images of every class."""
    _check_classes(data)
    try:
        data.few(budget, seed=0)
    except ValueError as error:
        raise ValueError(str(error).replace("data.label_budget=", "--budgets ")) from error


def _check_classes(data: Any, split: str | None = None) -> None:
    """Raise ValueError naming the classes, or those of a split, that no labelled training image has."""
    there = set(data.table.targets[data.few(None, seed=0).indices("train")].tolist())
    asked = range(data.num_classes) if split is None else sorted(set(data.table.targets[data.indices(split)].tolist()))
    if none := [str(data.classes[k]) for k in asked if k >= 0 and k not in there]:
        raise ValueError(
            f"class {', '.join(none[:5])}{' …' if len(none) > 5 else ''} of {data.source} has no labelled training "
            f"image: label some, {'or leave the class out' if split else 'or give --budgets all'}"
        )


def tunings(text: str) -> dict[str, Tuning]:
    """Strategies by name, separated by commas, with or without arguments.

    >>> {name: type(tuning).__name__ for name, tuning in tunings("Full,Full(encoder_lr=0.5)").items()}
    {'Full': 'Full', 'Full(encoder_lr=0.5)': 'Full'}
    """
    try:
        listed = ast.parse(f"[{text.strip('[]')}]", mode="eval").body
    except SyntaxError as error:
        raise ValueError(f"--strategies {text} cannot be read: {_example()}") from error
    assert isinstance(listed, ast.List)
    return {_name(node): _tuning(node) for node in listed.elts}


def _name(node: ast.expr) -> str:
    """As it was written, but for spaces and empty brackets."""
    return ast.unparse(node).removesuffix("()")


def _tuning(node: ast.expr) -> Tuning:
    called = node.func if isinstance(node, ast.Call) else node
    if not isinstance(called, ast.Name) or called.id not in KNOWN:
        known = ", ".join(KNOWN)
        why = "Scratch is a floor and measured anyway" if _name(called) == "Scratch" else f"known are {known}"
        raise ValueError(f"--strategies: {_name(node)} is none: {why}")
    if not isinstance(node, ast.Call):
        return KNOWN[called.id]()
    if any(word.arg is None for word in node.keywords):
        raise ValueError(f"--strategies: {_name(node)}: {_example()}")
    try:
        given = [ast.literal_eval(value) for value in node.args]
        named = {str(word.arg): ast.literal_eval(word.value) for word in node.keywords}
        _check_types(KNOWN[called.id], given, named)
        return KNOWN[called.id](*given, **named)
    except TypeError as error:
        raise ValueError(f"--strategies: {_name(node)}: {error}") from error
    except ValueError as error:
        words = _example() if "malformed" in str(error) else str(error)
        raise ValueError(f"--strategies: {_name(node)}: {words}") from error


def _check_types(kind: type[Tuning], given: list[Any], named: dict[str, Any]) -> None:
    """Raise ValueError for an argument of another type than the strategy takes, TypeError for one that it lacks."""
    taken = signature(kind)
    hints = get_type_hints(kind.__init__)
    for name, value in taken.bind(*given, **named).arguments.items():
        if not _fits(value, hints[name]):
            raise ValueError(f"{name} takes {taken.parameters[name].annotation}, not {value!r}: {_example()}")


def _fits(value: Any, hint: Any) -> bool:
    """Whether a literal is of a type as the strategies write them.

    >>> _fits(1, float), _fits(None, int | None), _fits(["a"], list[str]), _fits(True, int), _fits("a", float)
    (True, True, True, False, False)
    """
    parts = get_args(hint)
    if get_origin(hint) is list:
        return isinstance(value, list) and all(_fits(one, parts[0]) for one in value)
    if get_origin(hint) is Literal:
        return True  # the strategy itself names the choices
    if parts:
        return any(_fits(value, part) for part in parts)
    if hint in (int, float):
        return isinstance(value, int | hint) and not isinstance(value, bool)
    return isinstance(value, hint)


def _example() -> str:
    return "give names such as Full,LinearThenFull or Partial(n_stages=2)"


def _parts(text: str) -> Sequence[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
