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
