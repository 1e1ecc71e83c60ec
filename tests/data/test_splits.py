from __future__ import annotations

import numpy as np
import pytest

from ssl_transfer.data.records import Records, make_targets
from ssl_transfer.data.splits import assign_splits, draw_fraction, draw_label_budget, straddle_keys


def _records(count: int = 200, classes: int = 4) -> Records:
    targets, names = make_targets([f"c{i % classes}" for i in range(count)])
    records = Records.of([f"{i}.png" for i in range(count)], targets, classes=names)
    records.hashes = np.array([f"{i:032x}" for i in range(count)], "S32")
    return records


def test_fractions_and_determinism() -> None:
    records = _records()
    splits = assign_splits(records, 0.1, 0.25, seed=3)
    assert [(splits == s).sum() for s in ("train", "val", "test")] == [135, 15, 50]
    assert (splits == assign_splits(records, 0.1, 0.25, seed=3)).all()
    assert (splits != assign_splits(records, 0.1, 0.25, seed=4)).any()


def test_split_depends_on_contents_not_on_order_or_names() -> None:
    records = _records()
    order = np.random.default_rng(0).permutation(len(records))
    shuffled = records.select(order)
    shuffled.paths = np.array([f"other{i}" for i in range(len(records))], object)
    assert (assign_splits(shuffled, 0.1, 0.1, 0) == assign_splits(records, 0.1, 0.1, 0)[order]).all()


def test_what_the_source_states_stands() -> None:
    records = _records()
    records.splits[:40] = "test"
    splits = assign_splits(records, 0.1, 0.5, seed=0)
    assert (splits[:40] == "test").all() and (splits == "test").sum() == 40 and (splits == "val").sum() == 16
    records.splits[40:50] = "val"
    assert (assign_splits(records, 0.1, 0.0, seed=0) == "val").sum() == 10


def test_duplicates_and_groups_never_straddle() -> None:
    records = _records()
    rng = np.random.default_rng(1)
    records.hashes = records.hashes[rng.integers(0, 100, 200)]  # many duplicates
    records.groups = np.array([f"g{k}" if k < 30 else "" for k in rng.integers(0, 60, 200)])
    splits = assign_splits(records, 0.2, 0.2, seed=0)
    assert set(splits) == {"train", "val", "test"}
    for column in (records.hashes, records.groups[records.groups != ""]):
        rows = np.arange(200) if len(column) == 200 else np.flatnonzero(records.groups != "")
        for value in np.unique(column):
            assert len(set(splits[rows[column == value]])) == 1


def test_chains_of_groups_and_duplicates_share_a_key() -> None:
    hashes = np.array([b"a", b"b", b"b", b"c", b"d"])
    groups = np.array(["x", "x", "y", "y", ""])
    keys = straddle_keys(hashes, groups)
    assert len(set(keys[:4].tolist())) == 1 and keys[4] not in keys[:4]


def test_draw_leaves_and_takes_at_least_one() -> None:
    keys = np.array([b"a", b"b", b"c"])
    assert draw_fraction(keys, 0.01, 0, "val").sum() == 1
    assert draw_fraction(keys, 0.99, 0, "val").sum() == 2
    assert draw_fraction(keys[:1], 0.5, 0, "val").sum() == 0


def test_label_budget_is_exact_nested_and_seeded() -> None:
    records = _records()
    rows = np.arange(100)
    ten = draw_label_budget(records, rows, 10, seed=0)
    assert np.bincount(records.targets[ten]).tolist() == [10] * 4 and set(ten) <= set(rows)
    assert set(draw_label_budget(records, rows, 5, seed=0)) <= set(ten)
    assert set(draw_label_budget(records, rows, 10, seed=1)) != set(ten)


def test_label_budget_errors() -> None:
    records = _records()
    with pytest.raises(ValueError, match=r"label_budget=30 is more than .* c0 \(25\), c1 \(25\)"):
        draw_label_budget(records, np.arange(100), 30, seed=0)
    records.classes = None
    with pytest.raises(ValueError, match="one class label"):
        draw_label_budget(records, np.arange(100), 3, seed=0)


def test_label_budget_counts_duplicates_once() -> None:
    records = _records(8, 1)
    records.hashes[:] = records.hashes[0]
    with pytest.raises(ValueError, match=r"c0 \(1\)"):
        draw_label_budget(records, np.arange(8), 2, seed=0)


def test_targets_of_every_kind() -> None:
    assert make_targets(np.array([3, -1, 7]))[0].tolist() == [0, -1, 1]
    assert make_targets(np.array([3, 7]))[1] == ["3", "7"]
    assert make_targets([10, 2, None])[1] == ["2", "10"]
    assert make_targets(np.array([[0, 1], [1, 1]]))[0].dtype == np.float32
    assert np.isnan(make_targets([["a"], None])[0][1]).all()
    assert make_targets([None, ""])[1] is None
    with pytest.raises(ValueError, match="dict"):
        make_targets([{"a": 1}])
