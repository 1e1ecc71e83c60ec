"""The classifier on digits: what is encoded, what learns, which labels count, and what the figures mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, f1_score

from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.data.views import Views
from ssl_transfer.downstream import Classifier, Frozen, Full, Scratch, load_model
from ssl_transfer.encoders import Encoder, EncoderSpec, load_encoder
from ssl_transfer.evaluation.probes import solve_logistic
from ssl_transfer.optimisation import Optimisation
from ssl_transfer.running import fit as running
from ssl_transfer.running.folder import RunFolder
from ssl_transfer.running.recorder import RunCheckpoint

OPTIONS: dict[str, Any] = {"enable_progress_bar": False, "verbose": False, "precision": "32-true"}
SPEC = EncoderSpec(arguments={"widths": [8, 16], "strides": [1, 2]}, pool=2)


class Killed(Exception):
    """The process died."""


class KillAt(pl.Callback):
    """Ends a fit before a step, as a power cut would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            raise Killed


class CountImages(pl.Callback):
    """Counts what the encoder is given while the fit runs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.images = 0
        self.counting = False
        forward = Encoder.forward

        def counted(encoder: Encoder, images: torch.Tensor) -> torch.Tensor:
            self.images += len(images) if self.counting else 0
            return forward(encoder, images)

        monkeypatch.setattr(Encoder, "forward", counted)

    def on_fit_start(self, *_: Any) -> None:
        self.counting = True

    def on_fit_end(self, *_: Any) -> None:
        self.counting = False


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    assert first.keys() == second.keys()
    return all(torch.equal(value, second[key]) for key, value in first.items())


@pytest.mark.parametrize("solve", [True, False])
def test_a_frozen_encoder_stays_to_the_bit(
    solve: bool, encoder_folder: Path, digits: ImageDataModule, tmp_path: Path
) -> None:
    module = Classifier(str(encoder_folder), tuning=Frozen(solve=solve))
    run = running.fit(module, digits, tmp_path / "run", max_epochs=2, **OPTIONS)
    before = load_encoder(encoder_folder).state_dict()
    assert any("running_mean" in key for key in before)
    assert same(before, module.encoder.state_dict())
    assert same(before, load_model(run.model).encoder.state_dict())
    assert not run.encoder.exists()  # it is nothing new
    module.train()
    assert not any(part.training for part in module.encoder.modules()) and module.head.training


def test_a_frozen_encoder_stays_to_the_bit_over_a_resume(
    encoder_folder: Path, digits: ImageDataModule, tmp_path: Path
) -> None:
    def module() -> Classifier:
        return Classifier(str(encoder_folder), tuning=Frozen(solve=False))

    options = {**OPTIONS, "max_epochs": 3}
    whole = module()
    running.fit(whole, digits, tmp_path / "whole", **options)
    checkpoint = RunCheckpoint(every_n_steps=3)
    with pytest.raises(Killed):
        running.fit(module(), digits, tmp_path / "run", callbacks=[KillAt(13)], checkpoint=checkpoint, **options)
    resumed = module()
    running.fit(resumed, digits, tmp_path / "run", resume=True, **options)
    assert same(load_encoder(encoder_folder).state_dict(), resumed.encoder.state_dict())
    assert same(whole.head.state_dict(), resumed.head.state_dict())


def test_each_image_is_encoded_once_however_many_epochs(
    encoder_folder: Path, digits: ImageDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = CountImages(monkeypatch)
    module = Classifier(str(encoder_folder), tuning=Frozen(solve=False))
    running.fit(module, digits, tmp_path / "run", max_epochs=3, callbacks=[counter], **OPTIONS)
    assert counter.images == len(digits.indices("train")) + len(digits.indices("val"))
    assert module.cached == {}  # and the features are let go of


def test_a_head_trained_by_gradient_learns(encoder_folder: Path, digits: ImageDataModule, tmp_path: Path) -> None:
    module = Classifier(str(encoder_folder), tuning=Frozen(solve=False), optimisation=Optimisation(lr=5e-2))
    run = running.fit(module, digits, tmp_path / "run", max_epochs=15, **OPTIONS)
    assert running.test(Classifier(str(encoder_folder)), digits, run.path)["test/accuracy"] > 0.85


def test_the_solved_head_is_the_solution(encoder_folder: Path, digits: ImageDataModule, tmp_path: Path) -> None:
    module = Classifier(str(encoder_folder), tuning=Frozen(l2=1e-3))
    running.fit(module, digits, tmp_path / "run", **OPTIONS)
    encoder = load_encoder(encoder_folder)
    batches = list(digits.loader("train"))
    with torch.no_grad():
        features = torch.cat([encoder(batch.images) for batch in batches])
    head = solve_logistic(features, torch.cat([batch.targets for batch in batches]), 10, l2=1e-3)
    torch.testing.assert_close(module.head.weight.detach(), head.weight, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(module.head.bias.detach(), head.bias, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tuning", [Frozen(), Frozen(solve=False), Full()])
def test_a_label_budget_counts_validation_labels_too(tuning: Any, encoder_folder: Path, tmp_path: Path) -> None:
    """With other labels in the validation split the same head comes out."""
    states = []
    for name in ("true", "shuffled"):
        data = ImageDataModule("digits", batch_size=128, label_budget=10)
        data.setup()
        assert len(data.indices("train")) == 100
        if name == "shuffled":
            rows = data.indices("val")
            data.table.targets[rows] = (data.table.targets[rows] + 3) % 10
        module = Classifier(str(encoder_folder), tuning=tuning)
        run = running.fit(module, data, tmp_path / name, max_epochs=4, **OPTIONS)
        assert run.metrics()["checkpoint"] == "checkpoints/last.ckpt"
        states.append(module.state_dict())
    assert same(*states)


def test_full_tuning_changes_the_encoder_and_writes_it(
    encoder_folder: Path, digits: ImageDataModule, tmp_path: Path
) -> None:
    module = Classifier(str(encoder_folder), tuning=Full(encoder_lr=0.5))
    run = running.fit(module, digits, tmp_path / "run", max_epochs=2, **OPTIONS)
    before = load_encoder(encoder_folder).state_dict()
    changed = [key for key, value in module.encoder.state_dict().items() if not torch.equal(value, before[key])]
    assert {"network.stem.0.weight", "network.stem.1.running_mean"} <= set(changed)
    images = next(iter(digits.loader("test"))).images
    with torch.no_grad():
        assert torch.equal(load_encoder(run.encoder)(images), module.eval().encoder(images))


def test_the_encoder_learns_at_its_own_rate(encoder_folder: Path, digits: ImageDataModule, tmp_path: Path) -> None:
    rates: list[set[float]] = []

    class Watch(pl.Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
            rates.append({round(group["initial_lr"], 9) for group in trainer.optimizers[0].param_groups})

    module = Classifier(str(encoder_folder), tuning=Full(0.1, layer_decay=0.5), optimisation=Optimisation(lr=1e-2))
    running.fit(module, digits, tmp_path / "run", max_epochs=1, callbacks=[Watch()], **OPTIONS)
    assert rates[0] == {1e-2, 1e-3, 5e-4}  # head, last stage, first stage


def test_from_scratch_takes_the_architecture_and_no_weights(
    encoder_folder: Path, digits: ImageDataModule, tmp_path: Path
) -> None:
    module = Classifier(str(encoder_folder), tuning=Scratch(), optimisation=Optimisation(lr=1e-2))
    run = running.fit(module, digits, tmp_path / "run", max_epochs=8, **OPTIONS)
    loaded = load_encoder(run.encoder)
    assert loaded.spec == load_encoder(encoder_folder).spec
    assert running.test(Classifier(SPEC, tuning=Scratch()), digits, run.path)["test/accuracy"] > 0.9


def test_the_checkpoint_is_that_of_the_best_epoch_and_so_are_the_figures(
    digits: ImageDataModule, tmp_path: Path
) -> None:
    # A rate that first helps and then ruins.
    optimisation = Optimisation(optimiser="sgd", lr=1.0, warmup=0.9, schedule="constant")
    module = Classifier(SPEC, tuning=Scratch(), optimisation=optimisation)
    run = running.fit(module, digits, tmp_path / "run", max_epochs=5, seed=1, **OPTIONS)
    metrics = run.metrics()
    lines = [line.split(",") for line in (run.logs / "metrics.csv").read_text().splitlines()]
    accuracies = [float(row[lines[0].index("val/accuracy")]) for row in lines[1:]]
    assert metrics["checkpoint"] == "checkpoints/best.ckpt"
    assert metrics["val/accuracy"] == pytest.approx(max(accuracies), abs=1e-5)
    found = load_model(run.model)
    batches = list(digits.loader("val"))
    right = [found.predict(batch.images).classes == batch.targets for batch in batches]
    assert float(torch.cat(right).float().mean()) == pytest.approx(metrics["val/accuracy"], abs=1e-5)


def test_the_test_figures_by_hand(encoder_folder: Path, digits: ImageDataModule, tmp_path: Path) -> None:
    run = running.fit(Classifier(str(encoder_folder)), digits, tmp_path / "run", **OPTIONS)
    scored = Classifier(str(encoder_folder))
    metrics = running.test(scored, digits, run.path)
    model = load_model(run.model)
    rows = digits.indices("test")
    predicted = torch.cat([model.predict(batch.images).classes for batch in digits.loader("test")]).numpy()
    truth = digits.table.targets[rows]
    assert metrics["test/accuracy"] == pytest.approx((predicted == truth).mean(), abs=1e-6)
    assert metrics["test/balanced_accuracy"] == pytest.approx(balanced_accuracy_score(truth, predicted), abs=1e-5)
    assert metrics["test/f1_macro"] == pytest.approx(f1_score(truth, predicted, average="macro"), abs=1e-5)
    assert metrics["test/accuracy_low"] < metrics["test/accuracy"] < metrics["test/accuracy_high"]
    assert np.array_equal(scored.confusion.numpy(), confusion_matrix(truth, predicted))
    assert {"test/top5_accuracy", "test/calibration_error", "val/accuracy"} <= metrics.keys()


def _npz(path: Path, **splits: tuple[np.ndarray, np.ndarray]) -> ImageDataModule:
    arrays = {
        f"{kind}_{split}": array for split, pair in splits.items() for kind, array in zip("xy", pair, strict=True)
    }
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return ImageDataModule(str(path), batch_size=64)


def test_unlabelled_images_do_not_teach(tmp_path: Path, digits: ImageDataModule) -> None:
    images = np.concatenate([batch.images.numpy()[:, 0] for batch in digits.loader("train")])[:400]
    labels = digits.table.targets[digits.indices("train")][:400].astype(str)
    held = (images[350:], labels[350:])
    hidden = np.where(np.arange(350) < 150, "", labels[:350])
    heads = []
    for name, train in (("partly", (images[:350], hidden)), ("less", (images[150:350], labels[150:350]))):
        data = _npz(tmp_path / f"{name}.npz", train=train, val=held)
        data.setup()
        data.mean, data.std = [0.3], [0.3]  # the encoder's view of the images is the same
        module = Classifier(SPEC, tuning=Frozen(l2=1e-2))
        running.fit(module, data, tmp_path / name, **OPTIONS)
        heads.append(module.head.state_dict())
    torch.testing.assert_close(heads[0], heads[1], rtol=1e-3, atol=1e-4)


def test_views_and_smoothing_are_for_training_alone(digits: ImageDataModule, tmp_path: Path) -> None:
    views = Views(horizontal_flip=0.0, crop_scale=(0.7, 1.0))
    module = Classifier(SPEC, tuning=Scratch(), views=views, label_smoothing=0.1)
    run = running.fit(module, digits, tmp_path / "run", max_epochs=1, **OPTIONS)
    batch = next(iter(digits.loader("val")))
    model = load_model(run.model)
    torch.testing.assert_close(module.eval()(batch.images).detach(), model.predict(batch.images).scores)
    in_training = module._training_features(batch, batch.targets >= 0).detach()
    assert not torch.allclose(in_training, module.encoder(batch.images).detach())


def test_a_class_that_no_training_image_has(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (40, 8, 8), dtype=np.uint8)
    labels = np.arange(40) % 2
    labels[35] = 2
    data = _npz(tmp_path / "odd.npz", train=(images[:30], labels[:30]), test=(images[30:], labels[30:]))
    with pytest.raises(ValueError, match=r"class '2' occurs in the test split but no training image has it"):
        running.fit(Classifier(SPEC), data, tmp_path / "run", **OPTIONS)
    assert RunFolder(tmp_path / "run").used() == []


def test_images_without_labels_cannot_be_classified(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.zeros((20, 8, 8), np.uint8) + np.arange(20, dtype=np.uint8)[:, None, None])
    with pytest.raises(ValueError, match="has no class labels"):
        running.fit(Classifier(SPEC), ImageDataModule(str(tmp_path / "images.npy")), tmp_path / "run", **OPTIONS)


def test_other_classes_than_those_of_the_fit(tmp_path: Path, encoder_folder: Path, digits: ImageDataModule) -> None:
    run = running.fit(Classifier(str(encoder_folder)), digits, tmp_path / "run", **OPTIONS)
    images = np.concatenate([batch.images.numpy()[:, 0] for batch in digits.loader("val")])
    np.savez(tmp_path / "other.npz", images=images, labels=np.arange(len(images)) % 3)
    data = ImageDataModule(str(tmp_path / "other.npz"), test_fraction=0.3)
    with pytest.raises(ValueError, match="differ from the 10 that the model was fitted on"):
        running.test(Classifier(str(encoder_folder)), data, run.path)


@pytest.mark.parametrize("value", [-0.1, 1.0])
def test_bad_smoothing(value: float) -> None:
    with pytest.raises(ValueError, match="label_smoothing"):
        Classifier(label_smoothing=value)
