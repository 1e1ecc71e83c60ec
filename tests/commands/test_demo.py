"""The demo, with two epochs where the real one has forty: the page, the table, and what it refuses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ssl_transfer.commands import demo as module
from ssl_transfer.commands.demo import demo
from ssl_transfer.encoders import load_encoder


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two draws of labels in place of five, and two epochs from scratch."""
    monkeypatch.setattr(module, "DRAWS", range(2))
    fit = module.running.fit

    def short(*arguments: object, **options: object) -> object:
        return fit(*arguments, **{**options, "max_epochs": 2})  # type: ignore[arg-type]

    monkeypatch.setattr(module.running, "fit", short)


@pytest.mark.usefixtures("hasty")
def test_the_story_ends_in_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "demo"
    assert demo(str(out), epochs=2) == 0
    assert {path.name for path in out.iterdir()} == {"index.html", "simclr", "denoisingautoencoder"}
    for name in ("simclr", "denoisingautoencoder"):
        assert load_encoder(out / name / "encoder").feature_dim == 128 * 4
    told = capsys.readouterr().out
    for row in ("Raw pixels", "PCA", "Random encoder", "From scratch", "SimCLR", "Denoising autoencoder"):
        assert re.search(rf"{row} +0\.\d{{3}}  \[0\.\d{{3}}, [01]\.\d{{3}}\]", told)
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "SimCLR" in page and "Raw pixels" in page and len(page) > 100_000
    loaded = re.findall(r"""(?:src|href)\s*=\s*["']([^"']+)""", page)
    assert all(link.startswith(("data:", "#")) for link in loaded)
    with pytest.raises(ValueError, match="already holds a demo.*--overwrite"):
        demo(str(out))
    (out / "mine.txt").write_text("mine")
    assert demo(str(out), overwrite=True, epochs=1) == 0
    assert (out / "mine.txt").read_text() == "mine"


@pytest.mark.slow
def test_pretraining_beats_the_floors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The real demo: with ten labels a class both pretrained encoders beat pixels and the random encoder."""
    assert demo(str(tmp_path / "demo")) == 0
    told = capsys.readouterr().out
    means = {name.strip(): float(value) for name, value in re.findall(r"^  (\D+?) +(0\.\d{3})  \[", told, re.MULTILINE)}
    for ours in ("SimCLR", "Denoising autoencoder"):
        assert means[ours] > max(means["Raw pixels"], means["Random encoder"]) + 0.01
