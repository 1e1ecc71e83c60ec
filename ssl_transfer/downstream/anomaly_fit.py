"""Fitting a detector on normal images, and calibrating its threshold on others."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssl_transfer.data.batch import Batch
from ssl_transfer.downstream.anomaly_checks import labelled_anomalies
from ssl_transfer.downstream.conformal import ConformalCalibration
from ssl_transfer.downstream.scorer import Scorer, Scores
from ssl_transfer.evaluation.report import best_f1_threshold

State = dict[str, Tensor]
MOST_PIXELS = 5_000_000  # that the scale of heat maps is measured on
PREFIX = "detector."  # of the detector's own tensors among those of a fit
Show = Callable[[Any, str], Iterable[Batch]]


def fit_and_calibrate(
    scorer: Scorer,
    data: Any,
    rate: float,
    by: str,
    say: Callable[[str], None],
    show: Show,
    calibrating: slice = slice(None),
) -> tuple[State, list[str]]:
    """Fit `scorer` on the training split and calibrate it on the normal images of the validation split.

    Args:
        scorer: is fitted in place.
        data: an `ImageDataModule`.
        rate: the share of normal images that may be called anomalies; by: "conformal", or "f1".
        say: prints a line; show: wraps a loader in a progress bar of that name.
        calibrating: which of the held-out normal images calibrate.

    Returns the state, plain tensors: the detector's own, `calibration` (the scores of the held-out normal images),
    `threshold`, and with maps `heat_scale`; and what a user must be warned of.
    """
    count = len(data.indices("train"))
    forecast = scorer.forecast(count)
    if forecast is not None:
        say(forecast)
    scorer.fit(show(data.loader("train", everywhere=True), "Reading normal images"), count)
    held_out = _scores(scorer, show(data.loader("val", everywhere=True), "Calibrating"))
    anomalous = labelled_anomalies(data, "val")
    scores = held_out.scores.numpy()
    normal = scores[~anomalous][calibrating]
    remarks: list[str] = []
    if by == "f1":
        threshold = best_f1_threshold(scores, anomalous)
        say(f"threshold {threshold:.6g}: the best F1 for {anomalous.sum()} anomalies among {len(scores)} images")
    else:
        threshold, remarks = conformal_threshold(normal, rate, say)
    state = {PREFIX + name: value for name, value in scorer.detector.state().items()}
    state["calibration"] = torch.from_numpy(normal)
    state["threshold"] = torch.tensor(threshold, dtype=torch.float64)
    if held_out.maps is not None:
        state["heat_scale"] = heat_scale(held_out.maps[torch.from_numpy(~anomalous)])
    return state, remarks


def own_state(state: State) -> State:
    """The detector's tensors among those of a fit."""
    return {name.removeprefix(PREFIX): value for name, value in state.items() if name.startswith(PREFIX)}


def conformal_threshold(normal: np.ndarray, rate: float, say: Callable[[str], None]) -> tuple[float, list[str]]:
    """The anomaly score above which an image is called an anomaly, by scores of normal images; and warnings.

    Says both.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        threshold = ConformalCalibration(normal).threshold(rate)
    remarks = [str(warning.message) for warning in caught]
    for remark in remarks:
        say(f"warning: {remark}")
    if not remarks:
        say(
            f"threshold {threshold:.6g}: at most {rate:g} of normal images are expected above it, by {len(normal)} "
            "that were held out"
        )
    return threshold, remarks


def heat_scale(maps: Tensor) -> Tensor:
    """The heats `(2,)` at which a picture of anomalies begins to colour and is fully coloured.

    It begins where one normal pixel in a hundred lies, and is full at twice the hottest normal pixels' distance from
    the median. maps: of normal images `(N, h, w)`.
    """
    pixels = maps.flatten().numpy()
    pixels = pixels[:: -(-len(pixels) // MOST_PIXELS)].astype(np.float64)
    middle, begin, hottest = np.quantile(pixels, [0.5, 0.99, 0.9999])
    return torch.tensor([begin, max(middle + 2 * (hottest - middle), begin)])


def _scores(scorer: Scorer, batches: Iterable[Batch]) -> Scores:
    found = [scorer(batch.images.to(scorer.encoder.mean.device)) for batch in batches]
    maps = [part.maps for part in found if part.maps is not None]
    return Scores(torch.cat([part.scores for part in found]), torch.cat(maps) if maps else None)
