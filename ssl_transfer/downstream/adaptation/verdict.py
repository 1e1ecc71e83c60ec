"""Whether adapting helped, as far as can be told without a label of the target: figures, and a line in plain words."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ssl_transfer.downstream.adaptation.judging import FEWEST, HALF_WAY, Calibrated, Votes, learnt

FEW_CLASSES = 0.5  # of those that the other network answers with: fewer are a collapse
FEWER = 0.9  # of those that the other network answers with: fewer may have been lost
ALIKE = 0.25  # proxy A-distance, at most: a classifier of domains is right of 56 % of the images or fewer
FINE = 0.05  # of bnm, which lies between 0 and 1: where a smaller difference shows, none is a finding
TOO_FEW = (
    f"the validators compare by {FEWEST} labelled images of the source and {FEWEST} of the target at least, and "
    "there are fewer for validation; raise --data.val_fraction"
)
CURE = "label some target images, fifty if you can, and test both"


def figures(adapted: Calibrated, plain: Calibrated) -> dict[str, float]:
    """Of the adapted network and of what it is compared with; empty without a figure of both.

    `validators_for_adapting` is the share that clearly prefers the adapted one, `validators_against` the share that
    clearly prefers the other, `validators_asked` of how many, `validators_margin` how large a difference in `bnm` would
    have been clear, `compared_classes` with how many classes the other answers target images, as an effective
    number, and `compared_distance` how far apart at most, as a proxy A-distance, its features of the two domains lie
    where it answers alike.
    """
    votes = Votes.of(adapted, plain)
    if not votes.asked:
        return {}
    told = {
        "validators_for_adapting": votes.preferring / votes.asked,
        "validators_against": votes.against / votes.asked,
        "validators_asked": float(votes.asked),
        "validators_margin": votes.margin,
        "compared_classes": plain.target_classes,
        "compared_distance": plain.apart,
    }
    return {name: value for name, value in told.items() if math.isfinite(value)}


def has_collapsed(told: Mapping[str, float]) -> bool:
    """Whether what is compared with answers target images with far fewer classes than the adapted network."""
    other, own = told.get("val/compared_classes"), told.get("val/target_classes")
    return other is not None and own is not None and other < FEW_CLASSES * own


def has_learnt(told: Mapping[str, float], share: float) -> bool:
    """Whether the source's validation accuracy is a `share` of the way from chance to 1; true where it is not known.

    >>> has_learnt({"val/accuracy": 0.19, "val/source_classes": 10.0}, 0.2)
    False
    """
    accuracy, classes = told.get("val/accuracy"), told.get("val/source_classes")
    if accuracy is None or not classes:
        return True
    return learnt(accuracy, classes, share)


def line(told: Mapping[str, float], other: str, why_none: str = "") -> str:
    """The verdict, of the figures that `DomainAdapter` logs, by their full names.

    Args:
        told: those of the epoch whose network is kept.
        other: what it is compared with, in words.
        why_none: why there is no comparison, and the cure.

    >>> counts = {"val/validators_for_adapting": 1.0, "val/validators_against": 0.0, "val/validators_asked": 3.0}
    >>> line(counts, "the plain network")
    'adapt: 3 of 3 validators clearly prefer the adapted network to the plain network; no label of the target was read'
    """
    if "val/validators_for_adapting" not in told:
        return f"it cannot be told whether adapting helped: {why_none or TOO_FEW}"
    asked = round(told["val/validators_asked"])
    preferring = told["val/validators_for_adapting"]
    against = told.get("val/validators_against", 1 - preferring)  # older checkpoints know no margin
    counted = f"{round(preferring * asked)} of {asked} validators clearly prefer the adapted network to {other}"
    end = "no label of the target was read"
    if preferring and told.get("val/compared_distance", math.inf) <= ALIKE:
        return (
            f"do not adapt, as far as can be told: {counted}, but of images that this answers alike its features do "
            f"not tell which are the target's (proxy A-distance at most {told['val/compared_distance']:.2f}), so "
            "little but the classes' frequencies seems to differ, and validators like answers spread over all classes; "
            f"{end}: {CURE}"
        )
    if preferring > 0.5:
        return f"adapt: {counted}; {end}{'' if has_learnt(told, HALF_WAY) else _little(told)}{_lost(told)}"
    if has_collapsed(told):
        return (
            f"it cannot be told whether adapting helped: {counted}, but that answers target images with as many as "
            f"{told['val/compared_classes']:.1f} equally frequent classes, the adapted network with "
            f"{told['val/target_classes']:.1f}, and validators misjudge a collapse; {CURE}"
        )
    counted += f", {round(against * asked)} the other way round"
    if against > 0.5 or (against and not preferring):
        return f"do not adapt, as far as can be told: {other} is the better one: {counted}; {end}: {CURE}"
    margin = told.get("val/validators_margin", 0.0)
    if preferring:
        return f"it cannot be told whether adapting helped: {counted}; {CURE}"
    if margin > FINE:
        return (
            f"it cannot be told whether adapting helped: {counted}, and by so few validation images a difference "
            f"below {margin:.2f} in bnm is not clear; raise --data.val_fraction, or {CURE}"
        )
    return f"do not adapt, as far as can be told: {other} is as good: {counted}; {end}: {CURE}"


def _little(told: Mapping[str, float]) -> str:
    return (
        f"; but it has only {told['val/accuracy']:.1%} of the source's own validation images right, so it may be of "
        "little use: train longer, or take a better encoder"
    )


def _lost(told: Mapping[str, float]) -> str:
    """What sure answers to too few classes call for; validators like such."""
    other, own = told.get("val/compared_classes"), told.get("val/target_classes")
    if other is None or own is None or own >= FEWER * other:
        return ""
    return (
        f"; but it answers target images with as many as {own:.1f} equally frequent classes, the other with "
        f"{other:.1f}: see in the predictions whether it has lost some, and {CURE}"
    )
