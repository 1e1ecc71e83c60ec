"""Source that needs torch alone gives the same, and can be trained further."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from ssl_transfer import read_export, write_export
from ssl_transfer.downstream import detectors
from ssl_transfer.downstream.fitted_classifier import FittedClassifier
from ssl_transfer.downstream.heads import Translation
from ssl_transfer.encoders import load_encoder
from ssl_transfer.encoders.reconstruction import mirrored_decoder
from ssl_transfer.export.subject import Subject, read_subject
from ssl_transfer.export.torch_source import TorchSource, _numbers
from ssl_transfer.export.written_out import quoted
from tests.export.test_graph import _encoder, detecting
from tests.export.test_graph import subject as made_subject

Make = Callable[..., Path]

FINE_TUNE = """
import sys
sys.modules["ssl_transfer"] = None
sys.path.insert(0, sys.argv[1])
import torch
import torch.nn.functional as F
from model import load
from sklearn.datasets import load_digits

images, labels = load_digits(return_X_y=True)
images = torch.tensor(images / 16, dtype=torch.float32).view(-1, 1, 8, 8)
labels = torch.tensor(labels)
torch.manual_seed(0)
model = load().train()
head = torch.nn.Linear(128, 10)
before = {name: value.clone() for name, value in model.state_dict().items()}
optimiser = torch.optim.Adam([*model.parameters(), *head.parameters()], lr=1e-3)
for step in range(40):
    rows = torch.randint(len(images), (64,))
    loss = F.cross_entropy(head(model(images[rows])["features"]), labels[rows])
    if step == 0:
        first = loss.item()
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
changed = sum(not torch.equal(before[name], value) for name, value in model.state_dict().items())
print(first, loss.item(), changed, len(before))
"""


@pytest.fixture(scope="module")
def written(make: Make, tmp_path_factory: pytest.TempPathFactory) -> tuple[Subject, Path]:
    """An encoder, and the folder of its source."""
    subject, folder = read_subject(make("small_resnet", (1, 8, 8))), tmp_path_factory.mktemp("written")
    target = TorchSource()
    target.write(subject, folder)
    (folder / "example.py").write_text(target.example(subject))
    return subject, folder


def _outputs(subject: Subject, folder: Path) -> dict[str, torch.Tensor]:
    """What the written source gives of the golden images, read in this process."""
    target = TorchSource()
    target.write(subject, folder)
    model = runpy.run_path(str(folder / "model.py"))["load"](folder)
    with torch.no_grad():
        found: dict[str, torch.Tensor] = model(subject.images)
        alone = model(subject.images[:1])
    for name, value in alone.items():
        torch.testing.assert_close(value, found[name][:1], rtol=1e-5, atol=1e-5)
    return found


def _agrees(subject: Subject, folder: Path) -> None:
    found = _outputs(subject, folder)
    assert list(found) == list(subject.expected)
    for name, value in subject.expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-5)


def test_an_encoder_and_back(make: Make, tmp_path: Path) -> None:
    folder = make("small_resnet", (1, 8, 8))
    report = write_export(folder, "torch", tmp_path / "out", maps=True)
    assert {"model.py", "model.safetensors", "example.py"} <= set(report.files)
    assert max(report.differences.values()) < 1e-5
    assert "ssl_transfer" not in (report.path / "model.py").read_text() + (report.path / "example.py").read_text()
    before, after = load_encoder(folder).state_dict(), read_export(report.path).state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_it_is_trained_in_a_project_without_this_package(
    make: Make, tmp_path: Path, in_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    report = write_export(make("small_resnet", (1, 8, 8)), "torch", tmp_path / "out")
    sys.modules.pop("model", None)
    done = subprocess.run(
        [sys.executable, "-c", FINE_TUNE, str(report.path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    first, last, changed, count = map(float, done.stdout.split())
    assert last < first / 2
    assert changed > 0.7 * count  # all but mean, std and the counts of batches


def test_training_mode_is_that_of_the_encoder(make: Make, tmp_path: Path) -> None:
    subject = read_subject(make("small_resnet", (3, 16, 16)))
    TorchSource().write(subject, tmp_path)
    model = runpy.run_path(str(tmp_path / "model.py"))["load"](tmp_path).train()
    images = torch.rand(6, 3, 16, 16)
    encoder = subject.encoder.train()
    torch.testing.assert_close(model(images)["features"], encoder(images), rtol=1e-4, atol=1e-5)
    for name, value in encoder.state_dict().items():
        if "running" in name:
            torch.testing.assert_close(model.state_dict()[name], value, rtol=1e-4, atol=1e-5)


def test_images_that_it_takes(written: tuple[Subject, Path]) -> None:
    subject, folder = written
    model = runpy.run_path(str(folder / "model.py"))["load"](folder)
    with torch.no_grad():
        found = model(subject.images.float() / 255)["features"]
    torch.testing.assert_close(found, subject.expected["features"], rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match=r"^images must be \(B, 1, 8, 8\), not \(4, 3, 8, 8\)$"):
        model(subject.images.expand(-1, 3, -1, -1))
    with pytest.raises(ValueError, match=r"^images must be uint8, or float in \[0, 1\], not torch.int64: .*$"):
        model(subject.images.long())


def test_two_examples_in_one_process(written: tuple[Subject, Path], tmp_path: Path) -> None:
    subject, folder = written
    other = shutil.copytree(folder, tmp_path / "other")
    weights = {name: value + (name == "mean") for name, value in load_file(other / "model.safetensors").items()}
    save_file(weights, other / "model.safetensors", metadata={"parameters": "[]"})
    first, second = (runpy.run_path(str(path / "example.py")) for path in (folder, other))
    found = first["predict"](subject.images)["features"]
    torch.testing.assert_close(found, subject.expected["features"], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(second["predict"](subject.images)["features"], found, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "shape", "spec"),
    [
        ("small_resnet", (3, 20, 16), {"pool": 2}),
        ("small_resnet", (1, 16, 16), {"bottleneck": 7}),
        ("oriented_gradients", (3, 16, 16), {}),
        pytest.param(
            "timm.create_model", (3, 32, 32), {"arguments": {"model_name": "resnet10t"}}, marks=pytest.mark.slow
        ),
    ],
)
def test_networks(make: Make, tmp_path: Path, name: str, shape: tuple[int, int, int], spec: dict[str, Any]) -> None:
    if name.startswith("timm"):
        pytest.importorskip("timm")
    _agrees(read_subject(make(name, shape, **spec)), tmp_path)


def test_steps_are_public_functions_of_torch(written: tuple[Subject, Path]) -> None:
    text = (written[1] / "model.py").read_text()
    assert "torch.ops" not in text
    assert re.search(r'x = F\.conv2d\(x, w\["network\.stem\.0\.weight"\], None, .*\)  # \(B, 32, ', text)
    assert 'batch_norm(x, w, "network.stem.1", training, 0.1, 1e-05)' in text


def test_a_classifier_of_several_targets(make: Make, classify: Make, tmp_path: Path) -> None:
    targets = [
        {"name": 'child\'s "own" é\\N\n"""\nraise SystemExit\n"""{x}', "kind": "class", "classes": ["ant", "bee"]},
        {"name": "parts", "kind": "multi_label", "classes": ["wing", "leg"]},
        {"name": "age", "kind": "regression", "mean": 40.0, "deviation": 10.0},
    ]
    _agrees(read_subject(classify(make("small_resnet", (1, 8, 8)), targets)), tmp_path)


def test_texts_and_numbers_in_source() -> None:
    for text in ('"', "\\", "\n\r\0", "é 🐱\u2028", "\udc80", "{x}%s", '"""'):
        assert eval(quoted(text)) == text
        quoted(text).encode()
    assert _numbers("x = x.masked_fill(y, -inf) + torch.full([2], nan)") == "from math import inf, nan\n"
    assert _numbers('x = w["inf.nan"] + info') == ""


def test_precision_of_what_was_fitted() -> None:
    told = " ".join(TorchSource().notes(detecting(detectors.Mahalanobis(), [])))
    assert "`.half()`, `.bfloat16()` and `.double()` are not for it" in told and "count as equal" in told


def test_a_classifier_that_translates_its_networks_own_classes(tmp_path: Path) -> None:
    encoder = _encoder()
    torch.manual_seed(0)
    head = Translation(128, 3).fit(torch.randn(20, 128), torch.randint(3, (20,)))
    _agrees(made_subject(encoder, FittedClassifier(encoder, head, {"classes": ["ant", "bee", "cow"]})), tmp_path)


@pytest.mark.parametrize(
    ("detector", "stages", "decoder"),
    [
        (detectors.KNNDistance(relative_to=3), [], False),
        (detectors.Mahalanobis(), [], False),
        (detectors.GaussianKDE(), [], False),
        (detectors.OneClassSVM(), [], False),
        (detectors.PatchMemoryBank(image_score="reweighted", whole_image=1.0), ["stem", "stage1"], False),
        (detectors.ReconstructionError(top=0.2), [], True),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, detectors.Detector) else "",
)
def test_detectors(detector: detectors.Detector, stages: list[str], decoder: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    made: nn.Module | None = mirrored_decoder(_encoder()).eval() if decoder else None
    _agrees(detecting(detector, stages, made), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["resnet18", "mobilenet_v3_small", "vgg11_bn", "vit_b_16", "swin_t", "efficientnet_b0"]
)
def test_large_networks(make: Make, tmp_path: Path, name: str) -> None:
    _agrees(read_subject(make(name, (3, 32, 32))), tmp_path)
