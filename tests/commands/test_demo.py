"""The demo, with two epochs where the real one has forty: the page, the table, and what it refuses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from sklearn.decomposition import PCA

from ssl_transfer.commands import demo as module
from ssl_transfer.commands.demo import demo
from ssl_transfer.encoders import load_encoder


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two draws of labels in place of five, two epochs from scratch, and a projection in place of t-SNE."""
    scratch = module.from_scratch_accuracy
    monkeypatch.setattr(module, "DRAWS", range(2))
    monkeypatch.setattr(module, "from_scratch_accuracy", lambda *a, **k: scratch(*a, **{**k, "epochs": 2}))
    monkeypatch.setattr(module, "TSNE", lambda **_: PCA(2))


@pytest.mark.usefixtures("hasty")
def test_the_story_ends_in_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "demo"
    assert demo(str(out), epochs=2) == 0
    assert {path.name for path in out.iterdir()} == {"index.html", "simclr", "denoisingautoencoder"}
    for name in ("simclr", "denoisingautoencoder"):
        assert load_encoder(out / name / "encoder").feature_dim == 128 * 4
    told = capsys.readouterr().out
    for row in ("Raw pixels", "PCA", "Random encoder", "From scratch", "SimCLR", "Denoising autoencoder"):
        assert re.search(rf"{row} +0\.\d{{3}}  \[-?\d\.\d{{3}}, [01]\.\d{{3}}\]", told)
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "SimCLR" in page and "Raw pixels" in page and len(page) > 100_000
    loaded = re.findall(r"""(?:src|href)\s*=\s*["']([^"']+)""", page)
    assert all(link.startswith(("data:", "#")) for link in loaded)


def test_an_earlier_demo_is_replaced_only_when_asked(tmp_path: Path) -> None:
    (tmp_path / "simclr").mkdir()
    (tmp_path / "index.html").write_text("earlier")
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"already holds a demo.*--overwrite"):
        demo(str(tmp_path))
    assert (tmp_path / "index.html").read_text() == "earlier"
    module._claim(tmp_path, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.slow
def test_pretraining_beats_the_floors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The real demo: with ten labels a class both pretrained encoders beat pixels and the random encoder."""
    assert demo(str(tmp_path / "demo")) == 0
    told = capsys.readouterr().out
    means = {name.strip(): float(value) for name, value in re.findall(r"^  (\D+?) +(0\.\d{3})  \[", told, re.MULTILINE)}
    for ours in ("SimCLR", "Denoising autoencoder"):
        assert means[ours] > max(means["Raw pixels"], means["Random encoder"]) + 0.01
