"""Every strategy: what learns is in one group once, what does not is the same to the bit after a fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.data.views import Views
from ssl_transfer.downstream import (
    Classifier,
    Frozen,
    Full,
    Gradual,
    LinearThenFull,
    LoRA,
    Partial,
    Scratch,
    Surgical,
    Tuning,
)
from ssl_transfer.downstream.compact import Compact
from ssl_transfer.encoders import EncoderSpec, build_encoder, load_encoder
from ssl_transfer.optimisation import Optimisation
from ssl_transfer.running.fit import fit

STRATEGIES: dict[str, Callable[[], Tuning]] = {
    "frozen": lambda: Frozen(solve=False),
    "partial": lambda: Partial(1),
    "pattern": lambda: Partial(layers=["*.stage1.*", "*.conv2.weight"]),
    "first": lambda: Surgical("first"),
    "middle": lambda: Surgical("middle"),
    "last": lambda: Surgical("last"),
    "gradual": lambda: Gradual(every=2),
    "full": lambda: Full(layer_decay=0.5),
    "full, statistics frozen": lambda: Full(batch_norm="frozen"),
    "linear then full": lambda: LinearThenFull(),
    "lora": lambda: LoRA(rank=2),
    "compact": lambda: Compact(1),
    "scratch": lambda: Scratch(),
}
SPECS = {
    "small_resnet": (EncoderSpec(arguments={"widths": [8, 8, 16], "strides": [1, 1, 2]}), (1, 8, 8)),
    "bottleneck": (EncoderSpec(arguments={"widths": [8, 8, 16], "strides": [1, 1, 2]}, bottleneck=4), (1, 8, 8)),
    "resnet18": (EncoderSpec("resnet18"), (3, 32, 32)),
    "vgg11": (EncoderSpec("vgg11"), (3, 16, 16)),
    "vit": (
        EncoderSpec(
            "torchvision.models.VisionTransformer",
            {"image_size": 8, "patch_size": 4, "num_layers": 3, "num_heads": 2, "hidden_dim": 8, "mlp_dim": 16},
        ),
        (3, 8, 8),
    ),
}
QUIET: dict[str, Any] = {"enable_progress_bar": False, "verbose": False}
THREE = EncoderSpec(arguments={"widths": [8, 8, 16], "strides": [1, 1, 2]}, pool=2)


@pytest.fixture(scope="module")
def three_stages(digits: ImageDataModule, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an encoder of three stages with statistics in its BatchNorm."""
    source = Classifier(THREE, tuning=Scratch())
    return fit(source, digits, tmp_path_factory.mktemp("source") / "run", max_epochs=1, **QUIET).encoder


@pytest.mark.parametrize("network", SPECS)
@pytest.mark.parametrize("name", STRATEGIES)
def test_groups_neither_lose_nor_repeat_a_parameter(name: str, network: str) -> None:
    spec, shape = SPECS[network]
    tuning = STRATEGIES[name]()
    mean = [0.5] * shape[0]
    if name == "pattern":
        tuning = Partial(layers=["*.weight"])
    encoder = tuning.encoder(spec, shape, mean, mean)
    chosen = tuning.chosen(encoder)
    grouped = [id(p) for group in tuning.groups(encoder) for p in group.parameters]
    names = {id(p): n for n, p in encoder.named_parameters()}
    assert len(grouped) == len(set(grouped)) and {names[i] for i in grouped} == chosen
    if name in ("full", "gradual", "linear then full", "scratch"):
        assert chosen == set(names.values())
    for parameter_name, parameter in encoder.named_parameters():
        parameter.requires_grad_(parameter_name in chosen)
    made = Optimisation().configure([nn.Linear(2, 2), *tuning.groups(encoder)], 10)["optimizer"]
    held = [id(p) for group in made.param_groups for p in group["params"]]
    assert len(held) == len(set(held)) == len(chosen) + 2


def test_the_rate_falls_from_stage_to_stage() -> None:
    encoder = Full().encoder(THREE, (1, 8, 8), [0.5], [0.5])
    groups = Full(encoder_lr=0.4, layer_decay=0.5).groups(encoder)
    assert [(group.name, group.lr_factor) for group in groups] == [
        ("encoder.stem", 0.1),
        ("encoder.stage1", 0.2),
        ("encoder.stage2", 0.4),
    ]


@pytest.mark.parametrize("name", [name for name in STRATEGIES if name not in ("compact", "scratch")])
def test_what_is_frozen_is_the_same_to_the_bit(
    name: str, three_stages: Path, digits: ImageDataModule, tmp_path: Path
) -> None:
    before = load_encoder(three_stages).state_dict()
    module = Classifier(str(three_stages), tuning=STRATEGIES[name](), optimisation=Optimisation(lr=1e-2))
    run = fit(module, digits, tmp_path / "run", max_epochs=2, seed=1, **QUIET)
    after = load_encoder(run.model / "encoder").state_dict()
    assert before.keys() == after.keys()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    stages = {"stem": "network.stem.", "stage1": "network.body.stage1.", "stage2": "network.body.stage2."}
    moved = {stage for stage, start in stages.items() if any(key.startswith(start) for key in changed)}
    expected = {
        "frozen": set(),
        "partial": {"stage2"},
        "first": {"stem"},
        "middle": {"stage1"},
        "last": {"stage2"},
        "gradual": set(),  # the head alone for the two epochs
    }
    assert moved == expected.get(name, set(stages) if name != "pattern" else {"stage1", "stage2"})
    statistics = {key for key in changed if "running" in key or "num_batches" in key}
    if name in ("frozen", "lora", "full, statistics frozen"):
        assert not statistics
    if name == "pattern":  # in stage2 but one kernel a block learns, and no BatchNorm
        assert {key for key in changed if "stage2" in key} == {"network.body.stage2.0.conv2.weight"}
    if name == "lora":
        assert all(key.endswith("weight") for key in changed)
        checkpoint = torch.load(run.path / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        original = {key.removeprefix("encoder."): value for key, value in checkpoint.items() if "original" in key}
        for key, value in original.items():
            plain = key.replace("parametrizations.", "").replace(".original", "")
            assert torch.equal(value, before[plain]), key


def test_frozen_statistics_are_those_of_the_first_fit(three_stages: Path, digits: ImageDataModule) -> None:
    encoder = load_encoder(three_stages)
    tuning = Partial(1)
    tuning.set_modes(encoder.train(), tuning.chosen(encoder))
    modes = {name: module.training for name, module in encoder.named_modules() if isinstance(module, nn.BatchNorm2d)}
    assert {name for name, training in modes.items() if training} == {n for n in modes if "stage2" in n}
    Partial(1, batch_norm="frozen").set_modes(encoder.train(), tuning.chosen(encoder))
    assert not any(m.training for m in encoder.modules() if isinstance(m, nn.BatchNorm2d))


def test_the_front_that_is_kept_gives_what_encoding_anew_gives(
    three_stages: Path, digits: ImageDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"max_epochs": 2, "precision": "32-true", **QUIET}
    kept = fit(Classifier(str(three_stages), tuning=Partial(1)), digits, tmp_path / "kept", **options)
    monkeypatch.setattr(digits, "memory_budget", 1e-6)
    module = Classifier(str(three_stages), tuning=Partial(1))
    anew = fit(module, digits, tmp_path / "anew", **options)
    assert "GiB: it is computed anew in every epoch" in module.remarks[0]
    weights = [torch.load(run.last, weights_only=True)["state_dict"] for run in (kept, anew)]
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-4, atol=1e-5)
    figures = [run.metrics() for run in (kept, anew)]
    assert figures[0]["val/accuracy"] == pytest.approx(figures[1]["val/accuracy"], abs=0.02)
    assert figures[0]["train/loss"] == pytest.approx(figures[1]["train/loss"], rel=1e-4)


def test_l2_sp_holds_the_weights_where_they_were(three_stages: Path, digits: ImageDataModule, tmp_path: Path) -> None:
    before = load_encoder(three_stages).state_dict()

    def moved(l2_sp: float) -> float:
        module = Classifier(str(three_stages), tuning=Full(1.0, l2_sp=l2_sp))
        run = fit(module, digits, tmp_path / str(l2_sp), max_epochs=2, **QUIET)
        after = load_encoder(run.encoder).state_dict()
        return sum(float((after[k] - before[k]).square().sum()) for k in before if k.endswith("conv1.weight"))

    assert moved(10.0) < 0.1 * moved(0.0)


def test_the_penalty_in_closed_form(three_stages: Path, digits: ImageDataModule) -> None:
    module = Classifier(str(three_stages), tuning=Partial(1, l2_sp=0.5))
    module.start_encoder(digits)
    assert float(torch.as_tensor(module.penalty()).detach()) == 0
    learning = [p for p in module.encoder.parameters() if p.requires_grad]
    with torch.no_grad():
        for p in learning:
            p.add_(2.0)
    assert float(torch.as_tensor(module.penalty()).detach()) == pytest.approx(
        0.5 * 0.5 * 4 * sum(p.numel() for p in learning)
    )


OPTIONS_OF_CLASSIFIERS: dict[str, dict[str, Any]] = {
    "mixup": {"mixup": 0.4},
    "weights": {"class_weights": "balanced"},
    "average": {"weight_average": 0.9},
    "all": {"mixup": 0.4, "weight_average": 0.9, "label_smoothing": 0.1, "views": Views(horizontal_flip=0.0)},
}


@pytest.mark.parametrize("name", OPTIONS_OF_CLASSIFIERS)
def test_it_learns_with_every_option(name: str, digits: ImageDataModule, tmp_path: Path) -> None:
    options = OPTIONS_OF_CLASSIFIERS[name]
    module = Classifier(THREE, tuning=Scratch(), optimisation=Optimisation(lr=1e-2), **options)
    run = fit(module, digits, tmp_path / "run", max_epochs=4, **QUIET)
    assert run.metrics()["val/accuracy"] > 0.6


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Full(encoder_lr=0), r"tuning.encoder_lr must be above 0, not 0; for 0 use Frozen"),
        (lambda: Full(layer_decay=0), "tuning.layer_decay must lie above 0 and at most at 1"),
        (lambda: Full(batch_norm="no"), "tuning.batch_norm must be train or frozen, not 'no'"),  # type: ignore[arg-type]
        (lambda: Full(l2_sp=-1), "tuning.l2_sp must be 0 or more"),
        (lambda: LinearThenFull(head_lr=0), "tuning.head_lr must be above 0"),
        (lambda: LinearThenFull(l2=-1), "tuning.l2 must be 0 or more"),
        (lambda: Classifier(mixup=-1), "model.mixup must be 0"),
        (lambda: Classifier(weight_average=1.0), "model.weight_average must lie between 0 and 1"),
        (lambda: Classifier(class_weights="equal"), "model.class_weights must be balanced or"),  # type: ignore[arg-type]
        (lambda: Classifier(class_weights={"a": 0.0}), "model.class_weights must all be above 0"),
        (lambda: Classifier(mixup=0.2), "model.mixup is for training by gradient, and tuning Frozen solves its head"),
        (lambda: Classifier(views=Views()), "model.views is for training by gradient"),
    ],
)
def test_what_is_refused(make: Callable[[], Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        make()


def test_weights_for_other_classes_are_refused(digits: ImageDataModule, tmp_path: Path) -> None:
    module = Classifier(THREE, tuning=Scratch(), class_weights={"0": 1.0, "x": 2.0})
    with pytest.raises(ValueError, match=r"class_weights must name every class .* the classes are 0, 1"):
        fit(module, digits, tmp_path / "run", max_epochs=1, **QUIET)


def test_an_encoder_of_fewer_stages(digits: ImageDataModule) -> None:
    two = build_encoder(EncoderSpec(arguments={"widths": [8, 16], "strides": [1, 2]}), (1, 8, 8), [0.5], [0.5])
    with pytest.raises(ValueError, match="Surgical needs an encoder of three stages at least, and small_resnet has 2"):
        Surgical().chosen(two)
    with pytest.raises(ValueError, match=r"n_stages is 3 and encoder small_resnet has 2 stages \(stem, stage1\)"):
        Partial(3).chosen(two)


def test_the_penalty_while_nothing_is_awake(three_stages: Path, digits: ImageDataModule, tmp_path: Path) -> None:
    module = Classifier(str(three_stages), tuning=Gradual(every=1, l2_sp=0.1))
    assert fit(module, digits, tmp_path / "run", max_epochs=2, **QUIET).metrics()["val/accuracy"] > 0.1


def test_nothing_is_dropped_between_frozen_stages() -> None:
    tuning = Partial(1)
    arguments = {"dropout": 0.5, "image_size": 32, "patch_size": 16, "num_layers": 3, "num_heads": 2, "hidden_dim": 8}
    spec = EncoderSpec("torchvision.models.VisionTransformer", {**arguments, "mlp_dim": 16})
    encoder = tuning.encoder(spec, (3, 32, 32), [0.5] * 3, [0.5] * 3)
    stage = tuning.first_stage(encoder, tuning.chosen(encoder))
    last = dict(encoder.stages())[str(stage)]
    tuning.set_modes(encoder.train(), tuning.chosen(encoder))
    inside = set(last.modules())
    assert all(m in inside for m in encoder.modules() if m.training) and last.training
    Full().set_modes(encoder, Full().chosen(encoder))
    assert all(m.training for m in encoder.modules())


def test_a_bottleneck_goes_with_the_last_stage() -> None:
    encoder = build_encoder(SPECS["bottleneck"][0], (1, 8, 8), [0.5], [0.5])
    learning = Partial(1).chosen(encoder)
    assert "bottleneck.weight" in learning and any("stage2" in name for name in learning)
    assert not any("stage1" in name for name in learning)


def test_one_labelled_image_in_a_batch(digits: ImageDataModule, tmp_path: Path) -> None:
    data = ImageDataModule("digits", label_budget=1, keep_unlabelled=True, batch_size=16)
    run = fit(Classifier("resnet18", tuning=Scratch()), data, tmp_path / "run", max_steps=20, **QUIET)
    assert run.model.exists()


@pytest.mark.parametrize(("before", "after"), [(0.9, None), (None, 0.9)])
def test_an_average_is_not_lost_or_begun_on_the_way(
    before: float | None, after: float | None, digits: ImageDataModule, tmp_path: Path
) -> None:
    fit(Classifier(THREE, tuning=Scratch(), weight_average=before), digits, tmp_path / "run", max_epochs=1, **QUIET)
    again = Classifier(THREE, tuning=Scratch(), weight_average=after)
    with pytest.raises(ValueError, match=r"model\.weight_average: this run was begun with"):
        fit(again, digits, tmp_path / "run", resume=True, max_epochs=2, **QUIET)


def test_the_same_module_goes_on_from_its_weights(digits: ImageDataModule, tmp_path: Path) -> None:
    def module() -> Classifier:
        return Classifier(THREE, tuning=Scratch(), weight_average=0.9)

    same = module()
    fit(same, digits, tmp_path / "same", max_epochs=1, **QUIET)
    fit(module(), digits, tmp_path / "new", max_epochs=1, **QUIET)
    runs = [
        fit(given, digits, tmp_path / name, resume=True, max_epochs=2, **QUIET)
        for name, given in (("same", same), ("new", module()))
    ]
    first, second = (torch.load(run.last, weights_only=True)["state_dict"] for run in runs)
    assert all(torch.equal(first[key], second[key]) for key in first)
