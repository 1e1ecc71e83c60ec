"""An ONNX model gives the same in onnxruntime."""

from __future__ import annotations

import json
import runpy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_transfer import read_export, write_export
from ssl_transfer.downstream import detectors
from ssl_transfer.export.base import Options
from ssl_transfer.export.graph import trace
from ssl_transfer.export.onnx import Onnx, divide_pools
from ssl_transfer.export.subject import Subject, read_subject
from tests.export.test_graph import detecting

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
pytest.importorskip("onnxscript")

Make = Callable[..., Path]


def _agrees(subject: Subject, folder: Path, options: Options | None = None) -> Any:
    """Write the file, run it, compare, and return the session."""
    target = Onnx(options)
    target.check(subject)
    target.write(subject, folder)
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    images = subject.images.numpy()
    if target.options.input == "float":
        images = images.astype(np.float32) / 255
    assert [output.name for output in session.get_outputs()] == list(subject.expected)
    for count in (4, 1):
        found = session.run(None, {"images": images[:count]})
        for value, (name, expected) in zip(found, subject.expected.items(), strict=True):
            limit = 1e-5 * max(1.0, float(expected.double().abs().max()))
            wanted = expected[:count].double().numpy()
            np.testing.assert_allclose(value.astype(np.float64), wanted, rtol=0, atol=limit, err_msg=name)
    return session


def test_a_classifier_in_a_process_of_its_own(
    make: Make, classify: Make, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = classify(make("small_resnet", (1, 8, 8)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = write_export(folder, "onnx", tmp_path / "out")
    assert capfd.readouterr() == ("", "")
    assert max(report.differences.values()) < 1e-5
    assert report.files == ["README.md", "example.py", "export.json", "golden.npz", "model.onnx"]
    images = np.load(report.path / "golden.npz")["images"]
    with pytest.raises(ValueError, match=r"^images must be uint8 \(0 to 255\), .*, not float32$"):
        runpy.run_path(str(report.path / "example.py"))["predict"](images.astype(np.float32) / 255)
    with pytest.raises(ValueError, match="is a graph of target onnx and holds no weights by name"):
        read_export(report.path)


def test_what_the_file_says_of_itself(make: Make, tmp_path: Path) -> None:
    subject, options = read_subject(make("small_resnet", (1, 8, 8)), maps=True), Options("float", maps=True)
    session = _agrees(subject, tmp_path, options)
    told = {name: json.loads(value) for name, value in session.get_modelmeta().custom_metadata_map.items()}
    assert told["labels"] == [] and told["threshold"] is None and told["input"] == "float"
    assert told["preprocessing"]["mean"] == pytest.approx([0.4])
    (images,) = session.get_inputs()
    assert (images.name, images.type) == ("images", "tensor(float)")
    assert images.shape == ["batch", 1, 8, 8]
    assert [output.shape[0] for output in session.get_outputs()] == ["batch", "batch"]
    assert not list(tmp_path.glob("*.data"))
    data = (tmp_path / "model.onnx").read_bytes()
    for path in ("site-packages", str(Path(__file__).parents[2]), "pkg.torch", "ssl_transfer.export"):
        assert path.encode() not in data
    (tmp_path / "example.py").write_text(Onnx(options).example(subject))
    predict = runpy.run_path(str(tmp_path / "example.py"))["predict"]
    golden = subject.images.numpy()
    for given in (golden, golden.astype(np.float32) / 255):
        np.testing.assert_allclose(predict(given)["maps"], subject.expected["maps"].numpy(), rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match=r"^images must be uint8, or float32 in \[0, 1\], not float64$"):
        predict(golden / 255)


def test_what_the_converter_raises_is_one_line(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: Any, **options: Any) -> None:
        raise RuntimeError("advice\nand more") from KeyError("no function for aten.x")

    monkeypatch.setattr(torch.onnx, "export", fails)
    with pytest.raises(
        ValueError, match=r"^the network cannot be written as ONNX \('no function.*'\): take target to.*$"
    ):
        Onnx().write(read_subject(make("small_resnet", (1, 8, 8))), tmp_path)


def test_a_memory_bank(tmp_path: Path) -> None:
    bank = detectors.PatchMemoryBank(image_score="reweighted", whole_image=1.0)
    _agrees(detecting(bank, ["stem", "stage1"]), tmp_path)


@pytest.mark.slow
def test_a_network_whose_pools_have_another_divisor(make: Make, tmp_path: Path) -> None:
    _agrees(read_subject(make("oriented_gradients", (3, 16, 16))), tmp_path)


def test_pools_are_divided() -> None:
    class Pool(nn.Module):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"x": F.avg_pool2d(x, 2, divisor_override=3) + F.avg_pool2d(x, 2)}

    x = torch.rand(2, 1, 4, 4)
    program = trace(Pool(), x)
    divide_pools(program.graph_module)
    assert "4, 3)" not in program.graph_module.code
    torch.testing.assert_close(program.module()(x)["x"], Pool()(x)["x"])


def test_more_than_a_file_holds_is_refused(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssl_transfer.export.onnx.LARGEST", 1000)
    with pytest.raises(ValueError, match=r"^an ONNX file holds at most 2 GB, and .* take target torch_export$"):
        Onnx().check(read_subject(make("small_resnet", (1, 8, 8))))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["resnet18", "mobilenet_v3_small", "vgg11_bn", "vit_b_16", "convnext_tiny", "efficientnet_b0", "swin_t"]
)
def test_large_networks(make: Make, tmp_path: Path, name: str) -> None:
    _agrees(read_subject(make(name, (3, 32, 32))), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "detector",
    [detectors.Mahalanobis(), detectors.GaussianKDE(), detectors.OneClassSVM(), detectors.KNNDistance(relative_to=3)],
    ids=repr,
)
def test_detectors_on_features(detector: detectors.Detector, tmp_path: Path) -> None:
    _agrees(detecting(detector, []), tmp_path)
