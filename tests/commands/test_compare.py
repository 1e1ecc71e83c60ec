import csv

import pytest

from ssl_transfer.cli import main
from ssl_transfer.running.folder import RunFolder


@pytest.fixture
def runs(tmp_path):
    """Seven runs, by name from the worst to the best."""
    found = []
    for number in range(7):
        run = RunFolder(tmp_path / f"run_{number}")
        run.path.mkdir()
        run.record({"checkpoint": "x", "best_by": "val/accuracy", "val/accuracy": number / 10, "wall_seconds": 5.0})
        run.write_config(f"model: {{class_path: Classifier, init_args: {{label_smoothing: 0.{number}}}}}\n")
        found.append(str(run.path))
    return found


def test_tables_best_first(runs, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    assert main(["compare", *runs]) == 0
    told = capsys.readouterr().out
    assert told.count("model.label_smoothing") == 2  # four runs side by side, then three
    assert told.index("0.6000") < told.index("0.5000") < told.index("0.1000")
    assert told.splitlines()[-1] == f"best by val/accuracy: {runs[-1]}"  # whole, however long


def test_a_file_with_all(runs, tmp_path, capsys):
    out = tmp_path / "new" / "compared.csv"
    assert main(["compare", runs[0], "--by", "val/accuracy", runs[1], "--out", str(out)]) == 0
    with out.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["run"] for row in rows] == [runs[1], runs[0]]
    assert rows[0]["model.label_smoothing"] == "0.1"
    assert f"wrote {out}" in capsys.readouterr().out


def test_names_as_they_are(tmp_path, capsys, monkeypatch):
    """A terminal that is narrow, names that rich or a YAML reader could take for something else."""
    monkeypatch.setenv("COLUMNS", "40")
    names = ["😀run", ":b:", "[bold]x", "-dash"]
    for number, name in enumerate(names):
        run = RunFolder(tmp_path / name)
        run.path.mkdir()
        run.record({"checkpoint": "x", "best_by": "val/accuracy", "val/accuracy": number / 10})
    monkeypatch.chdir(tmp_path)
    assert main(["compare", "--by", "val/accuracy", "--", *names]) == 0
    told = capsys.readouterr().out
    assert told.splitlines()[-1] == "best by val/accuracy: -dash"
    assert main(["compare", *names[:3]]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "best by val/accuracy: [bold]x"


def test_a_verdict_against_the_best_stands_beside_it(tmp_path, capsys):
    for name, value, verdict in (("a", 0.9, "do not adapt, as far as can be told: …"), ("b", 0.5, None)):
        run = RunFolder(tmp_path / name)
        run.path.mkdir()
        run.record(
            {"checkpoint": "x", "best_by": "val/bnm", "val/bnm": value, "verdict": verdict, "val/validators_asked": 3}
        )
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("a, but its verdict is not to adapt")


def test_mistakes_take_a_line(runs, tmp_path, capsys):
    for given, told in (
        ([], "runs"),
        (runs[:1], "two or more runs can be compared, not 1"),
        ([runs[0], str(tmp_path / "none")], "no finished fit"),
        ([*runs, "--by", "test/accuracy"], "--by test/accuracy: a run is chosen on validation images"),
        ([*runs, "--out", str(tmp_path)], "is a folder: give the CSV file to write"),
        ([*runs, "--out", str(tmp_path / "run_0" / "metrics.json" / "x.csv")], "metrics.json is a file, not a folder"),
        ([*runs, "--best", "val/accuracy"], "--best"),
    ):
        assert main(["compare", *given]) == 2
        error = capsys.readouterr().err
        assert told in error and error.count("\n") == 1
