"""Finished runs side by side: what they were told, what they reached on validation images, and which is the best."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ssl_transfer.running.folder import RunFolder
from ssl_transfer.running.recorder import RunCheckpoint

SETTINGS = ("model", "data", "trainer", "seed_everything")  # of config.yaml, in this order
NO_SETTING = ("trainer.default_root_dir", "trainer.enable_", "trainer.logger", "trainer.callbacks", "trainer.profiler")
CLOSE = 0.01  # of shares such as an accuracy
VERDICTS = ("adapt", "do not adapt")  # the others only say that none was asked for, or that none can be given
NO_OBJECTIVE = ("model.encoder", "model.optimisation")  # the loss means the same whatever these are


@dataclass(frozen=True)
class ComparedRun:
    """One of them: its folder, `metrics.json`, flat settings, and the fingerprint of its images."""

    name: str
    folder: RunFolder
    metrics: dict[str, Any]
    settings: dict[str, Any]
    images: str | None

    def figure(self, name: str) -> float | None:
        """One of its figures, or `None` if it was not measured or is not finite."""
        value = self.metrics.get(name)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


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
        """A row a run: its folder, the settings that differ, and every figure, those of a test included."""
        figures = sorted({name for run in self.runs for name, value in run.metrics.items() if _is_figure(name, value)})
        return [
            {
                "run": run.name,
                **{name: run.settings.get(name) for name in self.differing},
                **{name: run.figure(name) for name in figures},
            }
            for run in self.runs
        ]


def compare_runs(runs: Sequence[str | Path | RunFolder], by: str | None = None) -> ComparedRuns:
    """Rank finished runs by a figure on validation images.

    Args:
        runs: the folders of two or more.
        by: a figure that all have, such as `val/bnm`; by default the one by which each of them chose its epoch.

    Raises ValueError for a folder without a finished fit, for a figure that a run lacks, and for a test's; also where
    the runs chose their epochs by different figures, or by losses of different objectives, and `by` is not given.
    """
    folders = [run if isinstance(run, RunFolder) else RunFolder(run) for run in runs]
    _check_folders(folders)
    read = [_read(folder) for folder in folders]
    differing = _differing([run.settings for run in read])
    chosen = by or _common_criterion(read, differing)
    _check_figure(read, chosen)
    sign = 1 if chosen.endswith(RunCheckpoint.LOWER_IS_BETTER) else -1
    ranked = sorted(read, key=lambda run: sign * (run.figure(chosen) or 0.0))
    return ComparedRuns(chosen, tuple(ranked), differing, tuple(_remarks(ranked, chosen)))


def shared_figures(runs: Sequence[ComparedRun]) -> list[str]:
    """The figures on validation images that every run has."""
    names = [name for name, value in runs[0].metrics.items() if name.startswith("val/") and _is_figure(name, value)]
    return sorted(name for name in names if all(run.figure(name) is not None for run in runs))


def _check_folders(folders: Sequence[RunFolder]) -> None:
    if len(folders) < 2:
        raise ValueError(f"two or more runs can be compared, not {len(folders)}: give their folders")
    without = [str(folder.path) for folder in folders if "checkpoint" not in folder.metrics()]
    if without:
        raise ValueError(f"no finished fit (no checkpoint in metrics.json) in {', '.join(without)}: leave it out")
    paths = [folder.path.resolve() for folder in folders]
    twice = [str(folder.path) for number, folder in enumerate(folders) if paths[number] in paths[:number]]
    if twice:
        raise ValueError(f"{twice[0]} is given twice")


def _read(folder: RunFolder) -> ComparedRun:
    told: dict[str, Any] = {}
    if folder.config.exists():
        told = yaml.safe_load(folder.config.read_text(encoding="utf-8")) or {}
    settings = {name: value for part in SETTINGS if part in told for name, value in flat(part, told[part])}
    kept = {name: value for name, value in settings.items() if not name.startswith(NO_SETTING)}
    return ComparedRun(str(folder.path), folder, folder.metrics(), kept, _fingerprint(folder))


def _fingerprint(folder: RunFolder) -> str | None:
    for config in (folder.model / "config.json", folder.encoder / "config.json"):
        if config.exists():
            found = json.loads(config.read_text(encoding="utf-8")).get("data", {}).get("fingerprint")
            return None if found is None else str(found)
    return None


def flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """A setting and those within it; of a class its bare name, whether a terminal or Python gave it.

    >>> list(flat("model", {"class_path": "a.SimCLR", "init_args": {"views": None, "sizes": [1, 2]}}))
    [('model', 'SimCLR'), ('model.views', None), ('model.sizes', [1, 2])]
    """
    if not isinstance(value, Mapping):
        yield name, value
        return
    if "class_path" in value:
        yield name, str(value["class_path"]).rsplit(".", 1)[-1]
        inner = value.get("init_args") or {}
    else:
        yield name, value.get("name", "given")
        inner = value
    for key, item in inner.items():
        yield from flat(f"{name}.{key}", item)


def _differing(settings: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Settings of which two runs that have them have different ones; a class tells for those that only it has."""
    names = dict.fromkeys(name for each in settings for name in each)
    return tuple(name for name in names if len({repr(each[name]) for each in settings if name in each}) > 1)


def _common_criterion(runs: Sequence[ComparedRun], differing: Sequence[str]) -> str:
    criteria = {run.metrics.get("best_by") for run in runs}
    known = ", ".join(shared_figures(runs)) or "none"
    if len(criteria) > 1 or None in criteria:
        raise ValueError(
            f"these runs chose their epochs by {', '.join(sorted(map(str, criteria)))}: say --by; all have {known}"
        )
    by = str(criteria.pop())
    other = [name for name in differing if name.startswith("model") and not name.startswith(NO_OBJECTIVE)]
    if by.endswith("loss") and other:
        raise ValueError(f"a loss means another thing where {other[0]} differs: say --by; all have {known}")
    return by


def _check_figure(runs: Sequence[ComparedRun], by: str) -> None:
    if not by.startswith("val/"):
        raise ValueError(f"--by {by}: a run is chosen on validation images, by a figure that begins with val/")
    lacking = [run.name for run in runs if run.figure(by) is None]
    if lacking:
        known = ", ".join(shared_figures(runs)) or "none"
        raise ValueError(f"--by {by} was not measured in {', '.join(lacking)}; all have {known}")


def _remarks(runs: Sequence[ComparedRun], by: str) -> Iterator[str]:
    best, second = (run.figure(by) or 0.0 for run in runs[:2])
    if abs(best - second) < CLOSE and 0 < best <= 1 and 0 < second <= 1:
        yield (
            f"{runs[0].name} and {runs[1].name} are less than {CLOSE} apart in {by}, which another seed may turn "
            "round: fit several of each"
        )
    groups: dict[str | None, list[str]] = {}
    for run in runs:
        groups.setdefault(run.images, []).append(run.name)
    if len(groups) > 1:
        told = "; ".join(", ".join(names) for names in groups.values())
        yield f"these runs had other images, or another split or size of them, and may differ by that: {told}"
    for run in runs:
        warnings = run.metrics.get("warnings") or []
        if warnings:
            yield f"{run.name}: {warnings[0]}" + (f" (and {len(warnings) - 1} more)" if len(warnings) > 1 else "")
    for run in runs:
        verdict = run.metrics.get("verdict") or ""
        if verdict.startswith(VERDICTS):
            yield f"{run.name}: verdict: {verdict}"


def _is_figure(name: str, value: Any) -> bool:
    return "/" in name and isinstance(value, int | float) and not isinstance(value, bool)
