"""What `adaptation.py` measures: one fit of one method on one pair of domains."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytorch_lightning as pl
import torch
from common import Result, parser
from published_dann import PublishedAdapter, label_head

from ssl_transfer import (
    CDAN,
    CORAL,
    DANN,
    BatchNormStatistics,
    Classifier,
    DomainAdapter,
    DomainDataModule,
    EncoderSpec,
    Frozen,
    Full,
    ImageDataModule,
    Optimisation,
    SourceOnly,
    SubspaceAlignment,
    Views,
)
from ssl_transfer.downstream.adaptation import Adaptation, SelfTraining, judging
from ssl_transfer.running.fit import trainer_defaults

SELECT_BY = "bnm"
BATCH = {"published": 64, "best": 256}  # half of each domain
PAIRS = {  # source and target; {} are the photographs
    "mnist_to_mnist_m": ("MNIST", "MNISTM:{}"),
    "mnist_m_to_mnist": ("MNISTM:{}", "MNIST"),
    "fashion_to_fashion_m": ("FashionMNIST", "FashionMNISTM:{}"),
    "mnist_to_digits": ("MNIST", "digits"),
}
EPOCHS = {"published": (6, 3), "best": (6, 3)}  # of the first pair, and of the others
SOME_PAIRS_ALONE = {"subspace_alignment_no_batch_norm": ("mnist_to_mnist_m",)}
METHODS: dict[str, Callable[[], Adaptation]] = {
    "source_only": SourceOnly,
    "source_only_no_batch_norm": SourceOnly,
    "subspace_alignment": SubspaceAlignment,
    "subspace_alignment_no_batch_norm": SubspaceAlignment,
    "coral": CORAL,
    "batch_norm": BatchNormStatistics,
    "dann": DANN,
    "cdan_e": CDAN,
    "self_training": SelfTraining,
}
VIEWS = Views(  # shape counts; colour, brightness and polarity do not: nothing is known of the target but that
    crop_scale=(0.9, 1.0),
    crop_ratio=(1.0, 1.0),
    horizontal_flip=0.0,
    translate=0.02,
    rotate=6.0,
    jitter=0.0,
    grey=0.0,
    recolour=0.9,
    clutter=1.0,
)
TARGET_VIEWS = replace(VIEWS, recolour=0.3, clutter=0.0)
BEST: dict[str, Callable[[], Adaptation]] = {
    "best_source_only": BatchNormStatistics,
    "best": lambda: SelfTraining(views=TARGET_VIEWS),
    "best_curriculum": lambda: SelfTraining(curriculum=True, warmup=0.3, views=TARGET_VIEWS),
}
SCRATCH = Full(encoder_lr=1.0, layer_decay=1.0)  # a random encoder learns as fast as its head
ADAMW = Optimisation(lr=1e-3)
PUBLISHED_NETWORK = EncoderSpec("published_dann.Convolutions")
BEST_NETWORK = EncoderSpec("small_resnet", {"widths": [32, 64, 128], "strides": [2, 2, 2]}, pool=2)


class Curve(pl.Callback):
    """The validators and the accuracy on the target's test images after each epoch; the time of the rest."""

    def __init__(self) -> None:
        self.curves: list[dict[str, float]] = []
        self.started, self.scoring = time.process_time(), 0.0

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        begun = time.process_time()
        told = {name[4:]: float(value) for name, value in trainer.callback_metrics.items() if name[:4] == "val/"}
        told["test_accuracy"] = test_accuracy(pl_module, trainer.datamodule)  # type: ignore[attr-defined]
        self.curves.append({name: round(value, 5) for name, value in told.items()})
        print(f"epoch {len(self.curves)}: {told}", flush=True)
        self.scoring += time.process_time() - begun

    def result(self) -> Result:
        oracle = max(told["test_accuracy"] for told in self.curves)
        by = {name: self._chosen(name) for name in judging.NAMES if name in self.curves[0]}
        accuracy = by.get(SELECT_BY, self.curves[-1]["test_accuracy"])
        seconds = time.process_time() - self.started - self.scoring
        return {"accuracy": accuracy, "oracle": oracle, "seconds": seconds, "by": by, "curves": self.curves}

    def _chosen(self, name: str) -> float:
        """The accuracy of the epoch that a validator chooses."""
        best = min if name in judging.LOWER_IS_BETTER else max
        return best(self.curves, key=lambda told: told[name])["test_accuracy"]


@torch.inference_mode()
def test_accuracy(module: Any, data: Any) -> float:
    """Of a module in evaluation mode."""
    assert not module.training
    right = [(module(batch.images).argmax(1) == batch.targets) for batch in data.test_dataloader()]
    return float(torch.cat(right).float().mean())


def fitted(pair: str, name: str, root: str, photographs: str, batches: int | None, epochs: int, seed: int) -> Result:
    """One fit of a method."""
    torch.set_num_threads(1)
    batch = BATCH[network_of(name)]
    data: Any = pair_of(pair, root, photographs, batch)
    if "trained_on_target" in name:
        data = ImageDataModule(data.target, root=root, size=data.size, channels=3, batch_size=batch // 2)
    pl.seed_everything(seed, verbose=False)
    if name.startswith("subspace_alignment"):
        learnt = PublishedAdapter(published_network(name), SourceOnly(), SCRATCH, ADAMW, select_by=None)
        before = run(learnt, data, batches, epochs)["seconds"]
        found = run(PublishedAdapter(learnt.encoder, SubspaceAlignment(), Frozen()), data, batches, 1)
        return {**found, "seconds": found["seconds"] + before}
    found = run(model(name), data, batches, epochs)
    if "trained_on_target" in name:  # the last epoch counts
        return {**found, "accuracy": found["curves"][-1]["test_accuracy"], "by": {}}
    return found


def pair_parser(doc: str | None, seeds: int = 3) -> ArgumentParser:
    """The options that the scripts of adaptation share."""
    made = parser(doc, rounds=1)
    made.add_argument("--photographs", default="data/bsds500", help="the backgrounds of MNIST-M")
    made.add_argument("--seeds", type=int, default=seeds, help=f"at most ({seeds} by default)")
    made.add_argument("--at-once", type=int, default=1, help="fits side by side, each on a thread of its own")
    return made


def pair_of(pair: str, root: str, photographs: str, batch_size: int) -> DomainDataModule:
    """Two domains, half of each in a batch."""
    source, target = (side.format(photographs) for side in PAIRS[pair])
    size = 28 if "digits" in (source, target) else None
    return DomainDataModule(source, target, root=root, size=size, channels=3, batch_size=batch_size)


def network_of(name: str) -> str:
    """Which of the two networks a row has, the published one or that of the best recipe."""
    return "best" if name.startswith("best") else "published"


def epochs_of(pair: str, name: str) -> int:
    """Epochs of the larger domain."""
    return EPOCHS[network_of(name)][pair != next(iter(PAIRS))]


def model(name: str) -> pl.LightningModule:
    """What learns."""
    if name == "trained_on_target":
        return Published(PUBLISHED_NETWORK, SCRATCH, ADAMW)
    if name == "best_trained_on_target":
        return Classifier(BEST_NETWORK, SCRATCH, Optimisation(lr=4e-3), TARGET_VIEWS, weight_average=0.99)
    if name.startswith("best"):
        return DomainAdapter(BEST_NETWORK, BEST[name](), SCRATCH, Optimisation(lr=4e-3), VIEWS, weight_average=0.99)
    views = VIEWS if name == "self_training" else None
    return PublishedAdapter(published_network(name), METHODS[name](), SCRATCH, ADAMW, views)


def published_network(name: str) -> EncoderSpec:
    """With BatchNorm, or as published."""
    return replace(PUBLISHED_NETWORK, arguments={"batch_norm": "no_batch_norm" not in name})


class Published(Classifier):
    """The published network with labels, the ceiling."""

    def _new_head(self) -> torch.nn.Module:
        return label_head(self.encoder.feature_dim, self.targets.width)


def run(module: pl.LightningModule, data: Any, batches: int | None, epochs: int) -> Result:
    """Fit in memory, watching every epoch."""
    curve = Curve()
    quiet_trainer(epochs, batches, curve).fit(module, datamodule=data)
    return curve.result()


def quiet_trainer(epochs: int, batches: int | None, *callbacks: pl.Callback) -> pl.Trainer:
    """A trainer that writes nothing."""
    quiet: dict[str, Any] = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "accelerator": "cpu",
    }
    options = {**trainer_defaults(), **quiet, "max_epochs": epochs, "limit_train_batches": batches}
    return pl.Trainer(callbacks=list(callbacks), **options)
