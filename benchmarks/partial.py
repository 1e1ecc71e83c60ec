"""Partial tuning: how much is gained by running the frozen front of the network once an image, and is the result equal?

The last stage of a network learns on Fashion-MNIST, with what the stages before it give kept in memory, and computed
anew in every epoch. Seconds are this process's own on one thread, so that other work on the machine does not count;
each kind runs in turn, `--rounds` times.

    python benchmarks/partial.py --root data            the table
    python benchmarks/partial.py --root data --quick    a tenth of the images
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import pytorch_lightning as pl
import torch
from common import row, write

from ssl_transfer import Classifier, EncoderSpec, ImageDataModule, Optimisation, Partial
from ssl_transfer.evaluation.probes import accuracy
from ssl_transfer.running.trial import scores_of, trial

NETWORKS = {  # what learns, of how many images of which size
    "small_resnet": (EncoderSpec(pool=3), 1, 20_000, 28),
    "resnet18": (EncoderSpec("resnet18"), 1, 1_000, 28),
    "vgg16": (EncoderSpec("vgg16"), 1, 200, 64),
}
EPOCHS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="data", help="where torchvision finds or puts FashionMNIST")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    started = time.monotonic()
    rows = []
    for name, (spec, stages, images, size) in NETWORKS.items():
        data = ImageDataModule("FashionMNIST", root=options.root, batch_size=64, size=size)
        data.setup()
        some = data.with_train(data.indices("train")[: images // 10 if options.quick else images])
        measured: dict[str, list[dict[str, float]]] = {"kept": [], "anew": []}
        for _ in range(options.rounds):
            for kind, found in measured.items():
                found.append(measure(spec, stages, some, kind == "kept"))
        rows += rows_of(name, len(some.indices("train")), measured)
    write("partial_quick" if options.quick else "partial", rows, time.monotonic() - started, NOTES)
    for r in rows:
        print(f"{r['id']:50}{r['value']:10.4f} ± {r['spread']:.4f}  {r.get('ratio', '')}")


NOTES = (
    "Seconds of the process on one thread, an epoch after the first; the first encodes the front and is stated apart.",
    "The same seed, order and batches; accuracies on the first 1,000 test images. What the losses differ by comes from "
    "the rounding of other batch sizes.",
    "Weights are fresh: only time and equality are looked at. What learns is the last of 3 stages of small_resnet, "
    "layer4 of ResNet-18 and the last of VGG16's five blocks, at 64 pixels.",
)


class Clock(pl.Callback):
    """The processor's time at the start of the fit and at the end of each epoch, and the epoch's last loss."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.loss = 0.0

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.ends.append(time.process_time())

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.loss = float(outputs["loss"])

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.ends.append(time.process_time())


def measure(spec: EncoderSpec, stages: int, data: ImageDataModule, kept: bool) -> dict[str, float]:
    """One fit: seconds of the first epoch, which pays for the encoding, and of the others, and where it ends."""
    data.memory_budget = 4.0 if kept else 1e-9
    clock = Clock()
    tuning = Partial(stages, encoder_lr=1.0)
    module = Classifier(spec, tuning=tuning, optimisation=Optimisation(lr=1e-3))
    trial(module, data, epochs=EPOCHS, seed=0, callbacks=[clock])
    seconds = [after - before for before, after in zip(clock.ends, clock.ends[1:], strict=False)]
    return {
        "first": seconds[0],
        "epoch": sum(seconds[1:]) / len(seconds[1:]),
        "loss": clock.loss,
        "accuracy": accuracy(*scores_of(module, data.with_train(data.indices("test")[:1000]), "train")),
    }


def rows_of(name: str, images: int, measured: dict[str, list[dict[str, float]]]) -> list[dict[str, Any]]:
    """The rows of one network."""
    values = {(kind, key): [m[key] for m in found] for kind, found in measured.items() for key in found[0]}
    ratio = sum(values["anew", "epoch"]) / sum(values["kept", "epoch"])
    start = f"fashion_mnist_{images}/partial_{name}"
    against = f"{start}_anew/epoch_seconds"
    return [
        row(f"{start}_kept/epoch_seconds", values["kept", "epoch"], "ours", "s", ratio=ratio, against=against),
        row(against, values["anew", "epoch"], "peer", "s"),
        row(f"{start}_kept/first_epoch_seconds", values["kept", "first"], "ours", "s"),
        row(f"{start}_anew/first_epoch_seconds", values["anew", "first"], "peer", "s"),
        row(f"{start}_kept/accuracy", values["kept", "accuracy"], "ours"),
        row(f"{start}_anew/accuracy", values["anew", "accuracy"], "peer"),
        row(f"{start}_kept/last_loss", values["kept", "loss"], "ours", "nats"),
        row(f"{start}_anew/last_loss", values["anew", "loss"], "peer", "nats"),
    ]


if __name__ == "__main__":
    main()
