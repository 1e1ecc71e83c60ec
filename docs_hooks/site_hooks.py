"""What MkDocs asks while it builds the site: pages made from the code, the results and the notebooks, and their links.

Pages in `docs/` are plain Markdown that reads on a code host as well. They link to files of the repository, such as
`../../benchmarks/results/evidence.md`; here these become links to the pages made of them. A comment such as
`<!-- insert: command-line -->` is replaced by what is made from the code.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from site_command_line import command_line
from site_configurations import anchor, configurations
from site_notebooks import page as notebook_page

ROOT = Path(__file__).resolve().parents[1]
INSERTS = {"command-line": command_line, "configurations": configurations}
_INSERT = re.compile(r"^<!-- insert: ([\w-]+) -->$", re.MULTILINE)
_UPWARD = re.compile(r"\]\(((?:\.\./)+[^)\s#]*)(#[^)\s]*)?\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the pages that are made of files outside `docs/` to the navigation."""
    for section in config.nav or []:
        for name, entries in section.items():
            if name == "Benchmarks":
                entries += [{_title(path): f"benchmarks/{path.stem}.md"} for path in _results()]
            elif name == "Notebooks":
                entries += [{_title(path): f"notebooks/{path.stem}.md"} for path in _notebooks()]
            elif name == "Help":
                entries.append({"Changelog": "changelog.md"})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add these pages themselves."""
    made: dict[str, str | bytes] = {"changelog.md": (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")}
    for path in _results():
        text = path.read_text(encoding="utf-8")
        made[f"benchmarks/{path.stem}.md"] = re.sub(r"^# .*$", f"# {_title(path)}", text, count=1, flags=re.MULTILINE)
    for path in _notebooks():
        made[f"notebooks/{path.stem}.md"], pictures = notebook_page(path)
        made |= {f"notebooks/{name}": picture for name, picture in pictures.items()}
    for name, content in made.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, *, page: Any, **kwargs: Any) -> str:
    """Put in what is made from the code, and send links out of `docs/` to the pages made of these files."""
    markdown = _INSERT.sub(lambda match: INSERTS[match.group(1)](), markdown)
    folder = posixpath.dirname(page.file.src_uri)
    return _UPWARD.sub(lambda match: _link(folder, match.group(1), match.group(2) or ""), markdown)


def _link(folder: str, target: str, fragment: str) -> str:
    """A link in a page of `folder`, as the site has it."""
    path = posixpath.normpath(posixpath.join("docs", folder, target))
    stem, ending = posixpath.splitext(posixpath.basename(path))
    if path.startswith("benchmarks/results/") and ending == ".md":
        page = f"benchmarks/{stem}.md"
    elif path.startswith("notebooks/") and ending == ".ipynb":
        page = f"notebooks/{stem}.md"
    elif path.startswith("configs/") and ending == ".yaml":
        page, fragment = "reference/configurations.md", f"#{anchor(posixpath.basename(posixpath.dirname(path)), stem)}"
    elif path in ("CHANGELOG.md", "README.md"):
        page = {"CHANGELOG.md": "changelog.md", "README.md": "index.md"}[path]
    else:
        return f"]({target}{fragment})"
    return f"]({posixpath.relpath(page, folder or '.')}{fragment})"


def _results() -> list[Path]:
    return sorted(ROOT.glob("benchmarks/results/*.md"))


def _notebooks() -> list[Path]:
    return sorted(ROOT.glob("notebooks/*.ipynb"))


def _title(path: Path) -> str:
    """A page's name in the navigation: `1_transfer_learning.ipynb` is "1 · Transfer learning".

    >>> _title(Path("fashion_mnist.md")), _title(Path("2_autoencoders.ipynb"))
    ('Fashion-MNIST', '2 · Autoencoders')
    """
    known = {
        "fashion_mnist": "Fashion-MNIST",
        "anomalib_patchcore": "Beside anomalib's PatchCore",
        "startup": "Start-up",
    }
    if path.stem in known:
        return known[path.stem]
    number, _, rest = path.stem.partition("_")
    words = (rest if number.isdigit() else path.stem).replace("_", " ").capitalize()
    return f"{number} · {words}" if number.isdigit() else words
