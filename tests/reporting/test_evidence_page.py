"""The evidence page and its words: pretraining helps, hurts, makes no difference, or nobody can tell."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ssl_transfer.evaluation.evidence import Trial, best, budgets, cells, compare
from ssl_transfer.reporting.evidence_page import (
    evidence_table,
    verdict,
    write_evidence_markdown,
    write_evidence_page,
)
from ssl_transfer.reporting.evidence_tables import accuracy_matrix, every_cell, matrix, saved
from ssl_transfer.reporting.evidence_words import findings, overall, telling
from tests.reporting.chromium import Chromium, find
from tests.reporting.made_up_trials import BUDGETS, FLOORS, OURS, made_up, results, stopped, without_bits

Read = Callable[[str], str]
GONE = {method: [value - 0.02 * place for place, value in enumerate(values)] for method, values in OURS.items()}
EVEN = {"Linear": [0.0001 + value for value in FLOORS["From scratch"]]}

CASES = {
    "helps": made_up(shift=0.03),
    "mixed": made_up(),
    "hurts": made_up(shift=-0.2),
    "no difference": made_up(EVEN, images=60_000, noise=0.0005),
    "turns": made_up(GONE, shift=0.04),
    "one seed": made_up(seeds=1, images=300),
    "one seed, no answers": without_bits(made_up(seeds=1)),
    "two seeds": made_up(seeds=2, bits=False, validation=False),
    "one budget": made_up(budgets=[10]),
    "all labels alone": made_up(budgets=[None]),
    "stopped": stopped(made_up(encoders=("SimCLR", "Denoising autoencoder"))),
    "floors alone": [trial for trial in made_up() if trial.kind == "floor"],
    "ours alone": [trial for trial in made_up() if trial.kind == "ours"],
    "nothing": [],
}


def _plain(sentences: list[str]) -> str:
    return " ".join(sentences).replace("\N{NO-BREAK SPACE}", " ")


@pytest.mark.parametrize("name", CASES)
def test_every_outcome_makes_a_sound_page(name: str, tmp_path: Path, read_page: Read) -> None:
    trials = CASES[name]
    path = write_evidence_page(tmp_path / "evidence.html", results(trials))
    html = path.read_text(encoding="utf-8")
    text = read_page(html)
    assert len(html) < 600_000
    for sentence in verdict(trials):
        assert _plain([sentence]) in text
    for cell in cells(trials):
        assert cell.method in text
    assert ">nan" not in html and '"nan' not in html and "not a number" not in text
    told = write_evidence_markdown(tmp_path / "evidence.md", results(trials)).read_text(encoding="utf-8")
    assert "\u00a0" not in told and "nan" not in told.replace("unanswered", "")
    assert all(line.count("|") == told.splitlines()[k - 1].count("|") for k, line in _table_lines(told))
    assert evidence_table(trials).count("\n") >= len({(cell.encoder, cell.method) for cell in cells(trials)})


def _table_lines(markdown: str) -> list[tuple[int, str]]:
    """Lines of tables but the first of each, with their numbers."""
    lines = markdown.splitlines()
    return [(k, line) for k, line in enumerate(lines) if line.startswith("|") and k and lines[k - 1].startswith("|")]


@pytest.mark.parametrize(
    ("name", "effect", "headline"),
    [
        ("helps", "helps", "Pretraining helps, at each of the six label budgets"),
        ("hurts", "hurts", "Pretraining hurts here: the best floor is more accurate"),
        ("no difference", "same", "Pretraining makes no difference here, less than a point either way"),
        (
            "turns",
            "unclear",
            "Pretraining helps with 1, 5 and 10 labels a class; pretraining hurts with all labels; these trials cannot",
        ),
        ("one seed, no answers", "unclear", "These trials cannot tell whether pretraining helps"),
        ("one budget", "helps", "Pretraining helps with 10 labels a class."),
        ("all labels alone", "unclear", "These trials cannot tell whether pretraining helps with all labels."),
        ("floors alone", "unclear", "Nothing can be said yet"),
        ("nothing", "unclear", "Nothing can be said yet"),
    ],
)
def test_the_headline_says_what_the_intervals_say(name: str, effect: str, headline: str) -> None:
    assert overall(CASES[name]) == effect
    assert _plain(verdict(CASES[name])).startswith(headline)


def test_the_words_carry_the_figures() -> None:
    trials = CASES["mixed"]
    one = telling(compare(trials))
    told = _plain(findings(trials))
    assert f"{100 * one.difference.mean:+.1f} points (95 % interval {100 * one.difference.low:+.1f} to" in told
    assert "The gain is last clear with 100 labels a class; with all labels it is" in told
    for budget in budgets(trials):
        chosen = best(trials, "ours", budget)
        assert chosen is not None and chosen.cell.method in told


def test_one_seed_is_said() -> None:
    told = _plain(verdict(CASES["one seed"]))
    assert "Only one seed: another draw of labels could change the outcome" in told
    assert "The test split has only 300 images" in told
    blind = _plain(verdict(CASES["one seed, no answers"]))
    assert "there is no interval at all" in blind and "95 % interval" not in blind


def test_a_choice_that_no_validation_made_is_said() -> None:
    told = _plain(verdict(CASES["two seeds"]))
    assert "No validation accuracy was measured, so ours is the method listed first" in told
    assert "Two seeds" in told and "Bonferroni" not in told, "nothing is clear, so nothing can fall"


def test_several_comparisons_are_held_to_account() -> None:
    assert "so what is clear is so by intervals widened for six comparisons (Bonferroni)" in _plain(
        verdict(CASES["helps"])
    )
    assert "Bonferroni" not in _plain(verdict(CASES["one budget"]))


def _few_seeds(shift: float, budgets: Sequence[int | None]) -> list[Trial]:
    """Three seeds a budget whose differences are 2, 4 and 4 points around `shift`, images unknown."""
    gains = {"Linear": 0.5 + shift, "PCA": 0.5}
    return [
        replace(trial, accuracy=gains[trial.method] + (0.02 * (trial.seed > 0) if trial.method == "Linear" else 0.0))
        for trial in without_bits(made_up(seeds=3, budgets=budgets))
        if trial.method in gains
    ]


def test_colour_and_headline_count_the_comparisons() -> None:
    one, six = _few_seeds(0.02, [10]), _few_seeds(0.02, BUDGETS)
    assert overall(one) == "helps" and _plain(findings(one)).startswith("Pretraining helps with 10 labels")
    assert overall(six) == "unclear" and _plain(findings(six)).startswith("These trials cannot tell")
    assert "and with 1, 5, 10, 50 and 100 labels a class and with all labels only these leave zero out" in _plain(
        verdict(six)
    )


def test_tiles_claim_no_more_than_the_verdict(tmp_path: Path, read_page: Read) -> None:
    def tiles(trials: list[Trial]) -> str:
        return read_page(write_evidence_page(tmp_path / "page.html", results(trials)).read_text(encoding="utf-8"))

    unclear, helps = tiles(_few_seeds(0.02, BUDGETS)), tiles(CASES["helps"])
    assert "not clear" in unclear and "as many labels without pretraining" not in unclear
    assert "as many labels without pretraining" in helps and "not clear" not in helps


def test_seeds_are_not_blamed_on_the_images() -> None:
    """One seed: only the images limit. Five that differ much: the seeds do, and what the images hide stays small."""
    calm, wild = CASES["one seed"], made_up(images=900, noise=0.15)
    assert "cannot be seen." in _plain(verdict(calm)) and "more seeds would help" not in _plain(verdict(calm))
    seen = float(re.search(r"under about ([0-9.]+) points", _plain(verdict(wild)))[1])  # type: ignore[index]
    widest = max(100 * one.difference.images for one in compare(wild))
    assert seen <= round(widest, 1) < 100 * min(one.difference.half for one in compare(wild))
    assert "more seeds would help more than more images" in _plain(verdict(wild))


def test_doubts_come_before_all_caveats(tmp_path: Path, read_page: Read) -> None:
    told = replace(results(CASES["one seed"]), doubts=["SimCLR was trained WITH labels"])
    text = read_page(write_evidence_page(tmp_path / "page.html", told).read_text(encoding="utf-8"))
    assert text.index("trained WITH labels") < text.index("Only one seed")
    assert "- SimCLR was trained WITH" in write_evidence_markdown(tmp_path / "page.md", told).read_text(
        encoding="utf-8"
    )


def test_a_stopped_run_says_how_much_is_missing() -> None:
    trials = CASES["stopped"]
    whole = made_up(encoders=("SimCLR", "Denoising autoencoder"))
    assert f"{len(whole) - len(trials)} of {len(whole)} trials are missing" in _plain(verdict(trials))
    assert "missing" not in _plain(verdict(whole))


def test_tables_hold_every_cell() -> None:
    trials = CASES["stopped"]
    columns, rows, ours = accuracy_matrix(trials)
    assert columns[2:] == ["1 a class", "5 a class", "10 a class", "50 a class", "100 a class", "all"]
    assert len(rows) == 13 and ours == list(range(8))
    gap = next(row for row in rows if row[0] == "SimCLR: full tuning")
    assert gap[2:] == [*gap[2:5], "–", "–", "–"] and "–" not in gap[2:5]
    assert len(every_cell(trials)[1]) == len(cells(trials))
    assert matrix([], lambda cell: "")[1] == []


def test_labels_saved_are_those_of_the_best_floor() -> None:
    trials = CASES["helps"]
    found = saved(trials)
    assert [one.labels for one in found] == [10, 50, 100, 500, 1000, 60_000]
    assert found[0].needed > 10 and found[-1].bound == "more"


def test_names_with_markup_stay_text(tmp_path: Path, read_page: Read) -> None:
    trials = [replace(trial, encoder="<b>a|b</b>") if trial.kind == "ours" else trial for trial in CASES["mixed"]]
    html = write_evidence_page(tmp_path / "page.html", results(trials)).read_text(encoding="utf-8")
    assert "<b>" not in html and "<b>a|b</b>" in read_page(html)


def test_the_terminal_table_fits_and_aligns() -> None:
    lines = evidence_table(CASES["mixed"]).splitlines()
    assert max(map(len, lines)) <= 130
    shown = [line for line in lines if "±" in line]
    assert len(shown) == len(OURS) + len(FLOORS) + 1 and len({len(line) for line in shown}) == 1
    assert len(BUDGETS) == shown[0].count("±")


@pytest.mark.skipif(find() is None, reason="no Chromium")
@pytest.mark.parametrize("width", [320, 700, 1400])
def test_in_a_browser_nothing_is_cut_off_or_collides(width: int, tmp_path: Path) -> None:
    path = write_evidence_page(tmp_path / "evidence.html", results(CASES["stopped"]))
    with Chromium(tmp_path / "browser", size=(width, 900)) as browser:
        browser.open(path, "document.readyState === 'complete'")
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        assert browser.evaluate(_OVERLAPS) == 0, "texts of a chart lie on each other"
        assert browser.evaluate(_OUTSIDE) == 0, "texts of a chart lie beyond the page"
        ends = browser.evaluate("getComputedStyle(document.querySelector('.curves .end')).display")
        key = browser.evaluate("getComputedStyle(document.querySelector('.curves .key')).display")
        assert (ends == "none") == (key == "flex") == (width < 600)
        assert browser.errors == [] and len(browser.requests) == 1


_TEXTS = """const boxes = (chart, kind) => [...chart.querySelectorAll(kind)].filter((text) => text.textContent)
  .map((text) => text.getBoundingClientRect()).filter((box) => box.width);"""
_OVERLAPS = f"""(() => {{ {_TEXTS} let count = 0;
for (const chart of document.querySelectorAll(".curves")) for (const kind of [".end", ".tick"]) {{
  const all = boxes(chart, kind);
  all.forEach((a, i) => all.slice(i + 1).forEach((b) => {{
    count += a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1; }}));
}} return count; }})()"""
_OUTSIDE = f"""(() => {{ {_TEXTS} let count = 0;
for (const chart of document.querySelectorAll(".chart")) for (const box of boxes(chart, "text"))
  count += box.left < 0 || box.right > innerWidth;
return count; }})()"""


def test_trials_of_one_method_and_one_floor(tmp_path: Path, read_page: Read) -> None:
    few = [trial for trial in CASES["mixed"] if trial.method in ("Linear", "PCA")]
    text = read_page(write_evidence_page(tmp_path / "page.html", results(few)).read_text(encoding="utf-8"))
    assert "Every use of" not in text and "Chosen on" not in text
    assert isinstance(few[0], Trial)
