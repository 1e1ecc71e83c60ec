"""What can be known of a network's answers to a domain without labels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ssl_transfer.downstream.adaptation.base import Map, mapped
from ssl_transfer.encoders import Encoder
from ssl_transfer.evaluation.domain_distance import distance_within_classes
from ssl_transfer.evaluation.features import encode
from ssl_transfer.evaluation.target_risk import density_ratio
from ssl_transfer.evaluation.validator_errors import Estimate, estimates
from ssl_transfer.evaluation.validators import (
    HIGHER_IS_BETTER,
    VALIDATORS,
    validate,
)

CLEAR, LEAST = 2, 0.01  # standard errors of a difference, and how large it is at least, where it counts
BELOW = 4  # standard errors that a distance may be negative by chance
HALF_WAY = 0.5  # from chance to no error on the source: below, a network may be of little use
IMAGES = 2_000  # of a domain that are judged
CARRIED_BY = 10  # equally weighted source images that deep embedded validation needs at least, to have a vote
FEWEST = 20  # labelled source images, and target images, by which two networks are compared
MEAN_WEIGHT = (1 / 3, 3.0)  # of its weights, whose mean should be 1
SHORT = {
    "soft_neighbourhood_density": "snd",
    "batch_nuclear_norm": "bnm",
    "deep_embedded_validation": "dev",
}
NAMES = {SHORT.get(name, name): name for name in VALIDATORS if name != "source_accuracy"}
READS_LABELS = ("source_risk", "dev")  # those of the source
LOWER_IS_BETTER = tuple(short for short, name in NAMES.items() if not HIGHER_IS_BETTER[name])


@dataclass
class Judged:
    """What a network makes of one domain's validation images, by ascending row of the store.

    Args:
        index: rows `(N,)`.
        features, logits: `(N, D)` and `(N, K)`.
        targets: classes `(N,)`, −1 none, as all are of the target.
    """

    index: Tensor
    features: Tensor
    logits: Tensor
    targets: Tensor

    def few(self) -> Judged:
        """At most 2,000 of the images, spread evenly."""
        count = len(self.index)
        if count <= IMAGES:
            return self
        rows = torch.linspace(0, count - 1, IMAGES, device=self.index.device).round().long()
        return Judged(self.index[rows], self.features[rows], self.logits[rows], self.targets[rows])


@torch.inference_mode()
def judge(encoder: Encoder, head: nn.Module, loader: Any, device: torch.device, aligned: Map | None = None) -> Judged:
    """What an encoder and a head make of a loader's images, of which there may be none.

    aligned: the map of these features into the space of both domains, which is where they are then judged; the head
    reads them as they are.
    """
    if not len(loader):
        nothing, features = torch.zeros(0, dtype=torch.long, device=device), torch.zeros(0, encoder.feature_dim)
        logits, own = head(features.to(device)), features if aligned is None else mapped(features, aligned)
        return Judged(nothing, own.to(device), logits, nothing)
    found = encode(encoder, loader, device)
    logits = head(found.features)
    features = found.features if aligned is None else mapped(found.features, aligned).to(device)
    return Judged(found.index, features, logits, found.targets)


def figures(source: Judged, target: Judged) -> dict[str, float]:
    """Every validator's figure by its short name, and how many classes are answered; what has no value is left out.

    `target_classes`, `source_answers` and `source_classes` are effective numbers: exp of the entropy, in nats, of the
    frequencies of the answers to target images, of those to source images, and of the labels of source images.
    """
    source, target = source.few(), target.few()
    found = validate((source.features, source.logits, source.targets), (target.features, target.logits))
    told = {short: found[name] for short, name in NAMES.items()}
    told["target_classes"] = effective_classes(target.logits.argmax(1))
    told["source_answers"] = effective_classes(source.logits.argmax(1))
    told["source_classes"] = effective_classes(source.targets[source.targets >= 0])
    return {name: value for name, value in told.items() if math.isfinite(value)}


def effective_classes(classes: Tensor) -> float:
    """exp of the entropy of the frequencies of classes `(N,)`: K for K equally frequent ones; NaN of none.

    >>> round(effective_classes(torch.tensor([0, 3, 0, 3])), 3)
    2.0
    """
    if not len(classes):
        return math.nan
    shares = torch.bincount(classes).double() / len(classes)
    return float(torch.special.entr(shares).sum().exp())


@dataclass(frozen=True)
class Calibrated:
    """The figures by which two networks are compared on the same images; none without labels or with too few images.

    Information maximisation, nuclear norm and deep embedded validation, the last with its sign turned, and left out
    where its weights rest on hardly an image. The logits are first calibrated on the source's labels, as these
    validators reward whatever is sure of itself.

    Args:
        estimates: a figure by its short name, with what each image has to do with it.
        target_classes: with how many classes target images are answered, as an effective number; it has no vote.
        apart: what `with_distance` adds.
    """

    estimates: dict[str, Estimate]
    target_classes: float
    apart: float = math.nan

    @classmethod
    def of(cls, source: Judged, target: Judged) -> Calibrated:
        """Of what a network makes of both domains' validation images."""
        source, target = source.few(), target.few()
        known = source.targets >= 0
        classes = effective_classes(target.logits.argmax(1))
        if min(int(known.sum()), len(target.index)) < FEWEST or not _finite(source, target):
            return cls({}, classes)
        weights = carrying_weights(source.features[known].float(), target.features.float())
        found = estimates(
            source.logits[known].cpu(),
            source.targets[known].cpu(),
            target.logits.cpu(),
            None if weights is None else weights.cpu(),
        )
        return cls(found, classes)

    def with_distance(self, source: Judged, target: Judged) -> Calibrated:
        """With how far apart the domains lie at most, class by class as they are answered, as a proxy A-distance.

        That is two standard errors above what was found. Where it is small the features of a class seem to be
        distributed alike in both domains, which then differ in the frequencies of their classes at most. There is no
        such figure of a network that has not learnt the source, which may answer anything alike, nor where the
        classifier of domains does far worse than chance, as images that both domains have can make it.
        """
        source, target = source.few(), target.few()
        if not self.estimates or not _knows(source):
            return self
        found, error = distance_within_classes(
            source.features, source.logits.argmax(1), target.features, target.logits.argmax(1)
        )
        return replace(self, apart=max(0.0, found) + CLEAR * error if found >= -BELOW * error else math.nan)

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        of = {name: vars(own) for name, own in self.estimates.items()}
        return {"estimates": of, "classes": self.target_classes, "apart": self.apart}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Calibrated:
        """What `state` gave."""
        of = {name: Estimate(**own) for name, own in state["estimates"].items()}
        return cls(of, state["classes"], state.get("apart", math.nan))


def _finite(*judged: Judged) -> bool:
    return all(bool(of.isfinite().all()) for own in judged for of in (own.features, own.logits))


def learnt(accuracy: float, classes: float, share: float) -> bool:
    """Whether an accuracy is a `share` of the way from chance, one in so many classes, to 1."""
    chance = 1 / classes
    return accuracy >= chance + share * (1 - chance)


def _knows(source: Judged) -> bool:
    """Whether labelled images are answered better than half-way from chance to no error."""
    known = source.targets >= 0
    right = float((source.logits[known].argmax(1) == source.targets[known]).double().mean())
    return learnt(right, effective_classes(source.targets[known]), HALF_WAY)


def carrying_weights(source: Tensor, target: Tensor) -> Tensor | None:
    """How much more frequent source features `(N, D)` are among target features `(M, D)`; None where that has exploded.

    That is, where the mean of the weights is far from 1, or they are as good as fewer than ten equal ones,
    (Σ w)² / Σ w²: then the domains hardly overlap, and what is weighted so is of a few images.
    """
    weights = density_ratio(source, target).double()
    mean, carried = float(weights.mean()), float(weights.sum().square() / weights.square().sum())
    held = MEAN_WEIGHT[0] <= mean <= MEAN_WEIGHT[1] and carried >= min(CARRIED_BY, len(source) / 2)
    return weights if held else None


@dataclass(frozen=True)
class Votes:
    """How many validators clearly prefer the first of two networks, how many the second, and how many were asked.

    Args:
        margin: of `bnm`: a smaller difference would not have been clear.
    """

    preferring: int
    against: int
    asked: int
    margin: float = 0.0

    @classmethod
    def of(cls, first: Calibrated, second: Calibrated) -> Votes:
        """Clear is a difference beyond two standard errors and a hundredth, less than which another seed changes."""
        names = [name for name in first.estimates if name in second.estimates]
        told = {name: first.estimates[name].minus(second.estimates[name]) for name in names}
        sides = [
            0 if abs(apart) <= max(CLEAR * error, LEAST) else math.copysign(1, apart) for apart, error in told.values()
        ]
        return cls(sides.count(1), sides.count(-1), len(names), CLEAR * told["bnm"][1] if told else 0.0)
