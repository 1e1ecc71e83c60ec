"""Near-duplicates and isolated images, planted among digits."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from ssl_transfer.evaluation.neighbours import nearest
from ssl_transfer.evaluation.oddities import exact_duplicates, isolation, near_duplicates, write_oddities


@pytest.fixture(scope="module")
def planted() -> Tensor:
    """600 digits; 600 and 601 copy the first, 602 nearly does the fifth, 603 is like none."""
    digits = torch.tensor(load_digits().data[:600]).float()
    near = digits[5] + 0.5 * torch.randn(64, generator=torch.Generator().manual_seed(0))
    return torch.cat([digits, digits[:1], digits[:1], near[None], 16 * (torch.arange(64) % 2)[None]])


def test_planted_duplicates_are_found(planted: Tensor) -> None:
    found = nearest(planted, k=10)
    groups = near_duplicates(*found)
    assert groups[:2] == [[0, 600, 601], [5, 602]] and len(groups) < 5
    assert exact_duplicates(*found) == [[0, 600, 601]]
    assert near_duplicates(*found, threshold=0) == [[0, 600, 601]]
    assert len(near_duplicates(*found, threshold=1e9)[0]) == len(planted)


def test_a_scale_changes_nothing(planted: Tensor) -> None:
    usual, scaled = nearest(planted, k=5), nearest(1000 * planted, k=5)
    assert near_duplicates(*usual) == near_duplicates(*scaled)
    torch.testing.assert_close(isolation(usual[0]), isolation(scaled[0]))


def test_the_planted_outlier_is_the_most_isolated(planted: Tensor) -> None:
    found = isolation(nearest(planted, k=10)[0])
    assert found.argmax() == 603
    assert found.median() == 1 and found[603] > 2


def test_duplicates_without_number() -> None:
    same = torch.zeros(9, 4)
    distances, indices = nearest(same, k=8)
    assert near_duplicates(distances, indices) == exact_duplicates(distances, indices) == [list(range(9))]
    assert (isolation(distances) == 0).all()
    mostly = torch.cat([same, torch.eye(4)])
    assert exact_duplicates(*nearest(mostly, k=8)) == [list(range(9))]
    assert torch.isfinite(isolation(nearest(mostly, k=3)[0])).all()


def test_none_among_images_that_differ() -> None:
    distances, indices = nearest(torch.arange(20.0)[:, None], k=3)
    assert near_duplicates(distances, indices) == exact_duplicates(distances, indices) == []


def test_the_table(planted: Tensor, tmp_path: Path) -> None:
    paths = [f'a, "{number}".png' for number in range(len(planted))]
    paths[0], paths[600], paths[601] = "=a.png", "-b.png", "\tc.png"  # stay as they are: a script looks for them
    distances, indices = nearest(planted, k=10)
    groups, exact = near_duplicates(distances, indices), exact_duplicates(distances, indices)
    path = write_oddities(tmp_path / "new" / "oddities.csv", paths, groups, isolation(distances), exact, most=3)
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["kind", "group", "path", "value"]
    assert [row["path"] for row in rows if row["kind"] == "exact_duplicate"] == [paths[n] for n in (0, 600, 601)]
    assert {row["path"] for row in rows if (row["kind"], row["group"]) == ("near_duplicate", "2")} == {
        paths[5],
        paths[602],
    }
    isolated = [row for row in rows if row["kind"] == "isolated"]
    assert len(isolated) == 3 and isolated[0]["path"] == paths[603] and isolated[0]["group"] == ""
    assert float(isolated[0]["value"]) >= float(isolated[1]["value"]) > 1
