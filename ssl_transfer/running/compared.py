"""Finished runs side by side: what they were told, what they reached on validation images, and which is the best."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import yaml

from ssl_transfer.downstream.adaptation import judging
from ssl_transfer.encoders.build import is_folder_name
from ssl_transfer.encoders.spec import EncoderSpec
from ssl_transfer.pretraining.monitor import Monitor
from ssl_transfer.running.folder import RunFolder
from ssl_transfer.running.recorder import RunCheckpoint

SETTINGS = ("model", "data", "trainer", "checkpoint", "monitor", "seed_everything")  # of config.yaml, in this order
DEFAULTS = {"trainer": pl.Trainer, "checkpoint": RunCheckpoint, "monitor": Monitor}  # whose defaults are not told
NO_SETTING = ("trainer.default_root_dir", "trainer.enable_", "trainer.logger", "trainer.callbacks", "trainer.profiler")
SAME_LOSS = ("model.encoder", "model.optimisation")  # whatever these are, the loss means the same
IMAGES = ("data.source", "data.target", "data.size", "data.channels", "data.resize", "data.normal", "data.val_fraction")
LOWER_IS_BETTER = (*RunCheckpoint.LOWER_IS_BETTER, "noise_share")
NEITHER = (  # figures that tell, but of which neither more nor less is better, or not in another run
    *("source_answers", "source_classes", "target_classes", "compared_classes", "compared_distance", "clusters"),
    *("calibration_images", "threshold", "view_difference", "feature_std", "raw_pixels", "untuned", "_low", "_high"),
    *("validators_asked", "validators_margin", "validators_for_adapting", "validators_against"),
)
SHARE = re.compile(r"accuracy|bnm|f1_|auroc|precision|recall|exact_match|trustworthiness|continuity|/nmi$|/ari$")
CLOSE = 0.01  # of a share: less than another seed may change


@dataclass(frozen=True)
class ComparedRun:
    """One of them: its folder, `metrics.json`, flat settings, and the data as its saved network describes them."""

    name: str
    folder: RunFolder
    metrics: dict[str, Any]
    settings: dict[str, Any]
    data: dict[str, Any]

    def figure(self, name: str) -> float | None:
        """One of its figures, or `None` if it was not measured or is not finite."""
        value = self.metrics.get(name)
        usable = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        return float(value) if usable else None  # type: ignore[arg-type]

    @property
    def verdict(self) -> str:
        """That of an adaptation, where validators compared it with another network; empty without."""
        return str(self.metrics.get("verdict") or "") if "val/validators_asked" in self.metrics else ""

    @property
    def warnings(self) -> list[str]:
        """Those of its metrics.json."""
        told = self.metrics.get("warnings")
        return [str(each) for each in told] if isinstance(told, list) else []

    @property
    def judged(self) -> float:
        """By how many validation images it was judged, of the poorer domain where there are two."""
        domains = self.data.get("domains")
        parts = list(domains.values()) if isinstance(domains, dict) else [self.data.get("counts")]
        counts = [part.get("val") for part in parts if isinstance(part, dict)]
        return min((count for count in counts if isinstance(count, int) and count > 0), default=math.inf)


@dataclass(frozen=True)
class ComparedRuns:
    """Runs, best first by the figure `by`; `differing` are the settings in which they differ.

    `pandas.DataFrame(compared.rows())` is the table.
    """

    by: str
    runs: tuple[ComparedRun, ...]
    differing: tuple[str, ...]
    remarks: tuple[str, ...]

    @property
    def best(self) -> RunFolder:
        """The folder of the best."""
        return self.runs[0].folder

    def rows(self) -> list[dict[str, Any]]:
        """A row a run: its folder, the settings that differ, its time, and every figure, a test's included."""
        figures = sorted(
            {name for run in self.runs for name in run.metrics if "/" in name and run.figure(name) is not None}
        )
        return [
            {
                "run": run.name,
                **{name: run.settings.get(name) for name in self.differing},
                **{name: run.figure(name) for name in ("wall_seconds", *figures)},
            }
            for run in self.runs
        ]


def compare_runs(runs: Sequence[str | Path | RunFolder], by: str | None = None) -> ComparedRuns:
    """Rank finished runs by a figure on validation images.

    Args:
        runs: the folders of two or more.
        by: a figure that all have, such as `val/bnm`; by default the one by which each of them chose its epoch.

    Raises ValueError for a folder without a finished fit or with a damaged file, for a figure that a run lacks or of
    which neither more nor less is better, and for a test's; also where the runs chose their epochs by different
    figures, or by losses that mean different things, and `by` is not given.
    """
    folders = [run if isinstance(run, RunFolder) else RunFolder(run) for run in runs]
    _check_folders(folders)
    read = [_read(folder) for folder in folders]
    differing = differing_settings([run.settings for run in read])
    chosen = _common_criterion(read, differing) if by is None else by
    _check_figure(read, chosen, differing)
    ranked = _ranked(read, chosen)
    return ComparedRuns(chosen, tuple(ranked), differing, tuple(_remarks(ranked, chosen, differing)))


def shared_figures(runs: Sequence[ComparedRun]) -> list[str]:
    """The figures on validation images that every run has."""
    names = [name for name in runs[0].metrics if name.startswith("val/")]
    return sorted(name for name in names if all(run.figure(name) is not None for run in runs))


def _ranked(runs: Sequence[ComparedRun], by: str) -> list[ComparedRun]:
    sign = 1 if by.endswith(LOWER_IS_BETTER) else -1
    return sorted(runs, key=lambda run: sign * (run.figure(by) or 0.0))


# ---- reading


def _check_folders(folders: Sequence[RunFolder]) -> None:
    if len(folders) < 2:
        raise ValueError(f"two or more runs can be compared, not {len(folders)}: give their folders")
    without = [str(folder.path) for folder in folders if "checkpoint" not in _mapping(folder.metrics_file, json.loads)]
    if without:
        raise ValueError(f"no finished fit (no checkpoint in metrics.json) in {', '.join(without)}: leave it out")
    paths = [folder.path.resolve() for folder in folders]
    twice = [str(folder.path) for number, folder in enumerate(folders) if paths[number] in paths[:number]]
    if twice:
        raise ValueError(f"{twice[0]} is given twice")


def _read(folder: RunFolder) -> ComparedRun:
    told = _mapping(folder.config, yaml.safe_load)
    parts = [part for part in SETTINGS if part in told or part in DEFAULTS]
    settings = {name: value for part in parts for name, value in flat(part, _asked(part, told))}
    kept = {name: value for name, value in settings.items() if not name.startswith(NO_SETTING)}
    saved = next((path for path in (folder.model, folder.encoder) if (path / "config.json").exists()), folder.model)
    data = _mapping(saved / "config.json", json.loads).get("data")
    metrics = _mapping(folder.metrics_file, json.loads)
    return ComparedRun(str(folder.path), folder, metrics, kept, data if isinstance(data, dict) else {})


def _mapping(path: Path, parse: Callable[[str], Any]) -> dict[str, Any]:
    """What a file holds; nothing without the file."""
    if not path.exists():
        return {}
    try:
        found = parse(path.read_text(encoding="utf-8"))
    except (ValueError, yaml.YAMLError):
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"{path} is damaged, as it holds no mapping: leave its run out, or fit it again")
    return found


def _asked(part: str, told: Mapping[str, Any]) -> Any:
    """What was asked of the trainer, say, without what is so by default, which Python's runs do not tell."""
    value = told.get(part) or {} if part in DEFAULTS else told[part]
    if part not in DEFAULTS or not isinstance(value, Mapping):
        return value
    known = signature(DEFAULTS[part].__init__).parameters  # type: ignore[misc]
    return {key: each for key, each in value.items() if key not in known or each != known[key].default}


def flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """A setting and those within it; of a class its bare name, whether a terminal or Python gave it.

    >>> list(flat("model", {"class_path": "ssl_transfer.SimCLR", "init_args": {"views": None, "sizes": [1, 2]}}))
    [('model', 'SimCLR'), ('model.views', None), ('model.sizes', [1, 2])]
    """
    if name == "model.encoder" and isinstance(value, str) and value and not is_folder_name(value):
        value = asdict(EncoderSpec(value))  # what the name of a network stands for
    if not isinstance(value, Mapping):
        yield name, value
        return
    inner: Any = value
    if "class_path" in value:
        path = str(value["class_path"])
        yield name, path.rsplit(".", 1)[-1] if path.startswith("ssl_transfer.") else path
        inner = value.get("init_args") or {}
    else:
        yield name, value.get("name", Given())
    for key, item in inner.items() if isinstance(inner, Mapping) else ():
        yield from flat(f"{name}.{key}", item)


class Given:
    """Stands for a mapping, whose settings are told one by one."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Given)

    def __hash__(self) -> int:
        return 0

    def __str__(self) -> str:
        return "given"


def differing_settings(settings: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The settings in which runs differ. What only a class of one of them has is told by the name of the class."""
    names = dict.fromkeys(name for each in settings for name in each)
    return tuple(name for name in names if _differs(name, settings))


def _differs(name: str, settings: Sequence[Mapping[str, Any]]) -> bool:
    values = [each[name] for each in settings if name in each]
    if any(value != values[0] for value in values):
        return True
    above = name.rpartition(".")[0]
    lacking = [each for each in settings if name not in each and _holds(each, above)]
    having = [each[above] for each in settings if name in each and above in each]
    return values[0] is not None and any(each[above] == value for each in lacking for value in having)


def _holds(settings: Mapping[str, Any], above: str) -> bool:
    """Whether a setting has others within it."""
    return any(name.startswith(f"{above}.") for name in settings) or isinstance(settings.get(above), Given)


# ---- which figure


def _common_criterion(runs: Sequence[ComparedRun], differing: Sequence[str]) -> str:
    criteria = {run.name: run.metrics.get("best_by") for run in runs}
    known = {str(by) for by in criteria.values() if by is not None}
    choice = _choice(runs, differing)
    if not known:
        raise ValueError(f"none of these runs chose an epoch: {choice}")
    if len(known) > 1:
        told = ", ".join(f"{name} by {by}" for name, by in criteria.items() if by is not None)
        raise ValueError(f"these runs chose their epochs by different figures ({told}): {choice}")
    by = known.pop()
    lacking = [run.name for run in runs if run.figure(by) is None]
    if lacking:
        raise ValueError(f"{', '.join(lacking)} has no finite {by}, by which the others chose their epochs: {choice}")
    other = _other_loss(runs, by, differing)
    if other:
        raise ValueError(f"{by} means another thing where {other} differs: {choice}")
    return by


def _other_loss(runs: Sequence[ComparedRun], by: str, differing: Sequence[str]) -> str:
    """A setting that makes a loss mean another thing from run to run; empty without, and for other figures."""
    if not by.endswith("loss"):
        return ""
    suspects = [name for name in differing if name.partition(".")[0] == "model" and not _is_within(name, SAME_LOSS)]
    suspects += [name for name in differing if name == "data.batch_size"]
    if len({str(run.data.get("fingerprint")) for run in runs}) > 1:
        suspects += [name for name in differing if name in IMAGES]
    return next(iter(suspects), "")


def _is_within(name: str, settings: Sequence[str]) -> bool:
    return any(name == each or name.startswith(f"{each}.") for each in settings)


def _choice(runs: Sequence[ComparedRun], differing: Sequence[str]) -> str:
    known = [name for name in shared_figures(runs) if not name.endswith(NEITHER)]
    known = [name for name in known if not _other_loss(runs, name, differing)]
    if not known:
        return "they have no figure in common by which to choose; compare runs of one kind"
    return f"give --by a figure that all have: {', '.join(known)}"


def _check_figure(runs: Sequence[ComparedRun], by: str, differing: Sequence[str]) -> None:
    if not by.startswith("val/"):
        raise ValueError(f"--by {by}: a run is chosen on validation images, by a figure that begins with val/")
    lacking = [run.name for run in runs if run.figure(by) is None]
    if lacking:
        raise ValueError(f"--by {by} is not a finite figure of {', '.join(lacking)}: {_choice(runs, differing)}")
    if by.endswith(NEITHER):
        raise ValueError(f"--by {by}: neither more nor less of it makes a better run: {_choice(runs, differing)}")


# ---- what is to be known


def _remarks(runs: Sequence[ComparedRun], by: str, differing: Sequence[str]) -> Iterator[str]:
    yield from _other_images(runs)
    other = _other_loss(runs, by, differing)
    if other:
        yield f"{by} means another thing where {other} differs"
    for run in runs:
        if run.warnings:
            more = f" (and {len(run.warnings) - 1} more)" if len(run.warnings) > 1 else ""
            yield f"{run.name}: {run.warnings[0]}{more}"
    yield from (f"{run.name}: verdict: {run.verdict}" for run in runs if run.verdict)
    validators = [name for name in shared_figures(runs) if name.removeprefix("val/") in judging.NAMES]
    if by in validators:
        yield from _other_validators(runs, validators)
    elif validators and SHARE.search(by):
        yield f"{by} is of the source; the validators see the target: {', '.join(validators)}"
    yield from _close(runs, by)


def _other_images(runs: Sequence[ComparedRun]) -> Iterator[str]:
    groups: dict[str, list[str]] = {}
    for run in runs:
        if run.data.get("fingerprint") is not None:
            groups.setdefault(str(run.data["fingerprint"]), []).append(run.name)
    if len(groups) > 1:
        told = "; ".join(", ".join(names) for names in groups.values())
        yield f"these runs had other images, or another split or size of them, and may differ by that: {told}"


def _other_validators(runs: Sequence[ComparedRun], validators: Sequence[str]) -> Iterator[str]:
    """Those of an adaptation, which are guesses, and do not always agree."""
    by_run: dict[str, list[str]] = {}
    for name in validators:
        by_run.setdefault(_ranked(runs, name)[0].name, []).append(name.removeprefix("val/"))
    told = "; ".join(f"{run} by {', '.join(names)}" for run, names in by_run.items())
    yield f"validators read no label of the target, and reward answers that are wrong and sure; the best is {told}"


def _close(runs: Sequence[ComparedRun], by: str) -> Iterator[str]:
    """Which runs chance may have put behind the first."""
    best = runs[0].figure(by) or 0.0
    reach = 0.0
    if SHARE.search(by) and not by.endswith(LOWER_IS_BETTER):
        reach = max(CLOSE, 2 * math.sqrt(max(0.0, best * (1 - best)) / runs[0].judged))
    near = [run.name for run in runs[1:] if abs(best - (run.figure(by) or 0.0)) <= reach]
    if near and reach:
        yield f"within {reach:.2g} of the best, which chance or another seed may make: {', '.join(near)}"
    elif near:
        yield f"equal to the best: {', '.join(near)}"
