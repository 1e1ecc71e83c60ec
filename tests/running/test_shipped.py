import re
from pathlib import Path

import pytest

from ssl_transfer.cli import main
from ssl_transfer.running.shipped import shipped, with_shipped

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "given", ["--config configs/adapt/dann.yaml", "--config=configs/adapt/dann.yaml", "-c configs/adapt/dann.yaml"]
)
def test_a_file_of_the_package_is_found_from_any_folder(elsewhere, capsys, given):
    told = with_shipped([*given.split(), "--data.size", "64"])
    assert " ".join(told).replace(str(CHECKOUT) + "/", "") == f"{given} --data.size 64"
    assert str(CHECKOUT / "configs/adapt/dann.yaml") in " ".join(told)
    assert capsys.readouterr().err == "--config configs/adapt/dann.yaml: the file that came with ssl_transfer\n"


def test_a_file_of_ones_own_goes_first(elsewhere, capsys):
    own = elsewhere / "configs" / "adapt" / "dann.yaml"
    own.parent.mkdir(parents=True)
    own.touch()
    assert with_shipped(["--config", "configs/adapt/dann.yaml"]) == ["--config", "configs/adapt/dann.yaml"]
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["mine.yaml", "../configs/adapt/dann.yaml", "other/adapt/dann.yaml", "/configs/adapt/dann.yaml"]
)
def test_other_names_are_left_alone(elsewhere, name):
    assert with_shipped(["--config", name]) == ["--config", name]
    assert with_shipped(["--config"]) == ["--config"]


def test_a_slip_is_told_with_what_there_is(elsewhere):
    told = "--config configs/adapt/dan.yaml: no such file, here or in the package; did you mean configs/adapt/dann.yaml"
    with pytest.raises(ValueError, match=re.escape(told)):
        with_shipped(["--config", "configs/adapt/dan.yaml"])
    with pytest.raises(ValueError, match=r"there are configs/adapt/batch_norm\.yaml, "):
        with_shipped(["--config", "configs/~~~"])


def test_every_file_is_named_as_in_the_repository():
    assert list(shipped()) == sorted(p.relative_to(CHECKOUT).as_posix() for p in (CHECKOUT / "configs").rglob("*.yaml"))


def test_the_package_carries_every_folder():
    """pyproject.toml names each: a new one must be added there."""
    text = (CHECKOUT / "pyproject.toml").read_text(encoding="utf-8")
    for folder in {path.parent for path in (CHECKOUT / "configs").rglob("*.yaml")}:
        name = folder.relative_to(CHECKOUT).as_posix()
        assert f'"share/ssl_transfer/{name}" = ["{name}/*.yaml"]' in text


def test_the_command_line_uses_it(elsewhere, capsys):
    with pytest.raises(SystemExit) as done:
        main(["fit", "--config", "configs/pretrain/simclr.yaml", "--print_config"])
    assert not done.value.code
    assert "ssl_transfer.SimCLR" in capsys.readouterr().out
