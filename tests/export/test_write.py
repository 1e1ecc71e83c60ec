"""What `write_export` leaves, and that it leaves nothing where something is wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from ssl_transfer import load_encoder, write_export
from ssl_transfer.downstream.fitted_classifier import FittedClassifier
from ssl_transfer.encoders.folder import sha256
from ssl_transfer.export import base
from ssl_transfer.export.base import Target
from ssl_transfer.export.subject import read_subject
from ssl_transfer.export.targets import TARGETS
from ssl_transfer.export.torchvision import Torchvision
from ssl_transfer.export.verify import run_example

Make = Callable[..., Path]
NAMES = ("torchvision", "timm", "onnx", "torch_export", "torch", "huggingface", "lightly_train", "segmentation")


@pytest.fixture(scope="module")
def encoder(make: Make) -> Path:
    return make("shufflenet_v2_x0_5", (3, 32, 32))


@pytest.fixture(scope="module")
def model(classify: Make, encoder: Path) -> Path:
    return classify(encoder)


def _refused(match: str, source: str | Path, to: str, out: Path, **options: Any) -> None:
    """One line, and nothing new at `out` nor beside it."""
    before = sorted(out.parent.rglob("*"))
    with pytest.raises(ValueError, match=match) as error:
        write_export(source, to, out, **options)
    assert "\n" not in str(error.value)
    assert sorted(out.parent.rglob("*")) == before


def test_all_targets_are_there() -> None:
    assert sorted(TARGETS) == sorted(NAMES)
    assert all(target.__doc__ and target.name == name for name, target in TARGETS.items())


def test_the_folder_and_the_report(model: Path, tmp_path: Path) -> None:
    done = write_export(model, "torchvision", tmp_path / "deep" / "out")  # verified in a process without ssl_transfer
    files = sorted(file.name for file in done.path.iterdir())
    assert files == sorted(done.files) and {"README.md", "example.py", "export.json"} < set(files)
    assert done.bytes == sum((done.path / name).stat().st_size for name in files)
    assert (done.path, done.target, done.kind) == (tmp_path / "deep" / "out", "torchvision", "Classifier")
    assert set(done.differences) == {"features", "probabilities"} and max(done.differences.values()) < 1e-5
    config = json.loads((done.path / "export.json").read_text())
    assert config["labels"] == ["ant", "bee", "cow"] and config["outputs"]["probabilities"]["shape"] == ["batch", 3]
    assert config["encoder"]["data"]["source"] == "digits"  # not the folder that it lay in
    assert config["sha256"] == {name: sha256(done.path / name) for name in files if name in config["sha256"]}
    assert {"model.safetensors", "golden.safetensors", "example.py"} <= set(config["sha256"])
    golden = load_file(done.path / "golden.safetensors")
    with torch.no_grad():
        assert torch.equal(golden["features"], load_encoder(model / "encoder")(golden["images"]))


@pytest.mark.usefixtures("in_process")
def test_sources(model: Path, encoder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(model, run / "model")
    shutil.copytree(encoder, run / "encoder")
    assert read_subject(run).kind == "Classifier"  # the whole, where a run has both
    shutil.rmtree(run / "model")
    assert read_subject(run).kind == "Encoder"
    first = write_export(run, "torchvision", tmp_path / "first")
    second = write_export(first.path, "torchvision", tmp_path / "second")
    names = ("model.safetensors", "golden.safetensors", "example.py")
    assert all((first.path / name).read_bytes() == (second.path / name).read_bytes() for name in names)


@pytest.mark.usefixtures("in_process")
def test_another_export_is_replaced_only_when_asked(encoder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()  # empty: nothing in the way
    write_export(encoder, "torchvision", out)
    _refused("holds an export already: .* --overwrite", encoder, "torchvision", out)
    write_export(encoder, "lightly_train", out, overwrite=True)
    assert (out / "start.py").exists()
    write_export(encoder, "torchvision", out, overwrite=True)
    assert not (out / "start.py").exists()
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.txt").write_text("mine")
    _refused("exists and is no export: choose another folder", encoder, "torchvision", other, overwrite=True)
    _refused("exists and is no export: choose another folder", encoder, "torchvision", other / "mine.txt")
    below = other / "mine.txt" / "deep" / "out"
    for name in ("torchvision", "encoder"):
        with pytest.raises(ValueError, match=r"cannot be made, as .*mine\.txt is a file: choose another folder"):
            write_export(encoder, name, below)


def test_what_is_no_source(encoder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    _refused("does not exist: give the DIR", tmp_path / "nothing", "torchvision", out)
    (tmp_path / "empty").mkdir()
    _refused("holds no encoder, model or export: give", tmp_path / "empty", "torchvision", out)
    damaged = shutil.copytree(encoder, tmp_path / "damaged")
    content = (damaged / "model.safetensors").read_bytes()
    (damaged / "model.safetensors").write_bytes(content[:-100])
    _refused("model.safetensors is damaged", damaged, "torchvision", out)
    (damaged / "model.safetensors").write_bytes(content[:-4] + bytes(4))
    _refused("has changed since it was written|golden", damaged, "torchvision", out)


def test_what_is_no_target_or_option(encoder: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    _refused("--to 'onxx' is unknown: did you mean onnx", encoder, "onxx", out)
    _refused("--to 'qqq' is unknown: known are torchvision, ", encoder, "qqq", out)
    _refused("--input says nothing to target torchvision: leave it out", encoder, "torchvision", out, input="float")
    _refused("--license says nothing to target torch: leave it out", encoder, "torch", out, license="mit")
    _refused("--maps: a Classifier gives no feature maps: leave it out", model, "torchvision", out, maps=True)
    _refused("leave --input, --maps and --license out", encoder, "encoder", out, maps=True)


def test_a_package_that_is_missing(encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "find_spec", lambda name: None)
    _refused(r"target timm needs timm: pip install 'ssl_transfer\[timm\]'", encoder, "timm", tmp_path / "out")
    _refused(r"target onnx needs .*: pip install 'ssl_transfer\[export\]'", encoder, "onnx", tmp_path / "out")


@pytest.mark.usefixtures("in_process")
def test_an_export_that_differs_is_refused(encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [
        ("features = net(x)", "features = net(x) + 0.01", "is refused: features differs by 0.01"),
        ('{"features": features}', '{"other": features}', "output features is missing; nothing was written"),
        ("features = net(x)", "features = net(x)[:, :5]", r"is \(4, 5\) instead of \(4, 1024\); nothing was written"),
        ("features = net(x)", "features = net(x) * float('nan')", "is refused: features differs by inf"),
        ("features = net(x)", "features = net(x) + len(x)", "is refused: features differs by"),
    ]
    example = Torchvision.example
    for before, after, match in cases:
        monkeypatch.setattr(Torchvision, "example", lambda self, of, b=before, a=after: example(self, of).replace(b, a))
        _refused(match, encoder, "torchvision", tmp_path / "out")


def test_an_example_that_needs_the_package_is_refused(tmp_path: Path) -> None:
    (tmp_path / "example.py").write_text("def golden():\n    import ssl_transfer\n")
    with pytest.raises(ValueError, match=r"does not run \(.*ssl_transfer.*\); nothing was written"):
        run_example(tmp_path)


def test_other_kinds_are_named_with_what_holds_them(encoder: Path, tmp_path: Path) -> None:
    subject = read_subject(encoder)

    class Other(FittedClassifier):
        kind = "Reducer"

    config = {"tuning": "Frozen", "data": {}, "metrics": {}, "classes": ["a", "b"]}
    subject.fitted = Other(subject.encoder, nn.Linear(1024, 2), config)
    for name in ("torchvision", "timm", "lightly_train", "segmentation"):
        target: Target = TARGETS[name]()
        with pytest.raises(ValueError, match="use torch") as error:
            target.check(subject)
        assert "\n" not in str(error.value)


def test_what_is_told_of_resizing_never_becomes_code(make: Make, tmp_path: Path) -> None:
    folder = tmp_path / "encoder"
    shutil.copytree(make("small_resnet", (1, 8, 8)), folder)
    told = json.loads((folder / "config.json").read_text())
    for name, value in (("value_range", [0, "1))\nprint('code'"]), ("value_range", [5, 1]), ("resize", "zoom")):
        told["data"] |= {"value_range": None, "resize": "crop", name: value}
        (folder / "config.json").write_text(json.dumps(told))
        _refused(f"data.{name} must be", folder, "torch", tmp_path / "out")


@pytest.mark.usefixtures("in_process")
def test_what_others_put_there_stays(encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    write_export(encoder, "torchvision", out)
    (out / "mine.pt").write_text("precious")
    _refused("mine.pt, which no export wrote", encoder, "torchvision", out, overwrite=True)
    late, example = tmp_path / "late", Torchvision.example

    def slow(self: Torchvision, subject: Any) -> str:
        late.mkdir()
        (late / "mine.pt").write_text("precious")
        return example(self, subject)

    monkeypatch.setattr(Torchvision, "example", slow)
    with pytest.raises(ValueError, match="exists and is no export"):
        write_export(encoder, "torchvision", late)
    assert [file.name for file in late.iterdir()] == ["mine.pt"]


def test_places_that_cannot_be(encoder: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    _refused("is a link", encoder, "torchvision", tmp_path / "link")
    with pytest.raises(ValueError, match="is the root"):
        write_export(encoder, "torchvision", "/")
    _refused("cannot be written", encoder, "torchvision", tmp_path / "new" / ("x" * 300))


def test_weights_that_are_wrong_are_refused_however_small_the_features(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make("mobilenet_v3_small", (3, 32, 32))
    zeros = {key: torch.zeros_like(value) for key, value in load_encoder(folder).network.network.state_dict().items()}  # type: ignore[union-attr]
    monkeypatch.setattr("ssl_transfer.export.weights.network_state", lambda encoder: zeros)
    _refused("features differs", folder, "torchvision", tmp_path / "out")


@pytest.mark.usefixtures("in_process")
def test_a_head_is_not_lost_in_silence(model: Path, tmp_path: Path) -> None:
    first = write_export(model, "torchvision", tmp_path / "first").path
    _refused("export of a Classifier", first, "torchvision", tmp_path / "second")
    assert write_export(first, "encoder", tmp_path / "back").differences == {"features": 0.0}
    assert all(file.stat().st_mode & 0o044 for file in first.iterdir())  # others may read it
