"""Two sources in one table: classes, pixels, columns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ssl_transfer.data.contents import examine
from ssl_transfer.data.records import Records
from ssl_transfer.data.sources import open_source
from ssl_transfer.data.sources.arrays import open_digits
from ssl_transfer.data.sources.base import Source
from ssl_transfer.data.sources.pair import Pair


def of(classes: list[str] | None, channels: int = 1, below_zero: bool = False) -> Source:
    count = len(classes or "x")
    pixels = np.random.default_rng(channels).integers(0, 256, (count, 4, 4, channels), np.uint8)
    targets = None if classes is None else np.arange(count)
    records = Records.of([f"{k}" for k in range(count)], targets, classes=classes, below_zero=below_zero)
    return Source(records, pixels)


def test_names_of_the_same_classes() -> None:
    digits, named = open_digits(), open_digits()
    named.records.classes = [f"{k} - {name}" for k, name in enumerate("abcdefghij")]
    pair = Pair(digits, named)
    assert (pair.records.targets[: len(digits)] == pair.records.targets[len(digits) :]).all()
    assert pair.lacking == []


def test_the_second_may_lack_classes() -> None:
    pair = Pair(of(["0 - zero", "1 - one", "2 - two"]), of(["2", "0"]))
    assert pair.records.targets.tolist() == [0, 1, 2, 2, 0] and pair.lacking == ["1 - one"]


@pytest.mark.parametrize(
    ("first", "second", "odd"),
    [
        (["dog", "cat"], ["dog - big", "dog - small", "cat"], "'dog - big', 'dog - small'"),
        (["dog - big", "dog - small"], ["dog"], "'dog'"),
        (["a", "b"], ["b", "c"], "'c'"),
        (["a"], list("bcdefgh"), "'b', 'c', 'd', 'e', 'f' …"),
    ],
)
def test_classes_are_never_merged(first: list[str], second: list[str], odd: str) -> None:
    with pytest.raises(ValueError, match=f"data.source does not have: {odd}; rename"):
        Pair(of(first), of(second))


def test_arrays_stay_arrays() -> None:
    grey, colour = of(["a", "b"]), of(["a", "b"], channels=3)
    assert grey.arrays is not None and colour.arrays is not None
    pair = Pair(grey, colour)
    assert pair.arrays is not None and pair.arrays.flags.c_contiguous
    assert (pair.arrays[:2] == grey.arrays).all() and (pair.arrays[2:] == colour.arrays).all()


def test_contents_do_not_depend_on_the_memory() -> None:
    inside, outside = (Pair(of(["a", "b"]), of(["a", "b"], channels=3), budget) for budget in (192, 191))
    assert inside.arrays is not None and outside.arrays is None
    assert examine(inside, 100).hashes.tolist() == examine(outside, 100).hashes.tolist()
    assert examine(inside, 100).headers == examine(outside, 100).headers
    for row in range(4):
        pixels = outside.pixels(row)
        assert pixels is not None and (pixels == inside.arrays[row]).all()


def test_files_beside_arrays(photos: Path) -> None:
    pair = Pair(open_source(str(photos)), of(["ant", "bee"]))
    count = pair.count
    assert pair.arrays is None and pair.pixels(0) is None and pair.read(0)[:4] == b"\x89PNG"
    pixels = pair.pixels(count + 1)
    assert pixels is not None and pixels.shape == (4, 4, 1)
    headers = examine(pair, 10_000).headers
    assert len(headers) == len(pair) and headers[0] is not None and headers[-1] is not None
    assert (headers[0].mode, headers[-1].mode) == ("RGB", "array")


def test_a_bad_file_of_the_second_keeps_its_row(photos: Path) -> None:
    (photos / "ant" / "0.png").write_text("no image")
    pair = Pair(of(["ant", "bee"]), open_source(str(photos)))
    assert list(examine(pair, 10_000).rejected) == [2]


def test_columns_and_labels_below_zero_of_both() -> None:
    first, second = of(["a", "b"]), of(["a"], below_zero=True)
    first.columns, second.columns = {"age": [1, 2]}, {"age": [3], "place": ["x"]}
    pair = Pair(first, second)
    assert pair.columns == {"age": [1, 2, 3], "place": [None, None, "x"]}
    assert pair.records.below_zero
