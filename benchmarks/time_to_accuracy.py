"""Seconds of SimCLR on Fashion-MNIST until the nearest neighbours are right for 85 % of the validation images.

Ours, and lightly's documented recipe on the same network, projector, loss, optimiser and schedule. After every epoch,
outside of the clock, the 54,000 training images vote on the 6,000 validation images. Each training runs in a process of
its own, and a script that was stopped does not repeat those that have finished.

    python benchmarks/time_to_accuracy.py --root data
    python benchmarks/time_to_accuracy.py --root data --quick        an epoch of a few steps, to see that it works
"""

from __future__ import annotations

import shutil
import statistics
import time
from typing import Any

import pytorch_lightning as pl
from common import RUNS, Result, Rounds, Row, Task, median_row, parser, ratio, serve, show, spread, values, write

from ssl_transfer import ImageDataModule, SimCLR, fit
from ssl_transfer.evaluation.features import encode
from ssl_transfer.evaluation.floors import RawPixels
from ssl_transfer.evaluation.probes import accuracy, knn_scores

TARGET = 0.85
BATCH = 256


def main() -> None:
    options = arguments()
    started = time.monotonic()
    rounds = Rounds("time_to_accuracy", options.quick)
    limits = {"epochs": options.max_epochs, "batches": options.batches, "bank": options.bank}
    about = {"root": options.root, **limits}
    workers = 0 if options.quick else best_workers(rounds, options.root)
    found: dict[str, list[Result]] = {"ours": [], "lightly": []}
    for seed in range(options.rounds):  # a round is a seed
        tasks: dict[str, Task] = {
            "ours": {"what": "ours", **about, "seed": seed},
            "lightly": {"what": "lightly", **about, "seed": seed, "workers": workers},
        }
        for label, results in rounds.run(tasks, 1).items():
            found[label] += results
    pixels = rounds.run({"raw pixels": {"what": "raw_pixels", "root": options.root, "bank": options.bank}}, 1)
    rows = rows_of(found["ours"], found["lightly"], workers)
    floor = values(pixels["raw pixels"], "accuracy")
    rows.append(median_row("fashion_mnist/raw_pixels/knn_validation_accuracy", floor, "floor", "fraction"))
    write("time_to_accuracy", rows, time.monotonic() - started, [*notes(options), *options.note], options.quick)
    rounds.finish()
    show(rows)


def arguments() -> Any:
    made = parser(__doc__, rounds=1)
    made.add_argument("--max-epochs", type=int, default=15, help="of the schedule, and so at most")
    options = made.parse_args()
    options.batches, options.bank = None, None
    if options.quick:
        options.rounds, options.max_epochs, options.batches, options.bank = 1, 1, 5, 2000
    return options


def notes(options: Any) -> list[str]:
    return [
        f"Seconds of training until the kNN accuracy on the 6,000 validation images reaches {TARGET} (k = 20, cosine, "
        "temperature 0.1; the 54,000 training images vote). The test split is not touched. The clock runs from the "
        "start of each epoch to the end of its last step; starting, validation and checkpoints are outside of it.",
        "Ours: SimCLR as in configs/pretrain/simclr.yaml. lightly: its documented Lightning recipe with its "
        "SimCLRTransform as for CIFAR-10 (crops from 0.08, flips, jitter of strength 0.5, no blur) at 28 pixels, on "
        "the same 54,000 images in a DataLoader with the best of 0, 1 and 2 workers.",
        f"Both: the same network, projector, temperature, AdamW, batch of {BATCH}, precision, and cosine schedule over "
        f"{options.max_epochs} epochs, after which they stop.",
        "A dash: not reached. Then `reached` is the best accuracy, `seconds_spent` in the JSON what was spent, and a "
        "ratio to it a lower bound. ratio: how many times faster. Rounds are seeds.",
    ]


def best_workers(rounds: Rounds, root: str) -> int:
    """The number of worker processes with which lightly's recipe is fastest here."""
    from peers import WORKERS

    task = {"what": "lightly", "root": root, "epochs": 2, "batches": 20, "bank": 0, "seed": 0}
    tasks: dict[str, Task] = {f"lightly with {n} workers": {**task, "workers": n} for n in WORKERS}
    seconds = [values(found, "seconds_spent")[0] for found in rounds.run(tasks, 1).values()]
    return WORKERS[seconds.index(min(seconds))]


def rows_of(ours: list[Result], lightly: list[Result], workers: int) -> list[Row]:
    own, peer = seconds_row("simclr", ours, "ours"), seconds_row("lightly", lightly, "peer")
    if own["value"] is not None:
        own |= ratio(values(ours, "seconds_spent"), values(lightly, "seconds_spent"), less=True)
        own |= {"against": "lightly"}
        own |= {"remark": "ratio is a lower bound"} if peer["value"] is None else {}
    return [own, {**peer, "workers": workers}]


def seconds_row(name: str, results: list[Result], kind: str) -> Row:
    """Seconds to the target; no value unless every seed reached it."""
    spent = values(results, "seconds_spent")
    arrived = all(result["arrived"] for result in results)
    return {
        "id": f"fashion_mnist/{name}/seconds_to_knn_85",
        "value": round(statistics.median(spent), 4) if arrived else None,
        "spread": round(spread(spent), 4),
        "rounds": len(results),
        "unit": "s",
        "kind": kind,
        "reached": round(statistics.median(values(results, "best")), 4),
        "seconds_spent": spent,
        "accuracies": [result["accuracies"] for result in results],
        "epoch_seconds": [result["epoch_seconds"] for result in results],
    }


# ---- what is measured, each in its own process


class ToTarget(pl.Callback):
    """Times the epochs, reads the features after each, and stops at the target.

    bank: images that vote; all by default, and 0 reads nothing.
    """

    def __init__(self, data: ImageDataModule, bank: int | None) -> None:
        self.data, self.bank = data, bank
        self.epoch_seconds: list[float] = []
        self.accuracies: list[float] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.started = self.ended = time.perf_counter()

    def on_train_batch_end(self, *_: Any) -> None:
        self.ended = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.epoch_seconds.append(self.ended - self.started)
        if self.bank != 0:
            self.accuracies.append(read(pl_module.encoder, self.data, self.bank))
            print(f"{sum(self.epoch_seconds):.1f} s: {self.accuracies[-1]:.4f}", flush=True)
            trainer.should_stop = self.accuracies[-1] >= TARGET

    def result(self) -> Result:
        best = max(self.accuracies, default=0.0)
        figures = {"seconds_spent": sum(self.epoch_seconds), "best": best, "arrived": best >= TARGET}
        return {**figures, "accuracies": self.accuracies, "epoch_seconds": self.epoch_seconds}


def read(encoder: Any, data: ImageDataModule, bank: int | None) -> float:
    """kNN accuracy on the validation split, whose images no one has trained on."""
    known, queries = encode(encoder, data.loader("train", limit=bank)), encode(encoder, data.loader("val"))
    scores = knn_scores(known.features, known.targets, queries.features, data.num_classes, k=20, temperature=0.1)
    return accuracy(scores, queries.targets)


def opened(root: str) -> ImageDataModule:
    data = ImageDataModule("FashionMNIST", root=root, batch_size=BATCH)
    data.setup()
    return data


def ours(root: str, epochs: int, batches: int | None, bank: int | None, seed: int) -> Result:
    """What `ssl-transfer fit --config configs/pretrain/simclr.yaml` trains."""
    data = opened(root)
    clock = ToTarget(data, bank)
    options: dict[str, Any] = {"callbacks": [clock], "limit_val_batches": 0, "limit_train_batches": batches}
    run = RUNS / "time_to_accuracy_ours"
    fit(SimCLR(), data, run, overwrite=True, seed=seed, max_epochs=epochs, accelerator="cpu", **options)
    shutil.rmtree(run)
    return clock.result()


def lightly(root: str, epochs: int, batches: int | None, bank: int | None, seed: int, workers: int) -> Result:
    """lightly's recipe on the same images, network and optimiser."""
    import peers

    data = opened(root)
    pl.seed_everything(seed)
    network = peers.objective("simclr", None, data.shape, data.mean, data.std)
    images = peers.Images(peers.images_of(data)[0], peers.lightly_views(data.shape[-1]))
    clock = ToTarget(data, bank)
    folder = RUNS / "time_to_accuracy_lightly"
    options = {"max_epochs": epochs, "limit_train_batches": batches, "callbacks": [clock]}
    trainer = peers.lightly_trainer(folder, **options)
    trainer.fit(peers.LightlySimCLR(network), peers.train_loader(images, BATCH, workers))
    shutil.rmtree(folder, ignore_errors=True)
    return clock.result()


def raw_pixels(root: str, bank: int | None) -> Result:
    """The floor: the pixels themselves as features."""
    return {"accuracy": read(RawPixels(), opened(root), bank)}


if __name__ == "__main__":
    serve({"ours": ours, "lightly": lightly, "raw_pixels": raw_pixels})
    main()
