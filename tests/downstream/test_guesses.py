"""Unlabelled images that teach: guessed labels reach the head, stay in the checkpoint, and pay with few labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.downstream import Classifier, Frozen, LinearThenFull
from ssl_transfer.running import fit as running

QUIET: dict[str, Any] = {"enable_progress_bar": False, "verbose": False}


def accuracy_of(module: Classifier, data: ImageDataModule, path: Path, **options: Any) -> float:
    make = type(module)
    again = make(module.chosen_encoder[0], tuning=module.tuning)
    run = running.fit(module, data, path, **QUIET, **options)
    return float(running.test(again, data, run.path)["test/accuracy"])


def test_it_pays_with_few_labels(encoder_folder: Path, tmp_path: Path) -> None:
    few = ImageDataModule("digits", label_budget=2)
    more = ImageDataModule("digits", label_budget=2, keep_unlabelled=True)
    alone = accuracy_of(Classifier(str(encoder_folder)), few, tmp_path / "alone")
    helped = accuracy_of(Classifier(str(encoder_folder), tuning=Frozen(unlabelled=True)), more, tmp_path / "helped")
    assert helped > alone + 0.02


def test_the_guesses_are_kept_for_a_resumed_run(encoder_folder: Path, tmp_path: Path) -> None:
    data = ImageDataModule("digits", label_budget=5, keep_unlabelled=True)

    def module() -> Classifier:
        return Classifier(str(encoder_folder), tuning=LinearThenFull(unlabelled=True))

    whole = running.fit(module(), data, tmp_path / "whole", max_epochs=2, **QUIET)
    running.fit(module(), data, tmp_path / "part", max_epochs=1, **QUIET)
    first = torch.load(tmp_path / "part" / "checkpoints" / "last.ckpt", weights_only=True)
    kept = torch.load(whole.last, weights_only=True)
    assert torch.equal(first["guesses"], kept["guesses"]) and len(kept["guesses"]) > 300
    hidden = data.table.targets[kept["guesses"][:, 0].numpy()]
    assert (hidden == -1).all()
    resumed = module()
    running.fit(resumed, data, tmp_path / "part", max_epochs=2, resume=True, **QUIET)
    assert torch.equal(resumed.guesses, kept["guesses"])


def test_nothing_to_guess(encoder_folder: Path, digits: ImageDataModule, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no unlabelled image; add some, or keep those .* --data\.keep_unlabelled"):
        running.fit(Classifier(str(encoder_folder), tuning=Frozen(unlabelled=True)), digits, tmp_path / "run", **QUIET)


def test_the_target_that_is_learnt_is_spread(encoder_folder: Path, tmp_path: Path) -> None:
    from PIL import Image
    from sklearn.datasets import load_digits

    images, digits = load_digits(return_X_y=True)
    lines = ["path,label,size"]
    for number, (pixels, digit) in enumerate(zip(images[:400], digits[:400].tolist(), strict=True)):
        Image.fromarray((pixels.reshape(8, 8) * 15).astype("uint8")).save(tmp_path / f"{number}.png")
        known = ("small", "large")[digit > 4] if number % 5 == 0 else ""
        lines.append(f"{number}.png,{('even', 'odd')[digit % 2]},{known}")
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    data = ImageDataModule(str(tmp_path / "manifest.csv"), test_fraction=0.2)
    module = Classifier(str(encoder_folder), tuning=Frozen(unlabelled=True), targets=["size"])
    run = running.fit(module, data, tmp_path / "run", **QUIET)
    assert module.classes == ["large", "small"]
    again = Classifier(str(encoder_folder), tuning=Frozen(unlabelled=True), targets=["size"])
    assert running.test(again, data, run.path)["test/accuracy"] > 0.7
