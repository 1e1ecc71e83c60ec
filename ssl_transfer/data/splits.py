"""Deterministic splits and label budgets: functions of the contents and a seed, never of the order of files."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ssl_transfer.data.hashing import hash_order
from ssl_transfer.data.records import Records


def assign_splits(records: Records, val_fraction: float, test_fraction: float, seed: int) -> np.ndarray:
    """Every row's split, "train", "val" or "test", `(N,)`.

    What the source states stands; unstated is train. A test or validation split that the source does not have is drawn
    from train, so that neither exact duplicates nor groups straddle train and what was drawn.
    """
    splits = np.where(records.splits == "", "train", records.splits).astype("U5")
    for split, fraction in (("test", test_fraction), ("val", val_fraction)):
        rows = np.flatnonzero(splits == "train")
        if fraction and len(rows) and not (splits == split).any():
            keys = straddle_keys(records.hashes[rows], records.groups[rows])
            splits[rows[draw_fraction(keys, fraction, seed, split)]] = split
    return splits


def straddle_keys(hashes: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """A key `(N,)` for what must stay together: equal contents, equal groups, and chains of the two.

    >>> straddle_keys(np.array([b"c", b"b", b"b", b"a"]), np.array(["g", "g", "", ""])).tolist()
    [b'b', b'b', b'b', b'a']
    """
    grouped = groups != ""
    if not grouped.any():
        return hashes
    contents, content = np.unique(hashes, return_inverse=True)
    names, group = np.unique(groups[grouped], return_inverse=True)
    count = len(contents) + len(names)
    ones = np.ones(len(group), bool)
    links = coo_array((ones, (content[grouped], len(contents) + group)), shape=(count, count))
    component = connected_components(links, directed=False)[1][: len(contents)]
    _, first, inverse = np.unique(component, return_index=True, return_inverse=True)  # contents are sorted: the least
    return contents[first[inverse]][content]


def draw_fraction(keys: np.ndarray, fraction: float, seed: int, purpose: str) -> np.ndarray:
    """A boolean mask `(N,)` of about `fraction` of the rows, whole keys at a time, in the order of their hashes.

    At least one key is drawn and at least one left, where there are two.
    """
    unique, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
    order = np.argsort(hash_order(unique, seed, purpose), kind="stable")
    before = np.cumsum(counts[order]) - counts[order]
    drawn = np.zeros(len(unique), bool)
    drawn[order] = before < np.floor(fraction * len(keys) + 0.5)
    if len(unique) > 1:
        drawn[order[0]], drawn[order[-1]] = True, False
    else:
        drawn[:] = False
    return drawn[inverse]


def draw_label_budget(records: Records, rows: np.ndarray, budget: int, seed: int) -> np.ndarray:
    """`budget` of the labelled `rows` of every class, drawn by content and seed; a larger budget contains a smaller.

    Raises ValueError without class labels, or naming the classes that have fewer distinct images.
    """
    if records.classes is None or records.targets.ndim != 1:
        raise ValueError(f"data.label_budget={budget} needs one class label an image, and the source has none")
    rows = rows[records.targets[rows] >= 0]
    _, first = np.unique(records.hashes[rows], return_index=True)
    rows = rows[np.sort(first)]  # duplicates count once
    rows = rows[np.argsort(hash_order(records.hashes[rows], seed, "labels"), kind="stable")]
    targets = records.targets[rows]
    drawn = [rows[targets == k][:budget] for k in range(len(records.classes))]
    short = [f"{name} ({len(d)})" for name, d in zip(records.classes, drawn, strict=True) if len(d) < budget]
    if short:
        raise ValueError(
            f"data.label_budget={budget} is more than the training split has of {', '.join(short[:5])}"
            f"{' …' if len(short) > 5 else ''}; take at most the smallest of these numbers"
        )
    return np.sort(np.concatenate(drawn))
