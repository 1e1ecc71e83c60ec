"""The command line as its user meets it: answers, one-line mistakes, and the way from `fit` to `predict`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from ssl_transfer.cli import HELP, VERBS, main
from ssl_transfer.downstream import load_model
from ssl_transfer.encoders import load_encoder

TINY = ["--model.encoder.arguments", '{"widths": [8, 16], "strides": [1, 2]}']
SIMCLR = ["--model", "SimCLR", "--model.hidden_dim", "16", *TINY]
QUICK = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2", "--trainer.enable_progress_bar", "false"]
Mistake = Callable[..., str]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Default folders such as runs/last come to lie in the test's own."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def mistake(capsys: pytest.CaptureFixture[str]) -> Mistake:
    """The one line on stderr of a command that must end with status 2."""

    def run(*arguments: str) -> str:
        capsys.readouterr()
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert error.endswith("\n") and error.count("\n") == 1
        for noise in ("usage:", "jsonargparse", "Namespace", "<class", "Union", "Traceback", "NestedArg", "Parser key"):
            assert noise not in error
        assert error.startswith(f"ssl-transfer {arguments[0]}: ")
        return error

    return run


# answers


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    told = capsys.readouterr().out
    assert told == HELP and all(verb in told for verb in VERBS) and "--debug" in told


def test_help_and_import_cost_nothing() -> None:
    """No torch, no NumPy; what is left is the time of the interpreter."""
    heavy = "('torch', 'numpy', 'jsonargparse', 'pytorch_lightning')"
    code = "from ssl_transfer.cli import main; main(['--help'])\n"
    code += f"import sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n") and "usage: ssl-transfer VERB" in done.stdout
    started = time.process_time()
    main(["--help"])
    assert time.process_time() - started < 0.05


def test_python_minus_m(tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "ssl_transfer", *arguments], capture_output=True, text=True)

    assert run("--version").stdout.strip().count(".") == 2
    done = run("tset")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "did you mean test?" in done.stderr


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([verb, "--help"])
    told = capsys.readouterr().out
    assert stopped.value.code in (0, None) and "--config" in told and len(told.splitlines()) > 10
    if verb == "fit":
        for option in (
            "--model",
            "--data",
            "--overwrite",
            "--checkpoint.every_n_steps",
            "--trainer.max_epochs",
            "--ckpt_path",
        ):
            assert option in told


def test_print_config_is_a_configuration(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["fit", *SIMCLR, "--data.source", "digits", *QUICK, "--print_config"])
    text = capsys.readouterr().out
    config = yaml.safe_load(text)
    assert stopped.value.code in (0, None) and config["model"]["init_args"]["hidden_dim"] == 16
    assert config["data"]["init_args"]["source"] == "digits" and config["trainer"]["max_epochs"] == 1
    (tmp_path / "given.yaml").write_text(text)
    assert main(["fit", "--config", "given.yaml", "--trainer.default_root_dir", "run"]) == 0
    again = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert again["model"] == config["model"] and again["data"] == config["data"]


def test_a_run_s_configuration_keeps_what_was_set_to_nothing(tmp_path: Path) -> None:
    """`null` is a value: an overcomplete autoencoder must not come back with the default bottleneck."""
    given = ["--model", "Autoencoder", "--model.bottleneck", "null", *TINY, "--data.source", "digits", *QUICK]
    assert main(["fit", *given, "--trainer.default_root_dir", "a"]) == 0
    assert main(["fit", "--config", "a/config.yaml", "--trainer.default_root_dir", "b"]) == 0
    first, second = (yaml.safe_load((tmp_path / run / "config.yaml").read_text()) for run in "ab")
    assert first["model"] == second["model"] and first["model"]["init_args"]["bottleneck"] is None
    assert load_encoder(tmp_path / "b" / "encoder").spec.bottleneck is None


# mistakes


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
        ("--data.source digits --data Digits", "--data Digits is no class for it: Known are ImageDataModule"),
        ("--data.source digits --trainer.max_epochs 0", "nothing was trained: trainer.max_epochs"),
        ("--data.source digits --config nowhere.yaml", "--config: no such file: "),
    ],
)
def test_mistakes(arguments: str, words: str, mistake: Mistake, tmp_path: Path) -> None:
    assert words in mistake("fit", "--model", "SimCLR", *arguments.split())
    assert not (tmp_path / "runs" / "last" / "metrics.json").exists()


def test_an_unknown_model(mistake: Mistake) -> None:
    error = mistake("fit", "--model", "SimCRL", "--data.source", "digits")
    assert "--model SimCRL is no class for it: did you mean SimCLR? Known are Autoencoder, Classifier" in error
    assert "Known are" in mistake("fit", "--model", "json.JSONDecoder", "--data.source", "digits")
    assert "--model is missing" in mistake("fit", "--data.source", "digits")


def test_an_unknown_tuning(mistake: Mistake) -> None:
    given = ("fit", "--model", "Classifier", "--data.source", "digits", "--model.tuning")
    assert "did you mean Frozen? Known are Frozen, Full, Scratch" in mistake(*given, "Frozn")
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


# the way from fit to predict


def test_from_fit_to_predict(tmp_path: Path, capsys: pytest.CaptureFixture[str], mistake: Mistake) -> None:
    a, b = ["--trainer.default_root_dir", "a"], ["--trainer.default_root_dir", "b"]
    digits = ["--data.source", "digits"]
    quiet = ["--trainer.enable_progress_bar", "false"]
    classifier = ["--model", "Classifier", "--model.encoder", "a/encoder", *digits, *b, *quiet]
    assert main(["fit", *SIMCLR, *digits, *QUICK, *a]) == 0
    for verb in ("test", "validate", "predict"):
        assert "holds no finished fit" in mistake(verb, *classifier)
    assert not (tmp_path / "b").exists()
    assert main(["fit", *classifier]) == 0
    before = {p: p.read_bytes() for p in (tmp_path / "b").rglob("*") if p.is_file()}
    assert "already holds a run" in mistake("fit", *classifier)
    assert before == {p: p.read_bytes() for p in (tmp_path / "b").rglob("*") if p.is_file()}
    assert main(["test", *classifier]) == 0
    assert "test/accuracy" in capsys.readouterr().out
    metrics = json.loads((tmp_path / "b" / "metrics.json").read_text())
    assert metrics["checkpoint"] == "checkpoints/last.ckpt" and 0.5 < metrics["test/accuracy"] < 1
    assert main(["predict", *classifier]) == 0
    table, model = pq.read_table(tmp_path / "b" / "predictions.parquet"), load_model(tmp_path / "b" / "model")
    tested = np.array(table["split"].to_pylist()) == "test"
    from sklearn.datasets import load_digits

    truth = load_digits().target.astype(str)
    assert (np.array(table["prediction"].to_pylist())[tested] == truth[tested]).mean() == pytest.approx(
        metrics["test/accuracy"], abs=1e-6
    )
    assert model.encoder.feature_dim == load_encoder(tmp_path / "a" / "encoder").feature_dim
    assert main(["validate", *classifier]) == 0
    after = json.loads((tmp_path / "b" / "metrics.json").read_text())
    assert after["val/accuracy"] == pytest.approx(metrics["val/accuracy"], abs=1e-6)
    assert main(["fit", *classifier, "--overwrite"]) == 0
    assert "test/accuracy" not in json.loads((tmp_path / "b" / "metrics.json").read_text())


def test_testing_from_the_run_s_own_configuration_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths in config.yaml do not depend on the working directory."""
    quiet = ["--trainer.enable_progress_bar", "false"]
    assert main(["fit", *SIMCLR, "--data.source", "digits", *QUICK, "--trainer.default_root_dir", "a"]) == 0
    fitted = ["--model", "Classifier", "--model.encoder", "a/encoder", "--data.source", "digits", *quiet]
    assert main(["fit", *fitted, "--trainer.default_root_dir", "b"]) == 0
    (tmp_path / "else").mkdir()
    monkeypatch.chdir(tmp_path / "else")
    config, run = str(tmp_path / "b" / "config.yaml"), str(tmp_path / "b")
    assert main(["test", "--config", config, "--trainer.default_root_dir", run]) == 0


def test_options_in_any_order(tmp_path: Path) -> None:
    given = [
        "--data.batch_size",
        "64",
        *TINY,
        "--model.temperature",
        "0.5",
        "--trainer.default_root_dir",
        "run",
        *QUICK,
    ]
    given += ["--model", "SimCLR", "--data.source", "digits", "--data", "ImageDataModule"]
    assert main(["fit", *given]) == 0
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["data"]["init_args"]["batch_size"] == 64 and config["model"]["init_args"]["temperature"] == 0.5


def test_the_line_wins_over_the_file(tmp_path: Path) -> None:
    text = "model: {class_path: SimCLR, init_args: {temperature: 0.3, hidden_dim: 24}}\ntrainer: {max_epochs: 9}\n"
    (tmp_path / "given.yaml").write_text(text)
    given = ["--model.temperature", "0.7", *TINY, "--data.source", "digits", *QUICK, "--config", "given.yaml"]
    assert main(["fit", *given, "--trainer.default_root_dir", "run"]) == 0
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["model"]["init_args"]["temperature"] == 0.7 and config["model"]["init_args"]["hidden_dim"] == 24
    assert config["trainer"]["max_epochs"] == 1


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


def test_a_checkpoint_by_name(tmp_path: Path, mistake: Mistake) -> None:
    quiet = ["--trainer.enable_progress_bar", "false"]
    given = ["--model", "Classifier", "--model.tuning", "Scratch", *TINY, "--data.source", "digits"]
    given += ["--trainer.default_root_dir", "run", *quiet]
    assert main(["fit", *given, "--trainer.max_epochs", "2"]) == 0
    for name in ("last", "best.ckpt", str(tmp_path / "run" / "checkpoints" / "last.ckpt")):
        assert main(["test", *given, "--ckpt_path", name]) == 0
    assert "no such checkpoint" in mistake("test", *given, "--ckpt_path", "hf://somewhere")
    (tmp_path / "run" / "checkpoints" / "last.ckpt").write_bytes(b"no checkpoint")
    assert "is damaged or no checkpoint" in mistake("test", *given, "--ckpt_path", "last")


def test_the_words_of_the_help_are_true() -> None:
    """Every verb that the help lists exists, and the other way round."""
    listed = re.findall(r"^  ([a-z]+)  ", HELP, re.MULTILINE)
    assert sorted(listed) == sorted(VERBS)
