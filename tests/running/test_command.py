"""The parts of the command line's training verbs: the order of options, checkpoints by name, the record of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.encoders import EncoderSpec
from ssl_transfer.pretraining import SimCLR
from ssl_transfer.running import fit as running
from ssl_transfer.running.command import _local_checkpoint, first_things_first
from ssl_transfer.running.folder import RunFolder
from ssl_transfer.running.progress import ImagesColumn
from ssl_transfer.running.recorder import RunCheckpoint


@pytest.mark.parametrize(
    ("given", "sorted_"),
    [
        ("--data.size 96 --model SimCLR --config=a.yaml", "--config=a.yaml --model SimCLR --data.size 96"),
        ("--config a --x --config b", "--config a --config b --x"),  # the later file still wins
        ("--model.lr -1 --data D", "--data D --model.lr -1"),  # a negative number stays with its option
        ("--data.source d --data=D --model=M", "--model=M --data=D --data.source d"),
        ("--overwrite --trainer.max_epochs 3", "--overwrite --trainer.max_epochs 3"),
        ("", ""),
    ],
)
def test_what_others_depend_on_comes_first(given: str, sorted_: str) -> None:
    assert first_things_first(given.split()) == sorted_.split()


def test_checkpoints_are_found_in_the_run_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunFolder(tmp_path / "run")
    run.checkpoints.mkdir(parents=True)
    run.last.touch()
    (tmp_path / "other.ckpt").touch()
    monkeypatch.chdir(tmp_path)
    assert _local_checkpoint(run, "last") == _local_checkpoint(run, "last.ckpt") == run.last
    assert _local_checkpoint(run, "other.ckpt") == Path("other.ckpt")
    for absent in ("best", "hf://a/b", "https://example.org/a.ckpt", "."):
        with pytest.raises(ValueError, match="no such checkpoint in"):
            _local_checkpoint(run, absent)


def test_a_fit_of_no_steps_writes_no_encoder(digits: ImageDataModule, simclr: type[SimCLR], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nothing was trained: trainer\.max_epochs"):
        running.fit(simclr(), digits, tmp_path, max_epochs=0, enable_progress_bar=False)
    assert RunFolder(tmp_path).used() == []


def test_checkpoints_by_the_clock(digits: ImageDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With no minutes to wait every step is written, except where the end of the epoch is about to be."""
    steps: list[int] = []
    save = RunCheckpoint._save_last

    def watched(self: RunCheckpoint, trainer: object) -> None:
        steps.append(trainer.global_step)  # type: ignore[attr-defined]
        save(self, trainer)  # type: ignore[arg-type]

    monkeypatch.setattr(RunCheckpoint, "_save_last", watched)
    module = SimCLR(EncoderSpec(arguments={"widths": [8], "strides": [2]}), hidden_dim=8, output_dim=4)
    options = {"max_epochs": 2, "limit_train_batches": 3, "enable_progress_bar": False, "verbose": False}
    running.fit(module, digits, tmp_path, checkpoint=RunCheckpoint(every_minutes=0.0), **options)
    assert steps == [1, 2, 3, 4, 5, 6]


def test_bad_intervals() -> None:
    with pytest.raises(ValueError, match=r"checkpoint\.every_n_steps must be at least 1, not 0"):
        RunCheckpoint(every_n_steps=0)


def test_the_progress_bar_tells_images_and_time(digits: ImageDataModule) -> None:
    class Trainer:
        datamodule, world_size, max_epochs, current_epoch, training = digits, 2, 3, 1, True

    class Task:
        speed, total, completed = 10.0, 8, 3

    column = ImagesColumn(Trainer())  # type: ignore[arg-type]
    assert column.render(Task()).plain == "2,560 images/s · 0:00:01 left"  # type: ignore[arg-type]
    Trainer.training = False
    assert column.render(Task()).plain == "2,560 images/s"  # type: ignore[arg-type]


def test_the_progress_bar_is_shown_unless_it_is_not_wanted(
    digits: ImageDataModule, simclr: type[SimCLR], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, bar in (("with", True), ("without", False)):
        running.fit(simclr(), digits, tmp_path / name, max_epochs=1, enable_progress_bar=bar, verbose=False)
        assert ("images/s" in capfd.readouterr().out) is bar
