"""Notebooks as pages: their words, code and committed outputs, in the site's own look and without a foreign host."""

from __future__ import annotations

import base64
import io
import json
import re
from html import escape
from pathlib import Path
from typing import Any

_FORMULA = re.compile(r"\$\$(.+?)\$\$|(?<![\\$\w])\$([^$\n]+?)\$(?![\w$])", re.DOTALL)
_BARE = re.compile(r"\\(mathcal|mathbb|mathbf|mathrm|hat|bar|tilde) (\w)")
_SIZE = re.compile(r"\\[bB]ig+[lr]?(?![a-z])")
_ARROW = re.compile(r"\\xrightarrow\{((?:[^{}]|\{[^{}]*\})*)\}")
_CODE = re.compile(r"(```.*?```|`[^`\n]*`)", re.DOTALL)
_NOTEBOOK = re.compile(r"\]\(([\w-]+)\.ipynb(#[^)\s]*)?\)")
_CONTROL = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def page(notebook: Path) -> tuple[str, dict[str, bytes]]:
    """The Markdown of a notebook, and its pictures by the name under which the page asks for them."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    pictures: dict[str, bytes] = {}
    parts = []
    for cell in cells:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(_NOTEBOOK.sub(r"](\1.md\2)", with_formulas(source)))
        elif cell["cell_type"] == "code" and source.strip():
            parts.append(_fenced(source, "python"))
            parts += [_output(output, notebook.stem, pictures) for output in cell["outputs"]]
    note = f"*This page is the notebook `notebooks/{notebook.name}` with the outputs of its last run.*"
    heading, _, rest = "\n\n".join(part for part in parts if part).partition("\n")
    return f"{heading}\n\n{note}\n{rest}\n", pictures


def _fenced(text: str, language: str) -> str:
    fence = "````" if "```" in text else "```"
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def _box(markdown: str) -> str:
    """What a cell has said, in a box of its own."""
    return f'<div class="output" markdown>\n\n{markdown}\n\n</div>'


def _output(output: dict[str, Any], stem: str, pictures: dict[str, bytes]) -> str:
    """One output of a cell, in the richest form that it has."""
    data = output.get("data", {})
    for kind, ending in (("image/png", "png"), ("image/svg+xml", "svg")):
        if kind in data:
            content = "".join(data[kind])
            name = f"{stem}_{len(pictures) + 1}.{ending}"
            pictures[name] = base64.b64decode(content) if ending == "png" else content.encode()
            return f'![output]({name}){{ .output loading="lazy" }}'
    if "text/html" in data:
        return f'<div class="output">{"".join(data["text/html"])}</div>'
    if "text/markdown" in data:
        return _box(with_formulas("".join(data["text/markdown"]).strip("\n")))
    text = "".join(output.get("text", "") or data.get("text/plain", ""))
    text = _CONTROL.sub("", text).strip("\n")
    return _box(_fenced(text, "text")) if text.strip() else ""


def with_formulas(markdown: str) -> str:
    r"""Markdown whose formulas, `$…$` and `$$…$$`, are drawn as pictures in the text; code is left alone."""
    parts = _CODE.split(markdown)
    return "".join(part if i % 2 else _FORMULA.sub(_drawn, part) for i, part in enumerate(parts))


def _drawn(match: re.Match[str]) -> str:
    block = match.group(1) is not None
    formula = " ".join((match.group(1) or match.group(2)).split())
    picture = drawn_formula(formula)
    if picture is None:
        return f'<code class="formula">{escape(formula)}</code>'
    return f'<div class="formula">{picture}</div>' if block else picture


def drawn_formula(formula: str) -> str | None:
    """A formula as inline SVG in the colour of the text around it, or None if it is beyond matplotlib."""
    from matplotlib import rc_context
    from matplotlib.mathtext import math_to_image

    drawing = io.BytesIO()
    try:
        with rc_context({"mathtext.fontset": "cm", "svg.fonttype": "path", "svg.hashsalt": formula}):
            depth = math_to_image(f"${_plain_tex(formula)}$", drawing, format="svg", dpi=72)
    except ValueError:
        return None
    svg = drawing.getvalue().decode()
    svg = svg[svg.index("<svg") :]
    for part in ("<metadata>.*?</metadata>", "<style.*?</style>", "<!--.*?-->", '<g id="patch_1">.*?</g>'):
        svg = re.sub(part, "", svg, flags=re.DOTALL)
    width, height = (float(size) for size in re.search(r'width="([\d.]+)pt" height="([\d.]+)pt"', svg).groups())  # type: ignore[union-attr]
    unit = 10.0  # points of matplotlib's font
    style = f"width:{width / unit:.3f}em;height:{height / unit:.3f}em;vertical-align:{-depth / unit:.3f}em"
    svg = re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', f'style="{style}" role="img"', svg, count=1)
    svg = svg.replace("<svg", f'<svg class="formula" aria-label="{escape(formula)}"', 1)
    return re.sub(r">\s+<", "><", svg).replace("\n", " ")


def _plain_tex(formula: str) -> str:
    r"""What matplotlib knows of TeX.

    >>> print(_plain_tex(r"\tfrac{1}{2} \big(\mathcal X\big) \xrightarrow{\text{encode } f_{a}} z"))
    \frac{1}{2} (\mathcal{X}) \overset{\text{encode } f_{a}}{\longrightarrow} z
    """
    for word, known in ((r"\tfrac", r"\frac"), (r"\lVert", r"\Vert"), (r"\rVert", r"\Vert")):
        formula = formula.replace(word, known)
    for found, known in ((_BARE, r"\\\1{\2}"), (_SIZE, ""), (_ARROW, r"\\overset{\1}{\\longrightarrow}")):
        formula = found.sub(known, formula)
    return formula
