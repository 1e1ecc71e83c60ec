"""Fashion-MNIST and MNIST to two and 64 dimensions: every reduction, on pixels and on a pretrained encoder's features.

Each is fitted on the 60,000 training images and places the 10,000 test images, which it has never seen. Trustworthiness
and continuity are read among the test images, against their raw pixels, so that features cannot make it easy (against
the features is a second figure); 1-NN accuracy lets the nearest training image on the map give its label. What is done
is kept in runs/benchmarks/reduction, a file for each, so the script can be stopped and started again, and several may
share the work (`--sets`, `--only`); one that finds all done writes the table. Each runs in a process of its own, on one
thread, and its seconds are those of the processor.

    python benchmarks/reduction.py --root data             about two hours on two cores, by two processes
    python benchmarks/reduction.py --root data --quick     a tenth of the images, to see that it works
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from common import CONFIGS, RUNS, Row, parser, ratio_row, row, show, write
from torch import Tensor

from ssl_transfer import (
    PCA,
    TSNE,
    BottleneckAutoencoder,
    ImageDataModule,
    PaCMAP,
    ParametricMap,
    load_encoder,
)
from ssl_transfer.encoders import EncoderSpec, build_encoder
from ssl_transfer.evaluation.features import encode
from ssl_transfer.evaluation.floors import RawPixels, random_encoder
from ssl_transfer.evaluation.map_quality import map_quality
from ssl_transfer.evaluation.neighbours import nearest

SETS = {"FashionMNIST": "fashion_mnist", "MNIST": "mnist"}
EPOCHS = {"FashionMNIST": 15, "MNIST": 6}  # of SimCLR, whose features are read
DIGITS = ["--model.views", '{"horizontal_flip": 0, "crop_scale": [0.5, 1.0], "rotate": 15, "translate": 0.1}']
ROUNDS = 3  # of the comparison with umap-learn's transform
NARROW = 64  # principal components of the features that UMAP, t-SNE and PaCMAP are given, as is usual
Vectors = tuple[Tensor, Tensor]  # of the training images, of the test images


class Library:
    """umap-learn itself, not our class: its own transform is what is timed."""

    def __init__(self, n_components: int = 2) -> None:
        from umap import UMAP

        self.found = UMAP(n_components=n_components, random_state=0, n_jobs=1)

    def fit_transform(self, x: Tensor) -> np.ndarray:
        return np.asarray(self.found.fit_transform(x.numpy()))

    def transform(self, x: Tensor) -> np.ndarray:
        return np.asarray(self.found.transform(x.numpy()))


class Mixed(ParametricMap):
    """A parametric map that keeps together neighbours by the pixels, and neighbours by the features."""


METHODS: dict[str, tuple[str, Callable[[], Any]]] = {  # by dimensions/name: what it reads, and the method
    "2/parametric": ("pixels", lambda: ParametricMap()),
    "2/parametric_features": ("features", lambda: ParametricMap()),
    "2/parametric_pixels_and_features": ("both", lambda: Mixed()),
    "2/parametric_layers_pixels": ("pixels", lambda: ParametricMap(landmarks=0)),
    "2/parametric_layers_features": ("features", lambda: ParametricMap(landmarks=0)),
    "2/pca_pixels": ("pixels", lambda: PCA(2)),
    "2/pca_features": ("features", lambda: PCA(2)),
    "2/pca_random_encoder": ("random", lambda: PCA(2)),
    "2/autoencoder_pixels": ("pixels", lambda: BottleneckAutoencoder(2, epochs=12)),
    "2/autoencoder_features": ("features", lambda: BottleneckAutoencoder(2, epochs=12)),
    "2/umap_pixels": ("pixels", lambda: Library(2)),
    "2/umap_features": ("narrow", lambda: Library(2)),
    "2/pacmap_pixels": ("pixels", lambda: PaCMAP(2)),
    "2/pacmap_features": ("narrow", lambda: PaCMAP(2)),
    "2/tsne_pixels": ("pixels", lambda: TSNE(2)),
    "2/tsne_features": ("narrow", lambda: TSNE(2)),
    "64/pca_pixels": ("pixels", lambda: PCA(64)),
    "64/pca_features": ("features", lambda: PCA(64)),
    "64/pca_gradients": ("gradients", lambda: PCA(64)),
    "64/pca_random_encoder": ("random", lambda: PCA(64)),
    "64/autoencoder_pixels": ("pixels", lambda: BottleneckAutoencoder(64, epochs=12)),
    "64/autoencoder_features": ("features", lambda: BottleneckAutoencoder(64, epochs=12)),
    "64/autoencoder_gradients": ("gradients", lambda: BottleneckAutoencoder(64, epochs=12)),
    "64/umap_pixels": ("pixels", lambda: Library(64)),
}
FLOORS = ("pca_pixels", "pca_random_encoder", "pca_gradients")
PEERS = ("umap", "tsne", "pacmap")


def main() -> None:
    options_of = parser(__doc__)
    options_of.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    options_of.add_argument("--only", nargs="+", default=list(METHODS), choices=METHODS)
    options_of.add_argument("--so_far", action="store_true", help="write the table of what is done")
    options_of.add_argument("--task", nargs=2, help="the set and method to run in this process")
    options = options_of.parse_args()
    folder = RUNS / ("quick/reduction" if options.quick else "reduction")
    folder.mkdir(parents=True, exist_ok=True)
    if options.task:
        one(folder, *options.task, options.root, options.quick)
        return
    started = time.monotonic()
    for name in options.sets:
        pretrained(folder, name, options.root, options.quick)
        for method in sorted(options.only, key=list(METHODS).index):  # 2/parametric first
            if not kept(folder, name, method).exists():
                command = [sys.executable, __file__, "--root", options.root, "--task", name, method]
                alone = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
                subprocess.run([*command, *(["--quick"] if options.quick else [])], check=True, env=alone)
    missing = [f"{SETS[name]} {m}" for name in SETS for m in METHODS if not kept(folder, name, m).exists()]
    if missing and not options.so_far:
        print(f"still to be done: {', '.join(missing)}; no table yet (--so_far writes one of what is done)")
        return
    rows = [r for name in SETS for method in METHODS for r in rows_of(folder, name, method)]
    notes = [*NOTES, *([f"Not measured yet: {', '.join(missing)}."] if missing else []), *options.note]
    write("reduction", rows, time.monotonic() - started, notes, options.quick)
    show(rows)


NOTES = (
    "Fitted on 60,000 training images, read on the 10,000 test images; one seed. trustworthiness (k = 10) and _15, "
    "continuity (k = 10): among the test images, against their raw pixels, exact. features_trustworthiness: against "
    "the features of the pretrained encoder. knn1_accuracy: the label of the nearest training image on the map.",
    "Features: small_resnet (0.3 million parameters), SimCLR on the 54,000 training images without their labels, "
    f"{EPOCHS['FashionMNIST']} epochs on Fashion-MNIST, {EPOCHS['MNIST']} on MNIST, 1,152 numbers an image. UMAP, "
    f"t-SNE and PaCMAP read their first {NARROW} principal components.",
    "parametric: ParametricMap on pixels, as it comes; _features: on the features; _pixels_and_features: on both, each "
    "scaled to the same weight, with neighbours by either; _layers: a plain network of layers (landmarks=0). The "
    "landmarks of the others are 8,192 training images, which is why the nearest training image on the map tells so "
    "much: by raw pixels it is right for .85 of Fashion-MNIST. gradients: oriented_gradients, which nobody trains.",
    "umap: umap-learn itself; tsne: openTSNE; pacmap: pacmap. Seconds and rates are those of the processor on one "
    "thread, from vectors to coordinates; rates of a second call (umap-learn's first builds an index and compiles).",
    "No setting was chosen on a test split.",
)


def kept(folder: Path, name: str, method: str) -> Path:
    return folder / f"{name}-{method.replace('/', '-')}.json"


def pretrained(folder: Path, name: str, root: str, quick: bool) -> Path:
    """The encoder that SimCLR makes of the training images of a set."""
    run = folder / f"{name}-simclr"
    if not (run / "encoder").exists():
        options = ["--data.source", name, "--data.root", root, "--trainer.max_epochs", "1" if quick else EPOCHS[name]]
        options += DIGITS if name == "MNIST" else []
        command = ["ssl-transfer", "fit", "--config", CONFIGS / "simclr.yaml", *options]
        subprocess.run([*map(str, command), "--trainer.default_root_dir", str(run), "--overwrite"], check=True)
    return run / "encoder"


# ---- one of them


def one(folder: Path, name: str, method: str, root: str, quick: bool) -> None:
    """Fit, place and measure, and keep what was seen."""
    data = ImageDataModule(name, root=root, val_fraction=0.0)
    data.setup()
    reads, make = METHODS[method]
    part = 10 if quick else 1
    train, test = (x[::part] for x in vectors(folder, name, data, reads))
    labels, truth = (
        torch.from_numpy(np.asarray(data.table.targets)[data.indices(s)][::part]) for s in ("train", "test")
    )
    pixels, features = (vectors(folder, name, data, each)[1][::part] for each in ("pixels", "features"))
    reduction, started = make(), time.process_time()
    bank = fit(reduction, train, folder, name, data, part)
    seconds = time.process_time() - started
    started = time.process_time()
    placed = torch.as_tensor(reduction.transform(test))  # the first call builds and compiles what later ones use
    first, started = time.process_time() - started, time.process_time()
    reduction.transform(test)
    placing = time.process_time() - started
    figures = {
        **{f"{k}": v for k, v in map_quality(pixels, placed, sample=len(test)).items()},
        **{f"features_{k}": v for k, v in map_quality(features, placed, sample=len(test)).items()},
        "knn1_accuracy": float((labels[nearest(bank, 1, placed)[1][:, 0]] == truth).float().mean()),
        "fit_seconds": seconds,
        "transform_rate": len(test) / placing,
        "first_transform_rate": len(test) / first,
    }
    if isinstance(reduction, Library):
        figures |= against_umap(folder, name, method, data, reduction, test, quick)
    if hasattr(reduction, "state"):
        torch.save(reduction.state(), kept(folder, name, method).with_suffix(".pt"))
    np.save(kept(folder, name, method).with_suffix(".npy"), placed.numpy())
    kept(folder, name, method).write_text(json.dumps(figures, indent=1))
    shown = ", ".join(f"{k} {figures[k]:.4g}" for k in ("trustworthiness_10", "knn1_accuracy", "fit_seconds"))
    print(f"{name} {method}: {shown}", flush=True)


def fit(reduction: Any, train: Tensor, folder: Path, name: str, data: Any, part: int) -> Tensor:
    """Fit a reduction; returns the coordinates of the training vectors."""
    if isinstance(reduction, Mixed):
        graphs = tuple(vectors(folder, name, data, reads)[0][::part] for reads in ("pixels", "unit"))
        return torch.as_tensor(reduction.fit(train, graph_of=graphs).transform(train))
    return torch.as_tensor(np.asarray(reduction.fit_transform(train)))


def vectors(folder: Path, name: str, data: Any, reads: str) -> Vectors:
    """Vectors of the training and of the test images, kept in files."""
    files = [folder / f"{name}-{reads}-{split}.npy" for split in ("train", "test")]
    if not all(file.exists() for file in files):
        for file, x in zip(files, read(folder, name, data, reads), strict=True):
            np.save(file, x.numpy())
    train, test = (torch.from_numpy(np.load(file)) for file in files)
    return train, test


def read(folder: Path, name: str, data: Any, reads: str) -> Vectors:
    if reads.startswith("narrow"):
        train, test = vectors(folder, name, data, "gradients" if reads == "narrow_gradients" else "features")
        pca = PCA(NARROW).fit(train)
        return torch.from_numpy(pca.transform(train)), torch.from_numpy(pca.transform(test))
    if reads == "unit":
        return tuple(F.normalize(x, dim=1) for x in vectors(folder, name, data, "features"))  # type: ignore[return-value]
    if reads == "both":  # each weighs as much as the other
        parts = [vectors(folder, name, data, each) for each in ("pixels", "unit")]
        scales = [train.var(0).sum().sqrt() for train, _ in parts]
        train, test = (torch.cat([pair[k] / c for pair, c in zip(parts, scales, strict=True)], 1) for k in (0, 1))
        return train, test
    if reads == "pixels":
        network: torch.nn.Module = RawPixels()
    elif reads == "random":
        network = random_encoder(data, EncoderSpec(pool=3)).eval()
    elif reads == "gradients":
        network = build_encoder("oriented_gradients", data.shape, data.mean, data.std)
    else:
        network = load_encoder(folder / f"{name}-simclr" / "encoder")
    return tuple(encode(network, data.loader(split)).features for split in ("train", "test"))  # type: ignore[return-value]


def against_umap(
    folder: Path, name: str, method: str, data: Any, library: Library, test: Tensor, quick: bool
) -> dict[str, Any]:
    """Rates of umap-learn's transform and of the parametric map's, in turn."""
    if not method.startswith("2/"):
        return {}
    parametric = kept(folder, name, "2/parametric").with_suffix(".pt")
    if not parametric.exists():
        raise SystemExit(f"{method} is timed against 2/parametric, which is not done yet: run that first")
    reads, make = METHODS["2/parametric"]
    ours = make().load_state(torch.load(parametric, weights_only=True))
    own = vectors(folder, name, data, reads)[1][:: 10 if quick else 1]
    rates: dict[str, list[float]] = {"umap_rates": [], "parametric_rates": []}
    for _ in range(ROUNDS):
        for rate, reduction, x in (("umap_rates", library, test), ("parametric_rates", ours, own)):
            started = time.process_time()
            reduction.transform(x)
            rates[rate].append(len(x) / (time.process_time() - started))
    return rates


# ---- the table


def rows_of(folder: Path, name: str, method: str) -> list[Row]:
    file = kept(folder, name, method)
    if not file.exists():
        return []
    figures = json.loads(file.read_text())
    dimensions, label = method.split("/")
    id = f"{SETS[name]}_{dimensions}d/{label}"
    kind = "floor" if label in FLOORS else "peer" if label.startswith(PEERS) else "ours"
    shown = {
        "trustworthiness": figures["trustworthiness_10"],
        "trustworthiness_15": figures["trustworthiness_15"],
        "continuity": figures["continuity_10"],
        "features_trustworthiness": figures["features_trustworthiness_10"],
        "knn1_accuracy": figures["knn1_accuracy"],
    }
    rows = [row(f"{id}/{metric}", [value], kind) for metric, value in shown.items()]
    rows.append(row(f"{id}/fit_seconds", [figures["fit_seconds"]], kind, "s"))
    for rate in ("transform_rate", "first_transform_rate"):
        rows += [row(f"{id}/{rate}", [figures[rate]], kind, "images/s")] if rate in figures else []
    if "umap_rates" in figures:
        rates = (figures["parametric_rates"], figures["umap_rates"], f"{id}/transform_rate")
        rows.append(ratio_row(f"{SETS[name]}_2d/parametric/transform_rate_against_{label}", *rates, "images/s"))
    return rows


if __name__ == "__main__":
    main()
