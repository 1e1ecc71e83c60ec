"""Two processes are one with twice the batch: losses, gradients and weights, the images seen, the figures, the files.

The tests run this file as a script, whose fits start a second process by themselves, and compare with the same fits
in one process.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from torch import nn

from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.downstream import Classifier, Frozen, Full, Scratch, Tuning
from ssl_transfer.encoders import EncoderSpec
from ssl_transfer.optimisation import Optimisation
from ssl_transfer.pretraining import Autoencoder, DenoisingAutoencoder, Objective, RotationPrediction, SimCLR
from ssl_transfer.running import fit as running
from ssl_transfer.running import processes
from ssl_transfer.running.folder import RunFolder
from ssl_transfer.running.recorder import RunCheckpoint

BATCH = 64  # images a step, over all processes
FEW = 16  # so few that a process meets steps without a label
ENCODER = EncoderSpec(
    "torch.nn.Conv2d", {"in_channels": 1, "out_channels": 8, "kernel_size": 3, "stride": 2, "padding": 1}, pool=2
)
OPTIMISATION = Optimisation(optimiser="sgd", lr=0.05, warmup=0.0, schedule="constant")
OPTIONS: dict[str, Any] = {
    "accelerator": "cpu",
    "precision": "32-true",
    "enable_progress_bar": False,
    "verbose": False,
    "log_every_n_steps": 1,
}


# The same fits in one process or in two. BatchNorm sees what its process sees, and would make them differ.


def without_normalisation(module: nn.Module) -> None:
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
                setattr(parent, name, nn.Identity())


class PlainSimCLR(SimCLR):
    def build_heads(self) -> None:
        super().build_heads()
        without_normalisation(self.projector)


class PlainAutoencoder(Autoencoder):
    def build_heads(self) -> None:
        super().build_heads()
        without_normalisation(self.decoder)


class PlainDenoisingAutoencoder(DenoisingAutoencoder):
    def build_heads(self) -> None:
        super().build_heads()
        without_normalisation(self.decoder)


class PlainRotation(RotationPrediction):
    def build_heads(self) -> None:
        super().build_heads()
        without_normalisation(self.head)


OBJECTIVES: dict[str, Callable[[], Objective]] = {
    "SimCLR": lambda: PlainSimCLR(ENCODER, hidden_dim=16, output_dim=8, optimisation=OPTIMISATION),
    "RotationPrediction": lambda: PlainRotation(ENCODER, hidden_dim=16, optimisation=OPTIMISATION),
    "Augmented": lambda: PlainSimCLR(
        ENCODER, hidden_dim=16, output_dim=8, optimisation=OPTIMISATION, distribution_augmentation=True
    ),
    "Autoencoder": lambda: PlainAutoencoder(ENCODER, bottleneck=8, sparsity=0.1, optimisation=OPTIMISATION),
    "DenoisingAutoencoder": lambda: PlainDenoisingAutoencoder(ENCODER, optimisation=OPTIMISATION),
}
TUNINGS: dict[str, Tuning] = {
    "solved": Frozen(l2=1e-2),
    "chosen": Frozen(),
    "frozen": Frozen(solve=False),
    "full": Full(),
    "scratch": Scratch(),
}


class Steps(pl.Callback):
    """Writes the loss of every step, and the gradients and weights of the first."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.tensors: dict[str, dict[str, torch.Tensor]] = {}

    def on_after_backward(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if not self.tensors:
            self.tensors["gradients"] = {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, number: int
    ) -> None:
        self.losses.append(float(trainer.strategy.reduce(outputs["loss"].detach().clone(), reduce_op="mean")))
        if len(self.losses) == 1:
            self.tensors["weights"] = {n: p.detach().clone() for n, p in module.named_parameters()}


def fit_objectives(folder: Path, count: int) -> None:
    for name, make in OBJECTIVES.items():
        steps = Steps()
        data = ImageDataModule("digits", batch_size=BATCH // count)
        options = {**OPTIONS, **several(count), "callbacks": [steps], "checkpoint": RunCheckpoint(every_minutes=0)}
        run = running.fit(make(), data, folder / name, max_epochs=2, **options)
        if processes._rank in (None, 0):
            torch.save(steps.tensors, run.path / "steps.pt")
            (run.path / "losses.json").write_text(json.dumps(steps.losses))


def fit_classifiers(folder: Path, count: int) -> None:
    for name, tuning in TUNINGS.items():
        data = ImageDataModule(str(folder.parent / "partly.npz"), batch_size=FEW // count)
        run = running.fit(classifier(tuning), data, folder / name, **OPTIONS, **several(count), max_epochs=2)
        scored = classifier(tuning)
        options = {"precision": "32-true", "enable_progress_bar": False, "accelerator": "cpu"}
        running.test(scored, data, run.path, **options, **several(count))
        if processes._rank in (None, 0):
            (run.path / "confusion.json").write_text(json.dumps(scored.confusion.tolist()))


def classifier(tuning: Tuning) -> Classifier:
    return Classifier(ENCODER, tuning=tuning, optimisation=OPTIMISATION)


def several(count: int) -> dict[str, Any]:
    return {"devices": count, "strategy": "ddp"} if count > 1 else {"devices": 1}


def in_two(run_script: Callable[..., Any], what: str, folder: Path) -> None:
    """Run this file as a script."""
    done = run_script(__file__, what, folder)
    assert done.returncode == 0, done.stderr
    told = done.stdout.splitlines()
    assert told.count("alone") == 1 and told[-1] == "alone" and done.stderr == ""


def main(what: str, folder: str) -> None:
    running.calm(globals()[what])(Path(folder), 2)
    # What needs one process alone: the second one leaves here.
    running.fit(classifier(Frozen(l2=1.0)), ImageDataModule("digits"), Path(folder) / "alone", **OPTIONS)
    print("alone", flush=True)


# The tests


def files(folder: Path) -> list[str]:
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return [name for name in names if "events.out" not in name]


@pytest.fixture(scope="module")
def objectives(run_script: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("objectives")
    in_two(run_script, "fit_objectives", folder / "two")
    fit_objectives(folder / "one", 1)
    return folder / "one", folder / "two"


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_learns_as_in_one_process(name: str, objectives: tuple[Path, Path]) -> None:
    one, two = (torch.load(folder / name / "steps.pt") for folder in objectives)
    for part in ("gradients", "weights"):
        assert one[part].keys() == two[part].keys() and len(one[part]) > 3
        for parameter, value in one[part].items():
            torch.testing.assert_close(two[part][parameter], value, rtol=1e-5, atol=1e-6, msg=f"{part} {parameter}")
    assert max(float(value.abs().max()) for value in one["gradients"].values()) > 1e-3
    losses = [json.loads((folder / name / "losses.json").read_text()) for folder in objectives]
    assert len(losses[0]) == 2 * (1132 // BATCH) and losses[0][-1] < losses[0][0]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_run_of_an_objective_is_that_of_one_process(name: str, objectives: tuple[Path, Path]) -> None:
    one, two = (RunFolder(folder / name) for folder in objectives)
    assert files(one.path) == files(two.path) and len(list(two.logs.glob("events*"))) == 1
    first, second = one.metrics(), two.metrics()
    assert first.keys() == second.keys() and first["images_seen"] == second["images_seen"]
    for figure in ("train/loss", "val/loss"):
        assert second[figure] == pytest.approx(first[figure], rel=1e-5)
    weights = [torch.load(run.last, weights_only=True)["state_dict"] for run in (one, two)]
    torch.testing.assert_close(weights[1], weights[0], rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def classified(
    run_script: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory, digits: ImageDataModule
) -> tuple[Path, Path]:
    """Digits, of which few in training have labels; the second process has none in the validation and test split."""
    folder = tmp_path_factory.mktemp("classified")
    arrays: dict[str, np.ndarray] = {}
    for split, count in (("train", 500), ("val", 65), ("test", 131)):
        rows = digits.indices(split)[:count]
        labels = digits.table.targets[rows].astype(str)
        labels[np.arange(count) % 2 == 1 if split != "train" else np.arange(count) % 5 > 0] = ""
        arrays[f"x_{split}"] = np.concatenate([b.images.numpy()[:, 0] for b in digits.loader(split)])[:count]
        arrays[f"y_{split}"] = labels
    np.savez(folder / "partly.npz", **arrays)  # type: ignore[arg-type]
    in_two(run_script, "fit_classifiers", folder / "two")
    fit_classifiers(folder / "one", 1)
    return folder / "one", folder / "two"


@pytest.mark.parametrize("name", TUNINGS)
def test_a_classifier_is_that_of_one_process(name: str, classified: tuple[Path, Path]) -> None:
    one, two = (RunFolder(folder / name) for folder in classified)
    assert files(one.path) == files(two.path)
    assert (one.path / "confusion.json").read_text() == (two.path / "confusion.json").read_text()
    weights = [torch.load(run.last, weights_only=True)["state_dict"] for run in (one, two)]
    torch.testing.assert_close(weights[1], weights[0], rtol=1e-4, atol=1e-5)
    first, second = one.metrics(), two.metrics()
    assert first.keys() == second.keys() and {"val/accuracy", "test/accuracy_low"} <= first.keys()
    for figure in ("images_seen", "checkpoint", "val/accuracy", "test/accuracy", "test/accuracy_low", "test/f1_macro"):
        assert second[figure] == first[figure], figure
    for figure in [name for name in first if name.startswith(("val/", "test/")) or name == "train/loss"]:
        assert second[figure] == pytest.approx(first[figure], rel=1e-4, abs=2e-6), figure


def _trainer(**options: Any) -> pl.Trainer:
    return pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, **options)


def test_synchronised_batchnorm_on_the_cpu(mistake: Callable[..., str], tmp_path: Path) -> None:
    arguments = ("--model", "SimCLR", "--data.source", "digits", "--trainer.accelerator", "cpu")
    run = ("--trainer.default_root_dir", str(tmp_path / "run"))
    told = mistake("fit", *arguments, *run, "--trainer.sync_batchnorm", "true")
    assert "SyncBatchNorm needs GPUs" in told and "leave it out" in told
    assert not (tmp_path / "run").exists()


def test_predicting_with_several(mistake: Callable[..., str], tmp_path: Path) -> None:
    arguments = ("--model", "Classifier", "--data.source", "digits", "--trainer.accelerator", "cpu")
    two = ("--trainer.devices", "2", "--trainer.strategy", "ddp")
    told = mistake("predict", *arguments, *two, "--trainer.default_root_dir", str(tmp_path / "run"))
    assert "predict works in one process, not 2: use --trainer.devices 1" in told


@pytest.mark.parametrize("environment", [LightningEnvironment, TorchElasticEnvironment])
def test_the_next_fit_s_processes_meet_elsewhere(
    environment: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a quick one joins those of the last fit that have not left yet, and waits for ever."""
    for name in ("MASTER_PORT", "TORCHELASTIC_USE_AGENT_STORE"):
        monkeypatch.setenv(name, "1")
    trainer = _trainer(devices=2, strategy="ddp")
    monkeypatch.setattr(trainer._accelerator_connector, "cluster_environment", environment())
    monkeypatch.setattr(trainer.strategy, "broadcast", lambda port: port)
    processes._take_another_port(trainer)
    assert int(os.environ["MASTER_PORT"]) > 1023 and os.environ["TORCHELASTIC_USE_AGENT_STORE"] == "False"
    monkeypatch.setattr(trainer.strategy, "broadcast", lambda port: 4242)  # the other takes what the first has found
    processes._take_another_port(trainer)
    assert os.environ["MASTER_PORT"] == "4242"


def test_several_machines_meet_where_the_user_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASTER_PORT", "4242")
    processes._take_another_port(_trainer(devices=2, num_nodes=2, strategy="ddp"))
    assert os.environ["MASTER_PORT"] == "4242"


def test_other_processes_than_torchrun_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(ValueError, match="torchrun started 4 processes and the trainer has 1"):
        processes.check_processes(_trainer(devices=1, strategy=pl.strategies.SingleDeviceStrategy()))


def test_fewer_images_than_processes(digits: ImageDataModule) -> None:
    trainer = _trainer(devices=2, strategy="ddp")
    digits_of_one = ImageDataModule("digits")
    digits_of_one.setup()
    digits_of_one._indices["val"] = digits.indices("val")[:1]
    with pytest.raises(ValueError, match="has 1 val image for 2 processes, and each needs one"):
        processes.check_shares(trainer, digits_of_one, ("train", "val"))
    processes.check_shares(_trainer(devices=1), digits_of_one, ("train", "val"))


def test_several_processes_after_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_went_on_alone", False)
    monkeypatch.setattr(processes, "_rank", 1)
    with pytest.raises(SystemExit) as left:
        processes.check_processes(_trainer(devices=1))
    assert left.value.code == 0
    monkeypatch.setattr(processes, "_rank", 0)
    processes.check_processes(_trainer(devices=1))
    with pytest.raises(ValueError, match="ended when it went on in one"):
        processes.check_processes(_trainer(devices=2, strategy="ddp"))


if __name__ == "__main__":
    main(*sys.argv[1:])
