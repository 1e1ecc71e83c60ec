"""Finished runs side by side: how they differ, what they reached on validation images, and which is the best."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssl_transfer.downstream.adaptation import judging, verdict
from ssl_transfer.running.compared_run import ComparedRun, read_runs
from ssl_transfer.running.folder import RunFolder
from ssl_transfer.running.recorder import RunCheckpoint
from ssl_transfer.running.settings import differing_settings

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
    read = read_runs([run if isinstance(run, RunFolder) else RunFolder(run) for run in runs])
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
    own, *others = [run.figure("val/target_classes") or 0.0 for run in runs]
    if own < verdict.FEWER * max(others):
        yield (
            f"{runs[0].name} answers target images with as many as {own:.1f} equally frequent classes, another with "
            f"{max(others):.1f}: see in its predictions whether it has lost some"
        )


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
