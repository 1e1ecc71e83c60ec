"""Folds: every class in each, groups whole, the same for the same seed."""

from __future__ import annotations

import numpy as np

from ssl_transfer.evaluation.folds import stratified_folds


def test_every_class_is_dealt_evenly_and_by_seed() -> None:
    targets = np.arange(60) % 4
    fold = stratified_folds(targets, 3, seed=1)
    counts = np.array([[((fold == f) & (targets == k)).sum() for k in range(4)] for f in range(3)])
    assert (counts == 5).all()
    assert (fold == stratified_folds(targets, 3, seed=1)).all() and (fold != stratified_folds(targets, 3, seed=2)).any()


def test_small_classes_leave_no_fold_empty() -> None:
    assert sorted(stratified_folds([0, 1, 2], 3).tolist()) == [0, 1, 2]


def test_groups_stay_whole() -> None:
    targets, groups = np.repeat([0, 1], 30), np.repeat([f"g{n}" for n in range(12)], 5)
    fold = stratified_folds(targets, 3, seed=0, groups=groups)
    assert all(len(set(fold[groups == group])) == 1 for group in groups)
    assert set(fold[:30]) == set(fold[30:]) == {0, 1, 2}
