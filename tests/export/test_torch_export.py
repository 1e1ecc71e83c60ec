"""An exported program gives the same, and comes back."""

from __future__ import annotations

import io
import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import torch

from ssl_transfer import read_export, write_export
from ssl_transfer.downstream import detectors
from ssl_transfer.encoders import load_encoder
from ssl_transfer.export.base import Options
from ssl_transfer.export.program_file import read_weights
from ssl_transfer.export.subject import Subject, read_subject
from ssl_transfer.export.torch_export import TorchExport
from tests.export.test_graph import detecting

Make = Callable[..., Path]
Written = tuple[Subject, Path]


@pytest.fixture(scope="module")
def written(make: Make, tmp_path_factory: pytest.TempPathFactory) -> Written:
    """An encoder, and the folder of its program."""
    subject, folder = read_subject(make("small_resnet", (1, 8, 8))), tmp_path_factory.mktemp("written")
    target = TorchExport()
    target.write(subject, folder)
    (folder / "example.py").write_text(target.example(subject))
    return subject, folder


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return open, (str(self.marker), "w")


def _rewritten(path: Path, to: Path, change: Callable[[str, bytes], bytes]) -> Path:
    with ZipFile(path) as old, ZipFile(to, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return to


def test_an_encoder_and_back(make: Make, tmp_path: Path) -> None:
    folder = make("small_resnet", (1, 8, 8), pool=2)
    report = write_export(folder, "torch_export", tmp_path / "out")
    assert report.files == ["README.md", "example.py", "export.json", "golden.safetensors", "model.pt2"]
    assert max(report.differences.values()) < 1e-5
    before, after = load_encoder(folder).state_dict(), read_export(report.path).state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_float_images_maps_and_any_batch(make: Make, tmp_path: Path) -> None:
    subject = read_subject(make("small_resnet", (3, 12, 16)), maps=True)
    TorchExport(Options("float", maps=True)).write(subject, tmp_path)
    program = torch.export.load(tmp_path / "model.pt2").module()
    (tmp_path / "example.py").write_text(TorchExport(Options("float", maps=True)).example(subject))
    predict = runpy.run_path(str(tmp_path / "example.py"))["predict"]
    for images in (subject.images, subject.images.float() / 255):
        torch.testing.assert_close(predict(images)["maps"], subject.expected["maps"], rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match=r"^images must be uint8, or float32 in \[0, 1\], not torch.float64$"):
        predict(subject.images.double() / 255)
    with pytest.raises(RuntimeError, match="dtype mismatch"):
        program(subject.images)
    images = torch.rand(7, 3, 12, 16)
    with torch.no_grad():
        found = program(images)
        assert list(found) == ["features", "maps"]
        torch.testing.assert_close(found["features"], subject.encoder(images), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(found["maps"], subject.encoder.maps(images), rtol=1e-5, atol=1e-5)


def test_a_program_for_uint8_refuses_floats(written: Written) -> None:
    subject, folder = written
    example = runpy.run_path(str(folder / "example.py"))
    found = example["predict"](subject.images)["features"]
    torch.testing.assert_close(found, subject.expected["features"], rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match=r"^images must be uint8 \(0 to 255\), .*, not torch.float32$"):
        example["predict"](subject.images / 255)
    with pytest.raises(RuntimeError, match="dtype mismatch"):
        example["PROGRAM"](subject.images / 255)


def test_coming_back_runs_nothing_of_the_file(written: Written, tmp_path: Path) -> None:
    marker, buffer = tmp_path / "ran", io.BytesIO()
    torch.save(Evil(marker), buffer)
    evil = buffer.getvalue()
    poisoned = _rewritten(
        written[1] / "model.pt2",
        tmp_path / "model.pt2",
        lambda name, data: evil if "sample_inputs" in name else data,
    )
    state, wanted = TorchExport().state(tmp_path, {}), written[0].encoder.state_dict()
    assert state.keys() == wanted.keys()
    assert all(torch.equal(state[name], value) for name, value in wanted.items())

    def pickled(name: str, data: bytes) -> bytes:
        if name.endswith("weight_3"):
            return evil
        return data.replace(b'"use_pickle": false', b'"use_pickle": true') if name.endswith(".json") else data

    says_pickle = _rewritten(poisoned, tmp_path / "pickle.pt2", pickled)
    with pytest.raises(
        ValueError, match=r"^.*pickle.pt2 holds weight '.*' as a pickle, and opening that is running .*$"
    ):
        read_weights(says_pickle)
    assert not marker.exists()


def test_a_damaged_program(written: Written, tmp_path: Path) -> None:
    def longer(name: str, data: bytes) -> bytes:
        if not name.endswith("weights_config.json"):
            return data
        told = json.loads(data)
        for meta in told["config"].values():
            meta["tensor_meta"]["storage_offset"]["as_int"] = 10**9
        return json.dumps(told).encode()

    (tmp_path / "text.pt2").write_text("text")
    _rewritten(written[1] / "model.pt2", tmp_path / "longer.pt2", longer)
    _rewritten(written[1] / "model.pt2", tmp_path / "list.pt2", lambda name, data: b"[]")
    for name in ("absent", "text", "longer", "list"):
        with pytest.raises(ValueError, match=r"^.* holds no weights that can be read without running code: .*$"):
            read_weights(tmp_path / f"{name}.pt2")


def test_no_path_of_this_machine(written: Written) -> None:
    data = (written[1] / "model.pt2").read_bytes()
    assert b"site-packages" not in data
    assert str(Path(__file__).parents[2]).encode() not in data


def test_a_detector(tmp_path: Path) -> None:
    subject = detecting(detectors.Mahalanobis(), [])
    target = TorchExport()
    target.check(subject)
    target.write(subject, tmp_path)
    found = torch.export.load(tmp_path / "model.pt2").module()(subject.images)
    for name, value in subject.expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-6)


def test_an_option_that_says_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^--license says nothing to target torch_export"):
        TorchExport(Options(license="mit"))
