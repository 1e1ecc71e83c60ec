"""Several processes, one run: what must hold before they start, and how they part."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch.distributed
from lightning_fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from lightning_fabric.plugins.environments.lightning import find_free_network_port
from pytorch_lightning.strategies.launchers.multiprocessing import _MultiProcessingLauncher

_rank: int | None = None  # of this process in an earlier fit of several processes; None without one
_went_on_alone = False  # whether the first of them has begun something of its own since


def check_processes(trainer: pl.Trainer) -> None:
    """Refuse what several processes cannot do, before anything is written.

    Where a script's fit had several processes, each of them runs the script to its end. What one process does after
    that is the first one's: the others end here, quietly.
    """
    _check_those_of_the_script(trainer)
    started = int(os.environ.get("WORLD_SIZE", 1)) if "TORCHELASTIC_RUN_ID" in os.environ else trainer.world_size
    if _rank is None and started != trainer.world_size:
        raise ValueError(
            f"trainer.devices: torchrun started {started} processes and the trainer has {trainer.world_size}: give "
            f"--trainer.strategy ddp, and --trainer.devices × --trainer.num_nodes = {started}"
        )
    if trainer.world_size > 1 and isinstance(trainer.strategy.launcher, _MultiProcessingLauncher):
        raise ValueError(
            "trainer.strategy: processes that are spawned or forked bring no figures back; use --trainer.strategy ddp"
        )
    on_cpu = trainer.strategy.root_device.type == "cpu"
    if on_cpu and trainer._accelerator_connector._layer_sync is not None:
        raise ValueError(
            "trainer.sync_batchnorm: SyncBatchNorm needs GPUs and this run is on CPU; leave it out (every process then "
            "normalises by its own batch)"
        )


def _check_those_of_the_script(trainer: pl.Trainer) -> None:
    global _went_on_alone
    if _rank is None:
        return
    if trainer.world_size == 1 and _rank > 0:
        sys.exit(0)
    if trainer.world_size > 1 and _went_on_alone:
        raise ValueError(
            "trainer.devices: the other processes of this script ended when it went on in one; put what needs several "
            "first, or into a script of its own"
        )
    _went_on_alone = trainer.world_size == 1


def check_shares(trainer: pl.Trainer, data: Any, splits: Sequence[str]) -> None:
    """Every process needs an image of every split that there is: they wait for each other's figures."""
    if trainer.world_size == 1:
        return
    data.setup()
    for split in splits:
        count = len(data.indices(split))
        if 0 < count < trainer.world_size:
            raise ValueError(
                f"data.source {data.source} has {count} {split} image{'s' * (count > 1)} for {trainer.world_size} "
                f"processes, and each needs one: use --trainer.devices 1, or a larger {split} split"
            )


def check_split(data: Any, split: str) -> None:
    """Raise ValueError unless a split has images to score."""
    data.setup()
    if not len(data.indices(split)):
        raise ValueError(
            f"{data.named(split)} has no {split} split: fit and score with --data.{split}_fraction 0.2, or give "
            f"a source that has one"
        )


def check_alone(trainer: pl.Trainer, verb: str) -> None:
    """Refuse several processes where one file is written from one process's outputs."""
    if trainer.world_size > 1:
        raise ValueError(
            f"trainer.devices: {verb} works in one process, not {trainer.world_size}: use --trainer.devices 1"
        )


def _take_another_port(trainer: pl.Trainer) -> None:
    """Where the next fit's processes meet: at this one's port a quick one would meet those that have not left yet.

    Between several machines the port is the user's, who may have opened no other.
    """
    environment = trainer._accelerator_connector.cluster_environment
    if isinstance(environment, LightningEnvironment | TorchElasticEnvironment) and trainer.num_nodes == 1:
        own = find_free_network_port() if trainer.is_global_zero else 0
        os.environ["MASTER_PORT"] = str(trainer.strategy.broadcast(own))
        os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "False"  # torchrun's store still tells of the last meeting


@contextmanager
def parting(trainer: pl.Trainer) -> Iterator[None]:
    """The last thing that the processes of a fit do: all leave together, when the first has written what it writes."""
    global _rank
    try:
        yield
    finally:
        if trainer.world_size > 1:
            trainer.strategy.barrier("parting")
            if torch.distributed.is_initialized():  # what follows sees all images, not a process's share
                _take_another_port(trainer)
                torch.distributed.destroy_process_group()
            _rank = trainer.global_rank
