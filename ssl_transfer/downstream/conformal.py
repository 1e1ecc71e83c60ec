"""P-values and thresholds from normal images that were held out."""

from __future__ import annotations

import math
import warnings

import numpy as np
from numpy.typing import ArrayLike, NDArray


class ConformalCalibration:
    """Split-conformal calibration: thresholds with a stated false-alarm rate (Vovk et al. 2005, doi 10.1007/b106715;
    Laxhammar and Falkman 2010, doi 10.1145/1833280.1833287).

    If a new normal image is exchangeable with n held-out normal images, its p-value is at most r with probability at
    most r, whatever the scores' distribution. The rate holds on average over draws of the held-out images; one draw's
    own rate varies about it.

    Args:
        anomaly_scores: those of the n held-out normal images, higher is more anomalous, `(n,)`.

    Raises:
        ValueError: no scores, or some that are no numbers.

    Example:
        >>> calibration = ConformalCalibration([0.1, 0.4, 0.2, 0.3])
        >>> calibration.p_values([0.5, 0.35, 0.0])
        array([0.2, 0.4, 1. ])
        >>> calibration.threshold(0.4)
        0.3
    """

    def __init__(self, anomaly_scores: ArrayLike) -> None:
        scores = np.asarray(anomaly_scores, dtype=np.float64).ravel()
        if not scores.size:
            raise ValueError("a calibration needs the scores of held-out normal images, and there are none")
        if np.isnan(scores).any():
            raise ValueError(
                f"{np.isnan(scores).sum()} of {scores.size} calibration scores are NaN; look at the detector"
            )
        self.scores: NDArray[np.float64] = np.sort(scores)
        """The n scores, rising."""

    def p_values(self, anomaly_scores: ArrayLike) -> NDArray[np.float64]:
        """(1 + how many held-out scores are as high or higher) / (n + 1), float64 of the shape given."""
        scores = np.asarray(anomaly_scores, dtype=np.float64)
        if np.isnan(scores).any():
            raise ValueError(f"{np.isnan(scores).sum()} of {scores.size} anomaly scores are NaN and have no p-value")
        count = len(self.scores)
        return np.asarray((1 + count - np.searchsorted(self.scores, scores, side="left")) / (count + 1))

    def threshold(self, false_alarm_rate: float) -> float:
        """The score strictly above which an image's p-value is at most `false_alarm_rate`.

        Infinite, with a warning, where there are fewer than 1 / rate − 1 held-out images: no p-value is so small.

        Raises:
            ValueError: a rate outside of 0 to 1.
        """
        if not 0 < false_alarm_rate < 1:
            raise ValueError(f"false_alarm_rate must lie between 0 and 1, not {false_alarm_rate}")
        count = len(self.scores)
        rank = math.floor(false_alarm_rate * (count + 1) * (1 + 1e-12))  # 0.29 · 100 is 29
        if rank == 0:
            needed = math.ceil(1 / false_alarm_rate * (1 - 1e-12)) - 1
            warnings.warn(
                f"a false-alarm rate of {false_alarm_rate:g} needs at least {needed:,} held-out normal images for "
                f"calibration, and there are {count:,}: no image will be called an anomaly; hold out more, or allow a "
                f"rate of {_rounded_up(1 / (count + 1)):g} or more",
                stacklevel=2,
            )
            return math.inf
        return float(self.scores[count - rank])


def _rounded_up(rate: float) -> float:
    """A rate to two digits, and not below it.

    >>> _rounded_up(1 / 37)
    0.028
    """
    unit = 10.0 ** (math.floor(math.log10(rate)) - 1)
    return float(f"{math.ceil(rate / unit * (1 - 1e-12)) * unit:.2g}")
