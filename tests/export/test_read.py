"""The way back: an export as an encoder, to the bit, or one clear line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ssl_transfer import load_encoder, read_export, write_export
from ssl_transfer.export.config import is_export

Make = Callable[..., Path]


@pytest.fixture(scope="module")
def encoder(make: Make) -> Path:
    return make("shufflenet_v2_x0_5", (3, 32, 32), pool=2)


@pytest.fixture(scope="module")
def export(classify: Make, encoder: Path, in_one_process: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_export(classify(encoder), "torchvision", tmp_path_factory.mktemp("exports") / "out").path


@pytest.fixture
def copy(export: Path, tmp_path: Path) -> Path:
    return shutil.copytree(export, tmp_path / "copy")


def test_to_the_encoder_and_to_its_folder(export: Path, encoder: Path, tmp_path: Path) -> None:
    ours, back = load_encoder(encoder), read_export(str(export))
    images = torch.randint(0, 256, (3, 3, 32, 32), generator=torch.Generator().manual_seed(5), dtype=torch.uint8)
    assert back.spec == ours.spec and not back.training and back.state_dict().keys() == ours.state_dict().keys()
    assert all(torch.equal(value, back.state_dict()[key]) for key, value in ours.state_dict().items())
    done = write_export(export, "encoder", tmp_path / "encoder")
    assert (done.kind, done.target, done.differences) == ("Encoder", "encoder", {"features": 0.0})
    with torch.no_grad():
        assert torch.equal(load_encoder(done.path)(images), ours(images))
    told = json.loads((done.path / "config.json").read_text())
    assert told["metrics"] == {"test/accuracy": 0.75} and told["data"]["source"] == "digits"
    with pytest.raises(
        ValueError, match="exists: choose another folder, or replace an encoder folder with --overwrite"
    ):
        write_export(export, "encoder", tmp_path / "encoder")
    write_export(export, "encoder", tmp_path / "encoder", overwrite=True)


def test_an_encoder_takes_no_other_folder_s_place(export: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="exists and is no encoder folder"):
        write_export(export, "encoder", tmp_path, overwrite=True)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_what_is_no_export(copy: Path, encoder: Path, tmp_path: Path) -> None:
    assert is_export(copy) and not is_export(encoder) and not is_export(tmp_path / "nothing")
    with pytest.raises(ValueError, match=r"is no export, as it lacks export\.json: give a folder"):
        read_export(encoder)
    (copy / "export.json").write_text("{")
    with pytest.raises(ValueError, match="is no export"):
        read_export(copy)


@pytest.mark.parametrize("name", ["model.safetensors", "golden.safetensors", "example.py"])
def test_a_file_that_changed_or_is_gone(copy: Path, name: str) -> None:
    with (copy / name).open("ab") as file:
        file.write(b" ")
    with pytest.raises(ValueError, match=f"{name} is missing or has changed since it was written; copy it again"):
        read_export(copy)
    (copy / name).unlink()
    with pytest.raises(ValueError, match=f"{name} is missing or has changed since it was written; copy it again"):
        write_export(copy, "torchvision", copy.parent / "out")
    assert not (copy.parent / "out").exists()


def test_a_configuration_that_changed(copy: Path) -> None:
    told = json.loads((copy / "export.json").read_text())
    (copy / "export.json").write_text(json.dumps(told | {"format_version": 99}))
    with pytest.raises(ValueError, match="has format 99, this ssl_transfer reads 1: use ssl_transfer"):
        read_export(copy)
    spec = told["encoder"]["encoder"]
    other = told["encoder"] | {"encoder": spec | {"name": "resnet18", "arguments": {}}}
    (copy / "export.json").write_text(json.dumps(told | {"encoder": other}))
    with pytest.raises(ValueError, match=r"does not hold its encoder: key .* is missing; copy it again"):
        read_export(copy)
    evil = told["encoder"] | {"encoder": spec | {"name": "os.system", "arguments": {"command": "false"}}}
    (copy / "export.json").write_text(json.dumps(told | {"encoder": evil}))
    with pytest.raises(ValueError, match="os"):
        read_export(copy)


def test_a_configuration_that_lacks_something(copy: Path) -> None:
    told = json.loads((copy / "export.json").read_text())
    for name in ("sha256", "encoder", "target"):
        (copy / "export.json").write_text(json.dumps({key: value for key, value in told.items() if key != name}))
        with pytest.raises(ValueError, match="damaged") as error:
            read_export(copy)
        assert "\n" not in str(error.value)
