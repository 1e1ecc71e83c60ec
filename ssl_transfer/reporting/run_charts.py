"""The curves of a run as charts: what belongs together in one, with a sentence on what it tells."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from ssl_transfer.reporting.charts import Curve, line_chart
from ssl_transfer.reporting.formats import metric

_TOLD = {  # what the reader of a curve wants to know
    "val/rankme": "Effective rank of the features: how many directions they use. A fall to a few is collapse.",
    "val/feature_std": "Spread of the normalised features, from 0 (all images alike: collapse) to 1.",
    "val/alignment": "Squared distance of two views of an image: lower, and random views matter less.",
    "val/uniformity": "How evenly features cover the sphere: 0 is one point, lower is more even.",
    "train/images_per_second": "Speed of training, validation apart.",
    "train/data_wait_share": "Share of the time in which training waited for images.",
    "train/gradient_norm": "Norm of the gradient before clipping, mean over the steps.",
}
_HIDDEN = ("val/view_difference",)  # the same in every epoch


def run_charts(curves: Mapping[str, Curve]) -> list[str]:
    """Charts as HTML: losses together, accuracies of the probes with the floor, then every other figure by itself."""
    left = {name: curve for name, curve in curves.items() if curve and name not in _HIDDEN}
    charts = []
    losses = {split: left.pop(f"{split}/loss") for split in ("train", "val") if f"{split}/loss" in left}
    if losses:
        title = "loss" if len(losses) > 1 else f"{next(iter(losses))}/loss"
        charts.append(line_chart(losses, x_label="epoch", y_label=title, title=title, height=170))
    floor = left.pop("val/knn_accuracy_raw_pixels", [])
    probes = {name: left.pop(f"val/{name}_accuracy") for name in ("knn", "linear") if f"val/{name}_accuracy" in left}
    if probes:
        charts.append(
            line_chart(
                {{"knn": "kNN"}.get(name, name): curve for name, curve in probes.items()},
                x_label="epoch",
                y_label="accuracy of probes on the validation split",
                title="accuracy of probes on the validation split",
                reference={"raw pixels": floor[-1][1]} if floor else None,
                as_percent=True,
                height=170,
            )
        )
    return charts + [_single(name, curve) for name, curve in sorted(left.items(), key=lambda item: _rank(item[0]))]


def _rank(name: str) -> int:
    names = list(_TOLD)
    return names.index(name) if name in names else -1


def _single(name: str, curve: Curve) -> str:
    fractions = all(0 <= y <= 1 for _, y in curve) and metric(name, 0.5).endswith("%")
    chart = line_chart({name: curve}, x_label="epoch", y_label=name, title=name, as_percent=fractions, height=170)
    told = _TOLD.get(name)
    return chart if told is None else f'<div class="told">{chart}<p class="quiet">{escape(told)}</p></div>'
