"""What every benchmark shares: its machine, its versions, and its two result files."""

from __future__ import annotations

import json
import platform
import statistics
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"
RUNS = Path(__file__).parent.parent / "runs" / "benchmarks"
PACKAGES = ("ssl_transfer", "torch", "torchvision", "pytorch-lightning", "lightly", "scikit-learn", "numpy")


def machine() -> str:
    """The processor and what is used of it."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        name = models[0] if models else name
    device = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{name}, {torch.get_num_threads()} threads{device}, {platform.system()}"


def row(id: str, values: Sequence[float], kind: str, unit: str = "fraction", **more: Any) -> dict[str, Any]:
    """One result: the mean over seeds and its spread (standard deviation; 0 for one value)."""
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    figures = {"value": round(statistics.fmean(values), 4), "spread": round(spread, 4)}
    return {"id": id, **figures, "seeds": len(values), "unit": unit, "kind": kind, **more}


def write(name: str, rows: list[dict[str, Any]], seconds: float, notes: Sequence[str] = ()) -> None:
    """Write `results/NAME.json` and `results/NAME.md`; an id stands once. notes: how to read the table."""
    assert len({r["id"] for r in rows}) == len(rows), "an id stands once"
    command = " ".join(["python", f"benchmarks/{name}.py", *sys.argv[1:]])
    facts = {
        "machine": machine(),
        "versions": {package: version(package) for package in PACKAGES},
        "command": command,
        "seconds": round(seconds, 1),
        "notes": list(notes),
        "rows": rows,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (RESULTS / f"{name}.md").write_text(_markdown(name, facts, notes), encoding="utf-8")


def _markdown(name: str, facts: dict[str, Any], notes: Sequence[str]) -> str:
    lines = [f"# {name}", "", f"Machine: {facts['machine']}. Command: `{facts['command']}`.", ""]
    lines += [f"- {note}" for note in notes] + [
        "",
        "| id | value | spread | seeds | unit | kind |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['id']} | {r['value']} | {r['spread']} | {r['seeds']} | {r['unit']} | {r['kind']} |"
        for r in facts["rows"]
    ]
    versions = ", ".join(f"{package} {number}" for package, number in facts["versions"].items())
    return "\n".join([*lines, "", f"Versions: {versions}.", ""])
