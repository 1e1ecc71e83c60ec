"""The run's folder: who may write into it, and that nothing is lost before something new is there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ssl_transfer.running.folder import RunFolder


def _run(path: Path, mark: str = "old") -> RunFolder:
    """A folder that looks like that of a finished fit."""
    run = RunFolder(path)
    for folder in (run.checkpoints, run.encoder, run.model, run.logs):
        folder.mkdir(parents=True)
    run.last.write_text(mark)
    (run.encoder / "config.json").write_text(mark)
    (run.model / "config.json").write_text(mark)
    run.config.write_text(mark)
    run.summary.write_text(mark)
    run.record({"checkpoint": "checkpoints/last.ckpt", "mark": mark})
    return run


def _files(path: Path) -> dict[str, str]:
    return {p.relative_to(path).as_posix(): p.read_text() for p in sorted(path.rglob("*")) if p.is_file()}


def test_a_fresh_folder_is_made(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "runs" / "a")
    assert run.claim() is None and run.path.is_dir() and run.used() == []
    assert RunFolder(tmp_path / "b").claim(resume=True) is None


@pytest.mark.parametrize("name", ["checkpoints", "encoder", "model", "metrics.json"])
def test_any_result_keeps_a_fit_out(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(ValueError, match=rf"already holds a run \({name}\).*--overwrite.*--ckpt_path last"):
        RunFolder(tmp_path).claim()


def test_traces_of_a_fit_that_failed_early_do_not(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    RunFolder(tmp_path).write_config("seed_everything: 0")
    assert RunFolder(tmp_path).claim() is None


def test_a_config_that_no_run_wrote_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("# mine\nseed_everything: 0")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "notes.txt").write_text("mine")
    before = _files(tmp_path)
    with pytest.raises(ValueError, match="was not written by a run"):
        RunFolder(tmp_path).claim()
    assert _files(tmp_path) == before


def test_refusing_leaves_every_byte(tmp_path: Path) -> None:
    run = _run(tmp_path)
    before = _files(tmp_path)
    with pytest.raises(ValueError, match="already holds a run"):
        run.claim()
    assert _files(tmp_path) == before


def test_overwriting_parts_with_the_old_run_once_there_is_a_new_one(tmp_path: Path) -> None:
    run = _run(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    assert run.claim(overwrite=True) is None
    assert run.used() == [] and not run.logs.exists() and not run.config.exists()
    run.checkpoints.mkdir()
    run.last.write_text("new")
    run.settle()
    assert _files(tmp_path) == {"checkpoints/last.ckpt": "new", "notes.txt": "mine"}
    assert not run.replaced.exists()


def test_a_fit_that_leaves_nothing_costs_nothing(tmp_path: Path) -> None:
    run = _run(tmp_path)
    before = _files(tmp_path)
    run.claim(overwrite=True)
    run.logs.mkdir()
    (run.logs / "events").write_text("of a fit that failed")
    run.config.write_text("new")
    run.settle()
    assert _files(tmp_path) == before


def test_a_fit_killed_before_it_left_anything_costs_nothing(tmp_path: Path) -> None:
    _run(tmp_path)
    before = _files(tmp_path)
    RunFolder(tmp_path).claim(overwrite=True)  # and then the power went
    with pytest.raises(ValueError, match="already holds a run"):
        RunFolder(tmp_path).claim()
    assert _files(tmp_path) == before
    RunFolder(tmp_path).claim(overwrite=True)
    assert RunFolder(tmp_path).claim(resume=True) == tmp_path / "checkpoints" / "last.ckpt"
    assert _files(tmp_path) == before


def test_resuming_goes_on_from_the_last_checkpoint(tmp_path: Path) -> None:
    run = _run(tmp_path)
    before = _files(tmp_path)
    assert run.claim(resume=True) == run.last
    assert _files(tmp_path) == before
    run.last.unlink()
    with pytest.raises(ValueError, match="already holds a run"):
        run.claim(resume=True)  # a finished run without its checkpoint is not to be lost
    run.metrics_file.unlink()
    assert run.claim(resume=True) is None  # nothing finished, nothing to go on from: a fresh start


def test_figures_accumulate(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert run.metrics() == {}
    run.record({"b": 1, "test/accuracy": 0.5})
    run.record({"a": [1], "b": 2})
    assert run.metrics() == {"a": [1], "b": 2, "test/accuracy": 0.5} == json.loads(run.metrics_file.read_text())
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.json"]


def test_only_a_finished_fit_can_be_scored(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    with pytest.raises(ValueError, match=r"holds no finished fit.*ssl-transfer fit"):
        run.fitted_checkpoint()
    run.record({"checkpoint": "checkpoints/best.ckpt"})
    with pytest.raises(ValueError, match=r"best\.ckpt, named by .*metrics\.json, is missing"):
        run.fitted_checkpoint()
    run.checkpoints.mkdir()
    run.best.write_bytes(b"")
    assert run.fitted_checkpoint() == run.best
