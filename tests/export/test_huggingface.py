"""Target huggingface: a folder that the Hub takes, and a card that it reads. Nothing here reaches the network."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from ssl_transfer import load_encoder, read_export, write_export

hub = pytest.importorskip("huggingface_hub")

Make = Callable[..., Path]


def _card(folder: Path) -> dict[str, object]:
    """The front matter, as the Hub's own library reads it."""
    card = hub.ModelCard.load(folder / "README.md", ignore_metadata_errors=False)
    assert card.text.strip().startswith(f"# {folder.name}")
    assert yaml.safe_load((folder / "README.md").read_text().split("---")[1])["license"] == card.data.license
    return card.data


@pytest.mark.usefixtures("in_process")
def test_the_layout_of_timm(make: Make, classify: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timm = pytest.importorskip("timm")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    model = classify(make("timm.create_model", (3, 64, 64), arguments={"model_name": "resnet10t"}))
    done = write_export(model, "huggingface", tmp_path / "cats", license="apache-2.0")
    card = _card(done.path)
    assert (card.license, card.library_name, card.pipeline_tag) == ("apache-2.0", "timm", "image-classification")
    (result,) = card.eval_results
    assert (result.dataset_name, result.dataset_split) == ("digits", "test")
    assert (result.metric_type, result.metric_value, result.metric_name) == ("accuracy", 0.75, "test/accuracy")
    text = (done.path / "README.md").read_text()
    assert 'timm.create_model("hf-hub:you/cats", pretrained=True)' in text and "ant" in text
    assert "/home/somebody" not in text
    net = timm.create_model(f"local-dir:{done.path}", pretrained=True)
    assert net.num_classes == 3 and read_export(done.path).spec.name == "timm.create_model"


def test_the_layout_of_torch(make: Make, tmp_path: Path) -> None:
    encoder = make()
    done = write_export(encoder, "huggingface", tmp_path / "digits")  # verified in a process of its own
    card = _card(done.path)
    assert (card.license, card.library_name, card.pipeline_tag) == ("other", "pytorch", "image-feature-extraction")
    assert [result.metric_name for result in card.eval_results] == ["val/knn_accuracy"]  # no loss, nothing of training
    assert any("No license is chosen" in note for note in done.notes)
    images = torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(read_export(done.path)(images), load_encoder(encoder)(images))
    code = (
        f"import sys, torch; sys.path.insert(0, {str(done.path)!r}); import example; "
        "print(example.predict(torch.zeros(1, 1, 8, 8, dtype=torch.uint8))['features'].shape)"
    )
    offline = os.environ | {"HF_HUB_OFFLINE": "1"}
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=offline)
    assert said.stdout == "torch.Size([1, 128])\n", said.stderr


def test_a_license_that_the_hub_does_not_know(make: Make, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"--license 'apache2.0' is none that .* knows: did you mean apache-2.0\?"):
        write_export(make(), "huggingface", tmp_path / "out", license="apache2.0")
    with pytest.raises(ValueError, match="--license says nothing to target timm: leave it out"):
        write_export(make(), "timm", tmp_path / "out", license="mit")
