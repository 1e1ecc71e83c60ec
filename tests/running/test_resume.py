"""A fit that dies and goes on ends where an uninterrupted one does, to the bit: weights, optimiser, curves, counts."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from ssl_transfer.cli import main
from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.data.views import Views
from ssl_transfer.downstream import Classifier, Frozen, Full, Gradual, LinearThenFull, LoRA, Partial
from ssl_transfer.encoders import EncoderSpec, load_encoder
from ssl_transfer.pretraining import Autoencoder, DenoisingAutoencoder, RotationPrediction, SimCLR
from ssl_transfer.running.fit import fit
from ssl_transfer.running.folder import RunFolder
from ssl_transfer.running.recorder import RunCheckpoint

SPEC = EncoderSpec(arguments={"widths": [8, 16], "strides": [1, 2]}, pool=2)
PACE = ("train/images_per_second", "train/data_wait_share")
TIMES = ("wall_seconds", "peak_memory_bytes", "diagnostics_share", *PACE)
MODULES: dict[str, Callable[[], pl.LightningModule]] = {
    "SimCLR": lambda: SimCLR(SPEC, hidden_dim=16, output_dim=8),
    "RotationPrediction": lambda: RotationPrediction(SPEC, hidden_dim=16),
    "Autoencoder": lambda: Autoencoder(SPEC, bottleneck=4, sparsity=0.1),
    "DenoisingAutoencoder": lambda: DenoisingAutoencoder(SPEC),
    "Full": lambda: Classifier(SPEC, tuning=Full(), views=Views(horizontal_flip=0.0)),
    "Frozen": lambda: Classifier(SPEC, tuning=Frozen(solve=False)),
    "Gradual": lambda: Classifier(SPEC, tuning=Gradual(every=1)),
    "Partial": lambda: Classifier(SPEC, tuning=Partial(1)),
    "LoRA": lambda: Classifier(SPEC, tuning=LoRA(rank=2), views=Views(horizontal_flip=0.0)),
    "LinearThenFull": lambda: Classifier(SPEC, tuning=LinearThenFull(l2_sp=0.1), weight_average=0.9, mixup=0.4),
}


def curves(run: RunFolder) -> list[dict[str, str]]:
    with (run.logs / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{key: value for key, value in row.items() if key not in ("seconds", *PACE)} for row in rows]


def same(first: Any, second: Any) -> bool:
    """Whether two checkpoints' parts are equal to the bit."""
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(value, second[key]) for key, value in first.items())
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(same(a, b) for a, b in zip(first, second, strict=True))
    return bool(first == second)


def untimed(run: RunFolder) -> dict[str, Any]:
    """The figures of a run, but for what depends on what else the machine does."""
    kept = {key: value for key, value in run.metrics().items() if key not in TIMES}
    kept["warnings"] = [text for text in kept["warnings"] if "waits for images" not in text]
    return kept


def assert_same_run(whole: RunFolder, resumed: RunFolder) -> None:
    first, second = (torch.load(run.last, weights_only=True) for run in (whole, resumed))
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step"):
        assert same(first[part], second[part]), part
    assert untimed(whole) == untimed(resumed)
    assert curves(whole) == curves(resumed)


@pytest.fixture(scope="module")
def uninterrupted(digits: ImageDataModule, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], RunFolder]:
    """The run of three epochs of eight steps that nothing disturbed, by the module's name."""
    done: dict[str, RunFolder] = {}

    def run(name: str) -> RunFolder:
        if name not in done:
            folder = tmp_path_factory.mktemp(name)
            done[name] = fit(MODULES[name](), digits, folder, **OPTIONS)
        return done[name]

    return run


OPTIONS: dict[str, Any] = {"max_epochs": 3, "seed": 3, "enable_progress_bar": False, "verbose": False}


MIDDLE: tuple[dict[str, int], int] = ({"step": 13}, 3)  # in the second epoch, whose beginning is in the checkpoint
FIRST = ({"step": 4}, 3)  # in the first epoch
EARLY = ({"step": 9}, 1)  # after the first step of an epoch
BETWEEN = ({"step": 8}, 8)  # between epochs
VALIDATION = ({"epoch": 1}, 1)  # after the last step of an epoch, before its validation
LATE = ({"step": 20}, None)  # long after the checkpoint of the epoch's end


@pytest.mark.parametrize(
    ("name", "death"),
    [
        *(("SimCLR", death) for death in (MIDDLE, FIRST, EARLY, BETWEEN, VALIDATION, LATE)),
        *(("Full", death) for death in (MIDDLE, VALIDATION, LATE)),
        *((name, MIDDLE) for name in ("RotationPrediction", "Autoencoder", "DenoisingAutoencoder", "Frozen")),
        *((name, death) for name in ("Gradual", "LinearThenFull") for death in (MIDDLE, VALIDATION)),
        *((name, MIDDLE) for name in ("Partial", "LoRA")),
    ],
)
def test_to_the_bit(
    name: str,
    death: tuple[dict[str, int], int | None],
    uninterrupted: Callable[[str], RunFolder],
    digits: ImageDataModule,
    die: Callable[..., None],
    tmp_path: Path,
) -> None:
    whole = uninterrupted(name)
    checkpoint = RunCheckpoint(every_n_steps=death[1])
    die(MODULES[name](), digits, tmp_path, checkpoint=checkpoint, **OPTIONS, **death[0])
    assert RunFolder(tmp_path).last.exists() and not RunFolder(tmp_path).encoder.exists()
    torch.manual_seed(99)  # the state that a new process happens to have
    resumed = fit(MODULES[name](), digits, tmp_path, resume=True, **OPTIONS)
    assert_same_run(whole, resumed)


def test_dying_twice(
    uninterrupted: Callable[[str], RunFolder], digits: ImageDataModule, die: Callable[..., None], tmp_path: Path
) -> None:
    make, every = MODULES["SimCLR"], RunCheckpoint(every_n_steps=2)
    die(make(), digits, tmp_path, step=5, checkpoint=every, **OPTIONS)
    die(make(), digits, tmp_path, step=7, checkpoint=every, resume=True, **OPTIONS)
    die(make(), digits, tmp_path, step=19, checkpoint=every, resume=True, **OPTIONS)
    assert_same_run(uninterrupted("SimCLR"), fit(make(), digits, tmp_path, resume=True, **OPTIONS))


def test_accumulated_gradients_are_not_lost(digits: ImageDataModule, die: Callable[..., None], tmp_path: Path) -> None:
    options = {**OPTIONS, "accumulate_grad_batches": 3}
    whole = fit(MODULES["Autoencoder"](), digits, tmp_path / "whole", **options)
    checkpoint = RunCheckpoint(every_n_steps=1)
    die(MODULES["Autoencoder"](), digits, tmp_path / "run", step=4, checkpoint=checkpoint, **options)
    assert_same_run(whole, fit(MODULES["Autoencoder"](), digits, tmp_path / "run", resume=True, **options))


def test_dropout_is_the_same_again(digits: ImageDataModule, die: Callable[..., None], tmp_path: Path) -> None:
    pytest.importorskip("timm")
    arguments = {"model_name": "vit_tiny_patch16_224", "img_size": 8, "patch_size": 4, "depth": 2, "embed_dim": 24}
    spec = EncoderSpec("timm.create_model", {**arguments, "num_heads": 2, "proj_drop_rate": 0.2, "drop_path_rate": 0.3})

    def module() -> Classifier:
        return Classifier(spec, tuning=Full(encoder_lr=1.0))

    whole = fit(module(), digits, tmp_path / "whole", **OPTIONS)
    die(module(), digits, tmp_path / "run", step=13, checkpoint=RunCheckpoint(every_n_steps=3), **OPTIONS)
    torch.manual_seed(99)
    assert_same_run(whole, fit(module(), digits, tmp_path / "run", resume=True, **OPTIONS))


def test_going_on_from_nothing_starts_fresh_and_says_so(
    digits: ImageDataModule,
    uninterrupted: Callable[[str], RunFolder],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = fit(MODULES["SimCLR"](), digits, tmp_path / "run", resume=True, **OPTIONS)
    assert "last.ckpt does not exist: starting fresh" in capsys.readouterr().out
    assert_same_run(uninterrupted("SimCLR"), run)


def test_going_on_with_a_finished_run_changes_nothing(digits: ImageDataModule, tmp_path: Path) -> None:
    run = fit(MODULES["SimCLR"](), digits, tmp_path, **OPTIONS)
    before, rows = untimed(run), curves(run)
    weights = load_encoder(run.encoder).state_dict()
    fit(MODULES["SimCLR"](), digits, tmp_path, resume=True, **OPTIONS)
    assert untimed(run) == before
    assert curves(run) == rows and same(weights, load_encoder(run.encoder).state_dict())


def test_more_epochs_for_a_finished_run(digits: ImageDataModule, tmp_path: Path) -> None:
    run = fit(MODULES["Full"](), digits, tmp_path, **{**OPTIONS, "max_epochs": 1})
    fit(MODULES["Full"](), digits, tmp_path, resume=True, **OPTIONS)
    assert [row["epoch"] for row in curves(run)] == ["1.0", "2.0", "3.0"]
    assert run.metrics()["images_seen"] == 3 * 8 * 128


def test_a_checkpoint_appears_whole(digits: ImageDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the next one is written, the one before is there to be read."""
    save, seen = pl.Trainer.save_checkpoint, []

    def watched(trainer: pl.Trainer, path: Path, *args: Any, **options: Any) -> None:
        last = RunFolder(tmp_path).last
        if last.exists():
            seen.append(torch.load(last, weights_only=True)["global_step"])
        assert Path(path) != last
        save(trainer, path, *args, **options)

    monkeypatch.setattr(pl.Trainer, "save_checkpoint", watched)
    fit(MODULES["SimCLR"](), digits, tmp_path, checkpoint=RunCheckpoint(every_n_steps=3), **OPTIONS)
    assert sorted(set(seen)) == [3, 6, 8, 9, 12, 15, 16, 18, 21]
    assert sorted(path.name for path in RunFolder(tmp_path).checkpoints.iterdir()) == ["best.ckpt", "last.ckpt"]


KILLED = [
    *("fit", "--model", "SimCLR", "--model.hidden_dim", "16", "--model.output_dim", "8", "--model.encoder.pool", "2"),
    *("--model.encoder.arguments", '{"widths": [8, 16], "strides": [1, 2]}', "--seed_everything", "3"),
    *("--data.source", "digits", "--data.batch_size", "16", "--checkpoint.every_n_steps", "3"),
    *("--trainer.max_epochs", "3", "--trainer.enable_progress_bar", "false"),
]


DYING = """\
import os, signal, sys
from ssl_transfer.cli import main
from ssl_transfer.running.pace import Pace

after = Pace.on_train_batch_end

def die(self, trainer, *rest):
    after(self, trainer, *rest)
    if trainer.global_step == 50:
        os.kill(os.getpid(), signal.SIGKILL)

Pace.on_train_batch_end = die
main(sys.argv[1:])
"""


def test_kill_9_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    """Through the command line, in processes of their own: killed, gone on with, and compared with one undisturbed."""
    killed, whole = RunFolder(tmp_path / "killed"), RunFolder(tmp_path / "whole")
    arguments = [*KILLED, "--trainer.default_root_dir", str(killed.path)]
    died = subprocess.run([sys.executable, "-c", DYING, *arguments], capture_output=True, text=True, timeout=900)
    assert died.returncode == -signal.SIGKILL, died.stderr
    command = [sys.executable, "-m", "ssl_transfer", *arguments]
    left = torch.load(killed.last, weights_only=True)
    assert 0 < left["global_step"] < 3 * 70 and 0 < left["train_loader"]["batches"] < 70
    assert killed.used() == ["checkpoints"] and "checkpoint" not in killed.metrics()
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    subprocess.run([*command, "--ckpt_path", "last"], check=True, capture_output=True, env=environment)
    assert main([*KILLED, "--trainer.default_root_dir", str(whole.path)]) == 0
    assert_same_run(whole, killed)
    assert same(load_encoder(whole.encoder).state_dict(), load_encoder(killed.encoder).state_dict())


@pytest.mark.parametrize("options", [{"seed": 1}, {"val_fraction": 0.2}, {"size": 9}])
def test_other_images_are_no_resumption(
    options: dict[str, Any], digits: ImageDataModule, die: Callable[..., None], tmp_path: Path
) -> None:
    die(MODULES["SimCLR"](), digits, tmp_path, step=7, checkpoint=RunCheckpoint(every_n_steps=3), **OPTIONS)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=r"last\.ckpt is of a fit on other images, or on another split or size"):
        fit(MODULES["SimCLR"](), ImageDataModule("digits", batch_size=64, **options), tmp_path, resume=True, **OPTIONS)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
