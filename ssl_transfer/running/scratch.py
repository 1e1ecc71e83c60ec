"""The floor that takes a fit of its own: the same network trained from scratch on the labels alone."""

from __future__ import annotations

from typing import Any

from ssl_transfer.data.views import Views
from ssl_transfer.downstream import Classifier, Scratch
from ssl_transfer.encoders import EncoderSpec
from ssl_transfer.evaluation.probes import accuracy
from ssl_transfer.optimisation import Optimisation
from ssl_transfer.running.trial import scores_of, trial


def from_scratch_accuracy(
    data: Any, spec: EncoderSpec, epochs: int, seed: int = 0, views: Views | None = None, lr: float = 3e-3
) -> float:
    """Test accuracy of `spec` trained with fresh weights on the training split of `data`, within its label budget.

    The last epoch counts: nothing is chosen on held-out labels. views: training augmentation.
    """
    module = Classifier(spec, tuning=Scratch(), views=views, optimisation=Optimisation(lr=lr, weight_decay=1e-2))
    return accuracy(*scores_of(trial(module, data, epochs=epochs, seed=seed), data, "test"))
