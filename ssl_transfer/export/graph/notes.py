"""What a user should know of a graph, whichever file holds it."""

from __future__ import annotations

from ssl_transfer.downstream.fitted_anomaly import FittedAnomalyDetector
from ssl_transfer.export.graph.graph import SLACK
from ssl_transfer.export.subject import Subject


def graph_notes(subject: Subject) -> list[str]:
    """Sentences on p-values and decisions, of a detector."""
    fitted = subject.fitted
    if not isinstance(fitted, FittedAnomalyDetector):
        return []
    notes = [
        "Two scores count as equal, for `p_value` and `anomalous`, when they differ by less than "
        f"{SLACK:g} of the calibration scores' size: other runtimes round otherwise."
    ]
    if subject.threshold is None:
        count = len(fitted.calibration.scores)
        notes.append(
            f"No threshold could be set, as {count} held-out normal image{'s' * (count != 1)} are too few for the "
            "false-alarm rate: `anomalous` is always False. Choose a threshold on `anomaly_score` yourself."
        )
    return notes
