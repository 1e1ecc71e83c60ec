"""The adapter on digits and the same in another light: what it learns, reads, keeps, says and refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits

from ssl_transfer.cli import main
from ssl_transfer.data.domains import DomainDataModule
from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.data.sources.mnistm import blend
from ssl_transfer.data.views import Views
from ssl_transfer.downstream import (
    CDAN,
    CORAL,
    DANN,
    Adaptation,
    AsIs,
    BatchNormStatistics,
    DomainAdapter,
    Frozen,
    Full,
    Gradual,
    LinearThenFull,
    LoRA,
    Partial,
    Scratch,
    SelfTraining,
    SourceOnly,
    SubspaceAlignment,
    Tuning,
    load_model,
)
from ssl_transfer.downstream.adaptation import checks, comparison, judging, statistics
from ssl_transfer.encoders import EncoderSpec
from ssl_transfer.optimisation import Optimisation
from ssl_transfer.running.fit import fit, predict
from ssl_transfer.running.fit import test as score
from ssl_transfer.running.folder import RunFolder
from ssl_transfer.running.recorder import RunCheckpoint

OPTIONS: dict[str, Any] = {"enable_progress_bar": False, "verbose": False, "precision": "32-true", "seed": 3}
SPEC = EncoderSpec(arguments={"widths": [8, 16], "strides": [1, 2]}, pool=2)
TRAIN = 600


class Killed(Exception):
    """The process died."""


class KillAt(pl.Callback):
    """Ends a fit before a step, as a power cut would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            raise Killed


@pytest.fixture(scope="session")
def domains(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Files: digits with labels, and others in a dim light, with their labels, with false ones, and without."""
    digits = load_digits()
    images, labels = np.rint(digits.images * 255 / 16).astype(np.uint8), digits.target
    dim = (0.3 * images + 120).astype(np.uint8)
    folder = tmp_path_factory.mktemp("domains")
    partly = labels[:TRAIN].copy()
    partly[::3] = -1
    test_split = {"x_test": dim[-400:], "y_test": labels[-400:]}
    target = slice(TRAIN, 2 * TRAIN)
    np.savez(folder / "source.npz", x_train=images[:TRAIN], y_train=labels[:TRAIN])
    np.savez(folder / "partly.npz", x_train=images[:TRAIN], y_train=partly)
    np.savez(folder / "dim.npz", x_train=dim[target], y_train=labels[target], **test_split)
    np.savez(folder / "false.npz", x_train=dim[target], y_train=(labels[target] + 3) % 10, **test_split)
    np.savez(folder / "few.npz", x_train=dim[target][:20])
    np.savez(folder / "none.npz", x_train=dim[target])
    return {path.stem: str(path) for path in folder.iterdir()}


@pytest.fixture
def pair(domains: dict[str, str]) -> Callable[..., DomainDataModule]:
    def made(source: str = "source", target: str = "dim", **options: Any) -> DomainDataModule:
        return DomainDataModule(domains[source], domains[target], **{"batch_size": 64, **options})

    return made


Pair = Callable[..., DomainDataModule]


def adapter(method: Adaptation, tuning: Tuning | None = None, **options: Any) -> DomainAdapter:
    optimisation = Optimisation(lr=1.5e-2)
    return DomainAdapter(SPEC, method, tuning or Full(), **{"optimisation": optimisation, **options})


def figures(run: RunFolder) -> dict[str, Any]:
    return dict(run.metrics())


def accuracy(method: Adaptation, data: DomainDataModule, path: Path, tuning: Tuning | None = None) -> float:
    module = adapter(method, tuning)
    run = fit(module, data, path, **OPTIONS, **({} if module.solves else {"max_epochs": 6}))
    return float(score(module, data, run.path, enable_progress_bar=False)["test/accuracy"])


def weights(path: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["state_dict"]
    return state


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


# ---- learning


def test_adapting_wins_back_what_another_light_costs(pair: Pair, tmp_path: Path) -> None:
    found = {
        type(method).__name__: accuracy(method, pair(), tmp_path / type(method).__name__)
        for method in (SourceOnly(), BatchNormStatistics(), DANN())
    }
    assert found["BatchNormStatistics"] > found["SourceOnly"] + 0.3
    assert found["DANN"] > found["SourceOnly"] + 0.3


def test_aligning_frozen_features_helps(pair: Pair, tmp_path: Path) -> None:
    found = {
        type(method).__name__: accuracy(method, pair(), tmp_path / type(method).__name__, Frozen())
        for method in (SourceOnly(), CORAL(), SubspaceAlignment())
    }
    assert found["CORAL"] > found["SourceOnly"] + 0.2
    assert found["SubspaceAlignment"] > found["SourceOnly"] + 0.1


# ---- labels


@pytest.mark.parametrize(("method", "tuning"), [(DANN(hidden=8), Full()), (CORAL(), Frozen())])
def test_false_labels_of_the_target_change_no_bit(
    method: Adaptation, tuning: Tuning, pair: Pair, tmp_path: Path
) -> None:
    runs = []
    for target in ("dim", "false"):
        options = {} if isinstance(tuning, Frozen) else {"max_epochs": 2}
        runs.append(fit(adapter(method, tuning), pair(target=target), tmp_path / target, **OPTIONS, **options))
    assert same(weights(runs[0].last), weights(runs[1].last))
    told = [{k: v for k, v in figures(run).items() if k.startswith(("val/", "train/loss"))} for run in runs]
    assert told[0] == told[1]


def test_what_is_said_of_labels(pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    of_target = f"{TRAIN} labels of data.target are not read, but by a test"
    for source, target, said in (("source", "dim", [of_target]), ("partly", "none", None), ("source", "none", [])):
        data = pair(source, target)
        run = fit(adapter(CORAL(), Frozen()), data, tmp_path / (source + target), **OPTIONS)
        found = [text for text in figures(run)["remarks"] if "label" in text]
        assert found == (data.remarks if said is None else said)
        assert said is not None or "training images of data.source" in found[0]
        shown = capsys.readouterr().out
        assert all(f"note: {text}" in shown for text in found)
        assert not any("label" in text for text in figures(run)["warnings"])


@pytest.mark.parametrize(("method", "tuning"), [(DANN(hidden=8), Full()), (SubspaceAlignment(), Frozen())])
def test_source_images_without_a_label_teach_nothing_of_classes(
    method: Adaptation, tuning: Tuning, pair: Pair, tmp_path: Path
) -> None:
    options = {} if isinstance(tuning, Frozen) else {"max_epochs": 1}
    run = fit(
        adapter(method, tuning),
        pair(source="partly", batch_size=4),
        tmp_path,
        limit_train_batches=25,
        **OPTIONS,
        **options,
    )
    assert np.isfinite(figures(run)["train/loss"])


# ---- what is kept


def test_the_kept_encoder_holds_the_targets_statistics(pair: Pair, tmp_path: Path) -> None:
    data = pair()
    module = adapter(DANN(hidden=8), weight_average=0.9)
    run = fit(module, data, tmp_path, max_epochs=2, **OPTIONS)
    encoder = load_model(run.model).encoder
    norms = [m for m in encoder.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    before = [norm.running_mean.clone() for norm in norms]  # type: ignore[union-attr]
    encoder.train()
    statistics.measure(encoder, norms, data, data.domain("train", True))
    for norm, kept in zip(norms, before, strict=True):
        assert torch.allclose(norm.running_mean, kept, atol=1e-5)  # type: ignore[arg-type]
    images = torch.from_numpy(data.images(data.indices("test")[:20]))
    module.eval()
    assert torch.allclose(load_model(run.model).predict(images).scores, module(images), atol=1e-5)


def test_they_are_measured_without_a_validation_too(pair: Pair, tmp_path: Path) -> None:
    found = [
        fit(adapter(BatchNormStatistics()), pair(**options), tmp_path / str(number), max_epochs=2, **OPTIONS)
        for number, options in enumerate(({"val_fraction": 0.0}, {"val_fraction": 0.0}))
    ]
    data = pair(val_fraction=0.0)
    data.setup()
    encoder = load_model(found[0].model).encoder
    first = next(m for m in encoder.modules() if isinstance(m, torch.nn.BatchNorm2d))
    kept = first.running_mean.clone()  # type: ignore[union-attr]
    encoder.train()
    statistics.measure(encoder, [first], data, data.domain("train", True))
    assert torch.allclose(first.running_mean, kept, atol=1e-5)  # type: ignore[arg-type]


def test_frozen_statistics_stay(encoder_folder: Path, pair: Pair, tmp_path: Path) -> None:
    module = DomainAdapter(str(encoder_folder), DANN(hidden=8), Full(batch_norm="frozen"))
    run = fit(module, pair(), tmp_path, max_epochs=1, **OPTIONS)
    state, start = load_model(run.model).encoder.state_dict(), weights_of(encoder_folder)
    assert all(torch.equal(state[name], value) for name, value in start.items() if "running" in name)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    from ssl_transfer.encoders import load_encoder

    return load_encoder(folder).state_dict()


@pytest.mark.parametrize(
    ("make", "step"),
    [
        (lambda: adapter(DANN(hidden=8), views=Views(horizontal_flip=0.0)), 26),
        (lambda: adapter(CDAN(hidden=8), weight_average=0.9), 12),
        (lambda: adapter(SelfTraining(), views=Views(horizontal_flip=0.0)), 26),
        (lambda: adapter(BatchNormStatistics(), select_by="source_risk"), 12),
    ],
    ids=["DANN", "CDAN", "SelfTraining", "BatchNormStatistics"],
)
def test_going_on_in_the_middle_of_an_epoch(make: Callable[[], Any], step: int, pair: Pair, tmp_path: Path) -> None:
    whole = fit(make(), pair(), tmp_path / "whole", max_epochs=2, **OPTIONS)
    checkpoint = RunCheckpoint(every_n_steps=5)
    with pytest.raises(Killed):
        options = {**OPTIONS, "callbacks": [KillAt(step)], "checkpoint": checkpoint}
        fit(make(), pair(), tmp_path / "run", max_epochs=2, **options)
    with pytest.raises(ValueError, match="is of a fit on other images"):
        fit(make(), pair(target="source"), tmp_path / "run", max_epochs=2, resume=True, **OPTIONS)
    torch.manual_seed(99)
    resumed = fit(make(), pair(), tmp_path / "run", max_epochs=2, resume=True, **OPTIONS)
    assert same(weights(whole.last), weights(resumed.last))
    told = [
        {k: v for k, v in figures(run).items() if "/" in k and "second" not in k and "wait" not in k}
        for run in (whole, resumed)
    ]
    assert told[0] == told[1]


def test_a_comparison_survives_a_resume(encoder_folder: Path, pair: Pair, tmp_path: Path) -> None:
    plain = fit(DomainAdapter(str(encoder_folder), SourceOnly(), Frozen()), pair(), tmp_path / "plain", **OPTIONS)

    def make() -> DomainAdapter:
        return DomainAdapter(str(encoder_folder), CORAL(), LinearThenFull(), compare_with=str(plain.model))

    options = {**OPTIONS, "max_epochs": 2, "limit_train_batches": 5}
    whole = fit(make(), pair(), tmp_path / "whole", **options)
    with pytest.raises(Killed):
        fit(make(), pair(), tmp_path / "run", callbacks=[KillAt(7)], **options)
    resumed = fit(make(), pair(), tmp_path / "run", resume=True, **options)
    assert figures(whole)["val/validators_for_adapting"] == figures(resumed)["val/validators_for_adapting"]
    assert figures(whole)["warnings"] == figures(resumed)["warnings"]
    assert figures(whole)["verdict"] == figures(resumed)["verdict"]


def test_a_checkpoint_that_knows_no_margin_still_ends_in_a_verdict(pair: Pair, tmp_path: Path) -> None:
    plain = fit(adapter(SourceOnly()), pair(), tmp_path / "plain", max_epochs=1, **OPTIONS)
    options = {**OPTIONS, "max_epochs": 3, "limit_train_batches": 5}
    with pytest.raises(Killed):
        module = adapter(BatchNormStatistics(), compare_with=str(plain.model))
        fit(module, pair(), tmp_path / "run", callbacks=[KillAt(12)], **options)
    for file in (tmp_path / "run" / "checkpoints").iterdir():
        checkpoint = torch.load(file, weights_only=True)
        checkpoint.pop("comparison")
        for state in checkpoint["callbacks"].values():
            for name in ("validators_against", "validators_margin"):
                state.get("best_figures", {}).pop(f"val/{name}", None)
        torch.save(checkpoint, file)
    module = adapter(BatchNormStatistics(), compare_with=str(plain.model))
    run = fit(module, pair(), tmp_path / "run", resume=True, **options)
    assert figures(run)["verdict"]


# ---- figures and choice


def test_every_validator_is_in_metrics_json(pair: Pair, tmp_path: Path) -> None:
    run = fit(adapter(DANN(hidden=8), select_by="source_risk"), pair(), tmp_path, max_epochs=3, **OPTIONS)
    told = figures(run)
    assert {f"val/{name}" for name in judging.NAMES} | {"val/accuracy", "val/target_classes"} <= told.keys()
    assert {"train/domain_accuracy", "train/adaptation_gradient", "train/source_loss"} <= told.keys()
    assert told["train/adaptation_gradient"] > 0 and told["best_by"] == "val/source_risk"
    curve = [row["val/source_risk"] for row in history(run)]
    assert told["best_epoch"] == 1 + int(np.argmin(curve)) and told["val/source_risk"] == pytest.approx(min(curve))


def history(run: RunFolder) -> list[dict[str, float]]:
    import csv

    with (run.logs / "metrics.csv").open(newline="") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


def test_a_higher_figure_is_better_where_it_is(pair: Pair, tmp_path: Path) -> None:
    run = fit(adapter(SourceOnly()), pair(), tmp_path, max_epochs=3, **OPTIONS)
    curve = [row["val/bnm"] for row in history(run)]
    assert figures(run)["best_by"] == "val/bnm" and figures(run)["best_epoch"] == 1 + int(np.argmax(curve))


def test_the_accuracy_is_that_of_the_source_by_its_own_statistics(pair: Pair, tmp_path: Path) -> None:
    """The network that is kept has the target's, and reads the source worse."""
    data = pair()
    module = adapter(BatchNormStatistics(), select_by=None)
    run = fit(module, data, tmp_path, max_epochs=3, **OPTIONS)
    rows = data.domain("val", False)
    encoder = module.encoder
    norms = [m for m in encoder.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    statistics.measure(encoder, norms, data, data.domain("train", False))
    module.eval()
    with torch.no_grad():
        right = (module(torch.from_numpy(data.images(rows))).argmax(1).numpy() == data.table.targets[rows]).mean()
    assert figures(run)["val/accuracy"] == pytest.approx(right)


def test_without_validation_images_the_last_epoch_counts(pair: Pair, tmp_path: Path) -> None:
    run = fit(adapter(DANN(hidden=8)), pair(val_fraction=0.0), tmp_path, max_epochs=1, **OPTIONS)
    assert figures(run)["checkpoint"] == "checkpoints/last.ckpt"


def test_a_dead_domain_classifier_is_noticed(pair: Pair, tmp_path: Path) -> None:
    class Dead(DANN):
        """Its domain classifier has died."""

        def heads(self, feature_dim: int, classes: int) -> torch.nn.Module:
            made = super().heads(feature_dim, classes)
            return made.requires_grad_(False).apply(lambda m: [p.data.zero_() for p in m.parameters(recurse=False)])

    weak = DANN(hidden=8, strength=1e-9)
    for method in (Dead(), weak):
        run = fit(adapter(method), pair(), tmp_path / type(method).__name__, max_epochs=1, **OPTIONS)
        assert figures(run)["train/adaptation_gradient"] < 1e-9 < figures(run)["train/classification_gradient"]
        assert any("next to nothing of the target reaches the encoder" in text for text in figures(run)["warnings"])


def test_gradients_are_told_as_without_accumulation(pair: Pair, tmp_path: Path) -> None:
    """Two batches of which one step is made: each gradient is that of its batch's own loss."""
    told = []
    for number, batches in enumerate((1, 4)):
        run = fit(
            adapter(DANN(hidden=8), optimisation=Optimisation(lr=1e-12, weight_decay=0)),
            pair(),
            tmp_path / str(number),
            max_epochs=1,
            accumulate_grad_batches=batches,
            limit_train_batches=4,
            **OPTIONS,
        )
        told.append(figures(run)["train/classification_gradient"])
    assert told[0] == pytest.approx(told[1], rel=1e-3)


def test_few_answered_classes_are_noticed(pair: Pair, tmp_path: Path) -> None:
    run = fit(adapter(SourceOnly()), pair(), tmp_path, max_epochs=3, **OPTIONS)
    assert any("target images are answered with few classes" in text for text in figures(run)["warnings"])


def test_of_frozen_features_the_verdict_compares_with_a_head_on_the_source(
    encoder_folder: Path, pair: Pair, tmp_path: Path
) -> None:
    run = fit(DomainAdapter(str(encoder_folder), CORAL(), Frozen()), pair(), tmp_path / "a", **OPTIONS)
    assert figures(run)["val/validators_for_adapting"] >= 0.5
    same_domain = pair(target="source")
    run = fit(
        DomainAdapter(str(encoder_folder), SubspaceAlignment(1), Frozen()), same_domain, tmp_path / "b", **OPTIONS
    )
    assert figures(run)["verdict"].startswith("do not adapt")


def test_the_verdict_is_right_where_a_plain_head_collapses(real_data: Path, tmp_path: Path) -> None:
    """MNIST, and MNIST over photographs: CORAL on frozen features answers most of them, the plain head hardly any."""
    from torchvision.datasets import MNIST

    if not (real_data / "MNIST").is_dir() or not (real_data / "bsds500" / "train").is_dir():
        pytest.skip("MNIST or the photographs are not here")
    digits = MNIST(str(real_data), train=True)
    images, labels = digits.data.numpy()[:1200], digits.targets.numpy()[:1200]
    photographs = sorted((real_data / "bsds500" / "train").iterdir())[:20]
    draws = np.random.default_rng(0).integers(0, 2**62, 600).astype(np.uint64)
    grey = np.repeat(images[:600, :, :, None], 3, axis=3)
    split = {"x_test": blend(images[600:], photographs, draws)[-200:], "y_test": labels[-200:]}
    np.savez(tmp_path / "mnist.npz", x_train=grey, y_train=labels[:600])
    np.savez(tmp_path / "mnistm.npz", x_train=blend(images[600:], photographs, draws)[:-200], **split)
    found, runs = [], []
    for method in (SourceOnly(), CORAL()):
        data = DomainDataModule(str(tmp_path / "mnist.npz"), str(tmp_path / "mnistm.npz"), batch_size=64)
        module = DomainAdapter("oriented_gradients", method, Frozen())
        runs.append(fit(module, data, tmp_path / type(method).__name__, **OPTIONS))
        found.append(score(module, data, runs[-1].path, enable_progress_bar=False)["test/accuracy"])
    assert found[1] > found[0] + 0.3
    told = figures(runs[1])
    assert told["verdict"].startswith("adapt:") and told["val/compared_classes"] < told["val/target_classes"] / 2


def test_what_training_alone_changes_is_no_reason_to_adapt(encoder_folder: Path, pair: Pair, tmp_path: Path) -> None:
    """Source and target are one, and the method does nothing: without a fair comparison there is no verdict."""
    nothing = DANN(hidden=8, strength=1e-9)
    module = DomainAdapter(str(encoder_folder), nothing, Full())
    alone = fit(module, pair(target="source"), tmp_path / "alone", max_epochs=1, **OPTIONS)
    assert "val/validators_for_adapting" not in figures(alone)
    assert "give --model.compare_with the DIR/model" in figures(alone)["verdict"]
    assert any("100% of the target's images are among the source's" in text for text in figures(alone)["remarks"])
    options = {**OPTIONS, "max_epochs": 5}
    plain = fit(adapter(SourceOnly()), pair(target="source"), tmp_path / "plain", **options)
    assert figures(plain)["verdict"] is None
    compared = adapter(nothing, compare_with=str(plain.model))
    run = fit(compared, pair(target="source"), tmp_path / "compared", **options)
    assert figures(run)["val/validators_for_adapting"] < 0.5 and "do not adapt" in figures(run)["verdict"]


def test_the_verdict_compares_with_another_run(pair: Pair, tmp_path: Path) -> None:
    plain = fit(adapter(SourceOnly()), pair(), tmp_path / "plain", max_epochs=6, **OPTIONS)
    adapted = adapter(BatchNormStatistics(), compare_with=str(plain.model))
    run = fit(adapted, pair(), tmp_path / "adapted", max_epochs=6, **OPTIONS)
    assert figures(run)["val/validators_for_adapting"] == 1 and not told_of_splits(run)
    same = fit(adapter(SourceOnly(), compare_with=str(plain.model)), pair(), tmp_path / "same", max_epochs=6, **OPTIONS)
    assert figures(same)["val/validators_for_adapting"] == 0  # none is above itself
    assert not figures(same)["verdict"].startswith("adapt")
    assert figures(run)["verdict"].startswith("adapt:") and str(plain.model) in figures(run)["verdict"]
    page = run.summary.read_text()
    assert f"<h1>DomainAdapter from {pair().source} to {pair().target}</h1>" in page
    assert "Adapt: " in page and "source accuracy" in page
    card = (run.model / "README.md").read_text()
    assert pair().source in card and card.startswith("# Classifier adapted from")
    with pytest.raises(ValueError, match=r"model\.compare_with: .*is no model folder: give the DIR/model of"):
        fit(adapter(DANN(), compare_with=str(plain.path)), pair(), tmp_path / "none", max_epochs=1, **OPTIONS)
    for options, said in (
        ({"size": 4}, "reads images of the shape"),
        ({"channels": 3}, "reads images of the shape"),
        ({"resize": "pad"}, "was fitted with data.resize crop, and here it is pad"),
    ):
        with pytest.raises(ValueError, match=rf"model\.compare_with: .* {said}"):
            comparison.open_model(plain.model, ready(pair(**options)))
    for options in ({"seed": 1}, {"val_fraction": 0.2}):
        doubts = comparison.doubts(str(plain.model), ready(pair(**options)))
        assert len(doubts) == 1 and "was fitted on another split of the source" in doubts[0]


def ready(data: DomainDataModule) -> DomainDataModule:
    data.setup("fit")
    return data


def told_of_splits(run: RunFolder) -> bool:
    return any("was fitted on another split of the source" in text for text in figures(run)["warnings"])


def test_a_verdict_reads_no_labels_beyond_the_budget(pair: Pair, tmp_path: Path) -> None:
    run = fit(adapter(CORAL(), Frozen()), pair(label_budget=5), tmp_path, **OPTIONS)
    assert "val/validators_for_adapting" not in figures(run)
    assert "it cannot be told whether adapting helped: it takes labels" in figures(run)["verdict"]


def test_the_epoch_that_is_kept_is_judged(pair: Pair, tmp_path: Path) -> None:
    """The domains are told apart in the first epoch, which is kept, and no longer in the last."""

    class Falling(SourceOnly):
        """Says what a domain classifier would."""

        def loss(self, heads: Any, source: Any, target: Any, progress: float) -> Any:
            right = torch.tensor(1.0 if progress < 0.5 else 0.5)
            return super().loss(heads, source, target, progress)[0], {"domain_accuracy": right}

    class Rising(Falling):
        """The other way round."""

        def loss(self, heads: Any, source: Any, target: Any, progress: float) -> Any:
            return super().loss(heads, source, target, 1 - progress - 1e-6)

    for method, said in ((Falling(), True), (Rising(), False)):
        options = {**OPTIONS, "max_epochs": 2, "callbacks": [KeepFirst()]}
        run = fit(adapter(method, select_by="snd"), pair(), tmp_path / type(method).__name__, **options)
        assert figures(run)["best_epoch"] == 1
        found = [text for text in figures(run)["warnings"] if "tells 100.0% of the images apart" in text]
        assert [text.startswith("The network that is kept:") for text in found] == [True] * said


class KeepFirst(pl.Callback):
    """Whatever the validators say, the first epoch is the best."""

    def on_validation_start(self, trainer: pl.Trainer, *_: Any) -> None:
        checkpoint = next(c for c in trainer.callbacks if isinstance(c, RunCheckpoint))  # type: ignore[attr-defined]
        if trainer.current_epoch:
            checkpoint.best_value = 1e9


# ---- views


def test_an_image_that_comes_round_again_has_another_view(pair: Pair, tmp_path: Path) -> None:
    """20 target images against 540 of the source: each comes many times in an epoch, some twice in a batch."""

    runs = []
    for number in range(2):
        views = Seen(horizontal_flip=0.0)
        fit(adapter(DANN(hidden=8), views=views), pair(target="few"), tmp_path / str(number), max_epochs=1, **OPTIONS)
        runs.append(views.given)
    most = max(runs[0].values(), key=len)
    assert len(most) > 20
    assert not any(torch.equal(view, other) for place, view in enumerate(most) for other in most[:place])
    assert runs[0].keys() == runs[1].keys()
    assert all(torch.equal(torch.stack(own), torch.stack(runs[1][image])) for image, own in runs[0].items())


class Seen(Views):
    """Keeps what it gave, by the pixels of the image."""

    given: dict[bytes, list[torch.Tensor]]

    def __call__(self, images: torch.Tensor, rng: Any) -> torch.Tensor:
        made = super().__call__(images, rng)
        self.given = getattr(self, "given", {})
        for image, view in zip(images, made.detach(), strict=True):
            self.given.setdefault(image.numpy().tobytes(), []).append(view)
        return made


@pytest.mark.filterwarnings("ignore:.*LeafSpec")
def test_an_adapter_with_layers_in_its_head(pair: Pair, tmp_path: Path) -> None:
    class Deep(DomainAdapter):
        def _new_head(self) -> torch.nn.Module:
            width = self.encoder.feature_dim
            return torch.nn.Sequential(torch.nn.Linear(width, 20), torch.nn.ReLU(), torch.nn.Linear(20, 10))

    module = Deep(SPEC, BatchNormStatistics(), optimisation=Optimisation(lr=1.5e-2))
    trainer = pl.Trainer(
        default_root_dir=tmp_path, max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    trainer.fit(module, datamodule=pair())
    assert trainer.callback_metrics["val/bnm"] > 0


# ---- the command line


def arguments(domains: dict[str, str], path: Path, *more: str) -> list[str]:
    return [
        *("--model", "DomainAdapter", "--model.method", "DANN", "--model.method.hidden", "8"),
        *("--model.encoder.arguments", '{"widths": [8, 16], "strides": [1, 2]}', "--model.encoder.pool", "2"),
        *("--data", "DomainDataModule", "--data.source", domains["source"], "--data.target", domains["dim"]),
        *("--data.batch_size", "64", "--trainer.enable_progress_bar", "false", "--trainer.default_root_dir", str(path)),
        *more,
    ]


def test_fit_test_and_predict(domains: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = arguments(domains, tmp_path)
    assert main(["fit", *given, "--trainer.max_epochs", "2"]) == 0
    assert main(["test", *given]) == 0 and main(["predict", *given]) == 0
    run = RunFolder(tmp_path)
    told = json.loads((tmp_path / "metrics.json").read_text())
    assert {"test/accuracy", "test/accuracy_low", "val/bnm"} <= told.keys()
    table = pq.read_table(run.predictions)
    assert table.column_names == ["path", "split", "domain", "prediction", "scores"]
    assert table["domain"].to_pylist().count("target") == TRAIN + 400
    config = json.loads((run.model / "config.json").read_text())
    assert (config["method"], config["tuning"]) == ("DANN", "Full")
    assert config["data"]["domains"]["target"]["test"] == 400
    answers = load_model(run.model).predict(torch.zeros(2, 1, 8, 8, dtype=torch.uint8))
    assert len(answers.labels) == 2
    capsys.readouterr()


def test_the_configuration_of_a_run_is_valid_from_any_folder(
    domains: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    short = ("--trainer.max_epochs", "1", "--trainer.limit_train_batches", "1")
    assert main(["fit", *arguments(domains, tmp_path / "floor", *short)]) == 0
    assert main(["fit", *arguments(domains, tmp_path / "run", *short), "--model.compare_with", "floor/model"]) == 0
    assert f"compare_with: {tmp_path / 'floor' / 'model'}" in (tmp_path / "run" / "config.yaml").read_text()


@pytest.mark.parametrize(("method", "tuning"), [(DANN(hidden=8), Full()), (CORAL(), Frozen())])
def test_validate_shows_what_the_fit_said(
    method: Adaptation, tuning: Tuning, domains: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = type(method).__name__
    given = arguments(domains, tmp_path, "--model.method", name, "--model.tuning", type(tuning).__name__)
    given = [text for text in given if not text.startswith("--model.method.")]
    given.remove("8")
    epochs = ["--trainer.max_epochs", "2"] if name == "DANN" else []
    assert main(["fit", *given, *epochs]) == 0
    before = json.loads((tmp_path / "metrics.json").read_text())
    capsys.readouterr()
    assert main(["validate", *given]) == 0
    shown = dict(line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("val/"))
    wanted = {f"val/{own}" for own in judging.NAMES} | {"val/accuracy", "val/target_classes"}
    assert wanted | ({"val/validators_for_adapting"} if name == "CORAL" else set()) <= shown.keys()
    after = json.loads((tmp_path / "metrics.json").read_text())
    assert {k: v for k, v in after.items() if k.startswith("val/")} == pytest.approx(
        {k: v for k, v in before.items() if k.startswith("val/")}, rel=1e-3
    )


def test_source_images_are_predicted_by_the_sources_head(
    encoder_folder: Path, pair: Pair, domains: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = DomainAdapter(str(encoder_folder), CORAL(), Frozen())
    run = fit(module, pair(), tmp_path / "solved", **OPTIONS)
    told = pq.read_table(predict(module, pair(), run.path)).to_pydict()
    labels = np.load(domains["source"])["y_train"]
    places = zip(told["domain"], told["split"], strict=True)
    rows = [row for row, place in enumerate(places) if place == ("source", "val")]
    right = np.mean([told["prediction"][row] == str(labels[row]) for row in rows])
    assert right == pytest.approx(figures(run)["val/accuracy"], abs=1e-6)
    capsys.readouterr()
    module = adapter(BatchNormStatistics())
    run = fit(module, pair(), tmp_path / "norms", max_epochs=1, **OPTIONS)
    notes = pq.read_table(predict(module, pair(), run.path)).schema.metadata
    assert b"BatchNorm statistics of data.target" in notes[b"source_rows"]
    assert "images of data.source are answered with the BatchNorm statistics" in capsys.readouterr().out


def test_predicting_other_images(domains: dict[str, str], pair: Pair, tmp_path: Path) -> None:
    run = fit(adapter(CORAL(), Frozen()), pair(), tmp_path, **OPTIONS)
    data = ImageDataModule(domains["none"])
    path = predict(adapter(CORAL(), Frozen()), data, run.path)
    assert pq.read_table(path).num_rows == TRAIN


def test_no_test_split_of_the_target(domains: dict[str, str], tmp_path: Path, mistake: Callable[..., str]) -> None:
    given = [text.replace(domains["dim"], domains["none"]) for text in arguments(domains, tmp_path)]
    assert main(["fit", *given, "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "1"]) == 0
    assert f"data.target {domains['none']} has no test split: fit and score with --data.test_fraction" in mistake(
        "test", *given
    )


def test_a_test_needs_labels(domains: dict[str, str], tmp_path: Path, mistake: Callable[..., str]) -> None:
    given = [text.replace(domains["dim"], domains["none"]) for text in arguments(domains, tmp_path)]
    given += ["--data.test_fraction", "0.2"]
    assert main(["fit", *given, "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "1"]) == 0
    page = RunFolder(tmp_path).summary.read_text()
    said = mistake("test", *given)
    assert RunFolder(tmp_path).summary.read_text() == page
    assert f"data.target {domains['none']}: no test image has a label" in said and "into class folders" in said


def test_another_data_module(domains: dict[str, str], tmp_path: Path, mistake: Callable[..., str]) -> None:
    said = mistake(
        *("fit", "--model", "DomainAdapter", "--data.source", domains["source"]),
        *("--trainer.default_root_dir", str(tmp_path / "run")),
    )
    assert "a DomainAdapter learns from two domains: take --data DomainDataModule --data.target" in said
    assert not (tmp_path / "run").exists()


def test_paths_are_looked_at_before_images(
    pair: Pair, tmp_path: Path, encoder_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = fit(DomainAdapter(str(encoder_folder), SourceOnly(), Frozen()), pair(), tmp_path / "plain", **OPTIONS)
    with pytest.raises(ValueError, match=r"model\.compare_with: .* reads images of the shape"):
        fit(adapter(DANN(), compare_with=str(plain.model)), pair(size=4), tmp_path / "run", **OPTIONS)
    assert not (tmp_path / "run").exists()
    monkeypatch.setattr(DomainDataModule, "setup", unread)
    for module, said in (
        (DomainAdapter(str(tmp_path / "nosuch/encoder")), "encoder folder .*nosuch/encoder does not exist"),
        (adapter(DANN(), compare_with=str(tmp_path / "nosuch")), r"model\.compare_with: .*nosuch is no model folder"),
        (adapter(DANN(), compare_with=str(encoder_folder)), r"model\.compare_with: .* is no model folder"),
    ):
        with pytest.raises(ValueError, match=said):
            fit(module, pair(), tmp_path / "run", **OPTIONS)
        assert not (tmp_path / "run").exists()


def unread(*_: Any) -> None:
    raise AssertionError("images were read")


def test_a_frozen_network_with_random_weights_is_noticed(
    encoder_folder: Path, pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, (encoder, noticed) in enumerate(
        ((SPEC, True), ("small_resnet", True), ("oriented_gradients", False), (str(encoder_folder), False))
    ):
        run = fit(DomainAdapter(encoder, CORAL(), Frozen()), pair(size=32), tmp_path / str(number), **OPTIONS)
        assert any("its weights are random" in text for text in figures(run)["warnings"]) == noticed
        assert ("its weights are random: give --model.encoder" in capsys.readouterr().out) == noticed


def test_hardly_any_images_and_the_same_ones_are_noticed(pair: Pair) -> None:
    few = ready(pair(target="few"))
    assert checks.remarks(few) == [
        "there are few images to learn from and to be judged by, 20 of data.target: figures of so few say next to "
        "nothing; give hundreds"
    ]
    same = ready(pair(target="source"))
    assert any("100% of the target's images are among the source's" in text for text in checks.remarks(same))


def test_a_solved_head_takes_one_epoch(pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = fit(adapter(CORAL(), Frozen()), pair(), tmp_path, max_epochs=3, **OPTIONS)
    assert "takes one epoch, not trainer.max_epochs 3" in capsys.readouterr().out
    assert figures(run)["images_seen"] < 2 * 2 * TRAIN


# ---- refusals


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: adapter(SubspaceAlignment()), "SubspaceAlignment aligns frozen features .* Full .*: take Frozen"),
        (lambda: adapter(DANN(), Frozen()), "DANN does not go with tuning Frozen as it is: take another tuning"),
        (lambda: adapter(BatchNormStatistics(), Frozen()), "BatchNormStatistics does not go with tuning Frozen"),
        (lambda: adapter(CORAL(), Frozen(solve=False)), "CORAL does not go with .*: take solve=true"),
        (lambda: adapter(SourceOnly(), AsIs()), "tuning AsIs is for a Classifier"),
        (lambda: adapter(DANN(), select_by="accuracy"), "model.select_by must be .*bnm.* not 'accuracy'"),
        (lambda: adapter(SelfTraining()), "SelfTraining teaches changed views .* give --model.views"),
        (lambda: adapter(CORAL(), Frozen(), views=Views()), "model.views is for training by gradient"),
    ],
)
def test_what_does_not_go_together(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(ValueError, match=said) as error:
        make()
    assert "\n" not in str(error.value)


def test_a_budget_counts_validation_labels_too(pair: Pair, tmp_path: Path) -> None:
    data = pair(label_budget=5)
    with pytest.raises(ValueError, match=r"model.select_by dev reads labels of validation images"):
        fit(adapter(DANN(), select_by="dev"), data, tmp_path / "a", max_epochs=1, **OPTIONS)
    run = fit(adapter(DANN(hidden=8)), pair(label_budget=5), tmp_path / "b", max_epochs=1, **OPTIONS)
    assert figures(run)["best_by"] == "val/bnm"


def test_coral_does_not_collapse_under_a_budget(encoder_folder: Path, pair: Pair, tmp_path: Path) -> None:
    found = []
    for number, method in enumerate((SourceOnly(), CORAL())):
        module = DomainAdapter(str(encoder_folder), method, Frozen())
        run = fit(module, pair(label_budget=5), tmp_path / str(number), **OPTIONS)
        found.append(figures(run)["val/accuracy"])
    assert found[1] > found[0] - 0.15


@pytest.mark.parametrize(
    "tuning",
    [LoRA(2), Gradual(), Scratch(), Partial(1), LinearThenFull()],
    ids=lambda tuning: type(tuning).__name__,
)
def test_each_tuning_that_learns(tuning: Tuning, encoder_folder: Path, pair: Pair, tmp_path: Path) -> None:
    module = DomainAdapter(str(encoder_folder), DANN(hidden=8), tuning)
    run = fit(module, pair(), tmp_path, max_epochs=2, limit_train_batches=3, **OPTIONS)
    assert np.isfinite(figures(run)["train/loss"]) and figures(run)["train/adaptation_gradient"] > 0
    data = pair()
    data.setup()
    images = torch.from_numpy(data.images(data.indices("test")[:20]))
    module.eval()
    assert torch.allclose(load_model(run.model).predict(images).scores, module(images), atol=1e-4)


def test_a_network_without_moving_statistics(encoder_folder: Path, pair: Pair, tmp_path: Path) -> None:
    module = DomainAdapter(str(encoder_folder), BatchNormStatistics(), Full(batch_norm="frozen"))
    with pytest.raises(ValueError, match="leaves no BatchNorm layer of the encoder whose statistics move"):
        fit(module, pair(), tmp_path, max_epochs=1, **OPTIONS)


def test_several_processes_are_refused(pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssl_transfer.downstream.domain_adapter.check_one_process", refuse)
    with pytest.raises(ValueError, match="1 a DomainAdapter"):
        fit(adapter(CORAL(), Partial(1)), pair(), tmp_path, max_epochs=1, **OPTIONS)


def refuse(count: int, what: str) -> None:
    raise ValueError(f"{count} {what}")
