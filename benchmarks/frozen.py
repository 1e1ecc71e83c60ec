"""Frozen evaluation: encode once and solve, against lightly's benchmarks, which encode again in each of 90 epochs.

One encoder, pretrained for two epochs of SimCLR on Fashion-MNIST, is read by both: by a linear classifier and by its
nearest neighbours. Rounds alternate, each measurement in a process of its own; a stopped script goes on.

    python benchmarks/frozen.py --root data
    python benchmarks/frozen.py --root data --quick
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from common import CONFIGS, RUNS, Result, Rounds, Row, median_row, parser, ratio_row, serve, show, values, write
from torch import Tensor, nn

from ssl_transfer import ImageDataModule, load_encoder
from ssl_transfer.evaluation.features import encode
from ssl_transfer.evaluation.probes import accuracy, knn_scores, select_logistic
from ssl_transfer.running.folder import RunFolder

EPOCHS = 90
NEIGHBOURS = (20, 200)
ALL = 54_000  # training images, the validation split apart


def main() -> None:
    options = arguments()
    started = time.monotonic()
    rounds = Rounds("frozen", options.quick)
    encoder = pretrained(rounds.folder, options.root, options.quick)
    about = {"root": options.root, "encoder": str(encoder)}
    workers = 0 if options.quick else best_workers(rounds, about)
    rows = linear_rows(rounds, about, options, workers)
    rows += knn_rows(rounds, about, options, workers)
    write("frozen", rows, time.monotonic() - started, [*notes(options), *options.note], options.quick)
    rounds.finish()
    show(rows)


def arguments() -> Any:
    made = parser(__doc__)
    made.add_argument("--train", type=int, default=10_000, help="training images of the linear probes")
    options = made.parse_args()
    options.epochs, options.bank, options.all = EPOCHS, ALL, ALL
    if options.quick:
        options.rounds, options.epochs, options.train, options.bank, options.all = 1, 2, 1000, 2000, 2000
    return options


def notes(options: Any) -> list[str]:
    return [
        "The encoder: SimCLR of configs/pretrain/simclr.yaml on Fashion-MNIST for two epochs. Accuracies on the 10,000 "
        "test images. All encode in float32, 256 images a batch. Value: median over rounds; ratio: how many times "
        "faster, median of the rounds' own ratios.",
        f"linear_probe: the first {options.train:,} training images. Ours: training, validation and test images are "
        "encoded once, the logistic regression is solved for four penalties, and the best on the 6,000 validation "
        "images is kept; all of that is in its seconds.",
        f"lightly: its LinearClassifier (SGD, learning rate 0.1, cosine, {options.epochs} epochs), which encodes the "
        "training images in every epoch. Kinder than its benchmark: no random crops and flips, which cost time and, "
        "on clothes of 28 pixels, accuracy; and the test images are scored once, at the end, not after every epoch.",
        f"linear_probe_all: all {options.all:,} training images; lightly's seconds are extrapolated: the "
        f"steps of one epoch times {options.epochs}; its test images are left out.",
        f"knn: {options.bank:,} training images vote, k = 20, cosine, temperature 0.1; knn_200: k = 200, lightly's "
        "default. Seconds hold the encoding of both sets and the vote; knn_vote the vote of k = 20 alone.",
        "lightly's DataLoader has the best of 0, 1 and 2 worker processes; its images lie decoded in memory.",
    ]


def pretrained(folder: Path, root: str, quick: bool) -> Path:
    """The encoder folder, made once; an interrupted fit goes on."""
    run = RunFolder(folder / "encoder")
    if "checkpoint" not in run.metrics():
        command = [sys.executable, "-m", "ssl_transfer", "fit", "--config", str(CONFIGS / "simclr.yaml")]
        command += ["--trainer.max_epochs", "2", "--data.source", "FashionMNIST", "--data.root", root]
        command += ["--trainer.default_root_dir", str(run.path), "--ckpt_path", "last"]
        command += ["--trainer.limit_train_batches", "5"] if quick else []
        subprocess.run(command, check=True)
    return run.encoder


def best_workers(rounds: Rounds, about: dict[str, Any]) -> int:
    """The number of worker processes with which lightly's loop over images is fastest here."""
    from peers import WORKERS

    task = {"what": "lightly_linear", **about, "train": 5000, "epochs": 2, "score": False}
    tasks = {f"lightly with {n} workers": {**task, "workers": n} for n in WORKERS}
    seconds = [values(found, "seconds")[0] for found in rounds.run(tasks, 1).values()]
    return WORKERS[seconds.index(min(seconds))]


# ---- rows


def linear_rows(rounds: Rounds, about: dict[str, Any], options: Any, workers: int) -> list[Row]:
    """Seconds and accuracies of the linear probes, on some and on all training images."""
    peer = {"what": "lightly_linear", **about, "workers": workers}
    found = rounds.run(
        {
            "linear, ours": {"what": "our_linear", **about, "train": options.train},
            "linear, lightly": {**peer, "train": options.train, "epochs": options.epochs, "score": True},
            "linear on all, ours": {"what": "our_linear", **about, "train": options.all},
            "linear on all, an epoch of lightly": {**peer, "train": options.all, "epochs": 1, "score": False},
        },
        options.rounds,
    )
    ours, lightly, ours_all, epoch = found.values()
    extrapolated = [options.epochs * seconds for seconds in values(epoch, "last_epoch_seconds")]
    remark = f"one epoch times {options.epochs}"
    rows = compared("linear_probe", ours, values(lightly, "seconds"), workers)
    rows += accuracies("linear_probe", values(ours, "accuracy"), values(lightly, "accuracy"))
    rows += compared("linear_probe_all", ours_all, extrapolated, workers, remark=remark, extrapolated=True)
    best = values(ours_all, "accuracy")
    return [*rows, median_row("fashion_mnist/linear_probe_all/accuracy", best, "ours", "fraction")]


def knn_rows(rounds: Rounds, about: dict[str, Any], options: Any, workers: int) -> list[Row]:
    """Seconds and accuracies of the nearest neighbours."""
    ours_task = {"what": "our_knn", **about, "bank": options.bank}
    peer_task = {"what": "lightly_knn", **about, "bank": options.bank, "workers": workers}
    ours, lightly = rounds.run({"kNN, ours": ours_task, "kNN, lightly": peer_task}, options.rounds).values()
    rows = []
    for k, name in zip(NEIGHBOURS, ("knn", "knn_200"), strict=True):
        of_k = [{"seconds": found[f"seconds_{k}"]} for found in ours]
        rows += compared(name, of_k, values(lightly, f"seconds_{k}"), workers)
        rows += accuracies(name, values(ours, f"accuracy_{k}"), values(lightly, f"accuracy_{k}"))
    of_vote = [{"seconds": found["vote_20"]} for found in ours]
    return rows + compared("knn_vote", of_vote, values(lightly, "vote_20"), workers)


def compared(name: str, ours: list[Result], lightly: list[float], workers: int, **more: Any) -> list[Row]:
    return [
        ratio_row(f"fashion_mnist/{name}/seconds", values(ours, "seconds"), lightly, "lightly", "s", **more),
        median_row(f"fashion_mnist/{name}_lightly/seconds", lightly, "peer", "s", workers=workers, **more),
    ]


def accuracies(name: str, ours: list[float], lightly: list[float]) -> list[Row]:
    return [
        median_row(f"fashion_mnist/{name}/accuracy", ours, "ours", "fraction"),
        median_row(f"fashion_mnist/{name}_lightly/accuracy", lightly, "peer", "fraction"),
    ]


# ---- what is measured, each in its own process; reading the data set is in no one's seconds


def opened(root: str, encoder: str) -> tuple[ImageDataModule, Any]:
    data = ImageDataModule("FashionMNIST", root=root)
    data.setup()
    return data, load_encoder(encoder).eval()


def our_linear(root: str, encoder: str, train: int) -> Result:
    """Encode once and solve."""
    data, network = opened(root, encoder)
    started = time.perf_counter()
    parts = {split: encode(network, first(data, split, train)) for split in ("train", "val", "test")}
    pairs = {split: (part.features, part.targets) for split, part in parts.items()}
    head, _ = select_logistic(pairs["train"], pairs["val"], data.num_classes)
    scored = accuracy(head(pairs["test"][0]), pairs["test"][1])
    return {"seconds": time.perf_counter() - started, "accuracy": scored}


def first(data: ImageDataModule, split: str, train: int) -> Any:
    """The loader of a split; of train its first images."""
    loader = data.loader(split)
    loader.rows = loader.rows[:train] if split == "train" else loader.rows
    loader.sampler.count = len(loader.rows)
    return loader


def our_knn(root: str, encoder: str, bank: int) -> Result:
    """Encode once, and vote in large products."""
    data, network = opened(root, encoder)
    started = time.perf_counter()
    known, queries = encode(network, first(data, "train", bank)), encode(network, data.loader("test"))
    encoded = time.perf_counter() - started
    result = {}
    for k in NEIGHBOURS:
        started = time.perf_counter()
        scores = knn_scores(known.features, known.targets, queries.features, data.num_classes, k=k)
        scored = accuracy(scores, queries.targets)
        vote = time.perf_counter() - started
        result |= {f"vote_{k}": vote, f"seconds_{k}": encoded + vote, f"accuracy_{k}": scored}
    return result


def lightly_data(root: str, encoder: str, train: int, workers: int) -> tuple[Any, Any, Any]:
    """DataLoaders over the same training and test images, and the network."""
    import peers
    from torchvision.transforms import ToTensor

    data, network = opened(root, encoder)
    loaders = []
    for split in ("train", "test"):
        images, targets = peers.images_of(data, split)
        count = train if split == "train" else len(images)
        loaders.append(peers.Images(images[:count], ToTensor(), targets[:count]))
    options: dict[str, Any] = {"batch_size": 256, "num_workers": workers, "persistent_workers": workers > 0}
    shuffled = torch.utils.data.DataLoader(loaders[0], shuffle=True, drop_last=True, **options)
    return shuffled, torch.utils.data.DataLoader(loaders[1], **options), network


def lightly_linear(root: str, encoder: str, train: int, epochs: int, score: bool, workers: int) -> Result:
    """lightly's LinearClassifier in Lightning's Trainer, then one pass over the test images."""
    import peers
    from lightly.utils.benchmarking import LinearClassifier

    train_loader, test_loader, network = lightly_data(root, encoder, train, workers)
    classifier = LinearClassifier(network, 256, lr=0.1, feature_dim=network.feature_dim, num_classes=10)
    clock = peers.Clock()
    options: dict[str, Any] = {"precision": "32-true", "logger": False, "callbacks": [clock]}
    trainer = peers.lightly_trainer(RUNS / "frozen_lightly", max_epochs=epochs, **options)
    started = time.perf_counter()
    trainer.fit(classifier, train_loader)
    figures = trainer.validate(classifier, test_loader)[0] if score else {}
    result = {"seconds": time.perf_counter() - started, "last_epoch_seconds": clock.seconds_an_epoch[-1]}
    shutil.rmtree(RUNS / "frozen_lightly", ignore_errors=True)
    return result | ({"accuracy": figures["val_top1"]} if score else {})


@torch.no_grad()
def lightly_knn(root: str, encoder: str, bank: int, workers: int) -> Result:
    """The loop of lightly's benchmarks: a bank of features, then for each batch of queries its `knn_predict`."""
    from lightly.utils.benchmarking import knn_predict

    train_loader, test_loader, network = lightly_data(root, encoder, bank, workers)
    known_loader = torch.utils.data.DataLoader(train_loader.dataset, 256, num_workers=workers)
    started = time.perf_counter()
    known, labels = encoded_by(network, known_loader)
    known = known.t().contiguous()  # (D, N)
    queries, targets = encoded_by(network, test_loader)
    encoded = time.perf_counter() - started
    result = {}
    for k in NEIGHBOURS:
        started = time.perf_counter()
        right = 0
        for part, wanted in zip(queries.split(256), targets.split(256), strict=True):
            right += int((knn_predict(part, known, labels, 10, knn_k=k, knn_t=0.1)[:, 0] == wanted).sum())
        vote = time.perf_counter() - started
        result |= {f"vote_{k}": vote, f"seconds_{k}": encoded + vote, f"accuracy_{k}": right / len(targets)}
    return result


def encoded_by(network: nn.Module, loader: Any) -> tuple[Tensor, Tensor]:
    """Features of unit length `(N, D)` and targets `(N,)`."""
    parts = [(F.normalize(network(images), dim=1), targets) for images, targets in loader]
    features, targets = zip(*parts, strict=True)
    return torch.cat(features), torch.cat(targets)


if __name__ == "__main__":
    serve({"our_linear": our_linear, "our_knn": our_knn, "lightly_linear": lightly_linear, "lightly_knn": lightly_knn})
    main()
