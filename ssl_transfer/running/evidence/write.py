"""What a grid has found, as a page, as Markdown and as JSON."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from ssl_transfer import downstream
from ssl_transfer.downstream import Classifier, Frozen, Tuning
from ssl_transfer.encoders.config import read_config
from ssl_transfer.evaluation.evidence import Trial
from ssl_transfer.files import whole_file
from ssl_transfer.reporting.evidence_page import write_evidence_markdown, write_evidence_page
from ssl_transfer.reporting.evidence_results import EvidenceResults
from ssl_transfer.running.evidence.grid import Grid, labelled_rows
from ssl_transfer.running.evidence.methods import Learner


def write_evidence(folder: Path, grid: Grid, trials: Sequence[Trial], command: str) -> EvidenceResults:
    """Write evidence.html, evidence.md and evidence.json to `folder`; `command` repeats the run."""
    results = results_of(grid, trials, command)
    write_evidence_page(folder / "evidence.html", results)
    write_evidence_markdown(folder / "evidence.md", results)
    entries = {
        "command": command,
        "machine": results.machine,
        "versions": dict(results.versions),
        "settings": grid.settings(),
        "data": grid.data.describe(),
        "doubts": list(results.doubts),
        "notes": list(results.notes),
        "trials": [trial.to_json() for trial in trials],
    }
    with whole_file(folder / "evidence.json") as new:
        new.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
    return results


def results_of(grid: Grid, trials: Sequence[Trial], command: str) -> EvidenceResults:
    """What the page shows."""
    data = grid.data
    return EvidenceResults(
        trials=trials,
        data_name=data.source,
        classes=data.num_classes,
        train=len(labelled_rows(data, "train")),
        validation=len(labelled_rows(data, "val")),
        test=len(labelled_rows(data, "test")),
        command=command,
        machine=f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} CPU thread(s)",
        versions={name: version(name) for name in ("ssl_transfer", "torch", "pytorch-lightning")},
        seconds=sum(trial.seconds for trial in trials),
        settings=_settings(grid),
        pretraining_seconds=_pretraining(grid),
        notes=_notes(grid),
        doubts=_doubts(grid),
    )


def _settings(grid: Grid) -> dict[str, str]:
    learners = {method.name: method for method in grid.methods if isinstance(method, Learner)}
    told = {
        "Linear, raw pixels, PCA and random encoder": "logistic regression, its penalty chosen by three-fold "
        "cross-validation among the labelled images alone; pixels and components share one scale",
        "kNN": "20 neighbours, cosine, temperature 0.1",
        "Augmentation of all that learns by gradient": _words(grid),
    }
    for name, learner in learners.items():
        steps = [learner.recipe(grid.labels(budget)).steps for budget in grid.budgets]
        recipe = learner.recipe(grid.labels(grid.budgets[0]))
        span = f"{min(steps):,}" if min(steps) == max(steps) else f"{min(steps):,} to {max(steps):,}"
        told[name] = (
            f"{recipe.optimisation.optimiser}, rate {recipe.optimisation.lr:g}, decay "
            f"{recipe.optimisation.weight_decay:g}, {span} steps, the last counts"
            + "".join(f", {option.replace('_', ' ')} {value}" for option, value in recipe.options.items())
        )
    return told


def _words(grid: Grid) -> str:
    """What may happen to an image, without what may not."""
    if grid.views is None:
        return "none"
    views = asdict(grid.views.resolve(grid.data.shape[-1], grid.data.shape[0]))
    ranges = {
        "jitter": ("brightness", "contrast", "saturation", "hue"),
        "blur": ("blur_sigma",),
        "erase": ("erase_scale",),
    }
    unused = {name for chance, names in ranges.items() if not views[chance] for name in names}
    told = {name: value for name, value in views.items() if value and name not in unused}
    return ", ".join(f"{name.replace('_', ' ')} {_number(value)}" for name, value in told.items())


def _number(value: float | tuple[float, float]) -> str:
    return f"{value[0]:.3g} to {value[1]:.3g}" if isinstance(value, tuple) else f"{value:g}"


def _notes(grid: Grid) -> list[str]:
    notes = []
    if "test" not in grid.data.stated_splits:
        how = "" if _doubts(grid) else ", without labels"
        notes.append(
            f"{grid.data.source} has no test split: {grid.data.test_fraction:.0%} of its images were drawn for one. An "
            f"encoder that was pretrained on this source may have seen them{how}."
        )
    if len(labelled_rows(grid.data, "val")):
        notes.append("Labels of the validation split choose among ours and nothing else; no budget counts them.")
    if any(method.name == "From scratch" for method in grid.methods):
        notes.append(
            "From scratch takes as many steps as a tuning strategy with the same labels, with all labels too: where "
            "steps are what it lacks, more of them would bring it closer."
        )
    return notes


def _doubts(grid: Grid) -> list[str]:
    """Which encoders learned from labels, so that their gain is not one of pretraining without."""
    told = []
    for name, path in grid.encoders.items():
        config = read_config(path)
        source = config["data"].get("source")
        if _learned_from_labels(str(config["objective"])):
            same = source == grid.data.source
            told.append(
                f"{name} was trained WITH labels ({config['objective']}"
                f"{f' on {source}' if source else ''}), so what it gains is not a gain of pretraining without labels"
                + (", and it may have seen more labels of this source than a budget counts." if same else ".")
            )
    return told


def _learned_from_labels(objective: str) -> bool:
    """Whether an encoder folder's objective is a supervised task: a classifier, or a strategy that tuned for one."""
    kind = getattr(downstream, objective.split("(")[0].split(" ")[0], None)
    return isinstance(kind, type) and issubclass(kind, Classifier | Tuning) and not issubclass(kind, Frozen)


def _pretraining(grid: Grid) -> dict[str, float]:
    """Wall seconds of the runs that made the encoders, where these still lie beside them."""
    found: dict[str, Any] = {}
    for name, path in grid.encoders.items():
        metrics = path.parent / "metrics.json"
        if path.name == "encoder" and metrics.exists():
            found[name] = json.loads(metrics.read_text(encoding="utf-8")).get("wall_seconds")
    return {name: float(seconds) for name, seconds in found.items() if seconds is not None}
