"""What an anomaly detector leaves to look at, from a small run on pictures with scratches."""

from __future__ import annotations

import base64
import io
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.downstream import AnomalyDetector, KNNDistance, PatchMemoryBank
from ssl_transfer.encoders import EncoderSpec
from ssl_transfer.evaluation.report import Scored
from ssl_transfer.reporting.page import Page
from ssl_transfer.running import fit as running
from ssl_transfer.running.folder import RunFolder
from ssl_transfer.running.gallery import write_gallery

QUIET: dict[str, Any] = {"enable_progress_bar": False, "verbose": False, "precision": "32-true"}
SPEC = EncoderSpec(arguments={"widths": [8, 16], "strides": [1, 2]}, pool=2)
FIGURES = {"test/auroc": 0.97, "test/auroc_low": 0.9, "test/auroc_high": 0.99, "test/aupr": 0.8}

Finished = tuple[AnomalyDetector, ImageDataModule, RunFolder]


def _picture(rng: np.random.Generator, scratched: bool) -> Image.Image:
    pixels = rng.integers(90, 110, (120, 200, 3), dtype=np.uint8)
    if scratched:
        pixels[40:80, 60:140] = 255
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A patch memory bank fitted on a folder."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for place, count in (("train/good", 40), ("test/good", 30), ("test/scratch", 10)):
        (folder / place).mkdir(parents=True)
        for n in range(count):
            _picture(rng, "scratch" in place).save(folder / place / f"{n}.png")
    data = ImageDataModule(str(folder), size=32, resize="pad", val_fraction=0.5)
    module = AnomalyDetector(SPEC, PatchMemoryBank(coreset=0.2))
    run = running.fit(module, data, tmp_path_factory.mktemp("runs") / "run", **QUIET)
    return module, data, run


def _everything(module: AnomalyDetector, data: ImageDataModule) -> Scored:
    rows = data.indices("all")
    found = module.scorer(torch.from_numpy(data.images(rows)))
    assert found.maps is not None
    return Scored(rows, data.table.targets[rows], found.scores.numpy(), found.maps.numpy(), None)


def _page(run: RunFolder) -> dict[str, Any]:
    found = re.search(r'<script type="application/json">(.*?)</script>', run.gallery.read_text("utf-8"), re.DOTALL)
    assert found is not None
    return dict(json.loads(found.group(1)))


def _pngs(run: RunFolder) -> dict[str, np.ndarray]:
    return {file.name: np.asarray(Image.open(file)) for file in run.heat_maps.glob("*.png")}


def test_maps_are_computed_anew_where_none_were_kept(finished: Finished, tmp_path: Path) -> None:
    module, data, _ = finished
    scored = _everything(module, data)
    module.train()
    runs = [RunFolder(tmp_path / name) for name in ("kept", "anew")]
    write_gallery(runs[0], module, data, scored)
    write_gallery(runs[1], module, data, scored._replace(maps=None))
    assert module.training
    kept, anew = map(_pngs, runs)
    assert kept.keys() == anew.keys() and len(kept) == len(scored.rows)
    for name, picture in kept.items():
        assert picture.shape == (120, 200, 3)
        assert np.abs(picture.astype(int) - anew[name]).max() <= 1


def test_each_image_is_decoded_once_and_shrunk_before_it_is_kept(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, data, _ = finished
    decoded: Counter[int] = Counter()
    items: list[Any] = []
    original = data.original

    def counting(row: int) -> np.ndarray:
        decoded[row] += 1
        return original(row)

    def keeping(given: list[Any], **options: Any) -> Page:
        items.extend(given)
        return Page("kept")

    monkeypatch.setattr(data, "original", counting)
    monkeypatch.setattr("ssl_transfer.running.gallery.anomaly_gallery", keeping)
    write_gallery(RunFolder(tmp_path / "run"), module, data, _everything(module, data))
    assert set(decoded.values()) == {1} and len(decoded) == len(items) == len(data.table)
    assert {item.thumbnail.shape for item in items} == {(96, 160, 3)} == {item.overlay.shape for item in items}


def test_the_gallery_s_heat_lies_where_the_full_one_does(finished: Finished, tmp_path: Path) -> None:
    module, data, _ = finished
    run = RunFolder(tmp_path / "run")
    write_gallery(run, module, data, _everything(module, data))
    page = _page(run)
    place = next(n for n, path in enumerate(page["path"]) if path.endswith("scratch/3.png"))
    small = Image.open(io.BytesIO(base64.b64decode(page["pictures"][str(place)][1].split(",", 1)[1])))
    full = Image.fromarray(_pngs(run)["scratch__3.png"]).resize(small.size, Image.Resampling.BOX)
    assert np.abs(np.asarray(small, int) - np.asarray(full, int)).mean() < 4


def test_figures_stand_on_the_page_of_a_test_only(finished: Finished, tmp_path: Path) -> None:
    module, data, _ = finished
    run, scored = RunFolder(tmp_path / "run"), _everything(module, data)._replace(maps=None)
    run.path.mkdir()
    run.record(FIGURES)  # of an earlier test
    write_gallery(run, module, data, scored)
    assert "AUROC" not in run.gallery.read_text("utf-8")
    write_gallery(run, module, data, scored, {**FIGURES, "test/unmasked_anomalies": 2.0})
    html = run.gallery.read_text("utf-8").replace("\N{NO-BREAK SPACE}", " ")
    assert "AUROC of images" in html and "97.0 %" in html and "90.0 % to 99.0 %" in html and "80.0 %" in html
    assert "2 of the anomalies have no pixel marked" in html


def test_a_prediction_counts_new_images_only(finished: Finished) -> None:
    _, data, run = finished
    running.predict(AnomalyDetector(SPEC, PatchMemoryBank(coreset=0.2)), data, run.path)
    html, page = run.gallery.read_text("utf-8"), _page(run)
    assert "20 images of the train split" in html and "20 images of the val split" in html
    assert page["truth"].count(-1) == 40 and page["truth"].count(0) == 30 and page["truth"].count(1) == 10
    assert len(page["pictures"]) == 80 and all(heat for _, heat, _ in page["pictures"].values())


def test_targets_that_are_numbers_and_none(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "data.npz", images=images, labels=np.where(np.arange(60) % 2, np.nan, 0.5))
    data = ImageDataModule(str(tmp_path / "data.npz"), val_fraction=0.4, batch_size=20)
    run = running.fit(AnomalyDetector(SPEC, KNNDistance()), data, tmp_path / "run", **QUIET)
    running.predict(AnomalyDetector(SPEC, KNNDistance()), data, run.path)
    assert set(_page(run)["truth"]) == {-1} and _page(run)["classes"] == []
    assert len(_page(run)["pictures"]) == 60 and not run.heat_maps.exists()
