"""Two processes learn several targets as one does, also where a process has no value of a target in a step or a split.

The test runs this file as a script, whose fits start a second process by themselves.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.downstream import Classifier, Frozen, Full, Tuning
from ssl_transfer.encoders import EncoderSpec
from ssl_transfer.optimisation import Optimisation
from ssl_transfer.running import fit as running
from ssl_transfer.running.folder import RunFolder

BATCH = 16  # images a step, over all processes
ENCODER = EncoderSpec(
    "torch.nn.Conv2d", {"in_channels": 1, "out_channels": 8, "kernel_size": 3, "stride": 2, "padding": 1}, pool=2
)
TUNINGS: dict[str, Tuning] = {"solved": Frozen(), "full": Full()}
OPTIONS: dict[str, Any] = {"accelerator": "cpu", "precision": "32-true", "enable_progress_bar": False}


def write_manifest(folder: Path) -> None:
    """Few numbers in training; in validation and test every second image, all of one process, has no label and number.

    Evaluation deals images in turn.
    """
    images, digits = load_digits(return_X_y=True)
    counts = {"train": 0, "val": 0, "test": 0}
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "split", "label", "digit", "size"])
        for number, (pixels, digit) in enumerate(zip(images[:300], digits[:300].tolist(), strict=True)):
            Image.fromarray((pixels.reshape(8, 8) * 15).astype(np.uint8)).save(folder / f"{number:03}.png")
            split = "train" if number < 200 else "val" if number < 250 else "test"
            said = '["even", "digit"]' if digit % 2 == 0 else '["digit"]' if digit > 5 else "[]"
            has = number % 9 == 0 if split == "train" else counts[split] % 2 == 0
            counts[split] += 1
            row = [f"{number:03}.png", split, said if has or split == "train" else "", f"d{digit}"]
            writer.writerow([*row, digit / 2 if has else ""])


def fit_all(folder: Path, count: int) -> None:
    several: dict[str, Any] = {"devices": count, "strategy": "ddp"} if count > 1 else {"devices": 1}
    for name, tuning in TUNINGS.items():
        data = ImageDataModule(str(folder.parent / "manifest.csv"), batch_size=BATCH // count)
        optimisation = Optimisation(optimiser="sgd", lr=0.05, warmup=0.0, schedule="constant")
        module = Classifier(ENCODER, tuning=tuning, optimisation=optimisation, targets=["label", "digit", "size"])
        run = running.fit(module, data, folder / name, max_epochs=1, verbose=False, **OPTIONS, **several)
        running.test(Classifier(ENCODER, tuning=tuning), data, run.path, **OPTIONS, **several)


@pytest.fixture(scope="module")
def fitted(run_script: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("targets")
    write_manifest(folder)
    done = run_script(__file__, folder / "two")
    assert done.returncode == 0, done.stderr
    fit_all(folder / "one", 1)
    return folder / "one", folder / "two"


@pytest.mark.slow
@pytest.mark.parametrize("name", TUNINGS)
def test_two_processes_learn_as_one_does(name: str, fitted: tuple[Path, Path]) -> None:
    one, two = (RunFolder(folder / name) for folder in fitted)
    weights = [torch.load(run.last, weights_only=True)["state_dict"] for run in (one, two)]
    torch.testing.assert_close(weights[1], weights[0], rtol=1e-4, atol=1e-5)
    first, second = one.metrics(), two.metrics()
    assert first.keys() == second.keys() and {"val/score", "test/size/spearman"} <= first.keys()
    for figure in [name for name in first if name.startswith(("val/", "test/"))]:
        assert second[figure] == pytest.approx(first[figure], rel=1e-4, abs=2e-6), figure


if __name__ == "__main__":
    running.calm(fit_all)(Path(sys.argv[1]), 2)
