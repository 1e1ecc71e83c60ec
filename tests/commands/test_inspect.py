from collections.abc import Callable
from pathlib import Path

import pytest

from ssl_transfer.cli import main
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


def test_the_layer_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    encoder = build_encoder(EncoderSpec(), (1, 28, 28), [0.3], [0.3])
    path = save_encoder(encoder, tmp_path / "encoder", objective="SimCLR", data={"source": "photos"})
    assert main(["inspect", str(path), "--tuning", "Partial", "--tuning.n_stages", "1", "--lr", "0.01"]) == 0
    told = capsys.readouterr().out
    rows = {cells[2]: cells for line in told.splitlines() if len(cells := [c.strip() for c in line.split("│")]) > 8}
    assert rows["stem.0"][1:9] == ["stem", "stem.0", "Conv2d", "32 x 14 x 14", "288", "-", "frozen", ""]
    assert rows["stem.1"][8] == "frozen"
    assert rows["stage2.0.bn1"][3:9] == ["BatchNorm2d", "128 x 7 x 7", "256", "0.001", "learns", "train"]
    assert rows[""][1] == "head" and rows[""][6] == "0.01"
    learning = sum(p.numel() for p in encoder.network.get_submodule("body.stage2").parameters())
    total = sum(p.numel() for p in encoder.parameters())
    assert f"{learning:,} of {total:,} parameters of the encoder learn; the head learns at 0.01" in told


def test_the_layer_table_of_a_network_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "vgg11", "--size", "32", "--tuning", "Gradual"]) == 0
    told = capsys.readouterr().out
    assert "vgg11 under Gradual, images 3 x 32 x 32" in told
    assert "0 of 9,220,480 parameters of the encoder learn, 9,220,480 join later" in told
    assert told.count("joins later") == 8


def test_a_tuning_that_does_not_exist(mistake: Callable[..., str]) -> None:
    assert "Known are AsIs, Compact, Frozen, Full" in mistake("inspect", "resnet18", "--tuning", "Nonsense")


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("lr", "0", "--lr must be above 0, not 0.0"),
        ("size", "0", "--size must be at least 1, not 0"),
        ("epochs", "0", "--epochs must be at least 1, not 0"),
        ("channels", "-1", "--channels must be at least 1, not -1"),
    ],
)
def test_numbers_out_of_range(mistake: Callable[..., str], option: str, value: str, told: str) -> None:
    assert told in mistake("inspect", "vgg11", "--tuning", "Full", f"--{option}", value)


def test_the_name_of_a_network_needs_a_tuning(mistake: Callable[..., str]) -> None:
    assert "no encoder folder 'vgg16'" in (told := mistake("inspect", "vgg16"))
    assert "the name of a network needs --tuning, and --size" in told
