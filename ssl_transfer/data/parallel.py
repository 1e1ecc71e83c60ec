"""Work on many images in threads (Pillow decodes without the interpreter's lock), in order, with a progress bar."""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

T = TypeVar("T")
_TASK = 16  # rows that a thread takes at once
_AHEAD = 32  # tasks whose results may wait for their turn
_PATIENCE = 2.0  # seconds before a bar is worth showing


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:,.0f} images/s")


def in_order(work: Callable[[int], T], rows: Sequence[int] | np.ndarray, description: str) -> Iterator[T]:
    """`work(row)` for every row, computed by a thread a core, yielded in the order of `rows`.

    >>> list(in_order(lambda row: row * row, range(4), "squares"))
    [0, 1, 4, 9]
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    console = Console(file=sys.stderr)
    progress = Progress(*columns, console=console, transient=True, disable=not console.is_interactive)
    bar = progress.add_task(description, total=len(rows))
    tasks = [rows[start : start + _TASK] for start in range(0, len(rows), _TASK)]
    started = time.monotonic()
    with ThreadPoolExecutor(_cores(), thread_name_prefix="decode") as pool:
        try:
            pending: deque[Future[list[T]]] = deque()
            for task in itertools.chain(tasks, [None] * _AHEAD):
                if task is not None:
                    pending.append(pool.submit(_each, work, task))
                if pending and (task is None or len(pending) == _AHEAD):
                    results = pending.popleft().result()
                    yield from results
                    progress.advance(bar, len(results))
                    if time.monotonic() - started > _PATIENCE:
                        progress.start()
        finally:
            if progress.live.is_started:
                progress.stop()


def at_once(count: int) -> int:
    """How many results of `in_order` are held at once at the least, of `count` rows: a task of each thread."""
    return min(count, _TASK * _cores())


def _each(work: Callable[[int], T], rows: Sequence[int] | np.ndarray) -> list[T]:
    return [work(row) for row in rows]


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
