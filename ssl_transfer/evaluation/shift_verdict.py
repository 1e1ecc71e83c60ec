"""What to do about a shift, by its figures."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ssl_transfer.evaluation.image_style import differences
from ssl_transfer.evaluation.label_shift import ClassShares
from ssl_transfer.evaluation.shift import SLIGHT, Shift, Space

Kind = Literal["none", "slight", "labels", "style", "inverted", "moderate", "large"]
LARGE = 1.0  # proxy A-distance above the floor's: a linear classifier errs on a quarter of the images or fewer
UNSEEN = 0.1  # proxy A-distance above the floor's that is not worth a word
MOVED = 0.1  # share of images that would have to change their class, below which class frequencies are left in peace
ALIKE = ("none", "slight", "labels")  # the images of a class look alike in both domains


@dataclass(frozen=True)
class Verdict:
    """What to do.

    Args:
        kind: of shift.
        title: what is recommended, as a heading.
        reason: why, in a few sentences.
        beware: what the class frequencies warn of; empty without.
    """

    kind: Kind
    title: str
    reason: str
    beware: str = ""

    @property
    def shares_hold(self) -> bool:
        """Whether the classes' frequencies in the target can be told: its images of a class look like the source's."""
        return self.kind in ALIKE


def judge(shift: Shift) -> Verdict:
    """What the figures recommend.

    In order: the same images; classes that are merely more or less frequent; a difference that goes with the channels'
    mean and deviation, or with inversion, in features or in pixels; nothing to be told apart; a difference that can be
    told but is small; and else by how well a linear classifier tells the domains apart.
    """
    if shift.identical:
        return Verdict("none", _TITLES["none"], "Source and target are the same images.")
    features = shift.spaces[-1]
    a, whole = features.a_distance, features.discrepancy
    if _moved(shift.shares) and features.explained(features.matched):
        return _judged("labels", shift, features.remaining(features.matched))
    found = _by_style(shift)
    if found is not None:
        return found
    if not (whole.above or (a.above and a.excess >= UNSEEN)):
        return _judged("none", shift)
    if whole.excess <= SLIGHT and a.excess <= LARGE:
        return _judged("slight", shift)
    return _judged("large" if a.excess > LARGE and whole.above else "moderate", shift)


def in_words(shift: Shift) -> str:
    """A sentence on how the target's images look beside the source's."""
    if shift.identical:
        return "Source and target are the same images."
    told = differences(*shift.styles)
    if not told:
        return "Target images have the brightness, contrast, colour and size of source images."
    return f"Target images are {_listed(told)}."


def _by_style(shift: Shift) -> Verdict | None:
    """The verdict where the channels' statistics, or inversion, are what differs, to the eye if in pixels alone."""
    seen = bool(_style_words(shift))
    for space in (shift.spaces[-1], shift.spaces[0]):
        if space.discrepancy.excess <= SLIGHT or (space is shift.spaces[0] and not seen):
            continue
        if space.explained(space.evened):
            return _judged("style", shift, space.remaining(space.evened), space)
        if space.explained(space.inverted):
            return _judged("inverted", shift, space.remaining(space.inverted), space)
    return None


def _style_words(shift: Shift) -> list[str]:
    return [told for told in differences(*shift.styles) if "of another size" not in told]


def _moved(shares: ClassShares | None) -> bool:
    return shares is not None and shares.certain and shares.moved >= MOVED


_TITLES: dict[Kind, str] = {
    "none": "No adaptation needed",
    "slight": "A slight shift: start with the source alone",
    "labels": "Reweigh the classes",
    "style": "Even out brightness, contrast and colour",
    "inverted": "Undo the inversion",
    "moderate": "Align features first: CORAL or Subspace Alignment",
    "large": "Adapt in training: DANN or self-training",
}
_REASONS: dict[Kind, Callable[[str, str], str]] = {
    "none": lambda told, _: f"{told}. Train on the source, and apply that as it is.",
    "slight": lambda told, _: (
        f"{told}: the shift can be detected, but is small and probably harmless. Train on the source and try that on a "
        "few labelled target images, if you can, before you adapt at all: alignment of so little may do harm."
    ),
    "labels": lambda told, share: (
        f"{told}; and {share} when the source's classes are made as frequent as they are estimated to be in the "
        "target. Train on the source, and correct its answers for the classes' frequencies."
    ),
    "style": lambda told, share: (
        f"{told}, but {share} when the target's channels are given the source's mean and deviation. The cheapest cure "
        "is BatchNorm's statistics measured on the target; views that change brightness and contrast much are another."
    ),
    "inverted": lambda told, share: (
        f"{told}, but {share} when the target is inverted and its channels are given the source's mean and deviation. "
        "Invert the target's images (255 − value), or let the source's views change black and white (recolour). Where "
        "the features still differ after that, adapt."
    ),
    "moderate": lambda told, _: (
        f"{told}, and neither brightness and contrast nor class frequencies explain it. Try what aligns features in "
        "closed form, and train against the domains (DANN) only where a validator says that it gains."
    ),
    "large": lambda told, _: (
        f"{told}, and neither brightness and contrast nor class frequencies explain it. Features have to be learnt "
        "that serve both domains; judge the result by several validators, beside the source alone and what aligns "
        "features in closed form (CORAL)."
    ),
}


def _judged(kind: Kind, shift: Shift, left: float = math.nan, by: Space | None = None) -> Verdict:
    a = shift.spaces[-1].a_distance
    told = (
        f"A linear classifier that tells source from target errs on {50 * (1 - a.value / 2):.1f} % of images (proxy "
        f"A-distance {a.value:.2f}; {a.floor:.2f} for two halves of the source)"
    )
    what = (by or shift.spaces[-1]).name
    share = f"{100 * (1 - left):.0f} % of what sets the {what} apart (MMD²) goes"
    reason = _REASONS[kind](told, share)
    if kind in ("style", "inverted"):
        words = _style_words(shift)
        reason = (f"The target is {_listed(words)}. " if words else "") + reason + _rest(shift, by)
    return Verdict(kind, _TITLES[kind], reason, _beware(kind, shift.shares))


def _rest(shift: Shift, by: Space | None) -> str:
    """A word on features that stay apart where it is the pixels that were made alike."""
    features = shift.spaces[-1]
    left = min((x for x in (features.evened, features.inverted) if math.isfinite(x)), default=math.nan)
    if (
        by is features
        or not math.isfinite(left)
        or left - features.discrepancy.floor <= max(SLIGHT, 0.5 * features.discrepancy.excess)
    ):
        return ""
    return " The features remain apart (noise or sharpness may differ too): should this not be enough, take DANN."


def _beware(kind: Kind, shares: ClassShares | None) -> str:
    if shares is None or not _moved(shares):
        return ""
    if kind not in ALIKE:
        return (
            "The source's classifier answers with other class frequencies in the target; these cannot be told from "
            "other errors, as the images of a class do not look alike. Should classes differ in frequency, methods "
            "that make whole domains alike do harm."
        )
    if kind != "labels":
        return ""
    return (
        f"Label shift: by the estimate, {100 * shares.moved:.0f} % of the target's images would have to change their "
        "class to match the source. Methods that make whole domains alike (DANN, CORAL, BatchNorm re-estimation) then "
        "move images into wrong classes."
    )


def _listed(words: list[str]) -> str:
    return f"{', '.join(words[:-1])}{' and ' if len(words) > 1 else ''}{words[-1]}"
