"""Ten groups that nobody named: k-means, Gaussian mixture and HDBSCAN on pixels, on features, and on their coordinates.

Fitted on the 60,000 training images without a label; each of the 10,000 test images, never seen, gets its cluster, and
the share that falls into the cluster matched to its class (one to one, the best matching) is the accuracy. Vectors are
those that benchmarks/reduction.py keeps (it pretrains the encoder too); what is done is kept in
runs/benchmarks/clustering.

    python benchmarks/clustering.py --root data            about forty minutes on one core
    python benchmarks/clustering.py --root data --quick    a tenth of the images, one seed
"""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import RUNS, Row, parser, row, show, write
from reduction import SETS, pretrained, vectors
from torch import Tensor

from ssl_transfer import HDBSCAN, UMAP, GaussianMixture, ImageDataModule, KMeans
from ssl_transfer.evaluation.clustering import cluster_figures

INPUTS = {"pixels": "pixels", "simclr": "narrow", "gradients": "narrow_gradients"}
FLOORS = ("kmeans_pixels", "kmeans_umap_pixels", "mixture_umap_pixels", "hdbscan_umap_pixels")
SEEDS = 3


def main() -> None:
    options_of = parser(__doc__)
    options_of.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    options_of.add_argument("--so_far", action="store_true", help="write the table of what is done")
    options_of.add_argument("--seeds", type=int, default=SEEDS)
    options = options_of.parse_args()
    seeds = 1 if options.quick else options.seeds
    base = RUNS / "quick" if options.quick else RUNS
    folder = base / "clustering"
    folder.mkdir(parents=True, exist_ok=True)
    (base / "reduction").mkdir(exist_ok=True)
    started = time.monotonic()
    found: dict[str, list[dict[str, float]]] = {}
    for name in options.sets:
        pretrained(base / "reduction", name, options.root, options.quick)
        for reads, seed in itertools.product(INPUTS, range(seeds)):
            if options.so_far and not kept(folder, name, reads, seed).exists():
                continue
            for method, figures in once(folder, base / "reduction", name, reads, seed, options).items():
                found.setdefault(f"{SETS[name]}_clusters/{method}_{reads}", []).append(figures)
    if set(options.sets) != set(SETS) and not options.so_far:
        print("the table needs all sets (--so_far writes one of what is done)")
        return
    rows = [r for id, figures in found.items() for r in rows_of(id, figures)]
    write("clustering", rows, time.monotonic() - started, [*NOTES, *options.note], options.quick)
    show(rows)


def kept(folder: Path, name: str, reads: str, seed: int) -> Path:
    return folder / f"{name}-{reads}-{seed}.json"


NOTES = (
    "Fitted on 60,000 training images without labels, ten clusters (HDBSCAN finds its own number, groups of at least "
    "500); read on the 10,000 test images. accuracy: best one-to-one matching of clusters and classes; noise is wrong.",
    "simclr: 64 principal components of the features of SimCLR on the training images; gradients: the same of "
    "oriented_gradients, which nobody trains. umap: two coordinates, min_dist 0, by umap-learn. seconds: of the "
    "processor, the coordinates included, one thread.",
    "The paths were compared on training images with their labels; the test split was read once.",
)


def once(
    folder: Path, kept_vectors: Path, name: str, reads: str, seed: int, options: Any
) -> dict[str, dict[str, float]]:
    """Figures of every method on one input, kept in a file."""
    file = kept(folder, name, reads, seed)
    if not file.exists():
        data = ImageDataModule(name, root=options.root, val_fraction=0.0)
        data.setup()
        part = 10 if options.quick else 1
        train, test = (x[::part] for x in vectors(kept_vectors, name, data, INPUTS[reads]))
        truth = np.asarray(data.table.targets)[data.indices("test")][::part]
        figures = {"kmeans": figures_of(KMeans(10, seed=seed), train, test, truth)}
        begun = time.process_time()
        umap = UMAP(2, min_dist=0.0, seed=seed)
        places = umap.fit_transform(train), umap.transform(test)
        spent = time.process_time() - begun
        methods: dict[str, Any] = {"kmeans_umap": KMeans(10, seed=seed), "mixture_umap": GaussianMixture(10, seed=seed)}
        if seed == 0:
            methods["hdbscan_umap"] = HDBSCAN(min_cluster_size=500 // part, min_samples=10)
        for method, clustering in methods.items():
            figures[method] = figures_of(clustering, *places, truth, spent)
        file.write_text(json.dumps(figures, indent=1))
        best = ", ".join(f"{method} {f['hungarian_accuracy']:.3f}" for method, f in figures.items())
        print(f"{name} {reads} seed {seed}: {best}", flush=True)
    told: dict[str, dict[str, float]] = json.loads(file.read_text())
    return told


def figures_of(
    clustering: Any, train: Tensor | np.ndarray, test: Tensor | np.ndarray, truth: np.ndarray, spent: float = 0.0
) -> dict[str, float]:
    """Fit on the training vectors, and read the test vectors."""
    begun = time.process_time()
    clustering.fit(train)
    seconds = spent + time.process_time() - begun
    return {**cluster_figures(clustering.predict(test), truth), "seconds": seconds}


def rows_of(id: str, figures: list[dict[str, float]]) -> list[Row]:
    kind = "floor" if id.split("/")[1] in FLOORS else "ours"
    shown = {"accuracy": "hungarian_accuracy", "nmi": "nmi", "ari": "ari"}
    rows = [row(f"{id}/{metric}", [f[key] for f in figures], kind) for metric, key in shown.items()]
    return [*rows, row(f"{id}/seconds", [f["seconds"] for f in figures], kind, "s")]


if __name__ == "__main__":
    main()
