"""Does pretraining help? Trials of a grid of methods, label budgets and seeds, and what they say by paired intervals.

`ssl_transfer.reporting.evidence_words` says it in sentences, `ssl_transfer.reporting.evidence_page` shows it.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression

from ssl_transfer.evaluation.intervals import Effect, Interval, interval

Kind = Literal["ours", "floor"]


@dataclass(frozen=True)
class Trial:
    """One method, trained once on one draw of labels and read once on the test split.

    Args:
        encoder: the name the user gave the encoder, or "" for a floor that needs no network.
        method: as a reader should see it: "kNN", "Linear", "Full tuning", "Raw pixels".
        kind: "ours" (from a pretrained encoder) or "floor" (what it must beat).
        budget: labelled images a class, None for all.
        labels: labelled images in all.
        seed: draws the labels and the weights, the same draw for every method.
        accuracy: on the test split, a fraction.
        val_accuracy: on held-out labelled images that are no test images, by which one of ours is chosen; None where
            there are none.
        calibration_error: expected, 15 bins, on the test split.
        seconds: to train and test.
        right: which test images were named correctly, in the order common to all trials, see `pack`; None if unknown.
    """

    encoder: str
    method: str
    kind: Kind
    budget: int | None
    labels: int
    seed: int
    accuracy: float
    val_accuracy: float | None
    calibration_error: float
    seconds: float
    right: str | None = None

    def to_json(self) -> dict[str, Any]:
        """A plain dict for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> Self:
        """The trial that `to_json` wrote."""
        return cls(**entry)


def pack(right: NDArray[np.bool_]) -> str:
    """Booleans `(N,)` as text: N, a colon, and the packed bits in base 64.

    >>> pack(np.array([True, False, True])), unpack("3:oA==").tolist()
    ('3:oA==', [True, False, True])
    """
    return f"{len(right)}:{base64.b64encode(np.packbits(right).tobytes()).decode()}"


def unpack(text: str) -> NDArray[np.bool_]:
    """The booleans `(N,)` that `pack` wrote."""
    count, bits = text.split(":")
    return np.unpackbits(np.frombuffer(base64.b64decode(bits), np.uint8), count=int(count)).astype(bool)


def mean_accuracy(trials: Sequence[Trial], level: float = 0.95) -> Interval:
    """Mean test accuracy of one method at one budget, over its seeds and, where known, over the test images.

    The images' part is Agresti and Coull's interval of a share (1998, https://doi.org/10.1080/00031305.1998.10480550).
    """
    bits = [unpack(trial.right) for trial in trials if trial.right is not None]
    images = np.mean(bits, axis=0) if len(bits) == len(trials) else None
    found = interval([trial.accuracy for trial in trials], images, (0, 0, 1, 1), 1.0, level)
    return replace(found, low=max(found.low, 0.0), high=min(found.high, 1.0)) if found.known else found


def paired_difference(a: Sequence[Trial], b: Sequence[Trial], level: float = 0.95) -> Interval:
    """Mean difference in test accuracy, `a` less `b`, with its interval, over the seeds that both have.

    What seeds and test images share cancels. Two seeds or more without `right`: Student's t over the seeds. One seed
    with `right`: over the images, McNemar's setting, with half an image added to each of its four counts (Agresti and
    Min 2005, https://doi.org/10.1002/sim.1781). Both: both, see `Interval.over`; without the images, methods that
    ignore their seed would be certain. Neither: nan.

    >>> def trials(*values):
    ...     return [Trial("", "m", "ours", 1, 10, seed, value, None, 0.0, 0.0) for seed, value in enumerate(values)]
    >>> difference = paired_difference(trials(0.8, 0.9, 1.0), trials(0.7, 0.8, 0.8))
    >>> round(difference.mean, 3), round(difference.low, 3), round(difference.high, 3), difference.count
    (0.133, -0.01, 0.277, 3)
    """
    first, second = ({trial.seed: trial for trial in trials} for trials in (a, b))
    pairs = [(first[seed], second[seed]) for seed in sorted(first.keys() & second.keys())]
    if not pairs:
        return Interval(math.nan, math.nan, math.nan, 0, "")
    bits = [(unpack(x.right), unpack(y.right)) for x, y in pairs if x.right is not None and y.right is not None]
    images = np.mean([x.astype(float) - y for x, y in bits], axis=0) if len(bits) == len(pairs) else None
    return interval([x.accuracy - y.accuracy for x, y in pairs], images, (-1, 0, 0, 1), 0.5, level)


@dataclass(frozen=True)
class Cell:
    """The trials of one method at one budget, one a seed."""

    encoder: str
    method: str
    kind: Kind
    budget: int | None
    trials: tuple[Trial, ...]

    @property
    def labels(self) -> int:
        """Labelled images in all."""
        return round(fmean(trial.labels for trial in self.trials))

    @property
    def accuracy(self) -> Interval:
        """Mean over the seeds, with its 95 % interval."""
        return mean_accuracy(self.trials)

    @property
    def validation(self) -> float | None:
        """Mean validation accuracy, None where a seed has none."""
        values = [trial.val_accuracy for trial in self.trials if trial.val_accuracy is not None]
        return fmean(values) if len(values) == len(self.trials) else None

    @property
    def seconds(self) -> float:
        """Mean time of a trial."""
        return fmean(trial.seconds for trial in self.trials)

    @property
    def calibration_error(self) -> float:
        """Mean over the seeds."""
        return fmean(trial.calibration_error for trial in self.trials)


def cells(trials: Iterable[Trial]) -> list[Cell]:
    """Trials by encoder, method and budget, in the order in which these first appear.

    A seed measured twice counts once, as it was last.
    """
    groups: dict[tuple[str, str, Kind, int | None], dict[int, Trial]] = {}
    for trial in trials:
        groups.setdefault((trial.encoder, trial.method, trial.kind, trial.budget), {})[trial.seed] = trial
    return [Cell(*key, tuple(group[seed] for seed in sorted(group))) for key, group in groups.items()]


def budgets(trials: Iterable[Trial]) -> list[int | None]:
    """The label budgets from the smallest to all."""
    return sorted({trial.budget for trial in trials}, key=lambda budget: math.inf if budget is None else budget)


@dataclass(frozen=True)
class Choice:
    """The method that stands for its kind at a budget, and by what it was chosen.

    `by`: "validation" accuracy, "test" accuracy, "order" (the first, as nothing told them apart that may), or "" where
    there was only one.
    """

    cell: Cell
    by: Literal["validation", "test", "order", ""]


def best(trials: Iterable[Trial], kind: Kind, budget: int | None) -> Choice | None:
    """The method that stands for `kind` at `budget`, None where no trial is of these.

    Ours is chosen by mean validation accuracy, never by the test split; where no method has one, it is the first in the
    order of the trials. The floor is the one with the highest mean TEST accuracy: generous to the floor, so that a gain
    over it is a gain. Means are over the seeds that all candidates have; a method with fewer than half the seeds of
    another is no candidate yet.
    """
    found = cells(trial for trial in trials if trial.kind == kind and trial.budget == budget)
    if len(found) < 2:
        return Choice(found[0], "") if found else None
    most = max(len(cell.trials) for cell in found)
    found = [cell for cell in found if 2 * len(cell.trials) >= most]
    if kind == "ours":
        measured = [cell for cell in found if cell.validation is not None]
        if not measured:
            return Choice(found[0], "order")
        found = measured
    seeds = set.intersection(*({trial.seed for trial in cell.trials} for cell in found))

    def mean(cell: Cell) -> float:
        kept = [trial for trial in cell.trials if trial.seed in seeds or not seeds]
        return fmean(trial.accuracy if kind == "floor" else trial.val_accuracy or 0.0 for trial in kept)

    return Choice(max(found, key=mean), "test" if kind == "floor" else "validation")


@dataclass(frozen=True)
class Comparison:
    """Ours beside the best floor at one budget.

    `difference`: ours less the floor, paired, with an interval of its own. `effect`: what it says by an interval
    widened for all budgets that are compared (Bonferroni), so that no one of many is clear by chance.
    """

    budget: int | None
    ours: Choice
    floor: Choice
    difference: Interval
    effect: Effect

    @property
    def clear(self) -> bool:
        """Whether pretraining helps or hurts here."""
        return self.effect in ("helps", "hurts")


def compare(trials: Iterable[Trial], level: float = 0.95) -> list[Comparison]:
    """One comparison for each budget, from the smallest, at which both ours and a floor were measured."""
    trials = list(trials)
    chosen = [(budget, best(trials, "ours", budget), best(trials, "floor", budget)) for budget in budgets(trials)]
    pairs = [(budget, ours, floor) for budget, ours, floor in chosen if ours is not None and floor is not None]
    found = []
    for budget, ours, floor in pairs:
        of = ours.cell.trials, floor.cell.trials
        widened = paired_difference(*of, 1 - (1 - level) / len(pairs))
        found.append(Comparison(budget, ours, floor, paired_difference(*of, level), widened.effect))
    return found


@dataclass(frozen=True)
class LabelsSaved:
    """How many labels the floor needs for the accuracy that ours has with `labels`.

    `bound`: "" where `needed` was found, "more" or "fewer" where it lies beyond what was measured: more than `needed`,
    fewer than `needed`.
    """

    labels: int
    accuracy: float
    needed: float
    bound: Literal["", "more", "fewer"]


def labels_saved(ours: Sequence[tuple[int, float]], floor: Sequence[tuple[int, float]]) -> list[LabelsSaved]:
    """For each point of our curve, in its order, the labels that the floor needs for the same accuracy.

    Args:
        ours, floor: `(labels, accuracy)` points. The floor's are made monotone (isotonic regression) and joined by
            straight lines over the logarithm of the labels.

    >>> saved = labels_saved([(10, 0.6), (100, 0.9)], [(10, 0.4), (1000, 0.8)])
    >>> [(round(one.needed), one.bound) for one in saved]
    [(100, ''), (1000, 'more')]
    """
    if not floor:
        return []
    labels, accuracy = np.array(sorted(floor), float).T
    logs = np.log(labels)
    level = IsotonicRegression().fit_transform(logs, accuracy)
    found = []
    for count, value in ours:
        if value > level[-1]:
            found.append(LabelsSaved(count, value, float(labels[-1]), "more"))
        elif value < level[0]:
            found.append(LabelsSaved(count, value, float(labels[0]), "fewer"))
        else:
            after = int(np.argmax(level >= value))  # the first that reaches it, so level[after - 1] < value
            span = slice(max(after - 1, 0), after + 1)
            found.append(LabelsSaved(count, value, float(np.exp(np.interp(value, level[span], logs[span]))), ""))
    return found
