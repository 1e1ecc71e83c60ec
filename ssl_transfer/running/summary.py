"""summary.html of a run, drawn from metrics.json, the curves and the module."""

from __future__ import annotations

import csv
from typing import Any

from ssl_transfer.running.folder import RunFolder


def write_run_summary(run: RunFolder, module: Any) -> None:
    """Write `summary.html`; readable offline."""


def read_curves(run: RunFolder) -> dict[str, list[tuple[float, float]]]:
    """The curves of `logs/metrics.csv`: name to (epoch, value) pairs."""
    path = run.logs / "metrics.csv"
    if not path.exists():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in (rows[0] if rows else {}) if name not in ("epoch", "seconds")]
    return {n: [(float(row["epoch"]), float(row[n])) for row in rows if row.get(n)] for n in names}
