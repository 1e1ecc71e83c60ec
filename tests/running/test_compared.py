import json
import re

import pytest
import yaml

from ssl_transfer import Classifier, Frozen, ImageDataModule, SimCLR, fit
from ssl_transfer.cli import main
from ssl_transfer.running.compared import compare_runs, flat
from ssl_transfer.running.folder import RunFolder


@pytest.fixture
def made(tmp_path):
    """Writes the files of a finished run."""

    def make(name, figures, settings=None, images="same", **metrics):
        run = RunFolder(tmp_path / name)
        run.path.mkdir()
        told = {"checkpoint": "checkpoints/best.ckpt", "best_by": "val/bnm", "wall_seconds": 3.0}
        run.record({**told, **{f"val/{key}": value for key, value in figures.items()}, **metrics})
        settings = settings or {"model": {"class_path": "a.DomainAdapter", "init_args": {"method": name}}}
        run.write_config(yaml.safe_dump(settings))
        run.model.mkdir()
        (run.model / "config.json").write_text(json.dumps({"data": {"fingerprint": images}}))
        return run

    return make


def test_best_first_by_the_figure_that_chose_the_epochs(made):
    runs = [made("dann", {"bnm": 0.8, "dev": 0.3}), made("cdan", {"bnm": 0.9, "dev": 0.4})]
    found = compare_runs(runs)
    assert (found.by, found.best, found.differing) == ("val/bnm", runs[1], ("model.method",))
    assert compare_runs(runs, by="val/dev").best == runs[0]  # lower is better
    assert not found.remarks


def test_a_row_a_run_with_every_figure(made):
    runs = [made("a", {"bnm": 0.8}, **{"test/accuracy": 0.5}), made("b", {"bnm": 0.9})]
    assert compare_runs([run.path for run in runs]).rows() == [
        {"run": str(runs[1].path), "model.method": "b", "test/accuracy": None, "val/bnm": 0.9},
        {"run": str(runs[0].path), "model.method": "a", "test/accuracy": 0.5, "val/bnm": 0.8},
    ]


def test_settings_that_only_one_class_has_are_told_by_the_class(made):
    dann = {"class_path": "x.DANN", "init_args": {"weight": 1.0, "ramp": 10}}
    cdan = {"class_path": "ssl_transfer.CDAN", "init_args": {"weight": 1.0, "width": 4096}}
    settings = [{"model": {"class_path": "A", "init_args": {"method": m, "lr": 1}}} for m in (dann, cdan)]
    runs = [made(str(number), {"bnm": 0.5}, each) for number, each in enumerate(settings)]
    assert compare_runs(runs).differing == ("model.method",)


def test_none_and_a_mapping_differ(made):
    settings = [{"model": {"class_path": "A", "init_args": {"views": views}}} for views in (None, {"rotate": 6})]
    runs = [made(str(number), {"bnm": 0.5}, each) for number, each in enumerate(settings)]
    assert compare_runs(runs).differing == ("model.views",)


def test_where_a_run_is_written_is_no_setting(made):
    settings = [{"trainer": {"default_root_dir": name, "enable_progress_bar": name, "max_epochs": 3}} for name in "ab"]
    runs = [made(str(number), {"bnm": 0.5}, each) for number, each in enumerate(settings)]
    assert compare_runs(runs).differing == ()


def test_remarks(made):
    runs = [
        made("a", {"bnm": 0.9}, warnings=["one", "two"], verdict="do not adapt: 0 of 3"),
        made("b", {"bnm": 0.8}, images="other", verdict="it cannot be told whether adapting helped: no"),
    ]
    a, b = (run.path for run in runs)
    assert compare_runs(runs).remarks == (
        f"these runs had other images, or another split or size of them, and may differ by that: {a}; {b}",
        f"{a}: one (and 1 more)",
        f"{a}: verdict: do not adapt: 0 of 3",
    )


@pytest.mark.parametrize(("first", "second", "close"), [(0.9, 0.895, True), (0.9, 0.889, False), (2.3, 2.295, False)])
def test_shares_that_are_close_are_said_to_be(made, first, second, close):
    told = compare_runs([made("a", {"bnm": first}), made("b", {"bnm": second})]).remarks
    assert [("less than 0.01 apart in val/bnm" in remark) for remark in told] == [True] * close


def test_mistakes(made, tmp_path):
    a, b = made("a", {"bnm": 0.9, "loss": 1.0}), made("b", {"bnm": 0.8, "loss": 2.0, "snd": 3.0})
    (tmp_path / "empty").mkdir()

    def refused(told, runs, by=None):
        with pytest.raises(ValueError, match=re.escape(told)):
            compare_runs(runs, by)

    refused("two or more runs can be compared, not 1", [a])
    refused(f"no finished fit (no checkpoint in metrics.json) in {tmp_path / 'empty'}: ", [a, tmp_path / "empty"])
    refused(f"{a.path} is given twice", [a, b, a])
    refused(f"--by val/snd was not measured in {a.path}; all have val/bnm, val/loss", [a, b], "val/snd")
    refused("--by test/accuracy: a run is chosen on validation images", [a, b], "test/accuracy")
    refused("by val/bnm, val/loss: say --by; all have val/bnm", [a, made("c", {"bnm": 1.0}, best_by="val/loss")])
    refused("by None, val/bnm: say --by", [a, made("solved", {"bnm": 1.0}, best_by=None)])


@pytest.mark.parametrize(("changed", "refused"), [("temperature", True), ("encoder", False), ("optimisation", False)])
def test_losses_of_different_objectives_are_not_compared(made, changed, refused):
    settings = [{"model": {"class_path": "SimCLR", "init_args": {changed: value}}} for value in (0.1, 0.2)]
    figures = {"loss": 1.0, "rankme": 3.0}
    runs = [made(str(number), figures, each, best_by="val/loss") for number, each in enumerate(settings)]
    if refused:
        with pytest.raises(ValueError, match=r"model\.temperature differs: say --by; all have val/loss, val/rankme"):
            compare_runs(runs)
    else:
        assert compare_runs(runs).by == "val/loss"
    assert compare_runs(runs, by="val/rankme").best == runs[0]


def test_a_class_has_one_name_in_a_terminal_and_in_python():
    for path in ("ssl_transfer.DANN", "ssl_transfer.downstream.adaptation.dann.DANN"):
        assert list(flat("method", {"class_path": path})) == [("method", "DANN")]
    assert list(flat("encoder", {"name": "vgg16", "pool": 2})) == [
        ("encoder", "vgg16"),
        ("encoder.name", "vgg16"),
        ("encoder.pool", 2),
    ]


def test_runs_of_a_terminal_and_of_python(tmp_path, capsys):
    options = {"max_epochs": 1, "limit_train_batches": 1, "enable_progress_bar": False, "verbose": False}
    data = ImageDataModule("digits")
    first = fit(SimCLR(), data, tmp_path / "python", **options)
    told = ["--config", "configs/pretrain/simclr.yaml", "--data.source", "digits", "--trainer.max_epochs", "1"]
    more = ["--trainer.limit_train_batches", "1", "--trainer.enable_progress_bar", "false"]
    assert main(["fit", *told, *more, "--trainer.default_root_dir", str(tmp_path / "terminal")]) == 0
    assert set(compare_runs([first, tmp_path / "terminal"], by="val/rankme").differing) <= {
        "model.encoder",
        "model.views",
        "data.batch_size",
    }
    solved = fit(Classifier(str(first.encoder), Frozen()), ImageDataModule("digits"), tmp_path / "solved", **options)
    with pytest.raises(ValueError, match="say --by"):
        compare_runs([first, solved])
    capsys.readouterr()
