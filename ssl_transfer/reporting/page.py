"""A small builder of self-contained HTML pages: no link, no font, no script from anywhere else."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path

from ssl_transfer.files import whole_file

_NUMERIC = re.compile(r"[-+]?\d[\d.,]*(\s%)?(( to | ± )[-+]?\d[\d.,]*(\s%)?)?|–")  # – was not measured


def asset(name: str) -> str:
    """The text of a style sheet or script that lies beside this file."""
    return (files("ssl_transfer.reporting") / name).read_text(encoding="utf-8")


def table_html(
    columns: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "", highlight: Collection[int] = ()
) -> str:
    """An HTML table; the first cell of a row is its heading, `highlight` lists rows by position."""
    shown = [list(row) for row in rows]
    right = [bool(shown) and all(_NUMERIC.fullmatch(row[column]) for row in shown) for column in range(len(columns))]
    marks = [' class="r"' if flag else "" for flag in right]
    head = "".join(f'<th scope="col"{mark}>{escape(name)}</th>' for name, mark in zip(columns, marks, strict=True))
    body = []
    for position, row in enumerate(shown):
        cells = "".join(f"<td{mark}>{escape(cell)}</td>" for cell, mark in zip(row[1:], marks[1:], strict=True))
        ours = ' class="ours"' if position in highlight else ""
        body.append(f'<tr{ours}><th scope="row">{escape(row[0])}</th>{cells}</tr>')
    title = f"<caption><span>{escape(caption)}</span></caption>" if caption else ""
    label = escape(caption or "Table", quote=True)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{label}"><table>{title}'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


class Page:
    """An HTML page, filled from top to bottom; every method but `add` escapes what it is given.

    Args:
        title: the heading, and the title of the browser's tab.
        subtitle: the sentence below it.
        eyebrow: a short line above it.
        numbered: whether sections carry numbers.

    >>> page = Page("A run", "What it did")
    >>> page = page.section("Figures").tiles([("96.5 %", "accuracy", "test split")])
    >>> "<h2>Figures</h2>" in page.html()
    True
    """

    def __init__(self, title: str, subtitle: str = "", eyebrow: str = "", numbered: bool = False) -> None:
        self.title = title
        self._subtitle = subtitle
        self._eyebrow = eyebrow
        self._numbered = numbered
        self._sections = 0
        self._hero: list[str] = []
        self._body: list[str] = []
        self._footer: list[str] = []

    def section(self, title: str, lead: str = "") -> Page:
        """Start a section: what follows stands below this heading."""
        if self._sections:
            self._body.append("</section>")
        self._sections += 1
        mark = f'<span class="step" aria-hidden="true">{self._sections}</span>' if self._numbered else ""
        self._body.append(f"<section>{mark}<h2>{escape(title)}</h2>")
        if lead:
            self._body.append(f'<p class="lead">{escape(lead)}</p>')
        return self

    def add(self, html: str) -> Page:
        """Add HTML as it is, to the current section or, before the first, to the head of the page."""
        (self._body if self._sections else self._hero).append(html)
        return self

    def heading(self, text: str) -> Page:
        """A heading within the section."""
        return self.add(f"<h3>{escape(text)}</h3>")

    def paragraph(self, text: str, quiet: bool = False) -> Page:
        """A paragraph; `quiet` for remarks."""
        return self.add(f'<p class="quiet">{escape(text)}</p>' if quiet else f"<p>{escape(text)}</p>")

    def warning(self, text: str) -> Page:
        """A remark that must not be missed."""
        return self.add(f'<p class="warning" role="note"><strong>Note</strong> {escape(text)}</p>')

    def tiles(self, tiles: Iterable[tuple[str, str, str]]) -> Page:
        """Main figures side by side, each `(value, label, note)`."""
        cells = "".join(
            f"<div><dt>{escape(label)}</dt><dd><strong>{escape(value)}</strong>"
            f'<span class="note">{escape(note)}</span></dd></div>'
            for value, label, note in tiles
        )
        return self.add(f'<dl class="tiles">{cells}</dl>')

    def table(
        self, columns: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "", highlight: Collection[int] = ()
    ) -> Page:
        """A table of text; columns of numbers align right, rows at the positions in `highlight` are set off."""
        return self.add(table_html(columns, rows, caption, highlight))

    def code(self, text: str, label: str = "", copy: bool = True) -> Page:
        """Preformatted text below its label, with a button that copies it."""
        title = f'<p class="code-label">{escape(label)}</p>' if label else ""
        name = escape(f"Copy: {label}" if label else "Copy", quote=True)
        button = f'<button type="button" class="copy" aria-label="{name}">Copy</button>' if copy else ""
        return self.add(f'<div class="code">{title}{button}<pre tabindex="0"><code>{escape(text)}</code></pre></div>')

    def details(self, summary: str, html: str) -> Page:
        """HTML that opens on a click."""
        return self.add(f"<details><summary>{escape(summary)}</summary>{html}</details>")

    def footer(self, entries: Iterable[tuple[str, str]]) -> Page:
        """Facts at the foot of the page, each `(name, text)`."""
        self._footer += [f"<div><dt>{escape(name)}</dt><dd>{escape(text)}</dd></div>" for name, text in entries]
        return self

    def html(self) -> str:
        """The whole page."""
        eyebrow = f'<p class="eyebrow">{escape(self._eyebrow)}</p>' if self._eyebrow else ""
        subtitle = f'<p class="subtitle">{escape(self._subtitle)}</p>' if self._subtitle else ""
        foot = f'<footer><dl class="facts">{"".join(self._footer)}</dl></footer>' if self._footer else ""
        return (
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'
            f"<title>{escape(self.title)}</title><style>{asset('page.css')}</style></head>\n<body>"
            f"<header>{eyebrow}<h1>{escape(self.title)}</h1>{subtitle}{''.join(self._hero)}</header>\n"
            f"<main>{''.join(self._body)}{'</section>' if self._sections else ''}</main>\n{foot}"
            f"<script>{asset('page.js')}</script></body></html>\n"
        )

    def write(self, path: str | Path) -> Path:
        """Write the page: a reader sees the old file or the whole new one, never a part; makes the folder."""
        target = Path(path)
        with whole_file(target) as unfinished:
            unfinished.write_text(self.html(), encoding="utf-8", newline="\n")
        return target
