"""What an anomaly detector leaves to look at: heat maps over the images, and the gallery."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ssl_transfer.data.placement import to_original
from ssl_transfer.downstream import AnomalyDetector
from ssl_transfer.downstream.fitted_anomaly import full_size
from ssl_transfer.evaluation.report import Scored
from ssl_transfer.reporting.gallery import GalleryItem, pictured, write_anomaly_gallery
from ssl_transfer.reporting.heat_maps import overlay, write_overlays
from ssl_transfer.running.folder import RunFolder

SHOWN = {
    "auroc": "AUROC of images",
    "aupr": "AUPR of images",
    "fpr_at_95_tpr": "false alarms at 95 % caught",
    "pixel_auroc": "AUROC of pixels",
    "aupro": "AUPRO of regions",
}


def write_gallery(run: RunFolder, module: AnomalyDetector, data: Any, scored: Scored) -> list[Path]:
    """Write `gallery.html`, and with a detector that has maps `heat_maps/`; returns what was written.

    The heat maps are PNGs of the images' own size: of every image that is called an anomaly, and of all that the
    gallery shows with their picture.
    """
    order = pictured(scored.scores)
    written: list[Path] = []
    if scored.maps is not None:
        flagged = np.flatnonzero(scored.scores > module.limit).tolist()
        chosen = [*order, *sorted(set(flagged) - set(order))]
        pairs = ((str(data.table.paths[scored.rows[n]]), *_image_and_heat(module, data, scored, n)) for n in chosen)
        heats = ((path, image, heat) for path, image, heat in pairs if heat is not None)
        write_overlays(run.heat_maps, heats, *module.heat_scale)
        written.append(run.heat_maps)
    shown = set(order)
    items = [_item(module, data, scored, n, n in shown) for n in range(len(scored.rows))]
    metrics = run.metrics()
    write_anomaly_gallery(
        run.gallery,
        items,
        title=f"Anomalies in {data.source}",
        threshold=module.limit,
        false_alarm_rate=module.false_alarm_rate if module.threshold == "conformal" else None,
        figures=_figures(metrics) if all(item.truth is not None for item in items) else {},
        warnings=list(metrics.get("warnings", [])),
        facts=[
            ("Detector", repr(module.detector)),
            ("Encoder", str(module.chosen_encoder[0])),
            ("Tuning", type(module.tuning).__name__),
            ("Calibrated on", f"{len(module.calibration.scores):,} held-out normal images"),
            ("Run", str(run.path)),
        ],
    )
    return [*written, run.gallery]


def found(module: AnomalyDetector, data: Any, outputs: list[Any]) -> Scored:
    """The outputs of `predict_step` as one, ordered by row."""
    parts = [
        Scored(
            output["index"].cpu().numpy(),
            np.asarray(data.table.targets)[output["index"].cpu().numpy()],
            output["anomaly_score"].numpy(),
            None if output["maps"] is None else output["maps"].numpy(),
            None,
        )
        for output in outputs
    ]
    return Scored.gather(parts)


def _item(module: AnomalyDetector, data: Any, scored: Scored, place: int, picture: bool) -> GalleryItem:
    row = int(scored.rows[place])
    target = int(scored.targets[place]) if scored.targets.ndim == 1 else -1
    score = float(scored.scores[place])
    known = target >= 0 and data.normal_targets is not None
    image, heat = _image_and_heat(module, data, scored, place) if picture else (None, None)
    return GalleryItem(
        path=str(data.table.paths[row]),
        score=score,
        p_value=float(module.calibration.p_values(scored.scores[place : place + 1])[0]),
        anomalous=score > module.limit,
        label=data.classes[target] if data.classes and target >= 0 else None,
        truth=target not in data.normal_targets if known else None,
        split=str(data.table.splits[row]),
        thumbnail=image,
        overlay=None if image is None or heat is None else overlay(image, heat, *module.heat_scale),
    )


def _image_and_heat(
    module: AnomalyDetector, data: Any, scored: Scored, place: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """The image `(H, W, C)` at its own size, and its anomaly map `(H, W)`, NaN where the encoder saw nothing."""
    image = data.original(int(scored.rows[place]))
    if scored.maps is None:
        return image, None
    heat = full_size(torch.from_numpy(scored.maps[place : place + 1]), data.shape[1:])[0].numpy()
    return image, to_original(heat, image.shape[:2], data.resize)


def _figures(metrics: dict[str, Any]) -> dict[str, Any]:
    """The test split's figures, with their intervals where there are some."""
    figures: dict[str, Any] = {}
    for name, title in SHOWN.items():
        value = metrics.get(f"test/{name}")
        if value is not None:
            low, high = metrics.get(f"test/{name}_low"), metrics.get(f"test/{name}_high")
            figures[title] = value if low is None else (value, low, high)
    return figures
