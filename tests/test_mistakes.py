"""Mistakes on the command line: one line each, with the thing, the rule and the cure, and status 2."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ssl_transfer.cli import main

TINY = ["--model.encoder.arguments", '{"widths": [8, 16], "strides": [1, 2]}']
SIMCLR = ["--model", "SimCLR", "--model.hidden_dim", "16", *TINY]
QUICK = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2", "--trainer.enable_progress_bar", "false"]
Mistake = Callable[..., str]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Default folders such as runs/last come to lie in the test's own."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--data.source digits --data.batchsize 3", "unknown option --data.batchsize; did you mean --data.batch_size?"),
        ("--data.sorce digits", "unknown option --data.sorce; did you mean --data.source?"),
        ("--data.source digits --overwite", "unknown option --overwite; did you mean --overwrite?"),
        ("--data.source digits --trainer.max_epohcs 3", "did you mean --trainer.max_epochs?"),
        ("--data.source digits --model.temprature 1", "did you mean --model.temperature?"),
        ("--data.source digits --model.encoder.poool 3", "did you mean --model.encoder.pool?"),
        ("--data.source digits --model.views.crp_scale [0.1,1]", "did you mean --model.views.crop_scale?"),
        ("--data.source digits --model.corruption.masking 0.5", "it belongs to DenoisingAutoencoder"),
        ("--data.source digits --data.size abc", "--data.size must be a whole number or null, not 'abc'"),
        ("--data.source digits --data.resize squash", "--data.resize must be crop, pad or stretch, not 'squash'"),
        ("--data.source digits --model.temperature warm", "--model.temperature must be a number, not 'warm'"),
        ("--data.source digits --model.encoder.pool two", "--model.encoder.pool must be a whole number, not 'two'"),
        ("--data.source digits --model.encoder.bottleneck x", "encoder.bottleneck must be a whole number or null"),
        ("--data.source digits --model.views.crop_scale 0.5", "crop_scale must be a list such as [0.2, 1.0] or null"),
        ("--data.source digits --model.optimisation.optimiser adm", "must be adamw or sgd, not 'adm'"),
        ("--data.source digits --trainer.max_epochs many", "--trainer.max_epochs must be a whole number or null"),
        ("--data.source digits --model.temperature -1", "model.temperature must be above 0, not -1.0; 0.1 to 0.5"),
        ("--data.source digits --model.encoder.pool 0", "encoder.pool must be at least 1, not 0"),
        ("--data.source digits --model.optimisation.lr -1", "optimisation.lr must be above 0, not -1.0"),
        ("--data.source digits --model.views.crop_scale [0,1]", "views.crop_scale must be (low, high) with 0 < low"),
        ("--data.source digits --data.val_fraction 2", "data.val_fraction must lie in [0, 1), not 2.0"),
        ("--data.source digits --checkpoint.every_n_steps 0", "checkpoint.every_n_steps must be at least 1, not 0"),
        ("--data.source digits --model.encoder resnt18", "encoder 'resnt18' is unknown: did you mean resnet18"),
        ("--data.source digits --model.encoder runs/x/encoder", "runs/x/encoder does not exist: give the DIR/encoder"),
        ("--data.source nowhere/", "data.source: no folder, file or data set named 'nowhere/'"),
        ("--data.source", "an option that begins with --data lacks its value"),
        ("--data.source digits stray", "'stray' belongs to no option"),
        ("", "--data.source is missing"),
        ("--data.source digits --ckpt_path best", "--ckpt_path best: a fit goes on from its own folder only"),
        ("--data.source digits --data Digits", "--data Digits is no class for it: Known are DomainDataModule, "),
        ("--data.source digits --trainer.max_epochs 0", "nothing was trained: trainer.max_epochs"),
        ("--data.source digits --config nowhere.yaml", "--config: no such file: "),
    ],
)
def test_mistakes(arguments: str, words: str, mistake: Mistake, tmp_path: Path) -> None:
    assert words in mistake("fit", "--model", "SimCLR", *arguments.split())
    assert not (tmp_path / "runs" / "last" / "metrics.json").exists()


def test_an_unknown_model(mistake: Mistake) -> None:
    error = mistake("fit", "--model", "SimCRL", "--data.source", "digits")
    assert "--model SimCRL is no class for it: did you mean SimCLR? Known are AnomalyDetector, Autoencoder" in error
    assert "Known are" in mistake("fit", "--model", "json.JSONDecoder", "--data.source", "digits")
    assert "--model is missing" in mistake("fit", "--data.source", "digits")


def test_an_unknown_tuning(mistake: Mistake) -> None:
    given = ("fit", "--model", "Classifier", "--data.source", "digits", "--model.tuning")
    assert "did you mean Frozen? Known are AsIs, Compact, Frozen, Full, Gradual" in mistake(*given, "Frozn")
    assert "tuning.l2 must be 0 or more" in mistake(*given, "Frozen", "--model.tuning.l2", "-1")
    assert "unknown option --model.tuning.solv; did you mean --model.tuning.solve?" in mistake(
        *given, "Frozen", "--model.tuning.solv", "true"
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model:\n  class_path: SimCLR\n  init_args:\n    temprature: 1", "did you mean --model.temperature?"),
        (
            "model:\n  class_path: SimCLR\n  init_args:\n    encoder:\n      poool: 3",
            "did you mean --model.encoder.pool?",
        ),
        ("data:\n  init_args:\n    source: digits\n    batch_size: many", "--data.batch_size must be a whole number"),
        ("modle:\n  class_path: SimCLR", "unknown option --modle.class_path; did you mean --model?"),
        ("model: [1, 2", "--config is not a YAML file of options: "),
        ("- 1", "--config is not a YAML file of options"),
    ],
)
def test_mistakes_in_a_file(text: str, words: str, mistake: Mistake, tmp_path: Path) -> None:
    (tmp_path / "given.yaml").write_text(text)
    assert words in mistake("fit", "--config", "given.yaml", "--data.source", "digits", "--model", "SimCLR")


def test_a_misspelt_verb(mistake: Mistake) -> None:
    assert "unknown verb 'fti'; did you mean fit? Known verbs: fit, validate" in mistake("fti", "--model", "SimCLR")
    assert "unknown verb 'xyzzy'. Known verbs" in mistake("xyzzy")


def test_what_this_machine_lacks(mistake: Mistake) -> None:
    given = ("fit", *SIMCLR, "--data.source", "digits", "--trainer.accelerator", "cpu")
    assert "devices" in mistake(*given, "--trainer.devices", "0")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("embed", "nowhere", "digits"), "encoder folder"),
        (("embed", "nowhere"), "source is missing"),
        (("embed", "nowhere", "digits", "--batchsize", "3"), "did you mean --batch_size?"),
        (("embed", "nowhere", "digits", "--size", "big"), "--size must be a whole number or null, not 'big'"),
        (("scan", "nowhere/"), "nowhere"),
        (("scan",), "source is missing"),
        (("inspect", "nowhere"), "nowhere"),
        (("demo", "--epochs", "few"), "--epochs must be a whole number, not 'few'"),
        (("demo", "--outt", "x"), "did you mean --out?"),
    ],
)
def test_mistakes_with_other_verbs(arguments: tuple[str, ...], words: str, mistake: Mistake) -> None:
    assert words in mistake(*arguments)


def test_debug_shows_the_traceback() -> None:
    with pytest.raises(ValueError, match="no folder, file or data set"):
        main(["fit", "--model", "SimCLR", "--data.source", "nowhere/", "--debug"])


def test_a_label_that_only_the_test_split_has(tmp_path: Path, photos: Path, mistake: Mistake) -> None:
    for split, label in (("train", "ant"), ("train", "bee"), ("test", "cow")):
        (photos / split).mkdir(exist_ok=True)
        source = photos / (label if label != "cow" else "train" + "/ant")
        if label == "cow":
            (photos / "test" / "cow").mkdir(parents=True)
            next(iter(sorted(source.glob("*.png")))).rename(photos / "test" / "cow" / "0.png")
        else:
            source.rename(photos / "train" / label)
    error = mistake("fit", "--model", "Classifier", *TINY, "--data.source", str(photos), "--data.size", "16")
    assert "class 'cow' occurs in the test split but no training image has it: correct the label" in error


def test_a_source_that_cannot_be_read_leaves_the_old_run(tmp_path: Path, mistake: Mistake) -> None:
    given = ["fit", *SIMCLR, *QUICK, "--trainer.default_root_dir", "run"]
    assert main([*given, "--data.source", "digits"]) == 0
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    mistake(*given, "--overwrite", "--data.source", "nowhere/")
    mistake(*given, "--overwrite", "--data.source", "digits", "--model.encoder", "nowhere/encoder")
    assert before == {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
