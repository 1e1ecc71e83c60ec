"""Lightning without its notices: what concerns no user of ours is left out, every other warning stays."""

from __future__ import annotations

import functools
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_IRRELEVANT = (
    "The .*dataloader.* does not have many workers",  # our loader gathers decoded images and needs none
    ".*configure_optimizers. returned .None.",  # a solved head has no optimiser
    ".*isinstance\\(treespec, LeafSpec\\). is deprecated",  # within Lightning
    "The number of training batches .* is smaller than the logging interval",  # small data sets are welcome
    "Found .* module\\(s\\) in eval mode",  # a frozen encoder is
    "LightningCLI's args parameter is intended to run from within Python",  # it does
    ".*No .* split to validate",
    "Total length of .* across ranks is zero",  # a split may be empty
    "Experiment logs directory .* exists and is not empty",  # a resumed run appends
    ".*You are resuming from a checkpoint that ended before the epoch ended",  # our loader has a state
)


def calm(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate what runs a trainer."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        for name in ("pytorch_lightning", "lightning_fabric", "lightning.fabric"):
            logging.getLogger(name).setLevel(logging.WARNING)
        with warnings.catch_warnings(), one_line_warnings():
            for message in _IRRELEVANT:
                warnings.filterwarnings("ignore", message=message)
            return function(*args, **kwargs)

    return wrapped


@contextmanager
def one_line_warnings() -> Iterator[None]:
    """Show warnings to users as what they say, without a place in the code."""
    usual = warnings.formatwarning
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    try:
        yield
    finally:
        warnings.formatwarning = usual
