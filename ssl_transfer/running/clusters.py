"""What a clusterer leaves to look at: clusters.html, a row of typical images for each cluster."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ssl_transfer.downstream import Clusterer
from ssl_transfer.reporting.clusters import Choice, Representatives, clusters_page
from ssl_transfer.running.folder import RunFolder


def write_clusters(run: RunFolder, module: Clusterer, data: Any, figures: Mapping[str, Any]) -> Path:
    """Write `clusters.html` of a finished fit and return its path.

    figures: of the fit by name ("val/nmi"); those of the validation split are shown.
    """
    rows = data.indices("train")  # the order of the method's labels
    row_of = {str(path): row for row, path in enumerate(data.table.paths)}
    shown = [Representatives(data.images([row_of[p] for p in paths]), paths) for paths in module.representatives]
    method = module.method
    targets = np.asarray(data.table.targets)
    page = clusters_page(
        method.labels_,
        shown,
        title=f"Clusters in {data.source}",
        labels=targets[rows] if data.classes and targets.ndim == 1 else None,
        names=data.classes or [],
        choice=Choice(method.chosen_by, method.choice_, method.n_clusters_) if method.choice_ else None,
        figures=_shown(figures),
        warnings=module.remarks,
        facts=[("Method", repr(method)), ("Encoder", module.reducer or str(module.chosen_encoder[0]))],
    )
    page.write(run.clusters)
    return run.clusters


NAMES = {"hungarian_accuracy": "Hungarian accuracy", "nmi": "NMI", "ari": "ARI", "silhouette": "silhouette"}


def _shown(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the validation split, in words; with their interval where it was measured."""
    shown: dict[str, Any] = {}
    for name, words in NAMES.items():
        value, bounds = figures.get(f"val/{name}"), [figures.get(f"val/{name}_{end}") for end in ("low", "high")]
        if value is not None:
            shown[f"{words}, validation images"] = value if None in bounds else (value, *bounds)
    return shown
