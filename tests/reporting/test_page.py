"""The builder of pages."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from ssl_transfer.reporting import Page

_EVIL = "<script>alert(\"x\")</script> & 'y'"


def test_everything_given_is_escaped(read_page: Callable[[str], str]) -> None:
    page = Page(_EVIL, _EVIL, _EVIL).warning(_EVIL).tiles([(_EVIL, _EVIL, _EVIL)]).section(_EVIL, _EVIL)
    page.heading(_EVIL).paragraph(_EVIL).table([_EVIL, _EVIL], [[_EVIL, _EVIL]], _EVIL, [0])
    html = page.code(_EVIL, _EVIL).details(_EVIL, "<p>ok</p>").footer([(_EVIL, _EVIL)]).html()
    assert "<script>alert" not in html
    assert read_page(html).count("alert") >= 15


def test_columns_of_numbers_align_right_and_ours_is_marked() -> None:
    html = (
        Page("t")
        .section("s")
        .table(["a", "b", "c"], [["x", "96.5\u00a0%", "3 files"], ["y", "-1.5", "4"]], "", [1])
        .html()
    )
    assert '<th scope="col" class="r">b</th>' in html
    assert '<th scope="col">c</th>' in html
    assert html.index('<tr class="ours">') > html.index(">x<")


def test_an_empty_table_and_an_empty_page_are_whole(read_page: Callable[[str], str]) -> None:
    assert "Nothing" in read_page(Page("Nothing").html())
    assert "a" in read_page(Page("t").section("s").table(["a"], []).html())


def test_write_replaces_the_whole_file_or_leaves_the_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "deep" / "page.html"
    assert Page("first").write(path) == path
    assert stat.S_IMODE(path.stat().st_mode) & 0o400
    broken = Page("second")
    monkeypatch.setattr(broken, "html", lambda: (_ for _ in ()).throw(RuntimeError("half way")))
    with pytest.raises(RuntimeError, match="half way"):
        broken.write(path)
    assert "first" in path.read_text(encoding="utf-8")
    assert [file.name for file in path.parent.iterdir()] == ["page.html"]
