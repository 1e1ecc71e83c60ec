"""The documentation: complete by the code, links that lead somewhere, and a site that asks no foreign host."""

from __future__ import annotations

import ast
import doctest
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
import yaml

import ssl_transfer
from ssl_transfer.cli import VERBS

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PACKAGE = ROOT / "ssl_transfer"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
HOOKS = sorted((ROOT / "docs_hooks").glob("*.py"))


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@cache
def _nodes(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(ast.parse(_read(path))))


def hook(name: str) -> ModuleType:
    """A module of `docs_hooks`, which MkDocs finds by its path."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs_hooks" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ---- complete by the code


def test_every_public_name_is_in_the_reference() -> None:
    listed = re.findall(r"^::: ssl_transfer\.(\w+)$", "\n".join(map(_read, (DOCS / "reference").rglob("*.md"))), re.M)
    assert sorted(listed) == ssl_transfer.__all__


def test_the_command_line_has_every_verb_and_argument() -> None:
    page = hook("site_command_line").command_line() + _read(DOCS / "reference" / "command-line.md")
    for verb in VERBS:
        assert re.search(rf"^#+ .*\b{verb}\b", page, re.M), verb
    for argument in ("ENCODER", "SOURCE", "--minutes", "--label_budget", "--strategies", "--to", "--tuning"):
        assert f"`{argument}`" in page, argument
    assert "| argument | type | default | |" in page


def test_every_configuration_is_shown() -> None:
    made = hook("site_configurations")
    page = made.configurations()
    for path in ROOT.glob("configs/*/*.yaml"):
        assert f"{{ #{made.anchor(path.parent.name, path.stem)} }}" in page
    shown = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", page, re.S)]
    assert len(shown) == len(list(ROOT.glob("configs/*/*.yaml"))) and all("model" in one for one in shown)


def test_measured_configurations_have_their_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = hook("site_configurations")
    own = {"id": "digits/pretrain_simclr/knn_accuracy", "value": 0.75, "spread": 0.05, "seeds": 2, "unit": "fraction"}
    floor = own | {"id": "digits/pretrain_raw_pixels/knn_accuracy", "kind": "floor", "title": "Pixels", "value": 0.5}
    (tmp_path / "configurations.json").write_text(json.dumps({"rows": [own, floor]}), encoding="utf-8")
    monkeypatch.setattr(made, "MEASURED", tmp_path / "configurations.json")
    page = made.configurations()
    assert "| **this** | .750 ± .050 |  |" in page and "| Pixels | .500 ± .050 | floor |" in page
    monkeypatch.setattr(made, "MEASURED", tmp_path / "nothing.json")
    assert "on digits |" not in made.configurations()


# ---- troubleshooting


def _text(node: ast.AST) -> str | None:
    """A string of the code, with `…` for each value in it; None of anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(v.value if isinstance(v, ast.Constant) else "…" for v in node.values)  # type: ignore[misc]
    return None


def _sentences(node: ast.AST) -> Iterator[str]:
    """The strings of a node that are more than a name or two."""
    text = _text(node)
    if text is not None:
        if len(text.split()) > 3:
            yield text
        return
    for child in ast.iter_child_nodes(node):
        yield from _sentences(child)


def _name(node: ast.AST) -> str:
    if isinstance(node, ast.Subscript):
        return _name(node.value)
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _warnings(path: Path) -> Iterator[str]:
    """The texts by which a file warns users: given to `warnings.warn`, kept as a remark, or put on a page as a note."""
    for node in _nodes(path):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            asked = (_name(node.func.value), node.func.attr)
            if asked in (("warnings", "warn"), ("remarks", "append"), ("page", "warning")):
                yield from _sentences(node.args[0])
        elif isinstance(node, ast.Assign):
            targets = {_name(target) for target in node.targets}
            if targets & {"remarks", "warnings"} or (path.name == "alarms.py" and "found" in targets):
                yield from _sentences(node.value)
        elif isinstance(node, ast.FunctionDef) and node.name in ("remarks", "_unmasked", "_never_asked"):
            for child in node.body[1:] if ast.get_docstring(node) else node.body:
                yield from _sentences(child)


@cache
def _warned() -> set[str]:
    return {text for path in PACKAGE.rglob("*.py") for text in _warnings(path)}


def test_warnings_are_found_in_the_code() -> None:
    alarms = (PACKAGE / "pretraining" / "alarms.py").read_text(encoding="utf-8")
    assert len(set(_warnings(PACKAGE / "pretraining" / "alarms.py"))) == len(re.findall(r"found\[", alarms)) == 7
    assert len(_warned()) > 20


@pytest.mark.parametrize("text", sorted(_warned()))
def test_every_warning_has_its_entry(text: str) -> None:
    entries = re.findall(r"^```text\n(.*?)\n```$", _read(DOCS / "troubleshooting.md"), re.M | re.S)
    assert text in [line for entry in entries for line in entry.splitlines()]


def test_no_entry_is_of_a_warning_that_is_gone() -> None:
    page = _read(DOCS / "troubleshooting.md")
    code = "\n".join(_spoken())
    entries = "\n".join(re.findall(r"^```text\n(.*?)\n```$", page, re.M | re.S)).splitlines()
    mistakes = re.findall(r"^\| `(.+?)` \|", page.partition("## One-line mistakes")[2], re.M)
    assert len(mistakes) > 8
    for entry in [*entries, *mistakes]:
        for piece in filter(None, (piece.strip(" ()'") for piece in entry.split("…"))):
            assert piece in code, f"{piece!r} of {entry!r} is said nowhere in the code"


def _spoken() -> Iterator[str]:
    """Every string of the package that says something, with `…` for values."""
    for path in PACKAGE.rglob("*.py"):
        yield from filter(None, map(_text, _nodes(path)))


# ---- links, as a code host follows them


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^(```+)[^`]*?^\1$", "", _read(page), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"https?://", target):
            path, _, fragment = target.partition("#")
            led = (page.parent / path).resolve() if path else page
            assert led.exists(), f"{page.name} links to {target}"
            if fragment and led.suffix == ".md" and "<!-- insert" not in _read(led):
                assert fragment in _anchors(led), f"{page.name} links to {target}"


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", _read(page), re.M)
    return {re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip()) for heading in headings}


def test_the_readme_is_short_and_begins_with_two_commands() -> None:
    lines = _read(ROOT / "README.md").splitlines()
    assert len(lines) <= 170
    top = lines[:20]
    assert any(line.startswith("make demo ") for line in top) and any(line.startswith("make test ") for line in top)


def test_extras_are_installed_in_one_way() -> None:
    for page in PAGES:
        assert "ssl_transfer[" not in _read(page), page.name


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_and_code_fit_the_page(page: Path) -> None:
    for block in re.findall(r"^```(?:bash|python)\n(.*?)^```", _read(page), re.M | re.S):
        assert [line for line in block.splitlines() if len(line) > 100] == []


def test_pictures_are_small() -> None:
    for path in (*DOCS.rglob("*.png"), *DOCS.rglob("*.svg")):
        assert path.stat().st_size < 300_000, path


# ---- the site


@pytest.mark.parametrize("path", HOOKS, ids=lambda path: path.stem)
def test_examples_of_hooks(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(path.parent))
    assert doctest.testmod(hook(path.stem)).failed == 0


def test_formulas_are_drawn() -> None:
    drawn = hook("site_notebooks").with_formulas("Of $x^2$, not of `$x$`, nor $5 and more.")
    assert drawn.count("<svg") == 1 and "`$x$`" in drawn and "$5 and more" in drawn
    assert '<div class="formula">' in hook("site_notebooks").with_formulas(r"$$\frac{a}{b}$$")
    assert "<code" in hook("site_notebooks").with_formulas(r"$\unknownmacro$")


@pytest.mark.slow
def test_the_site_is_whole_and_asks_no_foreign_host(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    )
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr
    pages = sorted((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 50
    for page in pages:
        text = page.read_text(encoding="utf-8")
        asked = re.findall(r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["']?((?:https?:)?//[^"'>\s]*)""", text)
        asked += re.findall(r"""<link\b[^>]*\bhref=["']?((?:https?:)?//[^"'>\s]*)""", text)
        assert not asked, f"{page.name} asks {asked}"
    for style in (tmp_path / "site").rglob("*.css"):
        assert not re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", style.read_text(encoding="utf-8")), style
    reference = "".join(page.read_text(encoding="utf-8") for page in pages if "reference" in page.parts)
    for name in ssl_transfer.__all__:
        assert f'id="ssl_transfer.{name}"' in reference, name
