"""`demo`: the whole story on scikit-learn's digits, ending in one page of pictures."""

from __future__ import annotations

import platform
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.manifold import TSNE

from ssl_transfer.data.batch import Batch
from ssl_transfer.data.corruptions import Corruption
from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.data.randomness import KeyedRandom
from ssl_transfer.data.views import Views
from ssl_transfer.encoders import EncoderSpec, load_encoder
from ssl_transfer.evaluation.features import Features
from ssl_transfer.evaluation.floors import encode_all, few_label_accuracies, floor_features, mean_interval
from ssl_transfer.evaluation.probes import accuracy, knn_scores
from ssl_transfer.pretraining import DenoisingAutoencoder, Objective, SimCLR
from ssl_transfer.reporting.demo_page import write_demo_page
from ssl_transfer.reporting.demo_results import Command, DemoResults
from ssl_transfer.reporting.results import ResultRow
from ssl_transfer.reporting.scatter import Panel
from ssl_transfer.running import fit as running
from ssl_transfer.running.folder import RunFolder
from ssl_transfer.running.scratch import from_scratch_accuracy
from ssl_transfer.running.summary import read_curves

BUDGET = 10
DRAWS = range(5)
SPEC = EncoderSpec(arguments={"strides": [1, 2, 2]}, pool=2)
# No flips: a mirrored digit is another sign.
VIEWS = Views(crop_scale=(0.5, 1.0), horizontal_flip=0.0, rotate=15.0, translate=0.1)
NOTES = {
    "Raw pixels": "the 64 brightness values themselves",
    "PCA": "the directions that hold 95 % of the variance",
    "Random encoder": "the same network, never trained",
    "From scratch": "the same network trained on the few labels alone",
    "SimCLR": "pretrained without labels: two views of an image should agree",
    "Denoising autoencoder": "pretrained without labels: damaged images are restored",
}


def demo(out: str = "demo", overwrite: bool = False, seed: int = 0, epochs: int = 80) -> int:
    """Pretrain on handwritten digits, classify them with ten labels a class, and write a page of pictures.

    Runs in under two minutes on two cores, without the network. Example: ssl-transfer demo --out demo

    Args:
        out: folder of the page (`index.html`) and of the two runs.
        overwrite: replace what an earlier demo wrote there.
        seed: of weights, order, views and corruptions.
        epochs: of pretraining.
    """
    started = time.monotonic()
    folder = _claim(Path(out), overwrite)
    data = ImageDataModule("digits", batch_size=128)
    data.setup()
    objectives: dict[str, Objective] = {
        "Denoising autoencoder": DenoisingAutoencoder(SPEC, corruption=Corruption(gaussian=0.1, masking=0.5, patch=2)),
        "SimCLR": SimCLR(SPEC, views=VIEWS, temperature=0.2),
    }
    runs = {}
    for name, objective in objectives.items():
        with _step(f"pretrain: {name}, {epochs} epochs on {len(data.indices('train')):,} unlabelled images"):
            directory = folder / type(objective).__name__.lower()
            runs[name] = running.fit(
                objective, data, directory, seed=seed, max_epochs=epochs, enable_progress_bar=False, verbose=False
            )
    with _step("encode every image once, by the encoders and by the floors"):
        features = floor_features(data, SPEC, seed)
        features |= {name: encode_all(load_encoder(run.encoder), data) for name, run in runs.items()}
    with _step(f"classify with {BUDGET} labels a class, {len(DRAWS)} draws of the labels"):
        accuracies = {name: few_label_accuracies(values, data, BUDGET, DRAWS) for name, values in features.items()}
    with _step("the same network from scratch on the same few labels"):
        accuracies["From scratch"] = [_from_scratch(draw) for draw in DRAWS]
    rows = [_row(name, values, name in runs) for name, values in accuracies.items()]
    with _step("draw the page"):
        results = _results(data, objectives, runs, features, rows, seed, time.monotonic() - started)
        page = write_demo_page(folder / "index.html", results)
    _print_table(rows)
    print(f"\n{time.monotonic() - started:.0f} s in all. Open {page} in a browser.")
    return 0


def _claim(folder: Path, overwrite: bool) -> Path:
    ours = [folder / name for name in ("index.html", "simclr", "denoisingautoencoder")]
    if any(path.exists() for path in ours) and not overwrite:
        raise ValueError(f"{folder} already holds a demo: choose another --out, or add --overwrite true to replace it")
    for path in ours:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def _step(what: str) -> Iterator[None]:
    print(f"{what} … ", end="", flush=True)
    started = time.monotonic()
    yield
    print(f"{time.monotonic() - started:.1f} s", flush=True)


def _from_scratch(draw: int) -> float:
    """Test accuracy of the network trained on one draw of labels alone, with the same views as augmentation."""
    few = ImageDataModule("digits", batch_size=128, label_budget=BUDGET, seed=draw)
    few.setup()
    return from_scratch_accuracy(few, SPEC, epochs=100, seed=draw, views=VIEWS)


def _row(name: str, values: list[float], pretrained: bool) -> ResultRow:
    mean, low, high = mean_interval(values)
    kind = "ours" if pretrained else "floor"
    return ResultRow(name, mean, low, min(1.0, high), kind, len(values), NOTES[name])  # type: ignore[arg-type]


def _results(
    data: ImageDataModule,
    objectives: dict[str, Objective],
    runs: dict[str, RunFolder],
    features: dict[str, Features],
    rows: list[ResultRow],
    seed: int,
    seconds: float,
) -> DemoResults:
    curves = {name: read_curves(run) for name, run in runs.items()}
    test = data.indices("test")
    few = _batch(data, test[:8])
    restored = _restorations(objectives["Denoising autoencoder"], _batch(data, test[8:16]))
    shown = {name: features[name] for name in ("Raw pixels", "Random encoder", "SimCLR")}
    return DemoResults(
        data_name="scikit-learn's handwritten digits",
        thing="digit",
        unlabelled=len(data.indices("train")),
        labelled=BUDGET * data.num_classes,
        test=len(test),
        label_budget=BUDGET,
        rows=rows,
        interval=f"95 % interval over {len(DRAWS)} draws of the labels",
        seconds=seconds,
        machine=f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} CPU thread(s)",
        versions={name: version(name) for name in ("ssl_transfer", "torch", "pytorch-lightning", "lightly")},
        seed=seed,
        reproduce=[Command("The whole demo", "ssl-transfer demo --out demo")],
        originals=few.images.numpy(),
        views=np.stack([VIEWS(few.images, KeyedRandom(few.index, seed, 0, k)).numpy() for k in range(1, 5)], axis=1),
        clean=restored[0],
        corrupted=restored[1],
        restored=restored[2],
        losses={name: curve["train/loss"] for name, curve in curves.items()},
        accuracy_curves={name: curve["val/knn_accuracy"] for name, curve in curves.items()},
        accuracy_floor=_knn(features["Raw pixels"], data, "val"),
        maps=[_panel(name, values, data) for name, values in shown.items()],
        labels=data.table.targets[test],
        class_names=data.classes or [],
        thumbnails=_batch(data, test).images.numpy(),
    )


def _batch(data: ImageDataModule, rows: NDArray[np.int64]) -> Batch:
    wanted = set(rows.tolist())
    batches = [batch for batch in data.loader("all") if wanted & set(batch.index.tolist())]
    images, index = torch.cat([b.images for b in batches]), torch.cat([b.index for b in batches])
    keep = torch.isin(index, torch.from_numpy(rows))
    return Batch(images[keep], torch.full((int(keep.sum()),), -1), index[keep])


@torch.inference_mode()
def _restorations(objective: Objective, batch: Batch) -> tuple[Any, Any, Any]:
    """Images `(n, C, H, W)` clean, corrupted and restored."""
    assert isinstance(objective, DenoisingAutoencoder)
    corrupted = objective.eval().corrupt(batch, epoch=0)
    restored = objective.reconstruct(corrupted)
    return batch.images.numpy(), corrupted.clamp(0, 1).numpy(), restored.clamp(0, 1).numpy()


def _knn(values: Features, data: ImageDataModule, split: str) -> float:
    """kNN accuracy on a split, the training split voting."""
    train, rows = data.indices("train"), data.indices(split)
    scores = knn_scores(values.features[train], values.targets[train], values.features[rows], data.num_classes)
    return accuracy(scores, values.targets[rows])


def _panel(name: str, values: Features, data: ImageDataModule) -> Panel:
    test = values.features[data.indices("test")]
    standardised = (test - test.mean(0)) / test.std(0).clamp(min=1e-6)
    points = TSNE(init="pca", perplexity=30, random_state=0).fit_transform(standardised.numpy())
    return Panel(name, points, f"kNN on all features: {_knn(values, data, 'test'):.1%}")


def _print_table(rows: list[ResultRow]) -> None:
    print(f"\nTest accuracy, {BUDGET} labels a class, mean and 95 % interval over {len(DRAWS)} draws of the labels")
    for row in sorted(rows, key=lambda row: -row.value):
        mark = "pretrained" if row.kind == "ours" else "floor"
        print(f"  {row.name:24}{row.value:.3f}  [{row.low:.3f}, {row.high:.3f}]  {mark}")
