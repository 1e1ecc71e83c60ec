"""`ssl-transfer evidence` on digits: a grid that goes on where it was stopped, and what it refuses."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ssl_transfer.cli import main
from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.encoders import EncoderSpec
from ssl_transfer.evaluation.evidence import Trial
from ssl_transfer.pretraining import SimCLR
from ssl_transfer.running.evidence.grid import Cell, Grid
from ssl_transfer.running.fit import fit

SPEC = EncoderSpec(arguments={"widths": [8, 16], "strides": [1, 2]}, pool=2)
OURS = ["Linear", "kNN", "Full"]
FLOORS = ["Raw pixels", "PCA", "Random encoder", "From scratch"]
Mistake = Callable[..., str]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    data = ImageDataModule("digits", batch_size=128)
    folder = tmp_path_factory.mktemp("runs") / "simclr"
    fit(SimCLR(SPEC, hidden_dim=16, output_dim=8), data, folder, max_epochs=2, enable_progress_bar=False, verbose=False)
    return str(folder / "encoder")


def _arguments(encoder: str, out: Path, *more: str, source: str = "digits") -> list[str]:
    small = ["--seeds", "2", "--steps", "3", "--strategies", "Frozen,Full", "--views.horizontal_flip", "0"]
    return ["evidence", encoder, source, "--budgets", "2,all", *small, "--out", str(out), *more]


def _trials(out: Path) -> list[Trial]:
    return [Trial.from_json(entry) for entry in json.loads((out / "evidence.json").read_text())["trials"]]


def _timeless(trials: list[Trial]) -> list[dict[str, Any]]:
    return [trial.to_json() | {"seconds": 0} for trial in trials]


@pytest.fixture(scope="module")
def _measured(encoder: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("measured") / "evidence"
    assert main(_arguments(encoder, out)) == 0
    return out


@pytest.fixture
def measured(_measured: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(_measured, tmp_path / "evidence"))


def test_every_cell_is_measured_and_told(measured: Path, digits: ImageDataModule) -> None:
    trials = _trials(measured)
    assert list(dict.fromkeys(trial.method for trial in trials)) == OURS + FLOORS
    assert {(trial.encoder, trial.kind) for trial in trials} == {("simclr", "ours"), ("", "floor")}
    cells = {(trial.method, trial.budget, trial.seed) for trial in trials}
    assert len(cells) == len(trials) == len(OURS + FLOORS) * 2 * 2
    assert {(trial.budget, trial.labels) for trial in trials} == {(2, 20), (None, len(digits.indices("train")))}
    assert all(0 <= trial.accuracy <= 1 and trial.right for trial in trials)
    assert all((trial.val_accuracy is not None) == (trial.kind == "ours") for trial in trials)
    linear = {(t.budget, t.seed): t.accuracy for t in trials if t.method == "Linear"}
    assert linear[2, 0] != linear[2, 1] and linear[None, 0] == linear[None, 1] > 0.8
    page = (measured / "evidence.html").read_text(encoding="utf-8")
    assert "simclr" in page and "From scratch" in page
    command = json.loads((measured / "evidence.json").read_text())["command"]
    assert (
        "--views.horizontal_flip 0.0" in command
        and "--budgets 2,all" in command
        and command in page.replace("&#x27;", "'")
    )
    assert "Raw pixels" in (measured / "evidence.md").read_text(encoding="utf-8")


def test_a_stopped_grid_goes_on_and_repeats_nothing(
    encoder: str, measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, measure, seen = tmp_path / "stopped", Grid.measure, []

    def watched(self: Grid, cell: Cell, known: list[Trial]) -> Trial:
        if len(seen) == 17:
            raise KeyboardInterrupt
        seen.append(cell.key)
        return measure(self, cell, known)

    monkeypatch.setattr(Grid, "measure", watched)
    assert main(_arguments(encoder, out)) == 130
    with (out / "trials.jsonl").open("a") as file:
        file.write('{"encoder": "sim')  # killed in the middle of a line
    first, seen = seen, []
    assert main(_arguments(encoder, out)) == 0
    assert len(first) == 17 and not set(first) & set(seen) and len(first + seen) == len(_trials(measured))
    assert _timeless(_trials(out)) == _timeless(_trials(measured))
    first, seen = seen, []
    assert main(_arguments(encoder, out)) == 0 and not seen


def test_a_grid_may_grow_but_not_change(encoder: str, measured: Path, mistake: Mistake) -> None:
    before = _timeless(_trials(measured))
    assert main(_arguments(encoder, measured, "--seeds", "3")) == 0
    after = _timeless(_trials(measured))
    assert len(after) == len(before) * 3 // 2 and all(trial in after for trial in before)
    told = mistake(*_arguments(encoder, measured, "--steps", "4"))
    assert "other settings (recipe of From scratch with 1132 labels" in told and "or --overwrite" in told
    assert "(source)" in mistake(*_arguments(encoder, measured, "--size", "6"))
    assert "views of rotate" in mistake(*_arguments(encoder, measured, "--views.rotate", "9"))
    assert main(_arguments(encoder, measured, "--steps", "4", "--seeds", "1", "--overwrite")) == 0
    assert len(_trials(measured)) == len(before) // 2


def test_the_command_it_tells_repeats_it(encoder: str, tmp_path: Path) -> None:
    out = tmp_path / "evidence"
    asked = _arguments(encoder, out, "--views.crop_scale", "[0.5, 1.0]", "--seeds", "1", "--strategies", "Frozen")
    assert main(asked) == 0
    command = json.loads((out / "evidence.json").read_text())["command"]
    assert main(shlex.split(command)[1:]) == 0


def test_several_encoders_share_the_floors(encoder: str, tmp_path: Path) -> None:
    other = shutil.copytree(Path(encoder).parent, tmp_path / "again")
    both = f"{encoder},{other}"  # a run's folder will do
    small = ["--seeds", "1", "--budgets", "1", "--strategies", "Frozen"]
    assert main(["evidence", both, "digits", *small, "--steps", "1", "--out", str(tmp_path / "out")]) == 0
    found = [(trial.encoder, trial.method) for trial in _trials(tmp_path / "out")]
    assert found == [(n, m) for n in ("simclr", "again") for m in ("Linear", "kNN")] + [("", m) for m in FLOORS]


def test_a_source_without_test_split_gives_one(encoder: str, photos: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out"
    small = ["--seeds", "1", "--steps", "1", "--strategies", "Frozen", "--out", str(out)]
    assert main(["evidence", encoder, str(photos), "--size", "8", *small]) == 0
    assert "has no test split: 20% of its images were drawn for one" in capsys.readouterr().out
    assert {trial.budget for trial in _trials(out)} == {1, 5, None}  # as many as every class has
    assert len({trial.right.split(":")[0] for trial in _trials(out) if trial.right}) == 1


def test_what_cannot_be_measured_is_refused_before_anything_runs(
    encoder: str, photos: Path, tmp_path: Path, mistake: Mistake
) -> None:
    out = tmp_path / "out"

    def told(*more: str, source: str = "digits", by: str = encoder) -> str:
        return mistake("evidence", by, source, "--out", str(out), *more)

    assert "--budgets 500 is more than the training split has of 0 (" in told("--budgets", "1,500")
    assert "--budgets takes whole numbers from 1 and all, such as 1,10,all, not 'ten'" in told("--budgets", "ten")
    assert "not '0'" in told("--budgets", "0") and "--budgets is empty" in told("--budgets", "[]")
    assert "--strategies: Ful is none: known are " in told("--strategies", "Ful")
    assert "Scratch is a floor and measured anyway" in told("--strategies", "Scratch")
    assert "encoder_lr must be above 0" in told("--strategies", "Full(encoder_lr=0)")
    assert "unexpected keyword argument 'rate'" in told("--strategies", "Full(rate=0)")
    assert "cannot be read: give names such as" in told("--strategies", "Full(")
    assert "give names such as" in told("--strategies", "Full(encoder_lr=x)")
    assert "n_stages is 9" in told("--strategies", "Partial(n_stages=9)", "--budgets", "1")
    assert "--seeds must be at least 1" in told("--seeds", "0") and "--steps must be" in told("--steps", "0")
    assert "--test_fraction must lie" in told("--test_fraction", "1")
    assert "an encoder is given twice" in told(by=f"{encoder},{encoder}")
    assert "no encoder is named" in told(by=",")
    assert "has one class only, 'ant'" in told("--size", "8", source=_without(photos, "bee", tmp_path))
    for path in photos.rglob("*.png"):
        path.rename(photos / f"{path.parent.name}{path.name}")
    shutil.rmtree(photos / "ant"), shutil.rmtree(photos / "bee")
    assert "has no class labels, one an image, and evidence needs them" in told("--size", "8", source=str(photos))
    assert not out.exists()


def _without(photos: Path, label: str, tmp_path: Path) -> str:
    other = Path(shutil.copytree(photos, tmp_path / "other"))
    shutil.rmtree(other / label)
    return str(other)


def test_a_folder_that_is_not_ours_is_left_alone(encoder: str, measured: Path, mistake: Mistake) -> None:
    (measured / "thesis.txt").write_text("mine")
    assert "holds other files (thesis.txt)" in mistake(*_arguments(encoder, measured, "--overwrite"))
    assert "is a file" in mistake(*_arguments(encoder, measured / "thesis.txt"))
