"""`ssl-transfer export`: what it prints, and one line for a mistake."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ssl_transfer import load_encoder
from ssl_transfer.cli import main
from ssl_transfer.encoders import build_encoder, save_encoder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = build_encoder("shufflenet_v2_x0_5", (1, 28, 28), [0.4], [0.3])
    return save_encoder(network, tmp_path_factory.mktemp("export") / "encoder", objective="SimCLR", data={})


def test_an_encoder_goes_out_and_comes_back(
    encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(encoder), "--to", "torchvision"]) == 0
    said = capsys.readouterr().out
    out = tmp_path / "exports" / "torchvision"
    assert f"wrote {out}: Encoder, " in said and "verified in a process without ssl_transfer" in said
    assert "note: The network is not quite `torchvision.models.shufflenet_v2_x0_5`" in said
    assert f"try it: python {out / 'example.py'} picture.png" in said
    assert main(["export", str(out), "--to", "encoder", "--out", str(tmp_path / "back")]) == 0
    assert "load_encoder" in capsys.readouterr().out
    images = torch.randint(0, 256, (3, 1, 28, 28), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(load_encoder(tmp_path / "back")(images), load_encoder(encoder)(images))


def test_a_mistake_gets_one_line(encoder: Path, tmp_path: Path, mistake: Callable[..., str]) -> None:
    out = ("--out", str(tmp_path / "out"))
    assert "does not exist" in mistake("export", str(tmp_path / "nothing"), "--to", "torch", *out)
    assert "did you mean onnx?" in mistake("export", str(encoder), "--to", "onxx", *out)
    assert "known are torchvision, " in mistake("export", str(encoder), *out)
    assert "timm has no shufflenet_v2_x0_5" in mistake("export", str(encoder), "--to", "timm", *out)
    assert "leave it out" in mistake("export", str(encoder), "--to", "torchvision", "--license", "mit", *out)
    assert "--input" in mistake("export", str(encoder), "--to", "onnx", "--input", "int4", *out)
    assert "is no export" in mistake("export", str(encoder), "--to", "torchvision", "--out", str(encoder))
    assert not list(tmp_path.iterdir())
