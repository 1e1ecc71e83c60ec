"""The page of clusters: each with its size, the labels of its images where these have some, and what it looks like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from ssl_transfer.reporting.charts import line_chart
from ssl_transfer.reporting.formats import number, percent
from ssl_transfer.reporting.images import image_row
from ssl_transfer.reporting.page import Page, asset

Figure = float | tuple[float, float, float]
_COLOURS = 12  # --c0 … --c11 of page.css
_NAMED = 4  # labels of a cluster that are named; the others are counted together


@dataclass(frozen=True, eq=False)
class Representatives:
    """Images that show what a cluster is, the most typical first.

    Args:
        images: `(n, C, H, W)`, uint8 or float in [0, 1]; n may be 0.
        paths: of these, n.
    """

    images: NDArray[np.generic]
    paths: Sequence[str]


@dataclass(frozen=True)
class Choice:
    """How a number of clusters was chosen.

    Args:
        by: the score, such as "silhouette" or "BIC".
        scores: of each number that was tried.
        chosen: the number.
    """

    by: str
    scores: Mapping[int, float]
    chosen: int


def clusters_page(
    found: NDArray[np.integer],
    representatives: Sequence[Representatives],
    *,
    title: str,
    labels: NDArray[np.integer] | None = None,
    names: Sequence[str] = (),
    choice: Choice | None = None,
    figures: Mapping[str, Figure] | None = None,
    warnings: Sequence[str] = (),
    facts: Sequence[tuple[str, str]] = (),
) -> Page:
    """A self-contained HTML page of clusters, which needs no network; `write` writes it.

    Args:
        found: the clusters `(N,)` of all images, 0 to K − 1; −1 is noise.
        representatives: of each of the K clusters.
        title: of the page.
        labels: `(N,)` indices into `names`, −1 for none; None without classes.
        names: of the classes.
        choice: how K was chosen; None where it was given.
        figures: name of a measure, its value or `(value, low, high)` with the interval; values within [0, 1] are
            written as they are, not as percentages.
        warnings: what a reader must know.
        facts: `(name, text)` at the foot of the page, such as the method and the encoder.

    Raises:
        ValueError: for no images, a cluster without an entry in `representatives`, or labels of another length.
    """
    count = len(representatives)
    if not len(found):
        raise ValueError("clusters: no images to show; cluster at least one first")
    if found.max() >= count:
        raise ValueError(f"clusters: cluster {found.max()} has no representatives, got {count}; give one entry each")
    if labels is not None and len(labels) != len(found):
        raise ValueError(f"clusters: {len(labels)} labels for {len(found)} images; give one each, −1 for none")
    page = Page(title, _verdict(found, count), eyebrow="Clusters").add(f"<style>{asset('clusters.css')}</style>")
    for warning in warnings:
        page.warning(warning)
    tiles = [_tile(name, figure) for name, figure in (figures or {}).items()]
    if tiles:
        page.tiles(tiles)
    if count:
        page.section("What they look like", _lead(labels)).add('<ol class="clusters">')
        for cluster, shown in enumerate(representatives):
            page.add(_row(cluster, found, shown, labels, names))
        page.add("</ol>")
    if choice is not None and len(choice.scores) > 1:
        _add_choice(page, choice)
    return page.footer(facts)


def _verdict(found: NDArray[np.integer], count: int) -> str:
    noise = int((found < 0).sum())
    groups = "1 group" if count == 1 else f"{count:,} groups"
    told = f"{len(found):,} images in {groups}, found without labels"
    return f"{told}; {noise:,} of them ({percent(noise / len(found))}) belong to none." if noise else f"{told}."


def _lead(labels: NDArray[np.integer] | None) -> str:
    told = "The most typical training images of each cluster, the largest cluster first."
    has = labels is not None and bool((labels >= 0).any())
    return f"{told} The bar tells what labels the images of a cluster have; none was read to find it." if has else told


def _row(
    cluster: int,
    found: NDArray[np.integer],
    shown: Representatives,
    labels: NDArray[np.integer] | None,
    names: Sequence[str],
) -> str:
    """A cluster: number, size and share; its images, their labels and paths."""
    inside = found == cluster
    size = int(inside.sum())
    parts = []
    if len(shown.images):
        parts.append(image_row(shown.images, f"cluster {cluster}: its {len(shown.images)} most typical images"))
    if labels is not None:
        parts.append(_makeup(labels[inside], names))
    if shown.paths:
        paths = "".join(f"<li>{escape(path)}</li>" for path in shown.paths)
        parts.append(f"<details><summary>Paths</summary><ol>{paths}</ol></details>")
    noun = "image" if size == 1 else "images"
    return (
        f'<li><div><h3>Cluster {cluster}</h3><p class="size">{size:,} {noun}<br>{percent(size / len(found))}</p></div>'
        f"<div>{''.join(parts)}</div></li>"
    )


def _makeup(labels: NDArray[np.integer], names: Sequence[str]) -> str:
    """A bar of the labels of a cluster's images, and the most frequent in words."""
    counts = np.bincount(labels[labels >= 0], minlength=len(names))
    total = int(counts.sum())
    if not total:
        return ""
    order = [int(name) for name in np.argsort(-counts, kind="stable") if counts[name]]
    bar = "".join(
        f'<span style="width:{100 * counts[name] / total:.2f}%;background:var(--c{name % _COLOURS})"></span>'
        for name in order
    )
    told = "".join(
        f'<span><i style="color:var(--c{name % _COLOURS})" aria-hidden="true">■</i><b>{escape(names[name])}</b> '
        f"{percent(float(counts[name] / total))}</span>"
        for name in order[:_NAMED]
    )
    rest = order[_NAMED:]
    share = float(counts[rest].sum() / total) if rest else 0.0
    if share >= 0.0005:  # that is not written as none
        told += f"<span>{len(rest)} more {percent(share)}</span>"
    return f'<div class="makeup" aria-hidden="true">{bar}</div><p class="told-makeup">{told}</p>'


def _add_choice(page: Page, choice: Choice) -> None:
    best = "highest" if choice.by == "silhouette" else "lowest"
    page.section(
        "How many there are",
        f"Each number was tried, on a sample, and {choice.chosen} has the {best} {choice.by}. A curve without a clear "
        "peak says that the images fall into no certain number of groups.",
    )
    curve = [(float(k), score) for k, score in sorted(choice.scores.items())]
    level = {"chosen": choice.scores[choice.chosen]} if choice.chosen in choice.scores else {}
    page.add(line_chart({choice.by: curve}, x_label="clusters", y_label=choice.by, reference=level))


def _tile(name: str, figure: Figure) -> tuple[str, str, str]:
    if isinstance(figure, tuple):
        value, low, high = figure
        return number(value), name, f"95 % interval {number(low)} to {number(high)}"
    return number(figure), name, ""
