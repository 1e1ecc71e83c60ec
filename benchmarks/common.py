"""What every benchmark shares: its machine and versions, its rounds, and its two result files."""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"
RUNS = Path(__file__).parent.parent / "runs" / "benchmarks"
CONFIGS = Path(__file__).parent.parent / "configs" / "pretrain"
PACKAGES = ("ssl_transfer", "torch", "torchvision", "pytorch-lightning", "lightly", "scikit-learn", "numpy")
COLUMNS = ("id", "value", "spread", "seeds", "rounds", "unit", "kind")
COMPARISONS = ("ratio", "ratio_spread", "against", "of_bare", "workers", "reached", "remark")

Row = dict[str, Any]
Task = dict[str, Any]
Result = dict[str, Any]


def machine() -> str:
    """The processor and what is used of it."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        name = models[0] if models else name
    device = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{name}, {torch.get_num_threads()} threads{device}, {platform.system()}"


def versions() -> dict[str, str]:
    return {package: version(package) for package in PACKAGES}


def parser(doc: str | None, rounds: int = 3) -> argparse.ArgumentParser:
    """The options that all scripts but the first have."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--root", default="data", help="the folder of data sets")
    made.add_argument("--rounds", type=int, default=rounds, help=f"times that each is measured ({rounds} by default)")
    made.add_argument("--quick", action="store_true", help="about a minute, to see that it works")
    made.add_argument("--note", action="append", default=[], help="a condition of this run to state with the table")
    return made


# ---- rows


def row(id: str, values: Sequence[float], kind: str, unit: str = "fraction", **more: Any) -> Row:
    """One result: the mean over seeds and its spread (standard deviation; 0 for one value)."""
    figures = {"value": round(statistics.fmean(values), 4), "spread": round(spread(values), 4)}
    return {"id": id, **figures, "seeds": len(values), "unit": unit, "kind": kind, **more}


def median_row(id: str, values: Sequence[float], kind: str, unit: str, **more: Any) -> Row:
    """One measurement repeated: the median over rounds and its spread (standard deviation; 0 for one value)."""
    figures = {"value": round(statistics.median(values), 4), "spread": round(spread(values), 4)}
    return {"id": id, **figures, "rounds": len(values), "unit": unit, "kind": kind, **more}


def ratio_row(
    id: str, values: Sequence[float], others: Sequence[float], against: str, unit: str, kind: str = "ours", **more: Any
) -> Row:
    """A median row with `ratio`: how many times better than `others` of the same rounds, the median over rounds.

    Better is more of a rate, and less of what is counted in seconds (`unit` "s"): above 1 `values` win.
    """
    return median_row(id, values, kind, unit, **ratio(values, others, less=unit == "s"), against=against, **more)


def ratio(values: Sequence[float], others: Sequence[float], less: bool = False) -> dict[str, float]:
    """`ratio` and `ratio_spread`, round by round; less: less is better.

    >>> ratio([2.0, 4.0], [1.0, 4.0]), ratio([2.0], [6.0], less=True)["ratio"]
    ({'ratio': 1.5, 'ratio_spread': 0.7071}, 3.0)
    """
    quotients = [b / a if less else a / b for a, b in zip(values, others, strict=True)]
    return {"ratio": round(statistics.median(quotients), 4), "ratio_spread": round(spread(quotients), 4)}


def spread(values: Sequence[float]) -> float:
    """Standard deviation; 0 for one value."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


# ---- rounds


class Rounds:
    """Measurements in rounds that alternate between competitors, each in a process of its own.

    The script calls `serve` first: in such a process it takes over. What is measured is kept in `rounds.json` of
    `folder`, so that a script that was stopped goes on; `finish` puts it away. Output goes to `log.txt`.
    """

    def __init__(self, name: str, quick: bool = False) -> None:
        self.folder = RUNS / "quick" / name if quick else RUNS / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.file = self.folder / "rounds.json"
        self.conditions = {"machine": machine(), "versions": versions()}
        kept = json.loads(self.file.read_text(encoding="utf-8")) if self.file.exists() else {}
        if kept and kept["conditions"] != self.conditions:
            print(f"{self.file} was measured under other conditions: starting afresh", flush=True)
            kept = {}
        self.measured: dict[str, list[Result]] = kept.get("measured", {})
        self.lock = threading.Lock()

    def run(self, tasks: Mapping[str, Task], count: int, at_once: int = 1) -> dict[str, list[Result]]:
        """The results of `count` rounds of each task, by its label; `at_once` of them side by side."""
        for number in range(count):
            with ThreadPoolExecutor(at_once) as pool:
                waiting = [pool.submit(self._round, label, task, number, count) for label, task in tasks.items()]
                try:
                    for each in waiting:
                        each.result()
                except BaseException:
                    pool.shutdown(cancel_futures=True)
                    raise
        return {label: self.measured[_key(task)][:count] for label, task in tasks.items()}

    def has(self, task: Task) -> bool:
        """Whether a task was measured."""
        return bool(self.measured.get(_key(task)))

    def _round(self, label: str, task: Task, number: int, count: int) -> None:
        with self.lock:  # another thread may be writing them all
            done = self.measured.setdefault(_key(task), [])
        if len(done) <= number:
            found = self._measure(task)
            with self.lock:
                done.append(found)
                self._keep()
        print(f"  round {number + 1}/{count} {label}: {_short(done[number])}", flush=True)

    def _measure(self, task: Task) -> Result:
        out = self.folder / f"result_{threading.get_ident()}.json"
        out.unlink(missing_ok=True)
        command = [sys.executable, sys.argv[0], "--measure", _key(task), str(out)]
        log = self.folder / "log.txt"
        with log.open("a", encoding="utf-8") as file:
            status = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT).returncode
        if status or not out.exists():
            raise SystemExit(f"the measurement {_key(task)} failed with status {status}; see the end of {log}")
        result: Result = json.loads(out.read_text(encoding="utf-8"))
        out.unlink()
        return result

    def _keep(self) -> None:
        text = json.dumps({"conditions": self.conditions, "measured": self.measured}, indent=1)
        temporary = self.file.with_suffix(".new")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(self.file)

    def finish(self) -> None:
        """The table is written: the next run of the script measures anew."""
        if self.file.exists():
            self.file.replace(self.folder / "rounds.finished.json")


def serve(measures: Mapping[str, Callable[..., Result]]) -> None:
    """In the process of one measurement: do it, leave its result where `Rounds` looks, and exit. Else do nothing."""
    if sys.argv[1:2] == ["--measure"]:
        task = json.loads(sys.argv[2])
        result = measures[task.pop("what")](**task)
        Path(sys.argv[3]).write_text(json.dumps(result), encoding="utf-8")
        sys.exit(0)


def values(results: Sequence[Result], name: str) -> list[float]:
    """One figure of every round."""
    return [result[name] for result in results]


def _key(task: Task) -> str:
    return json.dumps(task, sort_keys=True)


def _short(result: Result) -> str:
    return ", ".join(f"{k} {v:,.4g}" for k, v in result.items() if isinstance(v, int | float))


# ---- tables


def write(name: str, rows: list[Row], seconds: float, notes: Sequence[str] = (), quick: bool = False) -> None:
    """Write `results/NAME.json` and `results/NAME.md`; an id stands once. notes: how to read the table.

    quick: what a quick run found is no result, and goes to `runs/benchmarks/quick`.
    """
    assert len({r["id"] for r in rows}) == len(rows), "an id stands once"
    command = " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    facts = {
        "machine": machine(),
        "versions": versions(),
        "command": command,
        "seconds": round(seconds, 1),
        "notes": list(notes),
        "rows": rows,
    }
    folder = RUNS / "quick" if quick else RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / f"{name}.md").write_text(_markdown(name, facts, notes), encoding="utf-8")


def show(rows: Sequence[Row]) -> None:
    """The rows on the screen."""
    for r in rows:
        value = "–" if r["value"] is None else f"{r['value']:,.4f}"
        compared = f"  {r['ratio']:.2f} × {r['against']}" if "ratio" in r else ""
        print(f"{r['id']:56}{value:>18} ± {r['spread']:<12,.4f}{r['unit']:9}{r['kind']}{compared}")


def _markdown(name: str, facts: dict[str, Any], notes: Sequence[str]) -> str:
    columns = [c for c in (*COLUMNS, *COMPARISONS) if any(c in r for r in facts["rows"])]
    lines = [f"# {name}", "", f"Machine: {facts['machine']}. Command: `{facts['command']}`.", ""]
    lines += [f"- {note}" for note in notes]
    lines += ["", f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    lines += [f"| {' | '.join(str(_cell(r, c)) for c in columns)} |" for r in facts["rows"]]
    numbers = ", ".join(f"{package} {number}" for package, number in facts["versions"].items())
    return "\n".join([*lines, "", f"Versions: {numbers}.", ""])


def _cell(r: Row, column: str) -> Any:
    found = r.get(column, "")
    return "–" if found is None else found
