"""How a network runs, as a chain of calls that can be taken up at any of them.

What is recorded is a run: which modules and functions were called, and what each was given. Walking back from the
output, the calls that read one tensor each make up the chain; a skip connection or a second input ends it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

CHANCE = ("dropout", "rrelu")  # functions whose recorded run in evaluation mode says nothing of training


class Mark(Enum):
    """What stands in a recorded call for the tensor of the call before it, and for the number of images."""

    HERE = "here"
    COUNT = "count"


HERE, COUNT = Mark.HERE, Mark.COUNT


@dataclass
class Call:
    """A call of a module, by its path in the network so that it may be replaced, or of a function.

    Args:
        target: the path, or the function.
        args, kwargs: what it was given, `HERE` where the tensor stood, `COUNT` for the number of images.
        part: number of the part that the module belongs to; None for what has no parameters.
        read: the one tensor it was given; None where there was none or several.
        gave: its output, if a tensor.
    """

    target: str | Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    part: int | None = None
    read: Tensor | None = field(default=None, repr=False)
    gave: Tensor | None = field(default=None, repr=False)

    def __call__(self, network: nn.Module, x: Tensor) -> Tensor:
        """Do it again, for another tensor."""
        run = network.get_submodule(self.target) if isinstance(self.target, str) else self.target
        known = {HERE: x, COUNT: len(x)}
        output: Tensor = run(*_filled(self.args, known), **_filled(self.kwargs, known))
        return output

    def given(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """The tensor among the arguments of another run of the same call."""
        found = next(
            (new for new, old in zip(args, self.args, strict=False) if old is HERE),
            next((kwargs.get(key) for key, old in self.kwargs.items() if old is HERE), None),
        )
        assert isinstance(found, Tensor)
        return found


def record(
    network: nn.Module, parts: Sequence[Sequence[nn.Module]], run: Callable[[], Tensor], count: int
) -> list[Call]:
    """The calls of a run of `network`, first to last: of the modules of `parts`, and of all that happens between them.

    Args:
        network: in evaluation mode.
        parts: modules, none inside another, that are recorded as one call each.
        run: runs the network on `count` images, best an odd number that stands for nothing else in it.
    """
    recorder = _Recorder(network, parts, count)
    with recorder.hooked(), recorder:
        run()
    return recorder.calls


def chain(calls: Sequence[Call], output: Tensor) -> list[int]:
    """Numbers of the calls that lead to `output`, first to last, each reading what the one before gave and no more."""
    found: list[int] = []
    wanted: Tensor | None = output
    for number in reversed(range(len(calls))):
        if wanted is not None and calls[number].gave is wanted:
            found.append(number)
            wanted = calls[number].read
            if wanted is None or getattr(calls[number].target, "__name__", "").startswith(CHANCE):
                return found[:-1][::-1]
    return found[::-1]


class _Recorder(TorchFunctionMode):
    def __init__(self, network: nn.Module, parts: Sequence[Sequence[nn.Module]], count: int) -> None:
        super().__init__()
        self.count = count
        self.paths = {module: path for path, module in network.named_modules()}
        self.part_of = {module: number for number, part in enumerate(parts) for module in part}
        self.calls: list[Call] = []
        self.open: list[nn.Module] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if not self.open and isinstance(output, Tensor):
            self._note(func, args, kwargs or {}, output)
        return output

    @contextmanager
    def hooked(self) -> Iterator[None]:
        """Watch every module but those around the parts, whose own code is watched instead."""
        around = {m for m in self.paths if m not in self.part_of and self.part_of.keys() & set(m.modules())}
        hooks = []
        for module in self.paths.keys() - around:
            hooks.append(module.register_forward_pre_hook(self._enter))
            hooks.append(module.register_forward_hook(self._leave, with_kwargs=True))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _enter(self, module: nn.Module, args: Any) -> None:
        self.open.append(module)

    def _leave(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        assert self.open.pop() is module
        if not self.open:
            part = self.part_of.get(module) if any(True for _ in module.parameters()) else None
            self._note(self.paths[module], args, kwargs, output, part)

    def _note(self, target: Any, args: Any, kwargs: Any, output: Any, part: int | None = None) -> None:
        flat = [*args, *kwargs.values()]
        tensors = [value for value in flat if isinstance(value, Tensor)]
        one = len(tensors) == 1 and not any(_hides_tensor(value) for value in flat)
        gave = output if isinstance(output, Tensor) else None
        call = Call(target, self._marked(args), self._marked(kwargs), part, tensors[0] if one else None, gave)
        self.calls.append(call)

    def _marked(self, value: Any) -> Any:
        """Arguments with their tensor and the number of images marked."""
        if isinstance(value, Tensor):
            return HERE
        if type(value) in (tuple, list):
            return type(value)(self._marked(part) for part in value)
        if isinstance(value, dict):
            return {key: self._marked(part) for key, part in value.items()}
        return COUNT if type(value) is int and value == self.count else value


def _filled(value: Any, known: dict[Mark, Any]) -> Any:
    """Marked arguments with what the marks stand for."""
    if type(value) in (tuple, list):
        return type(value)(_filled(part, known) for part in value)
    if isinstance(value, dict):
        return {key: _filled(part, known) for key, part in value.items()}
    return known[value] if isinstance(value, Mark) else value


def _hides_tensor(value: Any) -> bool:
    """Whether a list, tuple or mapping holds a tensor somewhere."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return any(isinstance(part, Tensor) or _hides_tensor(part) for part in inside)
