"""From measurements within the labelled images to advice: how much of a pretrained encoder to keep.

What is measured on few images is noisy, so it is weighed against what is usual for so many labels, so far from the
images of pretraining: a Gaussian prior of each strategy's gain over the frozen encoder, updated by the measured gains
with their noise. The advice is the strategy of the largest expected gain, or a cheaper one that cannot be told apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ssl_transfer.evaluation.gains import Gains, Prior
from ssl_transfer.evaluation.measurements import Estimate, Measurements

STRATEGIES = ("as_is", "frozen", "partial", "full", "scratch")  # cheapest first
WORDS = {
    "as_is": "keep the network as it is",
    "frozen": "freeze the encoder and fit a head",
    "partial": "tune the last stages",
    "full": "tune all of it, the head first",
    "scratch": "start over from scratch",
}
CHEAPER = {
    "as_is": "nothing is added to the network and nothing learns by gradient",
    "frozen": "each image is encoded once and the encoder stays of use to other tasks",
    "partial": "most of the network stays as it is",
    "full": "it needs no longer training than starting over, and begins from what is known",
    "scratch": "",
}
WORTH = 0.005  # of accuracy: a smaller expected gain is not worth a costlier strategy
ODDS = 2.0  # to one: below these two strategies cannot be told apart
SURE = 10.0  # to one: from these on the advice is called sure


@dataclass(frozen=True)
class Standing:
    """A strategy beside the one that all are compared with, in accuracy.

    Args:
        accuracy, error: held out, with its standard error; nan where it was not measured.
        measured, noise: its gain over the reference in the measurement, what its fits lacked in steps made up for, with
            the standard error.
        gain, spread: its expected gain once what is usual is weighed in, with the standard deviation left.
        chance: that it is better than what is advised; nan for that itself.
    """

    strategy: str
    accuracy: float
    error: float
    measured: float
    noise: float
    gain: float
    spread: float
    chance: float


@dataclass(frozen=True)
class Advice:
    """What to do, why, and how sure that is.

    Args:
        strategy: one of `STRATEGIES`.
        certainty: "sure", "likely", or "cannot tell".
        equals: costlier strategies that it cannot be told apart from, cheapest first.
        reason: sentences.
        standings: every strategy that was compared, cheapest first.
    """

    strategy: str
    certainty: str
    equals: tuple[str, ...]
    reason: str
    standings: tuple[Standing, ...]


def advise(measured: Measurements, prior: Prior | None = None) -> Advice:
    """The advice that measurements support: a pure function, so that a benchmark can replay it.

    Among strategies that cannot be told apart (the odds of the better are below two to one, or it is expected to gain
    less than half a point of accuracy) it is the cheapest, which it then says. It cannot tell either where most of what
    speaks for it is what short fits usually lack. With nothing measured it is the frozen encoder, and it says that too.

    >>> nothing = Measurements(labels=1, taught=0)
    >>> advise(nothing).strategy, advise(nothing).certainty
    ('frozen', 'cannot tell')
    """
    prior = prior or Prior()
    names = [name for name in STRATEGIES if name in measured.estimates]
    if not any(name in ("as_is", "frozen") for name in names):
        return Advice("frozen", "cannot tell", (), _nothing(measured), ())
    gains = Gains.of(measured, names, prior)
    best = int(gains.mean.argmax())
    chosen = next(n for n in range(best + 1) if n == best or _tied(gains, best, n))  # names are cheapest first
    others = [n for n in range(len(names)) if n != chosen]
    standings = tuple(_standing(measured, gains, names, n, chosen) for n in range(len(names)))
    near = [n for n in others if n == best or _alike(gains, best, n)]  # none of them cheaper
    equals = tuple(names[n] for n in near) if _alike(gains, best, chosen) else ()
    safe = min((gains.chance(chosen, n, WORTH) for n in others), default=0.5)
    guessed = [n for n in others if gains.mostly_imputed(n, chosen)]
    if any(gains.mostly_imputed(chosen, n) for n in others):
        guessed = [chosen]
    doubtful = equals or chosen in guessed or not others
    certainty = "cannot tell" if doubtful else "sure" if safe >= SURE / (1 + SURE) else "likely"
    reason = _reason(measured, standings, names[chosen], equals, [names[n] for n in guessed])
    return Advice(names[chosen], certainty, equals, reason, standings)


def _tied(gains: Gains, better: int, other: int) -> bool:
    """Whether the gain of the better is not worth its cost, or not sure enough."""
    return gains.difference(better, other)[0] < WORTH or _alike(gains, better, other)


def _alike(gains: Gains, a: int, b: int) -> bool:
    """Whether the odds of either over the other are below two to one; one and the same is alike."""
    return a == b or abs(gains.chance(a, b) - 0.5) < ODDS / (1 + ODDS) - 0.5


def _standing(told: Measurements, gains: Gains, names: Sequence[str], number: int, chosen: int) -> Standing:
    estimate = told.estimates[names[number]]
    return Standing(
        strategy=names[number],
        accuracy=estimate.accuracy,
        error=estimate.error,
        measured=float(gains.measured[number]),
        noise=float(gains.noise[number]),
        gain=float(gains.mean[number]),
        spread=math.sqrt(gains.covariance[number, number]),
        chance=math.nan if number == chosen else gains.chance(number, chosen),
    )


def _nothing(told: Measurements) -> str:
    why = told.remarks[0] if told.remarks else "Nothing could be measured."
    return f"{why[0].upper()}{why[1:].rstrip('.')}. By what is usual a frozen encoder does best with so few labels."


def _reason(
    told: Measurements, standings: Sequence[Standing], chosen: str, equals: Sequence[str], guessed: Sequence[str]
) -> str:
    """Sentences: how good it is, beside what it is compared with, what else it may be, and why it is preferred.

    guessed: strategies whose gain is mostly what short fits lack.
    """
    own = next(s for s in standings if s.strategy == chosen)
    reference, rivals = standings[0], [s for s in standings if s.strategy != chosen]
    said = [
        f"Held out within {len(told.estimates[chosen].right):,} labelled images, {_NOUNS[chosen]} is right on "
        f"{100 * own.accuracy:.1f} ± {100 * own.error:.1f} %."
    ]
    said += _beaten(told, own)
    if not rivals:
        return " ".join([*said, "No other strategy was measured."])
    if chosen != reference.strategy:
        made_up = ", what its short fits lack made up for," if told.estimates[chosen].missing > 0.1 else ""
        said.append(
            f"That is{made_up} {_points(own.measured)} (± {100 * own.noise:.1f}) beside {_NOUNS[reference.strategy]}; "
            f"weighed with what is usual at {told.labels:,.0f} labels a class, {_points(own.gain)} "
            f"(± {100 * own.spread:.1f}) are expected."
        )
    if same := [s for s in rivals if s.strategy in equals]:
        said.append(f"It cannot be told apart from {' and '.join(_beside(s, own) for s in same)}.")
    if dearer := [s for s in rivals if s.gain > own.gain and s.strategy not in equals]:
        said.append(f"What {' and '.join(_beside(s, own) for s in dearer)} may add is less than half a point.")
    if same or dearer:
        said.append(f"It is the cheapest of these: {CHEAPER[chosen]}.")
    else:
        said.append(f"The next best is {_beside(max(rivals, key=lambda s: s.gain), own)}.")
    if guessed:
        nouns = " and ".join(_NOUNS[name] for name in guessed)
        said.append(f"Most of what {nouns} may add was not measured but is what short fits lack: give more minutes.")
    return " ".join(said)


def _beaten(told: Measurements, own: Standing) -> list[str]:
    """What should give pause: a reading that does not compete and is more than its standard error better."""
    asked = len(told.estimates[own.strategy].right)
    shared = {name: Estimate(one.right[:asked]) for name, one in told.estimates.items() if name in _PAUSE}
    better = {name: one for name, one in shared.items() if one.accuracy - one.error > own.accuracy}
    return [f"{_PAUSE[name]} ({100 * one.accuracy:.1f} %)." for name, one in better.items()]


_PAUSE = {
    "raw pixels": "A linear head on raw pixels does better: of what the encoder has learned nothing is of use here",
    "random encoder": "The network with random weights does better: what the encoder has learned is in the way here",
    "all stages": "A linear head on all stages does better: what tells classes apart is lost on the way to the last",
}
_NOUNS = {
    "as_is": "the network as it is",
    "frozen": "the frozen encoder",
    "partial": "tuning the last stages",
    "full": "tuning all of it",
    "scratch": "the same network from scratch",
}


def _beside(rival: Standing, own: Standing) -> str:
    return f"{_NOUNS[rival.strategy]} (expected {_points(rival.gain - own.gain)})"


def _points(gain: float) -> str:
    """A difference of accuracies in points.

    >>> _points(0.0123), _points(-0.01)
    ('+1.2 points', '−1.0 points')
    """
    return f"{'−' if gain < 0 else '+'}{abs(100 * gain):.1f} points"
