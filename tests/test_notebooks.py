"""The notebooks: committed as they ran, and running from an empty folder in a fresh kernel."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
LARGEST = 1_500_000  # bytes
LONGEST = 180  # seconds of one core: what else the machine does at that moment does not count
MACHINES = re.compile(r"(?<![\w.])/(?:home|tmp|work|Users|root|private|mnt)/|[A-Z]:\\\\")

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])


@each
def test_is_committed_as_it_ran_from_top_to_bottom(path: Path) -> None:
    cells = code_of(nbformat.read(path, as_version=4))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert any(cell.outputs for cell in cells)
    assert complaints(cells) == []


@each
def test_tells_its_story_with_results(path: Path) -> None:
    """All cells that say something when they run have said it: those that end in an expression or print."""
    silent = [cell.id for cell in code_of(nbformat.read(path, as_version=4)) if speaks(cell) and not cell.outputs]
    assert silent == []


@each
def test_begins_with_a_title_and_has_one_cell_to_change(path: Path) -> None:
    book = nbformat.read(path, as_version=4)
    nbformat.validate(book)
    first, *rest = book.cells
    assert first.cell_type == "markdown" and first.source.startswith("# ")
    marked = [cell for cell in rest if "parameters" in cell.metadata.get("tags", [])]
    assert len(marked) == 1 and marked[0] is code_of(book)[0], "the first code cell is the one to change"
    assert book.metadata.kernelspec.name == "python3"


@each
def test_is_small_and_names_no_place_of_a_machine(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert path.stat().st_size < LARGEST
    assert MACHINES.findall(without_pictures(text)) == []


@each
def test_its_page_shows_outputs_and_no_names_of_objects(path: Path) -> None:
    """Markdown, tables and pictures as such: where a page has `<IPython…object>`, an output was not understood."""
    page, pictures = site_notebooks().page(path)
    assert not re.search(r"IPython\.core|object(>|&gt;)|<Figure size", page)
    assert page.count("{ .output") == len(pictures) > 0


@each
def test_code_fits_a_page(path: Path) -> None:
    """Without a scroll bar: at most 88 columns of code, commands and what is printed as it stands."""
    book = nbformat.read(path, as_version=4)
    told = [cell.source for cell in code_of(book)]
    for cell in book.cells:
        told += re.findall(r"```.*?```", cell.source, re.DOTALL) if cell.cell_type == "markdown" else []
    assert [line for text in told for line in text.splitlines() if len(line) > 88] == []


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("wrote /tmp/a1/page.html", True),
        ('"/home/me/photos"', True),
        ("C:\\\\Users\\\\me", True),
        ("https://example.org/home/a", False),
        ("data/work/x", False),
    ],
)
def test_places_of_machines_are_recognised(text: str, named: bool) -> None:
    assert bool(MACHINES.search(text)) == named


@pytest.mark.slow
@each
def test_runs_from_an_empty_folder(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a fresh kernel of this interpreter, without an error or a word on stderr, and leaving nothing behind."""
    book = nbformat.read(path, as_version=4)
    for cell in code_of(book):
        cell.outputs, cell.execution_count = [], None
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for name in ("MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    taken = execute(book, tmp_path)
    assert complaints(code_of(book)) == []
    assert [cell.id for cell in code_of(book) if speaks(cell) and not cell.outputs] == []
    assert sorted(entry.name for entry in tmp_path.iterdir()) == []
    assert taken < LONGEST


def execute(book: nbformat.NotebookNode, folder: Path) -> float:
    """Run all cells in `folder`, by a kernel of the interpreter that runs the tests, whichever kernels are installed.

    Gives back the seconds that processors worked for it, as the kernel itself says in a cell of its own at the end.
    In a process of its own: what a kernel's manager warns of is no concern of these tests.
    """
    source = folder.parent / f"{folder.name}_notebook.ipynb"
    nbformat.write(nbformat.from_dict({**book, "cells": [*book.cells, nbformat.v4.new_code_cell(SPENT)]}), source)
    command = [sys.executable, "-c", RUN, str(source), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    *book.cells, last = nbformat.read(source, as_version=4).cells
    return float(last.outputs[0].text)


SPENT = "import os\nprint(sum(os.times()[:4]))"  # of the kernel and of the processes that it has started
RUN = """\
import sys
import nbformat
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

source, folder = sys.argv[1:]

class OwnKernel(KernelSpecManager):
    def get_kernel_spec(self, name):
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=argv, display_name="Python 3", language="python")

book = nbformat.read(source, as_version=4)
manager = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=OwnKernel())
client = NotebookClient(book, km=manager, timeout=600, startup_timeout=300, resources={"metadata": {"path": folder}})
client.execute()
nbformat.write(book, source)
"""


def site_notebooks() -> ModuleType:
    """What makes pages of notebooks, which MkDocs finds by its path."""
    source = Path(__file__).parents[1] / "docs_hooks" / "site_notebooks.py"
    spec = importlib.util.spec_from_file_location("site_notebooks", source)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def code_of(book: nbformat.NotebookNode) -> list[Any]:
    return [cell for cell in book.cells if cell.cell_type == "code"]


def complaints(cells: list[Any]) -> list[str]:
    """Errors, and what was said on stderr, a text each."""
    found = []
    for cell in cells:
        for output in cell.outputs:
            if output.output_type == "error":
                found.append(f"{cell.id}: {output.ename}: {output.evalue}")
            elif output.output_type == "stream" and output.name == "stderr":
                found.append(f"{cell.id}: {output.text}")
    return found


def speaks(cell: Any) -> bool:
    """Whether a cell shows something when it runs: its last line begins a call, a name or a print, unindented."""
    if cell.source.startswith("%%capture"):
        return False
    lines = [line for line in cell.source.splitlines() if line and not line.startswith((" ", ")", "]", "}", "#"))]
    last = lines[-1] if lines else ""
    shown = re.match(r"(print|pictures|curves|scatter|lines|bars|heat|display|Markdown|Code)\(|\w+$", last)
    return bool(shown) and not last.endswith(";")


def without_pictures(text: str) -> str:
    """The notebook's text without the base64 of its pictures, in which anything may stand."""
    return re.sub(r'"image/png": "[^"]*"', '"image/png": ""', text)
