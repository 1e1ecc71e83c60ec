"""`advise` through the command line, on the digits: what it says and writes, and that the command it prints works."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from ssl_transfer.cli import main
from ssl_transfer.commands.advise import _fit_command, _learned_with_labels, _pretraining
from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.data.views import Views
from ssl_transfer.downstream.tuning import LinearThenFull
from ssl_transfer.encoders import EncoderSpec, build_encoder, load_encoder, save_encoder
from ssl_transfer.evaluation.advice import advise
from ssl_transfer.evaluation.measurements import Measurements
from ssl_transfer.evaluation.stage_features import all_layer_probe
from ssl_transfer.reporting.advice_page import evidence_rows
from ssl_transfer.running.advice import MOST, Question, labelled_rows, measure

SPEC = EncoderSpec(arguments={"widths": [8, 16], "strides": [1, 2]}, pool=2)
QUICK = ["--minutes", "0.01", "--views.horizontal_flip", "0", "--device", "cpu"]


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """And short curves, so that a test takes seconds; but all readings, however few the minutes."""
    monkeypatch.setattr("ssl_transfer.running.short_fits.FEWEST_STEPS", 2)
    monkeypatch.setattr("ssl_transfer.running.advice.READING", 1e6)
    monkeypatch.setattr("ssl_transfer.running.advice.curve_budgets", lambda most: [1, int(most)])
    monkeypatch.setattr("ssl_transfer.running.advice.all_layer_probe", partial(all_layer_probe, shares=(0.5,)))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = build_encoder(SPEC, (1, 8, 8), [0.3], [0.4])
    folder = tmp_path_factory.mktemp("advise") / "encoder"
    return save_encoder(network, folder, objective="SimCLR", data={"source": "digits"})


def test_advice_with_its_evidence_and_a_command_that_works(
    encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["advise", str(encoder), "digits", "--label_budget", "9", *QUICK, "--out", "advice"]) == 0
    told = capsys.readouterr().out
    for word in ("Advice: ", "frozen", "scratch", "raw pixels", "LogME", "proxy A-distance", "labels a class"):
        assert word in told, word
    report = json.loads((tmp_path / "advice" / "advice.json").read_text())
    measured = Measurements.from_dict(report["measurements"])
    assert set(measured.estimates) == {
        *("frozen", "kNN", "all stages", "raw pixels", "random encoder", "partial", "full", "scratch")
    }
    assert {len(estimate.right) for estimate in measured.estimates.values()} <= {30, 60, 90}
    assert measured.labels == 9 and measured.taught == 6
    assert report["advice"]["strategy"] == advise(measured).strategy  # a pure function: it can be replayed
    assert measured.figures["proxy A-distance"] < 1
    page = (tmp_path / "advice" / "advice.html").read_text()
    assert "Advice: " in page and report["command"].split()[0] in page
    command = shlex.split(report["command"])
    assert command[:2] == ["ssl-transfer", "fit"]
    assert main([*command[1:], "--trainer.enable_progress_bar", "false"]) == 0


@pytest.mark.parametrize("strategy", ["frozen", "as_is", "partial", "full", "scratch"])
def test_every_strategy_s_command_is_understood(encoder: Path, strategy: str, tmp_path: Path) -> None:
    data = ImageDataModule("digits", size=8)
    data.setup()
    asked = Question(str(encoder), data.few(3, 0), views=Views(horizontal_flip=0.0))
    command = shlex.split(_fit_command(strategy, asked))
    steps = ["--trainer.max_steps", "2", "--trainer.max_epochs", "-1"] if "--trainer.max_steps" in command else []
    quick = [*steps, "--trainer.enable_progress_bar", "false", "--trainer.default_root_dir", str(tmp_path / "run")]
    assert main([*command[1:], *quick]) == 0


def test_no_test_image_is_read(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssl_transfer.running.short_fits.TRIED", {"full": LinearThenFull})
    data = ImageDataModule("digits")
    data.setup()
    hidden = np.concatenate([data.indices("test"), data.indices("val")])
    assert data._store is not None
    data._store.images = data._store.images.copy()
    read = data.few(6, seed=0)
    first = measure(Question(str(encoder), read, minutes=0.01), say=lambda _: None)
    data._store.images[hidden] = 0
    data.table.targets = data.table.targets.copy()
    data.table.targets[hidden] = 0
    again = measure(Question(str(encoder), data.few(6, seed=0), minutes=0.01), say=lambda _: None)
    for name in ("frozen", "kNN", "all stages", "raw pixels", "full"):
        assert first.estimates[name] == again.estimates[name]
    assert first.curve == again.curve and first.figures == again.figures


def test_one_label_a_class_cannot_be_measured(encoder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["advise", str(encoder), "digits", "--label_budget", "1", *QUICK]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert (
        "has too few labelled training images that differ (1)" in told
        and "Advice: freeze the encoder" in told
        and "cannot tell" in told
    )


def test_two_labels_a_class_make_two_folds(encoder: Path) -> None:
    data = ImageDataModule("digits")
    data.setup()
    measured = measure(Question(str(encoder), data.few(2, seed=0), minutes=0.01), say=lambda _: None)
    assert measured.labels == 2 and measured.taught == 1
    sizes = {name: len(estimate.right) for name, estimate in measured.estimates.items()}
    assert {sizes[name] for name in ("frozen", "kNN", "raw pixels")} == {20}  # readings are of all images
    assert {sizes[name] for name in ("partial", "full", "scratch")} == {10}
    assert "there was time for 1 of 2 folds" in measured.remarks[0]
    assert "made 1% of the steps" in measured.remarks[1]


def test_readings_leave_time_for_the_fits(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssl_transfer.running.advice.READING", 0.0)
    monkeypatch.setattr("ssl_transfer.running.short_fits.TRIED", {"full": LinearThenFull})
    data = ImageDataModule("digits")
    data.setup()
    measured = measure(Question(str(encoder), data.few(4, seed=0), minutes=0.01), say=lambda _: None)
    assert set(measured.estimates) == {"frozen", "kNN", "full"} and {p.probe for p in measured.curve} == {"kNN"}
    assert measured.remarks[0].startswith("there was no time for all stages and the curve of the linear probe and ")
    assert "advised" in str(evidence_rows(measured, advise(measured)))


def test_a_rare_class_is_only_learned_from(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssl_transfer.running.short_fits.TRIED", {"full": LinearThenFull})
    data = ImageDataModule("digits")
    data.setup()
    rows = data.few(6, seed=0).indices("train")
    targets = data.table.targets[rows]
    keep = np.r_[rows[targets < 8], rows[targets == 8][:1], rows[targets == 9][:1]]
    measured = measure(Question(str(encoder), data.with_train(np.sort(keep)), minutes=0.01), say=lambda _: None)
    assert measured.images == 48 and measured.taught == pytest.approx((50 - 16) / 10)
    assert "never asked about: '8', '9'" in measured.remarks[0]


def test_an_encoder_that_learned_from_labels_is_told_of_first(encoder: Path, tmp_path: Path) -> None:
    data = ImageDataModule("digits")
    folder = save_encoder(load_encoder(encoder), tmp_path / "e", objective="Classifier", data={"source": "digits"})
    (told,) = _learned_with_labels(str(folder), data)
    assert told.startswith("the encoder was trained with labels, by a Classifier of digits: what is held out")
    folder = save_encoder(load_encoder(encoder), tmp_path / "f", objective="Classifier", data={"source": "MNIST"})
    assert _learned_with_labels(str(folder), data) == ("the encoder was trained with labels, by a Classifier",)
    assert _learned_with_labels(str(encoder), data) == ()


def test_of_many_labelled_images_some_are_drawn_by_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssl_transfer.running.advice.MOST", 300)
    data = ImageDataModule("digits")
    data.setup()
    rows, count = labelled_rows(Question("", data))
    assert count == 1132 and 270 <= len(rows) <= 300 < MOST
    assert np.bincount(data.table.targets[rows]).min() > 20


def test_images_of_pretraining_that_are_not_here_are_left_out(
    encoder: Path, digits: ImageDataModule, tmp_path: Path
) -> None:
    network = load_encoder(encoder)
    found, remarks = _pretraining(network, {"source": "/gone/photos"}, None, digits, None)
    assert found is None and "/gone/photos, are not here" in remarks[0]
    found, remarks = _pretraining(network, {}, None, digits, None)
    assert found is None and "does not name its images" in remarks[0]
    found, remarks = _pretraining(network, {"source": str(tmp_path)}, None, digits, None)
    assert found is None and "cannot be read" in remarks[0]
    assert _pretraining(network, {"source": "digits"}, None, digits, None) == (digits, ())


@pytest.mark.slow
def test_images_of_pretraining_that_are_given(
    encoder: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "advice")
    given = ["--label_budget", "3", "--pretrained_on", str(photos), "--out", out, *QUICK]
    assert main(["advise", str(encoder), "digits", *given]) == 0
    figures = json.loads((tmp_path / "advice" / "advice.json").read_text())["measurements"]["figures"]
    assert figures["proxy A-distance"] > 1 and figures["Fréchet distance"] > 0


@pytest.mark.slow
def test_a_network_with_its_own_head_may_stay_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(torchvision.models.mobilenet_v3_small().state_dict(), tmp_path / "weights.pth")
    spec = EncoderSpec("mobilenet_v3_small", weights=str(tmp_path / "weights.pth"), own_head=True)
    network = build_encoder(spec, (3, 32, 32), [0.5] * 3, [0.3] * 3)
    folder = save_encoder(network, tmp_path / "encoder", objective="given", data={})
    assert main(["advise", str(folder), "digits", "--label_budget", "3", *QUICK]) == 0
    told = capsys.readouterr().out
    assert "as is" in told and "LEEP" in told and "scratch" in told and "frozen" not in told


def test_mistakes(encoder: Path, tmp_path: Path, mistake: Callable[..., str]) -> None:
    assert "--minutes must be above 0" in mistake("advise", str(encoder), "digits", "--minutes", "0")
    assert "--label_budget must be 1 or more" in mistake("advise", str(encoder), "digits", "--label_budget", "0")
    assert "label_budget=500 is more than" in mistake("advise", str(encoder), "digits", "--label_budget", "500")
    assert "encoder folder" in mistake("advise", str(tmp_path / "none"), "digits")
    np.save(tmp_path / "images.npy", np.arange(50 * 64, dtype=np.uint16).reshape(50, 8, 8).astype(np.uint8))
    assert "advice needs" in mistake("advise", str(encoder), str(tmp_path / "images.npy"))
    assert "no folder, file or data set named" in mistake(
        "advise", str(encoder), "digits", "--label_budget", "3", "--pretrained_on", str(tmp_path / "none"), *QUICK
    )
