"""Fits in memory: what they leave alone, and that they learn."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.data.views import Views
from ssl_transfer.downstream import Classifier, Frozen, Scratch
from ssl_transfer.evaluation.probes import accuracy
from ssl_transfer.optimisation import Optimisation
from ssl_transfer.running.scratch import from_scratch_accuracy
from ssl_transfer.running.trial import scores_of, trial
from tests.running.conftest import SPEC


def _scratch() -> Classifier:
    return Classifier(SPEC, tuning=Scratch(), optimisation=Optimisation(lr=3e-3))


def test_a_trial_learns_and_leaves_no_trace(
    digits: ImageDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    few = digits.few(5, seed=1)
    before = (few.batch_size, few.trainer, {split: few.indices(split).tolist() for split in ("train", "val")})
    module = trial(_scratch(), few, steps=60, batch_size=32, seed=1)
    assert not list(tmp_path.iterdir()) and not module.training
    assert (few.batch_size, few.trainer, {split: few.indices(split).tolist() for split in ("train", "val")}) == before
    scores, targets = scores_of(module, digits, "test")
    assert scores.shape == (539, 10) and torch.allclose(scores.sum(1), torch.ones(539))
    assert accuracy(scores, targets) > 0.5


def test_a_trial_is_repeatable(digits: ImageDataModule) -> None:
    few = digits.few(2, seed=0)
    first, again, other = (scores_of(trial(_scratch(), few, steps=3, seed=k), few, "test")[0] for k in (4, 4, 5))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_no_validation_label_is_read(digits: ImageDataModule) -> None:
    whole = digits.few(None, seed=0)
    with_val = trial(Classifier(SPEC, tuning=Frozen()), whole)
    without = trial(Classifier(SPEC, tuning=Frozen()), whole.without_val())
    assert torch.equal(with_val.head.weight, without.head.weight)


def test_images_without_a_label_are_not_scored(digits: ImageDataModule) -> None:
    module = trial(_scratch(), digits.few(2, seed=0), steps=1)
    some = digits.with_train(digits.indices("train"))
    some.table = digits.table.select(slice(None))  # type: ignore[arg-type]
    some.table.targets = some.table.targets.copy()
    some.table.targets[digits.indices("test")[:500]] = -1
    assert len(scores_of(module, some, "test")[0]) == 39
    some.table.targets[digits.indices("test")] = -1
    with pytest.raises(ValueError, match=r"the test split of data\.source digits has no labelled image"):
        scores_of(module, some, "test")


def test_from_scratch_is_a_trial(digits: ImageDataModule) -> None:
    few = digits.few(2, seed=3)
    optimisation = Optimisation(lr=3e-3, weight_decay=1e-2)
    module = Classifier(SPEC, tuning=Scratch(), views=Views(), optimisation=optimisation)
    expected = accuracy(*scores_of(trial(module, few, epochs=2, seed=7), few, "test"))
    assert from_scratch_accuracy(few, SPEC, epochs=2, seed=7, views=Views()) == expected


def test_the_module_is_back_where_it_learned(digits: ImageDataModule, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning leaves it on the CPU, where answers of a network that a GPU trained would take hours."""
    moved = []
    for name in ("to", "cpu"):
        move = getattr(Classifier, name)
        monkeypatch.setattr(
            Classifier, name, lambda self, *to, name=name, move=move: (moved.append(name), move(self, *to))[1]
        )
    trial(_scratch(), digits, steps=1)
    assert moved[-2:] == ["cpu", "to"]
