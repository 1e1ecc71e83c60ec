"""Folds for cross-validation: stratified by class, drawn by seed, groups kept whole."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def stratified_folds(
    targets: ArrayLike, folds: int, seed: int = 0, groups: ArrayLike | None = None
) -> NDArray[np.int64]:
    """A fold number for each row `(N,)`: the rows of each class are shuffled by `seed` and dealt in turn.

    targets `(N,)`; rows of one group, `(N,)` of anything that compares, share a fold, dealt by the class of the first.

    >>> stratified_folds([0, 0, 0, 1, 1, 1], folds=3).reshape(2, 3).sum(1).tolist()
    [3, 3]
    """
    classes = np.asarray(targets)
    _, first, member = np.unique(
        np.arange(len(classes)) if groups is None else np.asarray(groups), return_index=True, return_inverse=True
    )
    order = np.random.default_rng(seed).permutation(len(first))
    order = order[np.argsort(classes[first[order]], kind="stable")]
    dealt = np.empty(len(first), np.int64)
    dealt[order] = np.arange(len(first)) % folds
    return dealt[member]
