"""What an anomaly detector leaves to look at: heat maps over the images, and the gallery."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ssl_transfer.data.placement import to_original
from ssl_transfer.downstream import AnomalyDetector
from ssl_transfer.downstream.fitted_anomaly import full_size
from ssl_transfer.evaluation.report import Scored
from ssl_transfer.reporting.gallery import GalleryItem, anomaly_gallery, pictured, thumbnail
from ssl_transfer.reporting.heat_maps import overlay, write_overlays
from ssl_transfer.running.folder import RunFolder

SHOWN = {
    "auroc": "AUROC of images",
    "aupr": "AUPR of images",
    "fpr_at_95_tpr": "false alarms at 95 % caught",
    "pixel_auroc": "AUROC of pixels",
    "aupro": "AUPRO of regions",
}
_BATCH = 32  # images whose maps are computed at a time


class Picture(NamedTuple):
    """What the gallery shows of an image, `(h, w, 3)` uint8, and with a map the same under its heat."""

    plain: np.ndarray
    heated: np.ndarray | None


def write_gallery(
    run: RunFolder, module: AnomalyDetector, data: Any, scored: Scored, figures: Mapping[str, Any] | None = None
) -> list[Path]:
    """Write `gallery.html`, and with a detector that has maps `heat_maps/`; returns what was written.

    The heat maps are PNGs of the images' own size: of every image that is called an anomaly, and of all that the
    gallery shows with their picture.

    Args:
        run: the folder.
        module: fitted; its maps are computed anew for the chosen images where `scored` holds none.
        data: which the rows of `scored` are of.
        scored: what the detector said.
        figures: of the test that gave `scored`, by name ("test/auroc"); None after a prediction, which has none.
    """
    shown = pictured(scored.scores)
    flagged = np.flatnonzero(scored.scores > module.limit).tolist()
    pictures: dict[int, Picture] = {}
    written: list[Path] = []
    if scored.maps is not None or module.detector.reads != "features":
        chosen = [*shown, *sorted(set(flagged) - set(shown))]
        write_overlays(run.heat_maps, _heated(module, data, scored, chosen, pictures, set(shown)), *module.heat_scale)
        written.append(run.heat_maps)
    else:
        pictures |= {n: Picture(thumbnail(data.original(int(scored.rows[n]))), None) for n in shown}
    figures = figures or {}
    page = anomaly_gallery(
        _items(module, data, scored, pictures),
        title=f"Anomalies in {data.source}",
        threshold=module.limit,
        false_alarm_rate=module.rate if module.by == "conformal" else None,
        figures=_figures(figures),
        warnings=[*run.metrics().get("warnings", []), *_unmasked(figures)],
        facts=[
            ("Detector", repr(module.detector)),
            ("Encoder", str(module.chosen_encoder[0])),
            ("Tuning", type(module.tuning).__name__),
            ("Calibrated on", f"{len(module.calibration.scores):,} held-out normal images"),
            ("Run", str(run.path)),
        ],
    )
    return [*written, page.write(run.gallery)]


def found(module: AnomalyDetector, data: Any, outputs: list[Any]) -> Scored:
    """The outputs of `predict_step` as one, ordered by row."""
    parts = [
        Scored(
            output["index"].cpu().numpy(),
            np.asarray(data.table.targets)[output["index"].cpu().numpy()],
            output["anomaly_score"].numpy(),
            None,
            None,
        )
        for output in outputs
    ]
    return Scored.gather(parts)


def _items(module: AnomalyDetector, data: Any, scored: Scored, pictures: Mapping[int, Picture]) -> list[GalleryItem]:
    """Every image, and the pictures of those at some places."""
    has_classes = data.classes is not None and scored.targets.ndim == 1 and scored.targets.dtype.kind in "iu"
    targets = scored.targets.tolist() if has_classes else [-1] * len(scored.rows)
    normal = data.normal_targets
    p_values = module.calibration.p_values(scored.scores)
    return [
        GalleryItem(
            path=str(data.table.paths[row]),
            score=float(scored.scores[n]),
            p_value=float(p_values[n]),
            anomalous=bool(scored.scores[n] > module.limit),
            label=data.classes[target] if target >= 0 else None,
            truth=target not in normal if target >= 0 and normal is not None else None,
            split=str(data.table.splits[row]),
            thumbnail=pictures[n].plain if n in pictures else None,
            overlay=pictures[n].heated if n in pictures else None,
        )
        for n, (row, target) in enumerate(zip(scored.rows.tolist(), targets, strict=True))
    ]


def _heated(
    module: AnomalyDetector,
    data: Any,
    scored: Scored,
    places: Sequence[int],
    pictures: dict[int, Picture],
    shown: set[int],
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Path, image and heat, both at the image's own size, of some places; each is decoded once.

    Leaves small pictures of those `shown` in `pictures`.
    """
    for low in range(0, len(places), _BATCH):
        part = list(places[low : low + _BATCH])
        for n, heat in zip(part, _maps(module, data, scored, part), strict=True):
            row = int(scored.rows[n])
            image = data.original(row)
            if n in shown:
                small = thumbnail(image)
                its = to_original(heat, small.shape[:2], data.resize)
                pictures[n] = Picture(small, overlay(small, its, *module.heat_scale))
            yield str(data.table.paths[row]), image, to_original(heat, image.shape[:2], data.resize)


@torch.no_grad()
def _maps(module: AnomalyDetector, data: Any, scored: Scored, places: list[int]) -> np.ndarray:
    """Anomaly maps `(n, H, W)` of a few places, of the size of the stored images: those kept, or else anew."""
    if scored.maps is not None:
        maps: torch.Tensor | None = torch.from_numpy(scored.maps[places])
    else:
        training = module.training
        module.eval()
        images = torch.from_numpy(data.images(scored.rows[places]))
        maps = module.scorer(images.to(module.scorer.encoder.mean.device)).maps
        module.train(training)
    assert maps is not None
    return full_size(maps, data.shape[1:]).numpy()


def _figures(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The figures that tiles show, by their titles, with their intervals where there are some."""
    figures: dict[str, Any] = {}
    for name, title in SHOWN.items():
        value = metrics.get(f"test/{name}")
        if value is not None:
            low, high = metrics.get(f"test/{name}_low"), metrics.get(f"test/{name}_high")
            figures[title] = value if low is None else (value, low, high)
    return figures


def _unmasked(metrics: Mapping[str, Any]) -> list[str]:
    """A warning where the figures of pixels leave anomalies out."""
    count = int(metrics.get("test/unmasked_anomalies", 0))
    few = f"{count:,} of the anomalies have no pixel marked in a mask; the figures of pixels leave them out."
    return [few] if count else []
