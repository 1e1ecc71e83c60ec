"""`shift` through the command line, on the digits and on versions of them that differ in one thing each."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from ssl_transfer.cli import main
from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.encoders import build_encoder, save_encoder

DIGITS = load_digits()
PIXELS = np.rint(DIGITS.images * (255 / 16)).astype(np.uint8)


@pytest.fixture
def diagnose(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Run the verb on digits against an array of images and return its report."""

    def run(images: np.ndarray, *options: str, **more: np.ndarray) -> dict[str, Any]:
        np.savez(tmp_path / "target.npz", images=images, **more)
        out = tmp_path / "out"
        arguments = ("digits", str(tmp_path / "target.npz"), "--out", str(out), "--images", "400", *options)
        assert main(["shift", *arguments]) == 0
        assert (out / "shift.html").is_file()
        return json.loads((out / "shift.json").read_text(encoding="utf-8"))

    return run


def test_digits_over_noise_are_a_large_shift(
    diagnose: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, PIXELS.shape)
    report = diagnose(np.abs(PIXELS - noise).astype(np.uint8))
    said = capsys.readouterr().out
    assert report["verdict"]["kind"] == "large" and report["verdict"]["shares_hold"] is False
    floor, method = report["commands"]
    assert "SourceOnly" in floor and "runs/source_only" in floor and "--model.tuning" not in floor
    assert "DANN" in method and "--model.compare_with runs/source_only/model" in method
    assert all("--data.batch_size 128" in one and "test_fraction" not in one for one in report["commands"])
    pixels, features = report["shift"]["spaces"]
    assert pixels["a_distance"]["value"] > 1.9 and features["a_distance"]["floor_high"] < 0.5
    assert features["p"] < 0.01 and features["discrepancy"]["low"] > features["discrepancy"]["floor_high"]
    assert "Adapt in training" in said and re.search(r"brighter \(0\.\d+ against 0\.\d+\)", said)
    assert "by likelihood" not in said  # class frequencies, where the images of a class look different
    page = (tmp_path / "out" / "shift.html").read_text(encoding="utf-8")
    for word in ("What differs", "How far apart", "Side by side", "Class frequencies", "oddest in target"):
        assert word in page
    assert not re.search(r"(?:src|href)=.?https?:", page)


def test_inverted_digits_are_found_out(diagnose: Callable[..., Any]) -> None:
    report = diagnose(255 - PIXELS)
    assert report["verdict"]["kind"] == "inverted" and "--model.views.recolour" in report["commands"][1]


def test_dimmed_digits_differ_in_style(diagnose: Callable[..., Any]) -> None:
    report = diagnose((PIXELS * 0.4 + 60).astype(np.uint8))
    assert report["verdict"]["kind"] == "style" and "BatchNormStatistics" in report["commands"][1]


def test_rarer_classes_are_label_shift(diagnose: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    kept = np.random.default_rng(0).random(len(PIXELS)) < np.where(DIGITS.target < 3, 1, 0.2)
    report = diagnose(PIXELS[kept], "--images", "900")
    assert report["verdict"]["kind"] == "labels" and len(report["commands"]) == 1
    assert "methods that make whole domains alike" in report["verdict"]["beware"].lower()
    truth = np.bincount(DIGITS.target[kept], minlength=10) / kept.sum()
    assert report["shift"]["shares"]["target"] == pytest.approx(truth.tolist(), abs=0.06)
    assert "weights = torch.tensor([" in report["python"] and report["python"] in capsys.readouterr().out


def test_the_same_digits_need_nothing_and_every_run_says_the_same(diagnose: Callable[..., Any]) -> None:
    shuffled = PIXELS[np.random.default_rng(1).permutation(len(PIXELS))]
    first, second = diagnose(shuffled), diagnose(shuffled)
    assert first["verdict"]["kind"] == "none" and len(first["commands"]) == 1 and "SourceOnly" in first["commands"][0]
    assert "among the source's, byte for byte" in first["shift"]["remarks"][0] and not first["shift"]["identical"]
    for report in (first, second):
        report.pop("seconds")
    assert first == second


def test_one_folder_twice_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["shift", "digits", "digits", "--images", "100", "--out", str(out)]) == 0
    assert "Source and target are the same images." in capsys.readouterr().out
    assert json.loads((out / "shift.json").read_text("utf-8"))["shift"]["identical"]


def test_a_source_without_classes_gets_no_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "source.npz", images=PIXELS[:200])
    out = tmp_path / "out"
    assert main(["shift", str(tmp_path / "source.npz"), "digits", "--images", "100", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "put its images in class folders" in said and "ssl-transfer fit" not in said


def test_labels_of_the_target_are_never_read(diagnose: Callable[..., Any]) -> None:
    """With them, without them and with wrong ones: the same figures, and a word that they were ignored."""
    plain, right, wrong = (
        diagnose(255 - PIXELS, **more)
        for more in ({}, {"labels": DIGITS.target}, {"labels": np.roll(DIGITS.target, 7) % 3})
    )
    assert plain["shift"].pop("remarks") == []
    assert "test_fraction" not in plain["commands"][0] and "--data.test_fraction 0.2" in right["commands"][0]
    for labelled in (right, wrong):
        assert labelled["shift"].pop("remarks") == ["the target has labels, which were not read"]
        assert labelled["shift"] == plain["shift"] and labelled["verdict"] == plain["verdict"]


def test_colour_and_another_size_are_converted_and_said(diagnose: Callable[..., Any]) -> None:
    large = np.repeat(PIXELS.repeat(2, axis=1).repeat(2, axis=2)[..., None], 3, axis=3)
    report = diagnose(large[:600], "--source_labels", "false")
    assert report["shift"]["remarks"] == ["both were compared as 8×8 images (colour, grey repeated; crop)"]
    assert [style["width"] for style in report["shift"]["styles"]] == [8, 16]
    assert report["shift"]["shares"] is None


def test_an_encoder_folder_reads_the_features(diagnose: Callable[..., Any], tmp_path: Path) -> None:
    data = ImageDataModule("digits")
    data.setup()
    encoder = build_encoder("small_resnet", data.shape, data.mean, data.std)
    save_encoder(encoder, tmp_path / "encoder", objective="none", data=data.describe())
    colour = np.repeat(255 - PIXELS[:400, :, :, None], 3, axis=3)
    report = diagnose(colour, "--encoder", str(tmp_path / "encoder"))
    assert f"--model.encoder {tmp_path / 'encoder'} " in report["commands"][0]
    assert all("--model.tuning Full" in one for one in report["commands"])
    assert "both were compared as 8×8 images (grey; crop)" in report["shift"]["remarks"]


def test_mistakes_in_one_line(mistake: Callable[..., str], tmp_path: Path) -> None:
    def npz(name: str, *shape: int) -> str:
        np.savez(tmp_path / name, images=np.zeros(shape, np.uint8))
        return str(tmp_path / name)

    assert "source: no folder, file or data set named 'nowhere'" in mistake("shift", "nowhere", "digits")
    assert "target: no folder, file or data set named 'nowhere'" in mistake("shift", "digits", "nowhere")
    assert "target " in (said := mistake("shift", "digits", npz("few.npz", 9, 8, 8))) and "give 40 or more" in said
    two = mistake("shift", "digits", npz("two.npz", 50, 8, 8, 2))
    assert "has 1 channels and target" in two and "only grey and colour" in two
    wide = mistake("shift", npz("wide.npz", 50, 8, 12), npz("tall.npz", 50, 12, 8))
    assert "source images are 12×8 and target images 8×12: give one --size for both" in wide
    assert "--images must be at least 40, not 3" in mistake("shift", "digits", "digits", "--images", "3")
    (tmp_path / "taken").write_text("")
    (tmp_path / "folder" / "shift.json").mkdir(parents=True)
    for out, why in (("taken", "is a file: give"), ("taken/out", "is a file: give"), ("folder", "shift.json there is")):
        assert why in mistake("shift", "digits", "digits", "--out", str(tmp_path / out))
    assert "--size must be at least 1, not 0" in mistake("shift", "digits", "digits", "--size", "0")
    folder = tmp_path / "encoder"
    save_encoder(build_encoder("small_resnet", (1, 8, 8), [0.5], [0.5]), folder, objective="none", data={})
    assert "target: no folder" in mistake("shift", "digits", "nowhere", "--encoder", str(folder))
    assert "--size must be at least 1, not -1" in mistake(
        "shift", "digits", "digits", "--encoder", str(folder), "--size", "-1"
    )
    said = mistake("shift", "digits", "digits", "--encoder", "resnet_18")
    assert "'resnet_18' is unknown: did you mean resnet18" in said and len(said) < 250


def test_sizes_that_differ_within_a_side(mistake: Callable[..., str], photos: Path) -> None:
    from PIL import Image

    Image.new("RGB", (30, 30)).save(photos / "ant" / "odd.png")
    assert re.search(r"target: --size is needed where sizes differ.*--size 96", mistake("shift", "digits", str(photos)))
