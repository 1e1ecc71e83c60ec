"""What carries the advice about a shift out: the fits, as they are typed, and the correction for class frequencies."""

from __future__ import annotations

import shlex
from typing import Any

from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.encoders.build import is_folder_name
from ssl_transfer.evaluation.label_shift import ClassShares
from ssl_transfer.evaluation.shift_verdict import Verdict

FLOOR = "runs/source_only"
METHODS = {"style": "BatchNormStatistics", "moderate": "CORAL", "large": "DANN"}  # the others: the source alone
SOLVED = ("CORAL",)  # on frozen features
RECOLOUR = {  # nothing else changes
    "recolour": "1",
    "crop_scale": "[1,1]",
    "crop_ratio": "[1,1]",
    "horizontal_flip": "0",
    "jitter": "0",
    "grey": "0",
    "blur": "0",
}


def fits(
    verdict: Verdict, sides: list[dict[str, Any]], encoder: str, source: ImageDataModule, target: ImageDataModule
) -> tuple[str, ...]:
    """The fits that carry the verdict out, the floor of the source alone first; none where the source has no classes.

    sides: what was given for source and target, as arguments of a DataModule.
    """
    if not has_classes(source):
        return ()
    found: list[tuple[str, str, dict[str, str]]] = [("SourceOnly", FLOOR, {})]
    if verdict.kind in METHODS:
        found.append((METHODS[verdict.kind], "runs/adapted", {}))
    elif verdict.kind == "inverted":
        found.append(("SourceOnly", "runs/recoloured", {f"model.views.{name}": v for name, v in RECOLOUR.items()}))
    given = _data(sides, source, target)
    solved = METHODS.get(verdict.kind) in SOLVED
    return tuple(_fit(method, folder, encoder, solved, views, given) for method, folder, views in found)


def has_classes(data: ImageDataModule) -> bool:
    """Whether it has one class an image, which a `DomainAdapter` learns."""
    return data.num_classes > 0 and data.table.targets.ndim == 1


def _fit(method: str, folder: str, encoder: str, solved: bool, views: dict[str, str], data: dict[str, Any]) -> str:
    tuning = "Frozen" if solved else "Full" if is_folder_name(encoder) else None  # None: the default, from scratch
    given = {
        "model": "DomainAdapter",
        "model.encoder": encoder if solved or is_folder_name(encoder) else None,
        "model.method": method,
        "model.tuning": tuning,
        "model.views": "Views" if views else None,
        **views,
        "model.compare_with": None if folder == FLOOR else f"{FLOOR}/model",
        **data,
        "trainer.default_root_dir": folder,
    }
    words = ["ssl-transfer", "fit"]
    for name, value in given.items():
        words += [] if value is None else [f"--{name}", str(value)]
    return shlex.join(words)


def _data(sides: list[dict[str, Any]], source: ImageDataModule, target: ImageDataModule) -> dict[str, Any]:
    """The arguments of a `DomainDataModule`; a test split where the target's labels make a test possible."""
    first, second = sides
    tested = bool(target.classes) and set(target.classes or ()) <= set(source.classes or ())
    return {
        "data": "DomainDataModule",
        "data.source": first["source"],
        "data.target": second["source"],
        "data.root": first["root"],
        "data.target_root": second["root"] if second["root"] != first["root"] else None,
        "data.size": source.size or target.size,
        "data.resize": source.resize if source.resize != "crop" else None,
        "data.pattern": first["pattern"] if first["pattern"] != "*" else None,
        "data.target_pattern": second["pattern"] if second["pattern"] != first["pattern"] else None,
        "data.on_bad_image": first["on_bad_image"] if first["on_bad_image"] != "refuse" else None,
        "data.test_fraction": 0.2 if tested and not len(target.indices("test")) else None,
        "data.batch_size": 128,
    }


def prior_correction(shares: ClassShares) -> str:
    """Lines of Python that correct a source classifier's probabilities for the classes' frequencies in the target.

    >>> shares = ClassShares((0.5, 0.5), (0.75, 0.25), (0.7, 0.2), (0.8, 0.3), (0.75, 0.25), True)
    >>> print(prior_correction(shares).splitlines()[4])
    weights = torch.tensor([1.50, 0.50])
    """
    weights = ", ".join(f"{weight:.2f}" for weight in shares.weights)
    return (
        "import torch\n"
        "from ssl_transfer import load_model\n"
        "\n"
        "# of the classes in their order: the target's share over the source's\n"
        f"weights = torch.tensor([{weights}])\n"
        f'scores = load_model("{FLOOR}/model").predict(["new.png"]).scores * weights\n'
        "scores /= scores.sum(1, keepdim=True)"
    )
