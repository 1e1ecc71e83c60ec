"""The model folder: predicts as the fitted module does, and says so when it has been tampered with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.downstream import Classifier, Frozen, load_model
from ssl_transfer.downstream.model_folder import save_model
from ssl_transfer.running import fit as running


@pytest.fixture(scope="module")
def fitted(
    encoder_folder: Path, digits: ImageDataModule, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Classifier, Path]:
    module = Classifier(str(encoder_folder), tuning=Frozen(l2=1e-2))
    options = {"enable_progress_bar": False, "verbose": False}
    run = running.fit(module, digits, tmp_path_factory.mktemp("fitted") / "run", **options)
    return module, run.model


@pytest.fixture
def copy(fitted: tuple[Classifier, Path], tmp_path: Path) -> Path:
    return shutil.copytree(fitted[1], tmp_path / "model")


def test_it_predicts_as_the_module_did(fitted: tuple[Classifier, Path], digits: ImageDataModule) -> None:
    module, path = fitted
    model = load_model(path)
    batch = next(iter(digits.loader("test")))
    prediction = model.predict(batch.images, batch_size=50)
    assert torch.equal(prediction.classes, prediction.scores.argmax(1))
    assert prediction.labels == [model.classes[k] for k in prediction.classes.tolist()]
    torch.testing.assert_close(prediction.scores, module(batch.images).detach(), rtol=0, atol=1e-6)
    torch.testing.assert_close(prediction.scores.sum(1), torch.ones(len(batch.images)))
    as_floats = model.predict(batch.images.float() / 255).scores
    torch.testing.assert_close(as_floats, prediction.scores, rtol=0, atol=1e-5)
    assert not model.training and model.classes == [str(k) for k in range(10)]


def test_files_are_prepared_as_in_training(
    fitted: tuple[Classifier, Path], digits: ImageDataModule, tmp_path: Path
) -> None:
    for number, image in enumerate(next(iter(digits.loader("test"))).images[:4]):
        large = Image.fromarray(np.kron(image[0].numpy(), np.ones((4, 3), np.uint8)))  # 32 high, 24 wide: cropped
        (tmp_path / "files").mkdir(exist_ok=True)
        large.convert("RGB").save(tmp_path / "files" / f"{number}.png")
    prepared = ImageDataModule(str(tmp_path / "files"), size=8, channels=1)
    prepared.setup()
    images = next(iter(prepared.predict_dataloader())).images
    model = load_model(fitted[1])
    found = model.predict(sorted((tmp_path / "files").iterdir()))
    torch.testing.assert_close(found.scores, model.predict(images).scores, rtol=0, atol=0)
    with pytest.raises(OSError, match=r"nowhere\.png"):
        model.predict([tmp_path / "nowhere.png"])


def test_what_lies_in_the_folder(fitted: tuple[Classifier, Path]) -> None:
    _, path = fitted
    assert {p.name for p in path.iterdir()} == {
        "encoder",
        "model.safetensors",
        "golden.safetensors",
        "config.json",
        "README.md",
    }
    config = json.loads((path / "config.json").read_text())
    assert config["classes"] == [str(k) for k in range(10)] and config["tuning"] == "Frozen"
    assert config["data"]["source"] == "digits" and "val/accuracy" in config["metrics"]
    assert "load_model" in (path / "README.md").read_text()


def test_a_damaged_head(copy: Path) -> None:
    head = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(head[: len(head) // 2])
    with pytest.raises(ValueError, match="damaged"):
        load_model(copy)
    (copy / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="damaged"):
        load_model(copy)


def test_an_altered_head(copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    weights["weight"] *= -1
    save_file(weights, copy / "model.safetensors")
    with pytest.raises(ValueError, match="has changed since it was written"):
        load_model(copy)


@pytest.mark.parametrize("key", ["classes", "data"])
def test_a_config_without_a_key(copy: Path, key: str) -> None:
    config = json.loads((copy / "config.json").read_text())
    del config[key]
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=key):
        load_model(copy)


def test_a_config_with_a_class_too_few(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    config["classes"].pop()
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="damaged"):
        load_model(copy)


def test_a_damaged_encoder(copy: Path) -> None:
    path = copy / "encoder" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 0x40
    path.write_bytes(bytes(data))
    with pytest.raises(ValueError, match="encoder"):
        load_model(copy)


def test_what_is_no_model_folder(tmp_path: Path, encoder_folder: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing", encoder_folder):
        with pytest.raises(ValueError, match="is no model folder"):
            load_model(path)


def test_it_replaces_its_like_and_nothing_else(fitted: tuple[Classifier, Path], copy: Path, tmp_path: Path) -> None:
    module, _ = fitted
    save_model(module.fitted(data={"resize": "crop"}, metrics={}), copy)
    assert load_model(copy).config["data"] == {"resize": "crop"}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="is no model folder"):
        save_model(module.fitted(data={}, metrics={}), tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years of work"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine", "model"]
