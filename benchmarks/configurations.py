"""Every configuration of configs/, run once as its top comment says: what may be expected of it, beside its floors.

On scikit-learn's digits, which need no download: pretraining configurations first, and those downstream on the encoder
that configs/pretrain/simclr.yaml gave. What is measured is kept in runs/benchmarks/configurations, so that a script
that was stopped goes on; delete that folder to measure anew.

    python benchmarks/configurations.py                          some minutes on one core
    python benchmarks/configurations.py --seeds 5                five seeds: of labels, splits, weights and order
    python benchmarks/configurations.py --quick                  one epoch each, to see that it works
    python benchmarks/configurations.py --fashion --root data    pretraining on Fashion-MNIST as well: an hour or more
"""

from __future__ import annotations

import json
import statistics
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, RUNS, Row, parser, row, show, write
from PIL import Image
from sklearn.datasets import load_sample_images

from ssl_transfer import HDBSCAN, PCA, EncoderSpec, GaussianMixture, ImageDataModule, KMeans, KNNDistance, Views
from ssl_transfer.cli import main as command_line
from ssl_transfer.evaluation.clustering import cluster_figures
from ssl_transfer.evaluation.detection import bootstrap_interval, image_metrics
from ssl_transfer.evaluation.features import Features
from ssl_transfer.evaluation.floors import RawPixels, encode_all
from ssl_transfer.evaluation.map_quality import map_quality
from ssl_transfer.evaluation.metrics import wilson_interval
from ssl_transfer.evaluation.probes import accuracy, knn_scores, select_logistic, solve_ridge
from ssl_transfer.running.folder import RunFolder
from ssl_transfer.running.scratch import from_scratch_accuracy

CONFIGS = Path(__file__).parent.parent / "configs"
KINDS = ("pretrain", "classify", "anomaly", "reduce", "cluster", "adapt")
BUDGET, NORMAL, CALIBRATION, CLASSES = 10, "8", 0.3, 10
SCRATCH_EPOCHS = 100
READ_AT_MOST = 1000  # validation images, by the monitor of a pretraining fit
FLOORS = ("scratch", "source_only")  # among the configurations
Figures = dict[str, float]

# What is read of a run's metrics.json, by the name it has in an id.
READ = {
    "pretrain": {"knn_accuracy": "val/knn_accuracy", "linear_accuracy": "val/linear_accuracy"},
    "classify": {"accuracy": "test/accuracy", "accuracy_all_labels": "test/all_labels_accuracy"},
    "anomaly": {"auroc": "test/auroc"},
    "reduce": {
        "trustworthiness": "test/pixels_trustworthiness_10",
        "continuity": "test/pixels_continuity_10",
        "1nn_accuracy": "test/knn_accuracy_1",
    },
    "cluster": {"accuracy": "test/hungarian_accuracy", "nmi": "test/nmi", "clusters": "test/clusters"},
    "adapt": {"accuracy": "test/accuracy"},
}
# Extra options of a configuration that its top comment offers: a second row, with this ending.
VARIANTS = {
    "cluster/kmeans": {"10": ["--model.method.n_clusters", str(CLASSES)]},
    "cluster/gaussian_mixture": {"10": ["--model.method.n_clusters", str(CLASSES)]},
    "adapt/shape_alone": {"60": ["--trainer.max_epochs", "60"]},
}
TITLES = {
    "pretrain": "Pretraining: accuracy on the validation split of the nearest neighbours and of a linear probe",
    "classify": f"Classification: test accuracy, {BUDGET} labels a class, and all",
    "anomaly": f"Anomaly detection: test AUROC, the digit {NORMAL} is normal",
    "reduce": "Maps: the test images, on a map fitted on the training images",
    "cluster": "Clusters: the test images, in groups fitted on the training images",
    "adapt": "Adaptation: test accuracy on digits over photographs, none of which has a label",
}


def main() -> None:
    options_of = parser(__doc__)
    options_of.add_argument("--seeds", type=int, default=1)
    options_of.add_argument("--fashion", action="store_true", help="pretraining configurations on Fashion-MNIST too")
    options = options_of.parse_args()
    folder = RUNS / "quick" / "configurations" if options.quick else RUNS / "configurations"
    folder.mkdir(parents=True, exist_ok=True)
    seeds = range(1 if options.quick else options.seeds)
    found = [measured for seed in seeds for measured in Digits(folder, seed, options.quick).all()]
    if options.fashion:
        found += [m for seed in seeds for m in Fashion(folder, seed, options.quick, options.root).all()]
    rows = rows_of(found)
    notes = [*notes_of(len(seeds)), *options.note]
    write("configurations", rows, sum(m["seconds"] for m in found), notes, options.quick)
    where = RUNS / "quick" if options.quick else RESULTS
    (where / "configurations.md").write_text(page(json.loads((where / "configurations.json").read_text())))
    show(rows)


def notes_of(seeds: int) -> tuple[str, ...]:
    drawn = "one seed" if seeds == 1 else f"mean ± standard deviation over {seeds} seeds"
    return (
        f"Digits: 8×8 pixels; 1,132 train, 126 are the validation split, 539 the test split; {drawn}, which draw "
        "splits, labels, weights and order. In brackets the 95 % interval by the number of images read.",
        "Every configuration as shipped, with its own epochs and --data.source digits; those downstream read the "
        "encoder of configs/pretrain/simclr.yaml. Nothing was chosen on the test split, and nothing is tuned for "
        "digits: the shipped views mirror images, which changes what a digit is.",
        "minutes: of the processor, of the fit alone, on one thread, without the start of the program.",
        f"Classification: --data.label_budget {BUDGET}, whose fit took the minutes, and without it (1,132 labels). "
        f"{BUDGET} labels a class are one or two steps an epoch: where weights learn, 15 to 30 in all. "
        "`multi_task.yaml` has one target here, the class. Raw pixels: logistic regression on the same labels. From "
        "scratch, augmented: the network of configs/pretrain/simclr.yaml on the same labels, "
        f"{SCRATCH_EPOCHS} epochs, with crops, turns and shifts.",
        f"Anomalies: --data.normal {NORMAL} --data.val_fraction {CALIBRATION}; the encoder has seen all digits without "
        "labels. But `reconstruction.yaml` reads an autoencoder of the normal ones alone "
        "(configs/pretrain/autoencoder.yaml with the same --data.normal; its minutes are counted).",
        "Maps: trustworthiness and continuity (k = 10) against raw pixels; 1-NN: has the nearest training image on the "
        "map the right label? The floors read pixels: PCA to two numbers, or all 64 of them.",
        "Clusters: the configuration finds their number, or `n_clusters 10` states it. accuracy: best one-to-one "
        "matching of clusters and classes. The floors are the same methods on raw pixels.",
        "Adaptation: from the digits, with labels, to the same over scikit-learn's two sample photographs (the source "
        "`digitsM:`, made as MNIST-M is), one for the training images and one for the test images. `coral.yaml` "
        "and `subspace_alignment.yaml` read an encoder of configs/pretrain/simclr.yaml that saw both domains, whose "
        "minutes are counted; the others begin without weights. `shape_alone.yaml` is for characters of some 28 "
        "pixels: --data.size 28; its 6 epochs, meant for 60,000 images, are some 50 steps here.",
    )


# ---- measuring


class Measured:
    """All that is run on one source with one seed; each result is kept in a file."""

    source, label = "digits", "digits"

    def __init__(self, folder: Path, seed: int, quick: bool, root: str | None = None) -> None:
        self.folder, self.seed, self.quick, self.root = folder, seed, quick, root

    def kept(self, name: str, kind: str, work: Callable[[], dict[str, Any]], **more: Any) -> dict[str, Any]:
        """The result of some work, which is done once; more: what to keep beside it."""
        file = self.folder / f"{self.label}-{name}-{self.seed}.json"
        if not file.exists():
            started = time.monotonic()
            done = {"kind": kind, "name": name, "label": self.label, **more, **work()}
            done["seconds"] = time.monotonic() - started
            temporary = file.with_suffix(".new")
            temporary.write_text(json.dumps(done, indent=1))
            temporary.replace(file)
            print(f"seed {self.seed} {self.label}/{name}: {done['figures']}", flush=True)
        result: dict[str, Any] = json.loads(file.read_text())
        return result

    def run(self, name: str) -> RunFolder:
        return RunFolder(self.folder / "runs" / f"{self.label}-{name}-{self.seed}")

    def images(self, **more: Any) -> ImageDataModule:
        """The images as the command line sees them."""
        data = ImageDataModule(self.source, root=self.root, seed=self.seed, **more)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*are left out of train, val and test")
            data.setup()
        return data

    def fit(self, config: str, run: RunFolder, *more: str) -> float:
        """Fit a configuration, and score it where it has a test; returns the processor seconds of the fit."""
        given = ["--config", str(CONFIGS / f"{config}.yaml"), "--seed_everything", str(self.seed), *more]
        given += ["--data.source", self.source, "--data.seed", str(self.seed)]
        given += ["--data.root", self.root] if self.root else []
        given += ["--trainer.max_epochs", "1"] if self.quick else []
        given += ["--trainer.enable_progress_bar", "false", "--trainer.default_root_dir", str(run.path)]
        started = time.process_time()
        self._command("fit", *given, "--overwrite")
        seconds = time.process_time() - started
        if not config.startswith("pretrain/"):
            self._command("test", *given)
        return seconds

    def _command(self, *given: str) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*are left out of train, val and test")
            if command_line(given):
                raise SystemExit(f"ssl-transfer {' '.join(given)} failed")

    def pretrain(self, config: str) -> dict[str, Any]:
        """A pretraining configuration, and what was read of its encoder at the end."""
        run = self.run(f"pretrain_{config}")

        def work() -> dict[str, Any]:
            seconds = self.fit(f"pretrain/{config}", run)
            images = min(READ_AT_MOST, len(self.images().indices("val")))
            return told("pretrain", with_intervals(run.metrics(), READ["pretrain"].values(), images), seconds)

        return self.kept(f"pretrain_{config}", "pretrain", work)

    def pixels_by_probes(self) -> dict[str, Any]:
        """The floor of pretraining: the same two readings of raw pixels."""
        data = self.images()
        pixels = encode_all(RawPixels(), data)
        bank, asked = (part(pixels, data.indices(split)) for split in ("train", "val"))
        bank, asked = (tuple(x[:most] for x in pair) for pair, most in ((bank, 3000), (asked, READ_AT_MOST)))
        near = accuracy(knn_scores(*bank, asked[0], data.num_classes), asked[1])
        linear = accuracy(solve_ridge(*bank, data.num_classes)(asked[0]), asked[1])
        metrics = {"val/knn_accuracy": near, "val/linear_accuracy": linear}
        return told("pretrain", with_intervals(metrics, metrics, len(asked[0])))

    def all(self) -> list[dict[str, Any]]:
        """Pretraining, and its floor."""
        ours = [self.pretrain(path.stem) for path in sorted((CONFIGS / "pretrain").glob("*.yaml"))]
        return [*ours, self.kept("pretrain_raw_pixels", "pretrain", self.pixels_by_probes, title="Raw pixels")]


class Fashion(Measured):
    """Pretraining on Fashion-MNIST."""

    source, label = "FashionMNIST", "fashion_mnist"


class Digits(Measured):
    """Everything on the digits."""

    def all(self) -> list[dict[str, Any]]:
        found = super().all()
        for kind in KINDS[1:]:
            for path in sorted((CONFIGS / kind).glob("*.yaml")):
                found.append(self.downstream(kind, path.stem))
                for ending, more in VARIANTS.get(f"{kind}/{path.stem}", {}).items():
                    found.append(self.downstream(kind, path.stem, ending, more))
            floors: dict[str, Any] = getattr(self, f"{kind}_floors", dict)()
            for name, (title, work) in floors.items():
                found.append(self.kept(f"{kind}_{name}", kind, lambda w=work, k=kind: told(k, w()), title=title))
        return found

    def downstream(self, kind: str, config: str, ending: str = "", more: Sequence[str] = ()) -> dict[str, Any]:
        """A configuration on the encoder of SimCLR, fitted and scored."""
        name = f"{kind}_{config}{'_' if ending else ''}{ending}"
        run = self.run(name)

        def work() -> dict[str, Any]:
            encoder, before = self.encoder(kind, config)
            seconds = before + self.fit(f"{kind}/{config}", run, *encoder, *self.split(kind), *more)
            metrics = run.metrics()
            if kind == "classify":
                every = self.run(f"{name}_all_labels")
                self.fit(f"{kind}/{config}", every, *encoder)
                metrics |= {key.replace("test/", "test/all_labels_"): v for key, v in every.metrics().items()}
            return told(kind, metrics, seconds)

        option = f", `{more[0].rsplit('.', 1)[-1]} {more[1]}`" if more else ""
        return self.kept(name, kind, work, title=f"`{kind}/{config}.yaml`{option}")

    def encoder(self, kind: str, config: str) -> tuple[list[str], float]:
        """The options that name an encoder, and the seconds of a fit that it needed for itself."""
        if kind == "adapt":
            return self.adapted(config)
        if config == "scratch":
            return [], 0.0
        run, seconds = self.run("pretrain_simclr"), 0.0
        if config == "reconstruction":
            run = self.run("anomaly_autoencoder")
            seconds = self.fit("pretrain/autoencoder", run, *self.split(kind))
        return ["--model.encoder", str(run.encoder)], seconds

    def split(self, kind: str) -> list[str]:
        if kind == "classify":
            return ["--data.label_budget", str(BUDGET)]
        if kind == "adapt":
            return ["--data.target", f"digitsM:{self.photographs()}", "--data.channels", "3"]
        return ["--data.normal", NORMAL, "--data.val_fraction", str(CALIBRATION)] if kind == "anomaly" else []

    def adapted(self, config: str) -> tuple[list[str], float]:
        """Of the configurations that align frozen features: an encoder that saw both domains; else what they need."""
        if config == "shape_alone":
            return ["--data.size", "28"], 0.0
        if config not in ("coral", "subspace_alignment"):
            return [], 0.0
        run = self.run(f"adapt_{config}_encoder")
        seconds = self.fit("pretrain/simclr", run, "--data", "DomainDataModule", *self.split("adapt"))
        return ["--model.encoder", str(run.encoder)], seconds

    def photographs(self) -> Path:
        """scikit-learn's two sample photographs, small: backgrounds for the training and for the test images."""
        for split, pixels in zip(("train", "test"), load_sample_images().images, strict=True):
            file = self.folder / "photographs" / split / "sample.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).resize((160, 107), Image.Resampling.BOX).save(file)
        return self.folder / "photographs"

    # ---- floors, by the name in an id: title and work

    def classify_floors(self) -> dict[str, Any]:
        data = self.images(label_budget=BUDGET)

        def raw() -> Figures:
            few, every = on_pixels(data, chosen=None), on_pixels(self.images(), "val")
            metrics = {"test/accuracy": few, "test/all_labels_accuracy": every}
            return with_intervals(metrics, metrics, len(data.indices("test")))

        def on_pixels(images: ImageDataModule, chosen: str | None) -> float:
            pixels = encode_all(RawPixels(), images)
            train, test = (part(pixels, images.indices(split)) for split in ("train", "test"))
            held_out = part(pixels, images.indices(chosen)) if chosen else None  # None: by cross-validation
            head, _ = select_logistic(train, held_out, images.num_classes, common_scale=True)
            return accuracy(head(test[0]), test[1])

        def augmented() -> Figures:
            views = Views(crop_scale=(0.5, 1.0), horizontal_flip=0.0, rotate=15.0, translate=0.1)
            epochs = 1 if self.quick else SCRATCH_EPOCHS
            found = from_scratch_accuracy(data, EncoderSpec(pool=3), epochs, self.seed, views)
            return with_intervals({"test/accuracy": found}, ["test/accuracy"], len(data.indices("test")))

        title = f"the network of `pretrain/simclr.yaml` from scratch, augmented, {SCRATCH_EPOCHS} epochs"
        return {"scratch_augmented": (title, augmented), "raw_pixels": ("Raw pixels", raw)}

    def anomaly_floors(self) -> dict[str, Any]:
        def raw() -> Figures:
            data = self.images(normal=NORMAL, val_fraction=CALIBRATION)
            pixels = encode_all(RawPixels(), data)
            train, test = (part(pixels, data.indices(split)) for split in ("train", "test"))
            scores = -KNNDistance().fit(train[0]).score_samples(test[0])
            anomalous = ~np.isin(test[1].numpy(), data.normal_targets)
            image_auroc = {"test/auroc": image_metrics(scores, anomalous)["auroc"]}
            low, high = bootstrap_interval("auroc", scores, anomalous)
            return image_auroc | {"test/auroc_low": low, "test/auroc_high": high}

        return {"raw_pixels": ("Raw pixels, nearest neighbours", raw)}

    def vectors(self) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """Raw pixels and targets of the training and of the test images."""
        data = self.images()
        pixels = encode_all(RawPixels(), data)
        return {split: part(pixels, data.indices(split)) for split in ("train", "test")}

    def reduce_floors(self) -> dict[str, Any]:
        def placed_by(method: PCA | None) -> Figures:
            (train, labels), (test, truth) = self.vectors().values()
            bank, placed = (
                (train, test)
                if method is None
                else (torch.as_tensor(method.fit(train).transform(x)) for x in (train, test))
            )
            quality = map_quality(test, placed, truth, (bank, labels))
            named = {f"test/pixels_{name}": value for name, value in quality.items()}
            return named | {"test/knn_accuracy_1": quality["knn_accuracy_1"]}

        return {
            "pca_pixels": ("PCA of raw pixels, 2 numbers", lambda: placed_by(PCA(2))),
            "raw_pixels": ("Raw pixels, 64 numbers", lambda: placed_by(None)),
        }

    def cluster_floors(self) -> dict[str, Any]:
        def on_pixels(method: Any) -> Figures:
            (train, _), (test, truth) = self.vectors().values()
            found = method.fit(train).predict(test)
            return {f"test/{name}": value for name, value in cluster_figures(found, truth.numpy()).items()}

        floors = {
            "kmeans_pixels": ("k-means", lambda: KMeans(seed=self.seed)),
            "kmeans_10_pixels": ("k-means, `n_clusters 10`", lambda: KMeans(CLASSES, seed=self.seed)),
            "gaussian_mixture_pixels": (
                "Gaussian mixture",
                lambda: GaussianMixture(covariance="diag", seed=self.seed),
            ),
            "gaussian_mixture_10_pixels": (
                "Gaussian mixture, `n_clusters 10`",
                lambda: GaussianMixture(CLASSES, covariance="diag", seed=self.seed),
            ),
            "hdbscan_pixels": ("HDBSCAN", HDBSCAN),
        }
        return {
            name: (f"Raw pixels, {title}", lambda make=make: on_pixels(make()))
            for name, (title, make) in floors.items()
        }


def part(features: Features, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Features and targets of some rows."""
    return features.features[rows], features.targets[rows]


def told(kind: str, metrics: dict[str, Any], seconds: float | None = None) -> dict[str, Any]:
    """Of figures named as in metrics.json those that count, with their intervals where there are any."""
    named = {name: key for name, key in READ[kind].items() if key in metrics}
    figures = {name: float(metrics[key]) for name, key in named.items()}
    ends = {n: [metrics[f"{k}_low"], metrics[f"{k}_high"]] for n, k in named.items() if f"{k}_low" in metrics}
    minutes = {} if seconds is None else {"minutes": seconds / 60}
    return {"figures": figures | minutes, "intervals": ends}


def with_intervals(metrics: dict[str, Any], names: Iterable[str], images: int) -> dict[str, Any]:
    """Metrics with the 95 % intervals of those that are shares of so many images."""
    ends = {name: wilson_interval(metrics[name], images) for name in names}
    low, high = ({f"{name}_{end}": pair[i] for name, pair in ends.items()} for i, end in enumerate(("low", "high")))
    return metrics | low | high


# ---- the table


def rows_of(found: list[dict[str, Any]]) -> list[Row]:
    """A row for each figure, over the seeds."""
    together: dict[str, list[dict[str, Any]]] = {}
    for measured in found:
        together.setdefault(f"{measured['label']}/{measured['name']}", []).append(measured)
    return [r for id, seeds in together.items() for r in _rows(id, seeds)]


def _rows(id: str, seeds: list[dict[str, Any]]) -> list[Row]:
    first = seeds[0]
    config = first["name"].removeprefix(f"{first['kind']}_")
    kind = "floor" if "minutes" not in first["figures"] or config in FLOORS else "ours"
    title = first.get("title", f"`{first['kind']}/{config}.yaml`")
    rows = []
    for name in first["figures"]:
        values = [seed["figures"][name] for seed in seeds]
        unit = {"minutes": "min", "clusters": "clusters"}.get(name, "fraction")
        rows.append(row(f"{id}/{name}", values, kind, unit, table=first["kind"], title=title, **_interval(name, seeds)))
    return rows


def _interval(name: str, seeds: list[dict[str, Any]]) -> dict[str, float]:
    """`low` and `high` by the number of images that were read: the means over the seeds."""
    if name not in seeds[0]["intervals"]:
        return {}
    low, high = (round(statistics.fmean(ends), 4) for ends in zip(*(s["intervals"][name] for s in seeds), strict=True))
    return {"low": low, "high": high}


def page(facts: dict[str, Any]) -> str:
    """The results as Markdown: a table a kind."""
    lines = ["# configurations", "", f"Machine: {facts['machine']}. Command: `{facts['command']}`.", ""]
    lines += [f"- {note}" for note in facts["notes"]]
    for label in dict.fromkeys(r["id"].split("/")[0] for r in facts["rows"]):
        for kind in KINDS:
            rows = [r for r in facts["rows"] if r["id"].startswith(f"{label}/") and r["table"] == kind]
            lines += (
                ["", f"## {TITLES[kind]}{'' if label == 'digits' else f' ({label})'}", "", *table(rows)] if rows else []
            )
    numbers = ", ".join(f"{package} {number}" for package, number in facts["versions"].items())
    return "\n".join([*lines, "", f"Versions: {numbers}.", ""])


def table(rows: list[Row]) -> list[str]:
    """One line a configuration or floor, one column a figure."""
    by_title: dict[str, dict[str, Row]] = {}
    for r in rows:
        by_title.setdefault(r["title"], {})[r["id"].rsplit("/", 1)[1]] = r
    names = list(dict.fromkeys(name for cells in by_title.values() for name in cells))
    lines = [
        f"| | {' | '.join(name.replace('_', ' ').replace('1nn', '1-NN') for name in names)} | |",
        f"|{'---|' * (len(names) + 2)}",
    ]
    for title, cells in by_title.items():
        kind = "floor" if next(iter(cells.values()))["kind"] == "floor" else ""
        lines.append(f"| {title} | {' | '.join(cell(cells.get(name)) for name in names)} | {kind} |")
    return lines


def cell(r: Row | None) -> str:
    """A figure, its spread over seeds if there are several, and its interval if there is one.

    >>> cell({"value": 0.912, "spread": 0.01, "seeds": 3, "unit": "fraction", "low": 0.89, "high": 0.93})
    '.912 ± .010 [.890, .930]'
    """
    if r is None:
        return "–"
    shape = {"fraction": ".3f", "min": ".2f", "clusters": ".1f" if r["seeds"] > 1 else ".0f"}[r["unit"]]
    numbers = [f"{value:{shape}}" for value in (r["value"], r["spread"], r.get("low", 0.0), r.get("high", 0.0))]
    value, spread, low, high = (n.removeprefix("0") if r["unit"] == "fraction" else n for n in numbers)
    return value + (f" ± {spread}" if r["seeds"] > 1 else "") + (f" [{low}, {high}]" if "low" in r else "")


if __name__ == "__main__":
    main()
