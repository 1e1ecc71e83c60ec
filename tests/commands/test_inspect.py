from pathlib import Path

import pytest

from ssl_transfer.commands.inspect import inspect
from ssl_transfer.encoders import EncoderSpec, build_encoder, save_encoder


def test_words_and_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    encoder = build_encoder(EncoderSpec(bottleneck=10), (1, 28, 28), [0.3], [0.3])
    data = {"source": "photos", "counts": {"train": 90}, "classes": list("abcdefgh")}
    path = save_encoder(encoder, tmp_path / "encoder", objective="Autoencoder", data=data, metrics={"val/mse": 0.0123})
    assert inspect(str(path)) == 0
    told = capsys.readouterr().out
    total = sum(parameter.numel() for parameter in encoder.parameters())
    expected = (
        "small_resnet",
        "Autoencoder",
        "stage2",
        "128 x 7 x 7",
        "bottleneck",
        f"{total:,}",
        "0.0123",
        "train: 90",
    )
    for text in (*expected, "a, b, c, d, e, f and 2 more", "ssl_transfer"):
        assert text in told


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="lacks config"):
        inspect(str(tmp_path))
