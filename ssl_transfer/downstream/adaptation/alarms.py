"""Plain-language warnings of an adaptation, from the figures of an epoch: what is wrong, how it shows, and the cure."""

from __future__ import annotations

from collections.abc import Mapping

from ssl_transfer.downstream.adaptation.verdict import has_learnt

LEAST_GRADIENT = 1e-3  # of the adaptation, as a share of the classification's
FEW_CLASSES = 0.5  # of the effective number of classes that the source's images are answered with
LEARNT = 0.2  # of the way from chance to no error on the source: below, nothing has been learnt that could collapse
TOLD_APART = 0.98


def alarms(
    figures: Mapping[str, float],
    kept: bool = False,
    cure: str = "lower --model.optimisation.lr",
    spread: str = "take another --model.method",
) -> dict[str, str]:
    """The warnings that the figures call for, by name; empty if all is well.

    Args:
        figures: those of an epoch that `DomainAdapter` logs, by their full names, and `progress`, the share of the fit
            that is done. What is missing is not judged.
        kept: whether it is the epoch whose network is kept: only that one is judged as a result.
        cure: the method's, where its gradient does not reach the encoder.
        spread: the method's, where the target's answers collapse.

    >>> list(alarms({"train/adaptation_gradient": 1e-9, "train/classification_gradient": 0.1}))
    ['no_gradient']
    """
    found = {}
    late = kept or figures.get("progress", 1.0) > 0.5  # before, strength may be zero yet, and classes not learnt
    adaptation, floor = figures.get("train/adaptation_gradient"), figures.get("train/classification_gradient", 0.0)
    if late and not kept and adaptation is not None and adaptation <= LEAST_GRADIENT * floor:
        found["no_gradient"] = (
            f"the adaptation's gradient is {adaptation:.1e} where the classification's is {floor:.1e}: next to nothing "
            f"of the target reaches the encoder, which learns from the source alone; {cure}"
        )
    classes, expected = figures.get("val/target_classes"), figures.get("val/source_answers")
    if late and has_learnt(figures, LEARNT) and classes is not None and expected and classes < FEW_CLASSES * expected:
        found["collapse"] = (
            f"target images are answered with few classes: as many as {classes:.1f} equally frequent ones, and the "
            f"source's with {expected:.1f}; unless the target is so they are of little use: {spread}"
        )
    if kept and figures.get("train/domain_accuracy", 0.5) > TOLD_APART:
        found["told_apart"] = (
            f"the domain classifier tells {figures['train/domain_accuracy']:.1%} of the images apart (chance is 50 %): "
            "the features are not aligned; raise --model.method.strength, or train longer"
        )
    return found
