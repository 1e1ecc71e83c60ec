import json
import re

import pytest
import yaml

from ssl_transfer import Classifier, Frozen, ImageDataModule, SimCLR, fit
from ssl_transfer.cli import main
from ssl_transfer.pretraining.monitor import Monitor
from ssl_transfer.running.compared import compare_runs
from ssl_transfer.running.folder import RunFolder

WITHIN = "within {} of the best, which chance or another seed may make: "


@pytest.fixture
def made(tmp_path):
    """Writes the files of a finished run."""

    def make(name, figures, settings=None, images="same", **metrics):
        run = RunFolder(tmp_path / name)
        run.path.mkdir()
        told = {"checkpoint": "checkpoints/best.ckpt", "best_by": "val/accuracy", "wall_seconds": 3.0}
        run.record({**told, **{f"val/{key}": value for key, value in figures.items()}, **metrics})
        run.write_config(yaml.safe_dump(settings or model(method=name)))
        run.model.mkdir()
        (run.model / "config.json").write_text(json.dumps({"data": {"fingerprint": images, "counts": {"val": 2000}}}))
        return run

    return make


def model(**arguments):
    return {"model": {"class_path": "a.Model", "init_args": arguments}}


def test_best_first_by_the_figure_that_chose_the_epochs(made):
    runs = [
        made("a", {"accuracy": 0.8, "calibration_error": 0.3}),
        made("b", {"accuracy": 0.9, "calibration_error": 1}),
    ]
    found = compare_runs(runs)
    assert (found.by, found.best, found.differing) == ("val/accuracy", runs[1], ("model.method",))
    assert compare_runs(runs, by="val/calibration_error").best == runs[0]  # lower is better
    assert not found.remarks


def test_a_row_a_run_with_every_figure(made):
    runs = [made("a", {"accuracy": 0.8}, **{"test/accuracy": 0.0}), made("b", {"accuracy": 0.9})]
    assert compare_runs([run.path for run in runs]).rows() == [
        {"run": str(run.path), "model.method": name, "wall_seconds": 3.0, "test/accuracy": test, "val/accuracy": own}
        for run, name, test, own in ((runs[1], "b", None, 0.9), (runs[0], "a", 0.0, 0.8))
    ]


@pytest.mark.parametrize("name", ["noise_share", "loss", "dev", "uniformity"])
def test_less_is_better_of_some(made, name):
    runs = [made("more", {name: 2.0}), made("less", {name: 1.0})]
    assert compare_runs(runs, by=f"val/{name}").best == runs[1]


def test_remarks(made):
    runs = [
        made("a", {"bnm": 0.9, "dev": 2.0, "validators_asked": 3}, warnings=["one", "two"], verdict="do not adapt: 0"),
        made("b", {"bnm": 0.8, "dev": 1.0}, images="other", verdict="it cannot be told whether adapting helped: none"),
    ]
    a, b = (run.path for run in runs)
    assert compare_runs(runs, by="val/bnm").remarks == (
        f"these runs had other images, or another split or size of them, and may differ by that: {a}; {b}",
        f"{a}: one (and 1 more)",
        f"{a}: verdict: do not adapt: 0",
        "validators read no label of the target, and reward answers that are wrong and sure; the best is "
        f"{a} by bnm; {b} by dev",
    )


@pytest.mark.parametrize(("classes", "lost"), [(7.4, True), (8.9, False)])
def test_lost_classes_of_the_best_are_said(made, classes, lost):
    told = compare_runs(
        [made("a", {"bnm": 0.9, "target_classes": classes}), made("b", {"bnm": 0.8, "target_classes": 9.0})], "val/bnm"
    ).remarks
    assert any("as many as 7.4 equally frequent classes, another with 9.0" in each for each in told) == lost


def test_a_figure_of_the_source_is_said_to_be(made):
    runs = [made(name, {"accuracy": value, "bnm": 0.5}) for name, value in (("a", 0.9), ("b", 0.8))]
    assert compare_runs(runs).remarks == ("val/accuracy is of the source; the validators see the target: val/bnm",)


def test_images_that_are_not_known_are_not_said_to_be_others(made):
    assert not compare_runs([made("a", {"accuracy": 0.9}), made("b", {"accuracy": 0.8}, images=None)]).remarks


@pytest.mark.parametrize(
    ("name", "values", "told"),
    [
        (
            "accuracy",
            (0.9, 0.889, 0.888, 0.8),
            WITHIN.format("0.013") + "{b}, {c}",
        ),
        ("bnm", (0.99, 0.985, 0.7, 0.7), WITHIN.format("0.01") + "{b}"),
        ("loss", (0.0045, 0.0101, 0.5, 0.5), None),
        ("rankme", (5.0, 5.0, 4.999, 2.0), "equal to the best: {b}"),
    ],
)
def test_runs_that_are_close_are_said_to_be(made, name, values, told):
    runs = {each: made(each, {name: value}) for each, value in zip("abcd", values, strict=True)}
    remarks = compare_runs(list(runs.values()), by=f"val/{name}").remarks
    close = [remark for remark in remarks if remark.startswith(("within", "equal"))]
    assert close == ([] if told is None else [told.format(**{each: run.path for each, run in runs.items()})])


def test_mistakes(made, tmp_path):
    figures = {"accuracy": 0.9, "silhouette": 1.0, "feature_std": 1.0}
    a, b = made("a", figures), made("b", {**figures, "rankme": 3.0, "uniformity": float("nan")})
    (tmp_path / "empty").mkdir()

    def refused(told, runs, by=None):
        with pytest.raises(ValueError, match=re.escape(told)):
            compare_runs(runs, by)

    both = "give --by a figure that all have: val/accuracy, val/silhouette"
    refused("two or more runs can be compared, not 1", [a])
    refused(f"no finished fit (no checkpoint in metrics.json) in {tmp_path / 'empty'}: ", [a, tmp_path / "empty"])
    refused(f"{a.path} is given twice", [a, b, a])
    refused(f"--by val/rankme is not a finite figure of {a.path}: {both}", [a, b], "val/rankme")
    refused(f"--by val/uniformity is not a finite figure of {a.path}, {b.path}: {both}", [a, b], "val/uniformity")
    refused("--by test/accuracy: a run is chosen on validation images", [a, b], "test/accuracy")
    refused("--by : a run is chosen on validation images", [a, b], "")
    refused(f"--by val/feature_std: neither more nor less of it makes a better run: {both}", [a, b], "val/feature_std")
    other = made("c", {"silhouette": 1.0}, best_by="val/silhouette")
    refused(f"by different figures ({a.path} by val/accuracy, {other.path} by val/silhouette): give --by", [a, other])
    solved = [made(name, {"silhouette": 1.0}, best_by=None) for name in ("solved", "solved_too")]
    common = "give --by a figure that all have: val/silhouette"
    refused(f"none of these runs chose an epoch: {common}", solved)
    refused(
        f"{solved[0].path} has no finite val/accuracy, by which the others chose their epochs: {common}", [a, solved[0]]
    )
    alien = made("d", {"nmi": 1.0}, best_by="val/nmi")
    refused("they have no figure in common by which to choose; compare runs of one kind", [other, alien])
    assert compare_runs([a, made("frozen", figures, best_by=None)]).by == "val/accuracy"


@pytest.mark.parametrize("name", ["metrics.json", "config.yaml", "model/config.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"null", b"[1]", b"\xff\xfe", b"a: !!python/name:os.system"])
def test_a_damaged_file_is_named(made, name, content):
    runs = [made("a", {"accuracy": 0.9}), made("b", {"accuracy": 0.8})]
    (runs[1].path / name).write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(f"{runs[1].path / name} is damaged, as it holds no mapping: ")):
        compare_runs(runs)


@pytest.mark.parametrize(
    "text", ["model: [1, 2]", "model: {class_path: A, init_args: [1]}", "trainer: 3", "data: null"]
)
def test_odd_settings_do_no_harm(made, text):
    runs = [made("a", {"accuracy": 0.9}), made("b", {"accuracy": 0.8})]
    runs[0].write_config(text)
    runs[1].record({"warnings": "no list"})
    for data in ("[1]", "null", '{"counts": [1]}', '{"counts": {"val": "many"}}', '{"domains": {"source": 3}}'):
        for run in runs:
            run.model.joinpath("config.json").write_text(f'{{"data": {data}}}')
        assert compare_runs(runs).best == runs[0]


def test_losses_on_other_images_are_not_compared(made):
    settings = [{"data": {"size": size}} for size in (32, 64)]
    runs = [made(str(n), {"loss": 1.0}, each, images=str(n), best_by="val/loss") for n, each in enumerate(settings)]
    with pytest.raises(ValueError, match=r"where data\.size differs: they have no figure in common by which to choose"):
        compare_runs(runs)


@pytest.mark.parametrize(
    ("first", "second", "differs"),
    [
        (model(temperature=0.1), model(temperature=0.2), "model.temperature"),
        ({"data": {"batch_size": 32}}, {"data": {"batch_size": 256}}, "data.batch_size"),
        (model(encoder=1, optimisation=3), model(encoder=2, optimisation=4), None),
        (model(encoder_noise=1), model(encoder_noise=2), "model.encoder_noise"),
        ({"data": {"root": "data", "memory_budget": 4}}, {"data": {"root": "./data", "memory_budget": 8}}, None),
        ({"data": {"source": "a"}}, {"data": {"source": "a/"}}, None),  # the fingerprint tells that they are one
        ({"seed_everything": 0, "data": {"seed": 0}}, {"seed_everything": 1, "data": {"seed": 1}}, None),
    ],
)
def test_losses_that_mean_different_things_are_not_compared(made, first, second, differs):
    figures = {"loss": 1.0, "rankme": 3.0}
    runs = [made(str(number), figures, each, best_by="val/loss") for number, each in enumerate((first, second))]
    if differs:
        with pytest.raises(ValueError, match=f"where {differs} differs: give --by a figure that all have: val/rankme"):
            compare_runs(runs)
    else:
        assert compare_runs(runs).by == "val/loss"
    assert compare_runs(runs, by="val/rankme").best == runs[0]


def test_a_terminal_and_python_say_the_same(tmp_path, capsys):
    options = {"max_epochs": 1, "limit_train_batches": 1, "enable_progress_bar": False, "verbose": False}
    told = ["--config", "configs/pretrain/simclr.yaml", "--data.source", "digits", "--trainer.max_epochs", "1"]
    more = ["--trainer.limit_train_batches", "1", "--trainer.enable_progress_bar", "false", "--monitor.queries", "50"]
    assert main(["fit", *told, *more, "--trainer.default_root_dir", str(tmp_path / "terminal")]) == 0
    data = ImageDataModule("digits", batch_size=256)
    first = fit(SimCLR(), data, tmp_path / "python", monitor=Monitor(queries=50), **options)
    assert compare_runs([first, tmp_path / "terminal"]).differing == ()
    solved = fit(Classifier(str(first.encoder), Frozen()), ImageDataModule("digits"), tmp_path / "solved", **options)
    with pytest.raises(ValueError, match="solved has no finite val/loss"):
        compare_runs([first, solved])
    capsys.readouterr()
