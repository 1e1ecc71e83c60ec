"""The README of an export says what a stranger needs: shapes, preparation, labels, figures, where it comes from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ssl_transfer.export.card import card, facts, preprocessing, table
from ssl_transfer.export.subject import read_subject
from ssl_transfer.export.torchvision import Torchvision

Make = Callable[..., Path]


def test_the_card_of_a_classifier(make: Make, classify: Make) -> None:
    subject = read_subject(classify(make("shufflenet_v2_x0_5", (3, 32, 32))))
    text = card(Torchvision(), subject, {"features": 1.5e-6, "probabilities": 2e-8}, "cats")
    assert text.startswith("# cats\n\nClassifier on encoder shufflenet_v2_x0_5, tuning Frozen, as torchvision.")
    for line in (
        "| images | (B, 3, 32, 32) | uint8; B is free |  |",
        "| `features` | (B, 1024) | what the encoder makes of an image | 1.5e-06 |",
        "| `probabilities` | (B, 3) | of the labels, in the order below | 2e-08 |",
        "0 ant, 1 bee, 2 cow",
        "| test/accuracy | 0.75 |",
        "| source | digits |",
        "- The classifier is the network's own last layer, `fc`.",
        "cut to the largest centred part of the right shape, then resized, to 32 × 32 pixels",
        "mean 0.4, 0.4, 0.4, standard deviation 0.3, 0.3, 0.3",
    ):
        assert line in text, line


def test_the_facts_of_an_encoder(make: Make) -> None:
    subject = read_subject(make())
    text = facts(Torchvision(), subject, {"features": 0.0})
    assert "## Labels" not in text and "## Threshold" not in text and "| val/knn_accuracy | 0.9 |" in text
    subject.threshold, subject.config = 2.5, {"data": {"resize": "pad", "value_range": [10, 900]}}
    text = facts(Torchvision(), subject, {"features": 0.0})
    assert "An anomaly score above 2.5 is called an anomaly." in text and "## Figures" not in text
    assert "16-bit images: 10 becomes 0 and 900 becomes 255." in preprocessing(subject)
    assert "with 1 channel." in preprocessing(subject) and "centred on black" in preprocessing(subject)


def test_a_table_holds_any_text() -> None:
    assert table(("a", "b"), [("x|y\nz", 0.123456)]) == "| a | b |\n| --- | --- |\n| x\\|y z | 0.1235 |"
