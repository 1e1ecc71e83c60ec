"""Every command and every block of Python that the documentation shows is run, page by page, from top to bottom.

Each page begins in a fresh copy of one folder (`scratch.py`), and is run as it stands but for what makes it short
(`shortened.py`). A block that follows `<!-- not run: reason -->` is left out.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from ssl_transfer.cli import TRAINING, main
from ssl_transfer.parsing import values_of
from tests.documents import scratch
from tests.documents.blocks import ROOT, Block, Command, blocks_of, commands_of, pages, read_blocks
from tests.documents.shortened import NOT_RUN, ONLY_PARSED, Folders, given, shorten_python, shortened

PAGES = [page for page in pages() if any(block.language in ("bash", "python") for block in blocks_of(page))]
OF_OURS = (["ssl-transfer"], ["python", "-m", "ssl_transfer"])
# Of few and made-up images much is worth a warning, which a page cannot help.
FEW_IMAGES = pytest.mark.filterwarnings("default")


# ---- what can be told at once


def test_blocks_are_found() -> None:
    blocks = [block for page in PAGES for block in blocks_of(page)]
    assert "README.md" in PAGES and len(blocks) >= 5
    assert any(block.language == "bash" for block in blocks_of("README.md"))


def test_a_page_is_read_as_it_looks() -> None:
    text = "a\n```bash\n# no\nx 'a b' \\\n  --c  # d\n```\n\n<!-- not run: asks -->\n\n  ```python\n  y = 1\n  ```\n"
    shell, python, plain = read_blocks(f"{text}```\nz\n```\n")
    assert list(commands_of(shell)) == [Command(4, ["x", "a b", "--c"])]
    assert (python.language, python.text, python.line, python.not_run) == ("python", "y = 1", 11, "asks")
    assert (plain.language, plain.not_run) == ("", "")


@pytest.mark.parametrize("page", PAGES)
def test_commands_parse(page: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Verbs, options and their values, configurations and classes, of blocks that are not run too."""
    monkeypatch.chdir(ROOT)
    for block, command in _commands(page):
        words = of_ours(command.words)
        if words is None or "--help" in words or "…" in words or not words:
            continue
        where = f"{block.page}:{command.line}: {shlex.join(command.words)}"
        assert parses(words), f"{where}\n{capsys.readouterr().err}"


def parses(words: list[str]) -> bool:
    """Whether ssl-transfer understands these arguments, without doing what they say."""
    verb, *rest = words
    if verb in TRAINING:
        try:
            return main([*words, "--print_config"]) == 0
        except SystemExit as told:
            return not told.code
    return bool(values_of(getattr(import_module(f"ssl_transfer.commands.{verb}"), verb), rest, verb))


def of_ours(words: list[str]) -> list[str] | None:
    """The arguments of ssl-transfer, None of another program."""
    return next((words[len(start) :] for start in OF_OURS if words[: len(start)] == start), None)


def _commands(page: str) -> Iterator[tuple[Block, Command]]:
    for block in blocks_of(page):
        if block.language == "bash":
            yield from ((block, command) for command in commands_of(block))


# ---- what takes minutes


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that every page begins with."""
    folder = tmp_path_factory.mktemp("prepared")
    scratch.make_images(folder)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        scratch.make_runs()
    return folder


@pytest.mark.slow
@FEW_IMAGES
@pytest.mark.parametrize("page", PAGES)
def test_page(page: str, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(prepared, tmp_path / "page")
    monkeypatch.chdir(tmp_path / "page")
    Reading(monkeypatch).read(blocks_of(page))


class Reading:
    """Does what a page says, in the working directory."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.folders = Folders()
        # Names that a page may take for granted: a batch of images.
        self.names: dict[str, Any] = {
            "__name__": "__main__",
            "images": torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8),
        }
        shorten_python(monkeypatch, self.folders)

    def read(self, blocks: list[Block]) -> None:
        for block in blocks:
            if block.not_run:
                continue
            if block.language == "python":
                self.python(block)
            elif block.language == "bash":
                for command in commands_of(block):
                    self.command(block, command)

    def python(self, block: Block) -> None:
        """All blocks of a page share their names; lines are numbered as in the page."""
        source = "\n" * (block.line - 1) + block.text
        exec(compile(source, str(ROOT / block.page), "exec"), self.names)

    def command(self, block: Block, command: Command) -> None:
        where = f"{block.page}:{command.line}: {shlex.join(command.words)}"
        words = self._environment(command.words)
        ours = of_ours(words)
        if ours is not None:
            assert self._run(ours) == 0, where
        elif words[0] == "python" and words[1].endswith(".py") and not words[1].startswith("benchmarks/"):
            assert subprocess.run([sys.executable, *words[1:]]).returncode == 0, where
        else:
            program = words[2] if words[:2] == ["python", "-m"] else words[0]
            known = program in NOT_RUN or words[0] == "python"
            assert known, (
                f"{where}\nis not run: put it on a list of shortened.py, or <!-- not run: reason --> before it"
            )

    def _environment(self, words: list[str]) -> list[str]:
        """Words without the assignments in front, which are made."""
        while re.match(r"\w+=", words[0]):
            self.monkeypatch.setenv(*words[0].split("=", 1))
            words = words[1:]
        return words

    def _run(self, words: list[str]) -> int:
        options = given(words)
        verb = words[0] if words else ""
        if any(name in options for name in ONLY_PARSED):
            return 0
        if verb == "fit" and "--ckpt_path" not in options:
            self.folders.claim(options.get("--trainer.default_root_dir", "runs/last"), "bash")
        elif verb == "export":
            self.folders.claim(options.get("--out", f"exports/{options.get('--to')}"), "bash")
        try:
            return main(shortened(words) if verb else [])
        except SystemExit as told:  # --help, --print_config
            return int(told.code or 0)
