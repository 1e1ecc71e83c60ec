"""The page of clusters: what it tells, that it is escaped and self-contained, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.datasets import load_digits

from ssl_transfer.reporting.clusters import Choice, Representatives, clusters_page

DIGITS = load_digits()
IMAGES = (DIGITS.images[:, None] / 16).astype(np.float32)
NAMES = [*map(str, range(9)), "<nine>"]


def shown(found: np.ndarray, count: int) -> list[Representatives]:
    rows = [np.flatnonzero(found == cluster)[:9] for cluster in range(count)]
    return [Representatives(IMAGES[r], [f"digits[{row}] & more" for row in r]) for r in rows]


def test_it_tells_sizes_labels_choice_and_figures(read_page: Callable[[str], str]) -> None:
    found = np.where(DIGITS.target < 5, 0, 1)
    found[:50] = -1
    page = clusters_page(
        found,
        shown(found, 2),
        title="Clusters in <digits>",
        labels=DIGITS.target,
        names=NAMES,
        choice=Choice("silhouette", {2: 0.4, 3: 0.3, 4: 0.35}, 2),
        figures={"accuracy": (0.21, 0.19, 0.23), "silhouette": 0.4},
        warnings=["Look twice."],
        facts=[("Method", "KMeans()")],
    )
    text = read_page(page.html())
    assert "Clusters in <digits>" in text and "1,797 images in 2 groups" in text and "50 of them (2.8 %)" in text
    assert f"Cluster 0{(found == 0).sum()} images" in text and f"Cluster 1{(found == 1).sum()} images" in text
    assert "1 more" in text and "Look twice." in text and "95 % interval 0.190 to 0.230" in text
    assert "2 has the highest silhouette" in text and "KMeans()" in text
    assert page.html().count('<img class="sheet pixelated"') == 2 and "digits[50] & more" in text


def test_without_labels_choice_or_clusters(read_page: Callable[[str], str]) -> None:
    found = np.zeros(1797, int)
    text = read_page(clusters_page(found, shown(found, 1), title="One").html())
    assert "1,797 images in 1 group, found without labels." in text and "How many" not in text
    nothing = read_page(clusters_page(np.full(9, -1), [], title="None").html())
    assert "9 of them (100.0 %) belong to none" in nothing and "look like" not in nothing


def test_labels_of_some_images_and_a_cluster_that_no_image_is_in(read_page: Callable[[str], str]) -> None:
    found, labels = np.zeros(4, int), np.array([-1, 9, 9, 2])
    empty = Representatives(IMAGES[:0], [])
    text = read_page(clusters_page(found, [shown(found, 1)[0], empty], title="Few", labels=labels, names=NAMES).html())
    assert "<nine> 66.7 %" in text and "2 33.3 %" in text and "0 images" in text


@pytest.mark.parametrize(
    ("found", "count", "labels", "words"),
    [
        (np.array([], int), 0, None, "no images to show"),
        (np.array([0, 3]), 2, None, "cluster 3 has no representatives, got 2"),
        (np.array([0, 1]), 2, np.array([0]), "1 labels for 2 images"),
    ],
)
def test_what_it_refuses(found: np.ndarray, count: int, labels: np.ndarray | None, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        clusters_page(found, [Representatives(IMAGES[:1], ["a"])] * count, title="x", labels=labels, names=NAMES)
