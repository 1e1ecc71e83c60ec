"""What an adapted network is compared with, without a label of the target: the same work without adaptation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ssl_transfer.downstream.adaptation.judging import Calibrated, judge
from ssl_transfer.downstream.fitted_classifier import FittedClassifier
from ssl_transfer.downstream.model_folder import load_model
from ssl_transfer.encoders import Encoder


def figures_of(path: str | Path, data: Any, device: torch.device) -> Calibrated:
    """The calibrated figures of a model folder on the validation images of a `DomainDataModule`."""
    fitted = open_model(path, data).to(device)
    return _figures(fitted.encoder, fitted.head, data, device)


def figures_without(encoder: Encoder, head: tuple[Tensor, Tensor], data: Any, device: torch.device) -> Calibrated:
    """Those of frozen features with a head, weight and bias, that was solved on the source as it is."""
    linear = nn.Linear(head[0].shape[1], head[0].shape[0])
    linear.load_state_dict({"weight": head[0], "bias": head[1]})
    return _figures(encoder, linear.to(device), data, device)


def _figures(encoder: Encoder, head: nn.Module, data: Any, device: torch.device) -> Calibrated:
    source, target = (judge(encoder, head, data.domain_loader("val", own), device) for own in (False, True))
    return Calibrated.of(source, target).with_distance(source, target)


def load(path: str | Path) -> FittedClassifier:
    """A model folder to compare with. ValueError where it is none, or no classifier's."""
    try:
        fitted = load_model(path)
    except ValueError as error:
        raise ValueError(f"model.compare_with: {error}") from error
    if not isinstance(fitted, FittedClassifier):
        raise ValueError(
            f"model.compare_with: {path} must be a classifier, and holds a {fitted.kind}: give the model of a fit on "
            "the same source, such as one of SourceOnly"
        )
    return fitted


def open_model(path: str | Path, data: Any) -> FittedClassifier:
    """A model folder to compare with.

    Raises ValueError where it is no classifier of the same classes for images of the same shape, prepared alike.
    """
    fitted = load(path)
    if fitted.classes != data.classes:
        raise ValueError(
            f"model.compare_with: {path} must be a classifier of the classes {data.classes}, and holds one of "
            f"{fitted.classes}: give the model of a fit on the same source, such as one of SourceOnly"
        )
    if tuple(fitted.encoder.shape) != tuple(data.shape):
        raise ValueError(
            f"model.compare_with: {path} reads images of the shape {tuple(fitted.encoder.shape)}, and the data's are "
            f"{tuple(data.shape)}: give the model of a fit with the same data.size and data.channels"
        )
    own, here = fitted.config["data"], data.describe()
    for name in ("resize", "value_range"):
        if own.get(name) is not None and here[name] is not None and own[name] != here[name]:
            raise ValueError(
                f"model.compare_with: {path} was fitted with data.{name} {own[name]}, and here it is {here[name]}: "
                f"give the model of a fit with the same data.{name}"
            )
    return fitted


def why_none(solves: bool, compare_with: str | None, data: Any) -> str:
    """Why there is no comparison, and the cure; empty where there is one."""
    if data.label_budget is not None and (compare_with is not None or solves):
        return "it takes labels of the source's validation images, which data.label_budget counts too"
    if compare_with is None and not solves:
        return (
            "nothing was fitted to compare with; give --model.compare_with the DIR/model of a fit of SourceOnly on the "
            "same source"
        )
    if not all(len(data.domain("val", own)) for own in (False, True)):
        return "a domain has no validation images; set --data.val_fraction above 0"
    return ""


def doubts(compare_with: str | None, data: Any) -> list[str]:
    """Why a comparison may be doubted."""
    if compare_with is None or data.label_budget is not None:
        return []
    if _same_split(open_model(compare_with, data).config["data"], data.describe()):
        return []
    return [
        f"model.compare_with {compare_with} was fitted on another split of the source than this one, and may have "
        "learnt from the validation images that it is judged by; fit it with the same data.source, data.seed and "
        "data.val_fraction"
    ]


def _same_split(own: dict[str, Any], here: dict[str, Any]) -> bool:
    """Whether two fits, as their data describes itself, held out the same images of the source."""
    counts = [told.get("domains", {}).get("source", told["counts"]) for told in (own, here)]
    return (
        own.get("seed") == here["seed"]
        and Path(own["source"]).absolute() == Path(here["source"]).absolute()
        and all(counts[0][split] == counts[1][split] for split in ("train", "val"))
    )
