"""The page of configurations: every YAML of `configs/`, what it is for, and what came of it where that was measured."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MEASURED = ROOT / "benchmarks" / "results" / "configurations.json"
_VALUE = r"\[[^\]]*\]|\d+(?:\.\d+)?|null|true|false|[\w.]+/[\w./]*\w"
_OPTION = re.compile(rf"(?<!`)(--\w+(?:\.\w+)*(?: (?:{_VALUE}))?)")  # with its value
Row = dict[str, Any]
Measured = dict[str, dict[str, Row]]  # by configuration or floor, such as `pretrain_simclr`, and by figure
KINDS = {
    "pretrain": "Pretrain",
    "classify": "Classify",
    "anomaly": "Find anomalies",
    "reduce": "Reduce",
    "cluster": "Cluster",
    "adapt": "Adapt",
}


def configurations() -> str:
    """Markdown of all configurations, by kind."""
    measured = _measured()
    parts = [_preface(measured)]
    for kind in sorted({path.parent.name for path in ROOT.glob("configs/*/*.yaml")}, key=_order):
        parts.append(f"## {KINDS.get(kind, kind.capitalize())}")
        parts += [_one(path, measured) for path in sorted((ROOT / "configs" / kind).glob("*.yaml"))]
    return "\n\n".join(part for part in parts if part)


def anchor(kind: str, name: str) -> str:
    """The anchor of a configuration on the page."""
    return f"{kind}-{name}".replace("_", "-")


def _order(kind: str) -> int:
    return list(KINDS).index(kind) if kind in KINDS else len(KINDS)


def _one(path: Path, measured: Measured) -> str:
    """A configuration: its comment in words, the commands in it, the figures, the file itself."""
    kind, name = path.parent.name, path.stem
    words, commands, body = _parts(path.read_text(encoding="utf-8"))
    parts = [f"### {kind}/{name}.yaml {{ #{anchor(kind, name)} }}", _OPTION.sub(r"`\1`", " ".join(words))]
    if commands:
        parts.append("```text\n" + "\n".join(commands) + "\n```")
    parts.append(_figures(kind, name, measured))
    parts.append(f"```yaml\n{body.strip()}\n```")
    return "\n\n".join(part for part in parts if part)


def _parts(text: str) -> tuple[list[str], list[str], str]:
    """The comment's words, its lines that are commands (indented), and the YAML below."""
    lines = text.splitlines()
    top = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    words: list[str] = []
    commands: list[str] = []
    for line in (line[1:] for line in lines[:top]):
        if words and words[-1].endswith("\\"):  # options that go on
            words[-1] = f"{words[-1][:-1]} {line.strip()}"
        elif line.startswith("   "):
            commands.append(line[3:])
        else:
            words.append(line.strip())
    return [" ".join(line.split()) for line in words], commands, "\n".join(lines[top:])


def _measured() -> Measured:
    """What the benchmark of configurations found on digits; empty where it was not run."""
    found: Measured = {}
    if MEASURED.is_file():
        for row in json.loads(MEASURED.read_text(encoding="utf-8"))["rows"]:
            label, name, figure = row["id"].split("/")
            if label == "digits":
                found.setdefault(name, {})[figure] = row
    return found


def _figures(kind: str, name: str, measured: Measured) -> str:
    """A table of a configuration's figures, with the floors of its kind below."""
    own = measured.get(f"{kind}_{name}", {})
    if not own:
        return ""
    floors = [rows for id, rows in measured.items() if id.startswith(f"{kind}_") and rows is not own and _floor(rows)]
    lines = [f"| on digits | {' | '.join(figure.replace('_', ' ') for figure in own)} | |"]
    lines.append("| --- " * (len(own) + 2) + "|")
    for rows in (own, *(rows for rows in floors if own.keys() & rows.keys() - {"minutes"})):
        title = "**this**" if rows is own else next(iter(rows.values())).get("title", "")
        cells = [_cell(rows.get(figure)) for figure in own]
        lines.append(f"| {title} | {' | '.join(cells)} | {'floor' if _floor(rows) else ''} |")
    return "\n".join(lines)


def _floor(rows: dict[str, Row]) -> bool:
    return any(row.get("kind") == "floor" for row in rows.values())


def _cell(row: Row | None) -> str:
    """A figure with its spread over seeds, where there are several, and its interval.

    >>> _cell({"value": 0.912, "spread": 0.01, "seeds": 3, "unit": "fraction", "low": 0.89, "high": 0.93})
    '.912 ± .010 [.890, .930]'
    """
    if row is None:
        return "–"
    digits = {"fraction": 3, "min": 2}.get(str(row.get("unit")), 1)
    value, spread, low, high = (f"{float(row.get(k) or 0):.{digits}f}" for k in ("value", "spread", "low", "high"))
    if row.get("unit") == "fraction":
        value, spread, low, high = (number.removeprefix("0") for number in (value, spread, low, high))
    over_seeds = f" ± {spread}" if int(row.get("seeds") or 1) > 1 else ""
    return value + over_seeds + (f" [{low}, {high}]" if "low" in row else "")


def _preface(measured: Measured) -> str:
    if not measured:
        return ""
    return (
        "What each gives on the embedded digits stands below it with its floors: accuracies and the like as fractions, "
        "± the standard deviation over seeds, [95 % interval by the number of images], minutes of one core. "
        "[The table](../../benchmarks/results/configurations.md) states the conditions."
    )
