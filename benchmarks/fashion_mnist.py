"""Fashion-MNIST: do frozen encoders, pretrained for at most a quarter of an hour, beat the floors?

Each encoder is made by the one command of the README, `ssl-transfer fit --config configs/pretrain/X.yaml …`. Finished
runs are kept in runs/benchmarks and not repeated, so the script can be stopped and started again.

    python benchmarks/fashion_mnist.py --root data            the table of the README
    python benchmarks/fashion_mnist.py --root data --quick    two epochs, to see that it works
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from common import RUNS, row, write

from ssl_transfer import EncoderSpec, ImageDataModule, Views, load_encoder
from ssl_transfer.evaluation.features import Features
from ssl_transfer.evaluation.floors import encode_all, few_label_accuracies, floor_features
from ssl_transfer.evaluation.probes import accuracy, knn_scores, select_logistic
from ssl_transfer.running.folder import RunFolder
from ssl_transfer.running.scratch import from_scratch_accuracy

OBJECTIVES = ("simclr", "denoising", "autoencoder")
BUDGET, DRAWS = 10, range(5)
SPEC = EncoderSpec(pool=3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="data", help="where torchvision finds or puts FashionMNIST")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--objectives", nargs="+", default=list(OBJECTIVES), choices=OBJECTIVES)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--note", action="append", default=[], help="a condition of this run to state with the table")
    options = parser.parse_args()
    started = time.monotonic()
    runs = {
        name: [pretrain(name, seed, options.root, options.quick) for seed in range(options.seeds)]
        for name in options.objectives
    }
    data = ImageDataModule("FashionMNIST", root=options.root)
    data.setup()
    rows = floors(data, options.root, options.quick)
    for name, finished in runs.items():
        rows += rows_of(name, [encode_all(load_encoder(run.encoder), data) for run in finished], data, "ours")
        rows.append(row(f"fashion_mnist/{name}/fit_seconds", seconds(finished), "ours", "s"))
    rows += best(rows)
    name = "fashion_mnist_quick" if options.quick else "fashion_mnist"
    write(name, rows, time.monotonic() - started, [*NOTES, *options.note])
    for r in rows:
        print(f"{r['id']:50}{r['value']:.4f} ± {r['spread']:.4f}  {r['kind']}")


NOTES = (
    "Test split of 10,000 images. kNN: k = 20, cosine, temperature 0.1, the 60,000 training images vote.",
    "Linear: logistic regression on 54,000 training images, penalty chosen on the 6,000 of the validation split.",
    "few_labels: logistic regression on ten labelled images a class, mean and spread over five draws and all seeds.",
    "Spread: standard deviation. best: the encoder with the highest figure on the validation split.",
)


def pretrain(name: str, seed: int, root: str, quick: bool) -> RunFolder:
    """The README's command, unless the run is finished; an interrupted one goes on."""
    run = RunFolder(RUNS / f"fashion_mnist{'_quick' if quick else ''}" / f"{name}-{seed}")
    if "checkpoint" not in run.metrics():
        config = Path(__file__).parent.parent / "configs" / "pretrain" / f"{name}.yaml"
        command = [sys.executable, "-m", "ssl_transfer", "fit", "--config", str(config), "--seed_everything", str(seed)]
        command += ["--data.source", "FashionMNIST", "--data.root", root, "--trainer.default_root_dir", str(run.path)]
        command += ["--ckpt_path", "last"] + (["--trainer.max_epochs", "2"] if quick else [])
        subprocess.run(command, check=True)
    return run


def floors(data: ImageDataModule, root: str, quick: bool) -> list[dict[str, Any]]:
    """Raw pixels, PCA, the untrained network, and the network trained from scratch on the same few labels."""
    rows = []
    for name, features in floor_features(data, SPEC).items():
        rows += rows_of(name.lower().replace(" ", "_"), [features], data, "floor")
    few = [from_scratch(root, draw, epochs=5 if quick else 100) for draw in DRAWS]
    return [*rows, row("fashion_mnist/from_scratch/few_labels_accuracy", few, "floor")]


def from_scratch(root: str, draw: int, epochs: int) -> float:
    """Test accuracy after training on one draw of ten labels a class, with SimCLR's views as augmentation."""
    few = ImageDataModule("FashionMNIST", root=root, label_budget=BUDGET, seed=draw)
    few.setup()
    return from_scratch_accuracy(few, SPEC, epochs=epochs, seed=draw, views=Views())


def rows_of(name: str, seeds: list[Features], data: ImageDataModule, kind: str) -> list[dict[str, Any]]:
    """kNN, linear and few-label accuracy of one kind of features, a value a seed."""
    figures = [knn_and_linear(features, data) for features in seeds]
    few = [value for features in seeds for value in few_label_accuracies(features, data, BUDGET, DRAWS)]
    validation = {key: sum(f[f"val_{key}"] for f in figures) / len(figures) for key in ("knn", "linear")}
    return [
        row(f"fashion_mnist/{name}/knn_accuracy", [f["knn"] for f in figures], kind, validation=validation["knn"]),
        row(
            f"fashion_mnist/{name}/linear_accuracy",
            [f["linear"] for f in figures],
            kind,
            validation=validation["linear"],
        ),
        row(f"fashion_mnist/{name}/few_labels_accuracy", few, kind),
    ]


def knn_and_linear(features: Features, data: ImageDataModule) -> dict[str, float]:
    """Accuracies on the test split, and on the validation split for choosing."""
    part = {
        split: (features.features[i], features.targets[i])
        for split in ("train", "val", "test")
        if len(i := data.indices(split))
    }
    bank = tuple(torch.cat(pair) for pair in zip(part["train"], part["val"], strict=True))
    head, _ = select_logistic(part["train"], part["val"], data.num_classes, common_scale=features.common_scale)
    return {
        "knn": accuracy(knn_scores(bank[0], bank[1], part["test"][0], data.num_classes), part["test"][1]),
        "val_knn": accuracy(knn_scores(*part["train"], part["val"][0], data.num_classes), part["val"][1]),
        "linear": accuracy(head(part["test"][0]), part["test"][1]),
        "val_linear": accuracy(head(part["val"][0]), part["val"][1]),
    }


def best(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each probe the encoder of ours that is best on the validation split."""
    chosen = []
    for probe in ("knn_accuracy", "linear_accuracy"):
        ours = [r for r in rows if r["kind"] == "ours" and r["id"].endswith(probe)]
        top = max(ours, key=lambda r: r["validation"])
        chosen.append({**top, "id": f"fashion_mnist/best/{probe}", "of": top["id"].split("/")[1]})
    return chosen


def seconds(runs: list[RunFolder]) -> list[float]:
    return [run.metrics()["wall_seconds"] for run in runs]


if __name__ == "__main__":
    main()
