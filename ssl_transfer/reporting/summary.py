"""The page of one run: its figures, curves, pictures, table, warnings and configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssl_transfer.reporting.charts import Curve, interval_chart
from ssl_transfer.reporting.confusion import confusion_html
from ssl_transfer.reporting.formats import metric
from ssl_transfer.reporting.page import Page
from ssl_transfer.reporting.results import ResultRow, result_cells
from ssl_transfer.reporting.run_charts import run_charts

Metric = float | str | bool | None
_SPLITS = {"test": "test split", "val": "validation split", "train": "training split"}
_COSTS = {"wall_seconds": "time", "images_seen": "images seen", "peak_memory_bytes": "peak memory"}
_MOST_TILES = 4
_FIRST = (
    *("accuracy", "balanced_accuracy", "auroc", "knn_accuracy", "knn_accuracy_raw_pixels", "linear_accuracy"),
    *("macro_f1", "f1", "pixel_auroc", "false_alarm_rate"),
    *("pixels_trustworthiness_15", "features_trustworthiness_15", "pixels_continuity_15", "knn_accuracy_10"),
    *("hungarian_accuracy", "nmi", "ari", "silhouette", "loss"),
)
_OF_LABELS = (*_FIRST, "calibration_error", "f1_macro", "top5_accuracy")


def write_summary(
    path: str | Path,
    title: str,
    metrics: Mapping[str, Metric],
    config_yaml: str = "",
    curves: Mapping[str, Curve] | None = None,
    pictures: Sequence[tuple[str, str]] = (),
    rows: Sequence[ResultRow] = (),
    warnings: Sequence[str] = (),
    confusion: tuple[NDArray[np.generic], Sequence[str]] | None = None,
    subtitle: str = "",
    lead: Sequence[str] = (),
    domains: Mapping[str, str] | None = None,
) -> Path:
    """Write a run's `summary.html`: one file without links that needs nothing else.

    Args:
        path: of the file; an older one is replaced.
        title: of the page.
        metrics: the content of `metrics.json`; names such as "test/accuracy" carry their split.
        config_yaml: the configuration, shown on request.
        curves: name of a metric, its (epoch or step, value) points; each becomes a small chart.
        pictures: heading and HTML of each, such as `image_grid(…)` gives; the HTML is not escaped.
        rows: results with their floors, see `ResultRow`; fractions.
        warnings: what a reader must know, such as images left out.
        confusion: the matrix, rows the true class, and the names of the classes.
        subtitle: a sentence below the title.
        lead: sentences that stand first.
        domains: of which domain the labels of a split are, where there are two.

    Returns:
        The path.
    """
    page = Page(title, subtitle, eyebrow="ssl-transfer run")
    for sentence in lead:
        page.paragraph(sentence)
    for warning in warnings:
        page.warning(warning)
    page.tiles(_tiles(metrics, domains or {}))
    if rows:
        columns, cells, ours = result_cells(rows)
        page.section("Against the floors", "A floor is what any encoder must beat.").add(interval_chart(rows))
        page.table(columns, cells, highlight=ours)
    shown = {name: curve for name, curve in (curves or {}).items() if curve}
    if shown:
        page.section("Curves").add('<div class="columns">')
        for chart in run_charts(shown):
            page.add(chart)
        page.add("</div>")
    if confusion is not None:
        page.section("Confusion").add(confusion_html(*confusion, caption="Number of images."))
    if pictures:
        page.section("Pictures")
        for heading, html in pictures:
            page.heading(heading).add(html)
    page.section("Everything measured").table(
        ["Name", "Value"], [[name, _exact(value)] for name, value in metrics.items()]
    )
    if config_yaml:
        page.details("Configuration", f'<pre tabindex="0"><code>{escape(config_yaml)}</code></pre>')
    return page.write(path)


def _tiles(metrics: Mapping[str, Metric], domains: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """The main figures: of the best split there is first, then what the run cost."""
    numbers = {name: value for name, value in metrics.items() if isinstance(value, int | float) and "/" in name}
    bounds = [name for name in numbers if name.endswith(("_low", "_high"))]  # of an interval: in the table only
    numbers = {name: value for name, value in numbers.items() if name not in bounds}

    def rank(name: str) -> tuple[int, int]:
        split, last = name.split("/", 1)
        place = list(_SPLITS).index(split) if split in _SPLITS else len(_SPLITS)
        return place, _FIRST.index(last) if last in _FIRST else len(_FIRST)

    chosen = sorted(numbers, key=rank)[:_MOST_TILES]
    tiles = []
    for name in chosen:
        split, last = name.split("/", 1)
        domain = f"{domains[split]} " if split in domains and last in _OF_LABELS else ""
        tiles.append(
            (
                metric(name, numbers[name]),
                domain + last.replace("_", " ").replace("f1", "F1").replace("knn", "kNN"),
                _SPLITS.get(split, split),
            )
        )
    tiles += [(metric(name, metrics[name]), label, "") for name, label in _COSTS.items() if name in metrics]
    return tiles


def _exact(value: Metric) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
