"""A confusion matrix as a tinted table, or its most frequent entries where there are many classes."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from ssl_transfer.reporting.formats import number, percent
from ssl_transfer.reporting.page import table_html

_MOST_CLASSES = 20  # above that a confusion table is a list of the most frequent confusions


def confusion_html(matrix: NDArray[np.generic], names: Sequence[str], caption: str = "Confusion") -> str:
    """A confusion matrix, rows the true class and columns the predicted, as a tinted table of counts.

    Beyond twenty classes it lists the most frequent confusions instead.

    Raises:
        ValueError: if the matrix is not square or does not fit the names.
    """
    counts = np.asarray(matrix)
    if counts.shape != (len(names), len(names)):
        raise ValueError(f"confusion matrix: expected the shape ({len(names)}, {len(names)}), got {counts.shape}")
    totals = counts.sum(axis=1)
    shares = counts / np.maximum(totals, 1)[:, None]
    if len(names) > _MOST_CLASSES:
        wrong = np.where(np.eye(len(names), dtype=bool), 0, counts)
        order = [int(place) for place in np.argsort(-wrong, axis=None, kind="stable")[:20] if wrong.flat[place] > 0]
        pairs = [divmod(place, len(names)) for place in order]
        rows = [[names[i], names[j], number(float(counts[i, j])), percent(float(shares[i, j]))] for i, j in pairs]
        return table_html(["True class", "Taken for", "Images", "Share of the class"], rows, caption)
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    body = []
    for row, name in enumerate(names):
        cells = "".join(_cell(counts[row, column], shares[row, column]) for column in range(len(names)))
        right = f'<td class="recall">{percent(float(shares[row, row]), 0)}</td>'
        body.append(f'<tr><th scope="row">{escape(name)}</th>{cells}{right}</tr>')
    label = escape(caption, quote=True)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{label}"><table class="confusion">'
        f"<caption><span>{escape(caption)} Rows are the true class, columns the predicted one.</span></caption>"
        f'<thead><tr><td></td>{head}<th scope="col">right</th></tr></thead><tbody>{"".join(body)}</tbody></table></div>'
    )


def _cell(count: float, share: float) -> str:
    empty = ' class="zero"' if count == 0 else ""
    return f'<td style="--v:{share:.3f}"{empty}>{number(float(count))}</td>'
