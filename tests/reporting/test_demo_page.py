"""The demo's page: complete, honest, and alive in a browser."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ssl_transfer.reporting import DemoResults, ResultRow, headline, write_demo_page
from ssl_transfer.reporting.demo_results import comparison_tile

_POINT = """<script>
document.querySelectorAll(".legend button")[3].click();
const map = document.querySelectorAll(".map")[0], box = map.getBoundingClientRect();
map.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowRight", bubbles: true}));
document.body.dataset.shown = [...document.querySelectorAll(".ring")].filter((ring) => !ring.hidden).length;
document.body.dataset.wide = document.documentElement.scrollWidth > innerWidth;
</script>"""


def _plain(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ")


def _with(results: DemoResults, *rows: ResultRow) -> DemoResults:
    return replace(results, rows=rows)


def test_the_page_holds_everything(tmp_path: Path, demo_results: DemoResults, read_page: Callable[[str], str]) -> None:
    path = write_demo_page(tmp_path / "demo.html", demo_results)
    text = read_page(path.read_text(encoding="utf-8"))
    assert path.stat().st_size < 1_000_000
    for row in demo_results.rows:
        assert row.name in text and f"{100 * row.value:.1f} %" in text and row.note in text
    for wanted in ("1,437", "74 s", "2 CPU cores", "torch 2.15.0", "view 2", "restored", "kNN 98.4 %", "test split"):
        assert wanted in text
    assert "SimCLR went from 90.0 % to 98.0 %" in text
    assert "ssl-transfer fit --config configs/pretrain/simclr.yaml" in text
    assert _plain(headline(demo_results)) in text


def test_the_headline_when_pretraining_wins(demo_results: DemoResults) -> None:
    assert _plain(headline(demo_results)) == (
        "With ten labels a class, a classifier on the SimCLR features names 96.5 % of unseen digits correctly; "
        "the best result without pretraining is 89.0 % (raw pixels)."
    )
    assert [_plain(part) for part in comparison_tile(demo_results)[:2]] == ["68 %", "fewer mistakes"]


def test_the_headline_when_it_loses(tmp_path: Path, demo_results: DemoResults, read_page: Callable[[str], str]) -> None:
    lost = _with(
        demo_results, ResultRow("SimCLR", 0.85, 0.84, 0.86, "ours", 5), ResultRow("PCA", 0.89, 0.88, 0.9, "floor", 5)
    )
    assert headline(lost).startswith("Pretraining did not help here.")
    assert [_plain(part) for part in comparison_tile(lost)] == ["36 %", "more mistakes", "than PCA, the best floor"]
    text = read_page(write_demo_page(tmp_path / "demo.html", lost).read_text(encoding="utf-8"))
    assert "Pretraining did not help here." in text and "fewer mistakes" not in text


def test_the_headline_when_the_lead_may_be_chance(demo_results: DemoResults) -> None:
    close = _with(
        demo_results, ResultRow("A", 0.90, 0.88, 0.92, "ours", 5), ResultRow("B", 0.89, 0.87, 0.91, "floor", 5)
    )
    assert headline(close).endswith("The intervals overlap, so the lead may be chance.")


def test_a_perfect_floor_divides_nothing(demo_results: DemoResults) -> None:
    tie = _with(demo_results, ResultRow("A", 1.0, 1.0, 1.0, "ours"), ResultRow("B", 1.0, 1.0, 1.0, "floor"))
    assert _plain(comparison_tile(tie)[0]) == "+0.0 points"


def test_a_table_without_a_floor_is_refused(demo_results: DemoResults) -> None:
    with pytest.raises(AssertionError, match="floor"):
        _with(demo_results, ResultRow("A", 0.9, 0.8, 1.0, "ours"))


@pytest.mark.parametrize("width", [400, 1400])
def test_the_page_lives_in_a_browser(tmp_path: Path, demo_results: DemoResults, width: int) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium on the PATH")
    path = write_demo_page(tmp_path / "demo.html", demo_results)
    path.write_text(path.read_text(encoding="utf-8").replace("</body>", _POINT + "</body>"), encoding="utf-8")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    command += ["--enable-logging=stderr", "--v=0"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900", "--dump-dom", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    assert "CONSOLE" not in done.stderr
    assert 'data-shown="2"' in done.stdout, "pointing at an image marks it in both maps"
    assert 'data-wide="false"' in done.stdout, "the page scrolls sideways"
    assert "digit 3</p>" in done.stdout
