"""Domain adaptation beside skada and pytorch-adapt: MNIST → MNIST-M, the same network, images, batches and optimiser.

The last epoch counts for all. The libraries live in an environment of their own, with the versions that are ours:

    python -m venv peer
    peer/bin/pip install -c constraints.txt -e . skada skorch pytorch-metric-learning
    peer/bin/pip install --no-deps pytorch-adapt==0.0.83
    peer/bin/python benchmarks/adaptation_peers.py --root data --photographs data/bsds500
    peer/bin/python benchmarks/adaptation_peers.py --root data --photographs data/bsds500 --quick

A library that is not installed is left out. A stopped script goes on.
"""

from __future__ import annotations

import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import adaptation_peer
import numpy as np
import pytorch_lightning as pl
import torch
from adaptation_peer import Domains, Recipe
from common import Result, Rounds, Row, Task, median_row, parser, ratio_row, row, serve, show, values, write
from published_dann import PublishedAdapter

from ssl_transfer import (
    CDAN,
    CORAL,
    DANN,
    BatchNormStatistics,
    DomainDataModule,
    EncoderSpec,
    Full,
    ImageDataModule,
    Optimisation,
    SourceOnly,
    SubspaceAlignment,
)
from ssl_transfer.downstream.adaptation.base import mapped
from ssl_transfer.evaluation.features import encode

PAIR = "mnist_to_mnist_m"
BATCH, LR = 128, 1e-3  # half of each domain, as published
LEARNERS = {
    "source_only": ("ours",),
    "batch_norm": ("ours",),
    "dann": ("ours", "skada", "skada_sigmoid", "pytorch_adapt", "ours_bf16"),
    "coral": ("ours", "skada", "pytorch_adapt"),
    "cdan": ("ours", "skada_sigmoid", "pytorch_adapt"),
}
SHALLOW = {"subspace_alignment": ("ours", "skada"), "coral_frozen": ("ours", "skada")}
METHODS = {"source_only": SourceOnly, "batch_norm": BatchNormStatistics, "dann": DANN, "coral": CORAL, "cdan": CDAN}
ALIGNMENTS = {"subspace_alignment": SubspaceAlignment, "coral_frozen": CORAL}
FLOORS = ("source_only", "batch_norm")
PACKAGES = {"skada": ("skada", "skorch"), "pytorch_adapt": ("pytorch-adapt", "pytorch-metric-learning")}


def main() -> None:
    options = arguments()
    started = time.monotonic()
    rounds = Rounds("adaptation_peers", options.quick)
    peers = installed()
    prepare(options, rounds.folder)
    found: dict[tuple[str, str], list[Result]] = {}
    rows: list[Row] = []
    for seed in range(options.rounds):
        for (method, side), task in tasks(rounds.folder, options, peers, seed).items():
            label = f"{method}, {side}, seed {seed}"
            found.setdefault((method, side), []).extend(rounds.run({label: task}, 1)[label])
        rows = [each for method, side in found for each in rows_of(method, side, found)]
        said = [*notes(options, peers), *options.note]
        write("adaptation_peers", rows, time.monotonic() - started, said, options.quick)  # of the seeds so far
    rounds.finish()
    show(rows)


def arguments() -> Any:
    made = parser(__doc__)
    made.add_argument("--photographs", default="data/bsds500", help="the backgrounds of MNIST-M")
    made.add_argument("--images", type=int, default=10_000, help="training images of each domain")
    made.add_argument("--epochs", type=int, default=3)
    options = made.parse_args()
    options.tests = 10_000
    if options.quick:
        options.rounds, options.images, options.epochs, options.tests = 1, 1_280, 1, 1_000
    return options


def installed() -> dict[str, dict[str, str]]:
    """The versions of the packages of each library that is here; a line for one that is not."""
    found = {}
    for library, packages in PACKAGES.items():
        try:
            found[library] = {package: version(package) for package in packages}
        except PackageNotFoundError as error:
            print(f"{library} is left out: {error}", flush=True)
    return found


def tasks(folder: Path, options: Any, peers: dict[str, Any], seed: int) -> dict[tuple[str, str], Task]:
    """What is measured of a seed, in this order: ours and theirs take turns."""
    deep = {"folder": str(folder), "images": options.images, "epochs": options.epochs, "seed": seed}
    made: dict[tuple[str, str], Task] = {}
    for what, table in (("learnt", LEARNERS), ("aligned", SHALLOW)):
        for method, sides in table.items():
            for side in sides:
                if side.startswith("ours") or any(side.startswith(library) for library in peers):
                    made[method, side] = {"what": what, "method": method, "side": side, **deep}
    return made


def notes(options: Any, peers: dict[str, dict[str, str]]) -> list[str]:
    numbers = ", ".join(f"{name} {number}" for found in peers.values() for name, number in found.items())
    steps = options.images // (BATCH // 2)
    return [
        f"{options.images:,} training images of MNIST and {options.images:,} others with the backgrounds of MNIST-M, "
        f"drawn once; {options.epochs} epochs of {steps} batches of {BATCH}, half of each domain; accuracy on "
        f"{options.tests:,} test images of MNIST-M after the last epoch, without a choice. Value: mean over seeds.",
        "The published network with BatchNorm after each convolution, label head 100-100-10, weights drawn by each "
        "library's own calls; AdamW at 1e-3 without weight decay, a cosine schedule to zero; one thread, float32 "
        "(ours_bf16: our default precision).",
        "seconds: of the process, from images in memory to a fitted network; median over seeds. ratio: how many times "
        "as fast as ours in float32, of the same seed, median; below 1: slower. Ours starts from bytes and normalises "
        "in the network; the others are handed normalised tensors, which is not in their seconds.",
        "As each comes: ours raises the reversal by the paper's schedule, sends the domains through BatchNorm one by "
        "one and measures its statistics on the target at the end; skada has a constant reversal of 1 and sends both "
        "domains through BatchNorm together; pytorch-adapt has a constant reversal of 1, the mean of all losses, and "
        "the domains one by one, each step moving the same running statistics. batch_norm: source-only but for "
        "the target's BatchNorm statistics, measured at the end: what that alone gives.",
        "skada's domain classifier ends in a softmax of a single logit, which is always 1: domain_gradient, the norm "
        "of the gradient at its first layer in the last step, is 0, and nothing reaches the encoder. skada_sigmoid: "
        "its classifier with a sigmoid in that place, and nothing else changed; its CDAN is shown in that form alone.",
        "cdan: ours and pytorch-adapt's (CDANNEHook) have entropy weights, skada's has none. Ours and pytorch-adapt's "
        "see a random projection of the outer product of features and probabilities, drawn once, skada's one of "
        "features and logits, drawn in each step.",
        "subspace_alignment and coral_frozen: the features (768) of the same seed's source-only network, aligned, and "
        "scikit-learn's logistic regression; skada is given the number of directions that ours chooses by variance; "
        "each regularises covariances by its own default. seconds: alignment and classifier.",
        "pytorch-adapt: pip with our constraints takes 0.0.81, since 0.0.83 asks for torchmetrics 0.9.3; "
        "0.0.83 was installed without its dependencies. Its hooks and data sets run; its validators do not import "
        "beside pytorch-metric-learning 2.9 (cannot import name 'zero_accuracy'). It is driven by a plain loop.",
        f"{numbers or 'No other library was installed'}.",
    ]


# ---- rows


def rows_of(method: str, side: str, found: dict[tuple[str, str], list[Result]]) -> list[Row]:
    results = found[method, side]
    kind = "floor" if method in FLOORS else "ours" if side.startswith("ours") else "peer"
    start = f"{PAIR}/{method}/{side}"
    rows = [row(f"{start}/accuracy", values(results, "accuracy"), kind)]
    seconds = values(results, "seconds")
    if side == "ours":
        rows.append(median_row(f"{start}/seconds", seconds, kind, "s"))
    else:
        others = values(found[method, "ours"], "seconds")
        rows.append(ratio_row(f"{start}/seconds", seconds, others, "ours", "s", kind))
    if "domain_gradient" in results[0]:
        rows.append(row(f"{start}/domain_gradient", values(results, "domain_gradient"), kind, "norm"))
    return rows


# ---- the images


def prepare(options: Any, folder: Path) -> None:
    """`source.npz` and `target.npz` of `folder`, which all measurements read; the target's labels are for the test."""
    backgrounds = f"MNISTM:{options.photographs}"
    order = np.random.default_rng(0).permutation(60_000)
    halves = order[: options.images], order[options.images : 2 * options.images]
    for name, source, half in (("source", "MNIST", halves[0]), ("target", backgrounds, halves[1])):
        data = ImageDataModule(source, root=options.root, val_fraction=0.0)
        data.setup()
        parts = {"train": data.indices("train")[half], "test": data.indices("test")[: options.tests]}
        arrays = {f"x_{split}": data.images(rows) for split, rows in parts.items()}
        labels = {f"y_{split}": data.table.targets[rows] for split, rows in parts.items()}
        np.savez(folder / f"{name}.npz", **arrays, **labels)


def opened(folder: str) -> DomainDataModule:
    data = DomainDataModule(f"{folder}/source.npz", f"{folder}/target.npz", batch_size=BATCH, val_fraction=0.0)
    data.setup()
    return data


def domains_of(data: DomainDataModule) -> Domains:
    """Training images of both domains, normalised as our encoder normalises them."""
    source, target = data.domain("train", False), data.domain("train", True)
    labels = torch.from_numpy(data.table.targets[source])
    return Domains(normalised(data, source), labels, normalised(data, target))


def normalised(data: DomainDataModule, rows: np.ndarray) -> torch.Tensor:
    mean, std = (torch.tensor(own)[:, None, None] for own in (data.mean, data.std))
    return (torch.from_numpy(data.images(rows)).float() / 255 - mean) / std


def test_labels(data: DomainDataModule) -> torch.Tensor:
    return torch.cat([batch.targets for batch in data.test_dataloader()])


# ---- what is measured, each in its own process


def learnt(method: str, side: str, folder: str, images: int, epochs: int, seed: int) -> Result:
    """One fit by gradient, and its accuracy on the test images of the target."""
    torch.set_num_threads(1)
    pl.seed_everything(seed, verbose=False)
    data = opened(folder)
    assert len(data.domain("train", True)) == images, "the images were prepared for another run"
    if side.startswith("ours"):
        return ours(method, data, "bf16-mixed" if side == "ours_bf16" else "32-true", epochs, seed, Path(folder))
    recipe = Recipe(BATCH // 2, epochs, LR)
    if side.startswith("skada"):
        fitted = adaptation_peer.skada(method, domains_of(data), recipe, side.endswith("sigmoid"))
    else:
        fitted = adaptation_peer.pytorch_adapt(method, domains_of(data), recipe)
    network, figures = fitted
    return {"accuracy": accuracy(network.eval(), normalised(data, data.indices("test")), data), **figures}


def ours(method: str, data: DomainDataModule, precision: Any, epochs: int, seed: int, folder: Path) -> Result:
    module = PublishedAdapter(
        EncoderSpec("published_dann.Convolutions"),
        METHODS[method](),
        Full(encoder_lr=1.0, layer_decay=1.0),
        Optimisation(lr=LR, weight_decay=0.0, warmup=0.0),
        select_by=None,
    )
    trainer = pl.Trainer(
        max_epochs=epochs,
        precision=precision,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    started = time.process_time()
    trainer.fit(module, datamodule=data)
    seconds = time.process_time() - started
    module.eval()
    if method == "source_only":
        save_features(module, data, folder / f"features_{seed}.npz")
    tests = torch.from_numpy(data.images(data.indices("test")))
    return {"accuracy": accuracy(module, tests, data), "seconds": seconds}


@torch.inference_mode()
def accuracy(network: Any, tests: torch.Tensor, data: DomainDataModule) -> float:
    found = torch.cat([network(part).argmax(1) for part in tests.split(500)])
    return float((found == test_labels(data)).float().mean())


def save_features(module: Any, data: DomainDataModule, path: Path) -> None:
    """Frozen features for those methods that align them."""
    loaders = {"source": data.domain_loader("train", False), "target": data.domain_loader("train", True)}
    encoded = {name: encode(module.encoder, own, module.device) for name, own in loaders.items()}
    tests = encode(module.encoder, data.test_dataloader(), module.device)
    arrays = {name: own.features.numpy() for name, own in encoded.items()}
    labels = encoded["source"].targets.numpy()
    np.savez(path, **arrays, test=tests.features.numpy(), labels=labels)


def aligned(method: str, side: str, folder: str, images: int, epochs: int, seed: int) -> Result:
    """An alignment of frozen features with a logistic regression."""
    from sklearn.linear_model import LogisticRegression

    torch.set_num_threads(1)
    with np.load(Path(folder) / f"features_{seed}.npz") as file:
        features = {name: file[name] for name in file.files}
    assert len(features["target"]) == images, "the features were prepared for another run"
    classifier = LogisticRegression(max_iter=1_000)
    source, target, test = (torch.from_numpy(features[name]) for name in ("source", "target", "test"))
    started = time.process_time()
    maps = ALIGNMENTS[method]().align(source.double(), target.double())
    components = maps[1][0].shape[1]
    if side == "ours":
        classifier.fit(mapped(source, maps[0]).numpy(), features["labels"])
        seconds = time.process_time() - started
        found = classifier.predict(mapped(test, maps[1]).numpy())
    else:
        found, seconds = adaptation_peer.skada_shallow(method, features, classifier, components)
    truth = test_labels(opened(folder)).numpy()
    return {"accuracy": float((found == truth).mean()), "seconds": seconds, "components": components}


if __name__ == "__main__":
    serve({"learnt": learnt, "aligned": aligned})
    main()
