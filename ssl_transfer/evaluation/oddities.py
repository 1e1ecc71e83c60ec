"""Near-duplicates and isolated images, from the neighbours of their features."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from ssl_transfer.files import whole_file

NEAR = 0.4  # of the usual distance to the nearest image
EXACT = 1e-4  # what an encoder's rounding may part
COLUMNS = ("kind", "group", "path", "value")


def near_duplicates(distances: Tensor, indices: Tensor, threshold: float | None = None) -> list[list[int]]:
    """Groups of images that are nearly the same, the largest first, each a rising list of rows.

    Two images belong together if one is among the neighbours of the other and no farther than `threshold`; a group is
    what such pairs connect.

    Args:
        distances: to the nearest images, rising, and `indices`, their rows, `(N, k)` each, from `nearest`.
        threshold: in the unit of the distances; None is .4 of the median distance to the nearest image. To the eye that
            gave twins, and some sandals that are merely alike, among 20,000 clothes (25 groups, all of one class),
            1,797 digits (one pair) and 952 tiles (one pair); at .6 look-alikes chain into a group of 190 clothes. Where
            most images have a twin, such as objects photographed several times, the median is that of twins and few are
            found: give a threshold.

    >>> import torch
    >>> distances, indices = torch.tensor([[0.1], [0.1], [2.0], [2.5], [2.0]]), torch.tensor([[1], [0], [1], [2], [0]])
    >>> near_duplicates(distances, indices)
    [[0, 1]]
    """
    limit = NEAR * _usual(distances[:, 0]) if threshold is None else threshold
    close = (distances <= limit).cpu().numpy()
    rows = close.nonzero()[0]
    pairs = coo_array((np.ones(len(rows), bool), (rows, indices.cpu().numpy()[close])), shape=(len(close),) * 2)
    count, group = connected_components(pairs, directed=False)
    order = np.argsort(group, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(group, minlength=count))[:-1])
    return sorted((part.tolist() for part in parts if len(part) > 1), key=lambda part: (-len(part), part[0]))


def exact_duplicates(distances: Tensor, indices: Tensor) -> list[list[int]]:
    """Groups of images with the same features but for rounding, as `near_duplicates` gives them.

    The same picture has the same features; an encoder may give the same to pictures that differ, so look at them.
    """
    return near_duplicates(distances, indices, EXACT * _usual(distances[:, 0]))


def isolation(distances: Tensor) -> Tensor:
    """How isolated images are `(N,)`: the mean distance to their neighbours, over the median of it; 1 is usual.

    Args:
        distances: to the k nearest images `(N, k)`, from `nearest`.

    >>> import torch
    >>> isolation(torch.tensor([[1.0, 1.0], [1.0, 1.0], [3.0, 5.0]]))
    tensor([1., 1., 4.])
    """
    mean = distances.float().mean(1)
    return mean / _usual(mean)


def write_oddities(
    path: str | Path,
    paths: Sequence[str],
    duplicates: Sequence[Sequence[int]],
    isolated: Tensor,
    exact: Sequence[Sequence[int]] = (),
    most: int = 100,
) -> Path:
    """Write near-duplicates and the most isolated images as one CSV table for spreadsheets, and return its path.

    Its columns are kind, group, path and value. A row of the kind `near_duplicate` or `exact_duplicate` is an image of
    a group, which are numbered from 1 within a kind, and its value is the size of the group. A row of the kind
    `isolated` has no group, and its value is the isolation. Paths are written exactly as given, whatever they begin
    with, so that a script finds the files; the rest is numbers and fixed words, so that no text needs a guard against
    formulas.

    Args:
        path: the table.
        paths: of the N images.
        duplicates: groups of rows, from `near_duplicates`.
        isolated: `(N,)` from `isolation`.
        exact: groups from `exact_duplicates`.
        most: how many of the most isolated images are written.
    """
    rows: list[tuple[str, int | str, str, str]] = []
    for kind, groups in (("exact_duplicate", exact), ("near_duplicate", duplicates)):
        rows += [
            (kind, number, paths[row], str(len(group))) for number, group in enumerate(groups, start=1) for row in group
        ]
    values = isolated.cpu()
    farthest = values.argsort(descending=True, stable=True)[:most].tolist()
    rows += [("isolated", "", paths[row], f"{float(values[row]):.3f}") for row in farthest]
    target = Path(path)
    with whole_file(target) as part, part.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    return target


def _usual(values: Tensor) -> float:
    """The median of distances, of those above 0 where most are 0; 1 where all are."""
    values = values.float()
    median = float(values.median()) if len(values) else 0.0
    if median == 0:
        positive = values[values > 0]
        median = float(positive.median()) if len(positive) else 1.0
    return median
