"""Several targets at once: the split of the head, the mean of their losses, solving, telling, and the manifest."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.downstream.targets import (
    ClassTarget,
    Column,
    Judge,
    MultiLabelTarget,
    RegressionTarget,
    Target,
    Targets,
    check_choice,
)
from ssl_transfer.evaluation.metrics import wilson_interval

NAN = float("nan")
KINDS = [
    ClassTarget("kind", ["ant", "bee"]),
    MultiLabelTarget("marks", ["round", "red", "big"]),
    RegressionTarget("age", mean=40.0, deviation=10.0),
]


def some_values() -> list[torch.Tensor]:
    return [
        torch.tensor([0, 1, -1, 1]),
        torch.tensor([[1.0, 0.0, 1.0], [NAN] * 3, [0.0, 0.0, 1.0], [1.0, 1.0, 0.0]]),
        torch.tensor([30.0, NAN, 45.0, 41.0]),
    ]


def test_the_loss_is_the_weighted_mean_and_each_image_teaches_what_it_has() -> None:
    torch.manual_seed(0)
    targets, values = Targets(KINDS, weights=[1.0, 2.0, 0.5]), some_values()
    outputs = torch.randn(4, targets.width)
    parts = [kind.loss(part, own) for kind, part, own in zip(KINDS, targets.split(outputs), values, strict=True)]
    torch.testing.assert_close(targets.losses(outputs, values), torch.stack(parts))
    torch.testing.assert_close(targets.loss(outputs, values), (parts[0] + 2 * parts[1] + 0.5 * parts[2]) / 3.5)
    assert targets.present(values).int().tolist() == [[1, 1, 1], [1, 0, 0], [0, 1, 1], [1, 1, 1]]


def test_answers_are_side_by_side() -> None:
    targets = Targets(KINDS)
    answers = targets.answer(torch.zeros(2, 6))
    torch.testing.assert_close(answers, torch.tensor([[0.5] * 5 + [40.0]] * 2))
    assert targets.told(answers)["age"] == [40.0, 40.0]
    columns, notes = targets.columns(answers)
    assert list(columns) == ["kind", "kind_scores", "marks", "marks_scores", "age"]
    assert notes == {"kind_classes": "ant\nbee", "marks_classes": "round\nred\nbig"}
    assert columns["marks"][0] == ["round", "red", "big"] and columns["kind_scores"].shape == (2, 2)
    columns, notes = Targets(KINDS[:1]).columns(answers[:, :2])
    assert list(columns) == ["prediction", "scores"] and notes == {"classes": "ant\nbee"}
    again = Targets.from_description(targets.describe())
    assert again.kinds == KINDS and again.width == 6


def test_figures_bear_the_name_of_their_target() -> None:
    torch.manual_seed(0)
    targets, values = Targets(KINDS), some_values()
    answers = targets.answer(torch.randn(4, 6))
    judge = Judge(targets, "val", intervals=True)
    for part in (slice(0, 1), slice(1, 4)):
        judge.update(answers[part], [own[part] for own in values])
    figures = judge.figures(bool)
    assert {"val/kind/accuracy", "val/kind/accuracy_low", "val/age/r2"} <= figures.keys()
    right = (answers[[0, 1, 3], :2].argmax(1) == torch.tensor([0, 1, 1])).float().mean()
    assert float(figures["val/kind/accuracy"]) == pytest.approx(float(right))
    low, high = wilson_interval(float(right), 3)
    assert (figures["val/kind/accuracy_low"], figures["val/kind/accuracy_high"]) == pytest.approx((low, high))
    chosen = [figures[f"val/{kind.name}/{kind.figure}"] for kind in KINDS]
    assert figures["val/score"] == pytest.approx(float(torch.stack(chosen).mean()))
    assert judge.confusion is None and judge.figures(bool) == {}  # and it has forgotten
    assert targets.score({"val/kind/accuracy": 0.25, "val/age/r2": NAN}, "val") == 0.25
    selections = [Targets(kinds).selects_by for kinds in (KINDS, KINDS[:1], KINDS[1:2], KINDS[2:])]
    assert selections == ["val/score", "val/accuracy", "val/mean_average_precision", "val/r2"]


def test_figures_of_one_target_are_its_own() -> None:
    targets = Targets(KINDS[:1])
    judge = Judge(targets, "test", intervals=True)
    judge.update(torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]), [torch.tensor([0, 0, -1])])
    figures = judge.figures(bool)
    assert float(figures["test/accuracy"]) == 0.5 and "test/score" not in figures
    assert judge.confusion is not None and judge.confusion.tolist() == [[1, 1], [0, 0]]


def test_a_target_that_no_image_has_has_no_figures() -> None:
    targets = Targets(KINDS)
    judge = Judge(targets, "val")
    nothing = [torch.tensor([-1]), torch.full((1, 3), NAN), torch.tensor([NAN])]
    judge.update(torch.zeros(1, 6), nothing)
    assert judge.figures(bool) == {}
    judge.update(torch.full((1, 6), 41.0), [*nothing[:2], torch.tensor([40.0])])
    figures = judge.figures(bool)
    assert float(figures["val/age/mean_absolute_error"]) == 1.0 and not any("kind" in name for name in figures)


def test_solving_solves_each_on_the_images_that_have_it() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(120, 5, generator=generator)
    side, size = features[:, 0], features[:, 1]
    values = [
        torch.where(features[:, 4] > 1, -1, (side > 0).long()),
        torch.stack([side > 0, size > 0, side + size > 0], dim=1).float(),
        40 + 10 * size,
    ]
    values[2][::7] = NAN
    targets = Targets(KINDS)
    for held_out in (None, (features[:40], [own[:40] for own in values])):
        weight, bias, chosen = targets.solve((features, values), held_out, None)
        assert weight.shape == (6, 5) and bias.shape == (6,) and len(chosen) == 3 and None not in chosen
        outputs = features @ weight.T + bias
        assert float(targets.loss(outputs, values)) < 0.1
    fixed, _, chosen = targets.solve((features, values), None, 1e-2)
    assert chosen == [None, None, None] and not torch.equal(fixed, weight)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Twenty images with columns of every kind."""
    rows = []
    for number in range(20):
        pixels = np.full((8, 8), 10 * number, np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        rows.append(
            {
                "path": f"{number}.png",
                "label": f'["m{number % 2}", "all"]' if number else "",
                "split": "test" if number >= 16 else "",
                "kind": ["ant", "bee", "cat"][number % 3],
                "age": number - 10,
                "height": number / 4 if number % 5 else "",
            }
        )
    with (tmp_path / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return tmp_path / "manifest.csv"


def read(path: Path) -> ImageDataModule:
    data = ImageDataModule(str(path), batch_size=4)
    data.setup()
    return data


def test_columns_of_a_manifest_are_targets(manifest: Path) -> None:
    data = read(manifest)
    targets = Targets.of(data, ["label", "kind", "height", Target("age", kind="regression", weight=0.5)])
    assert [kind.kind for kind in targets.kinds] == ["multi_label", "class", "regression", "regression"]
    assert targets.weights == [1.0, 1.0, 1.0, 0.5]
    order = [int(Path(path).stem) for path in data.table.paths]
    label, kind, height, age = targets.read(data)
    assert np.isnan(label[order.index(0)]).all() and label[order.index(1)].tolist() == [1, 0, 1]
    assert kind.tolist() == [number % 3 for number in order]
    np.testing.assert_equal(height, np.array([n / 4 if n % 5 else NAN for n in order], np.float32))
    assert age.tolist() == [number - 10 for number in order]  # those below zero too
    train = [order[row] - 10 for row in data.indices("train")]
    found = targets.kinds[3]
    assert isinstance(found, RegressionTarget)
    assert (found.mean, found.deviation) == pytest.approx((np.mean(train), np.std(train)))


def test_without_a_choice_it_is_the_source_s_own_label(manifest: Path, digits: ImageDataModule) -> None:
    own = Targets.of(read(manifest)).single
    assert isinstance(own, MultiLabelTarget) and own.classes == ["all", "m0", "m1"]
    targets = Targets.of(digits, smoothing=0.1)
    assert isinstance(targets.single, ClassTarget) and targets.single.smoothing == 0.1
    assert targets.read(digits)[0] is digits.table.targets


def test_columns_that_are_not_there(manifest: Path) -> None:
    with pytest.raises(ValueError, match=r"names 'weight' and data\.source .* known are label, kind, age, height"):
        Targets.of(read(manifest), ["weight"])


def test_a_choice_that_cannot_be() -> None:
    with pytest.raises(ValueError, match=r"model\.targets is empty"):
        check_choice([])
    with pytest.raises(ValueError, match=r"names 'age' 2 times"):
        check_choice(["age", Target("age", kind="regression")])
    with pytest.raises(ValueError, match=r"the weight of 'age' must be above 0, not 0"):
        check_choice(["label", Target("age", weight=0)])
    check_choice(None)
    check_choice(["label", "age"])


def test_an_image_that_a_label_budget_leaves_out_teaches_in_no_column(manifest: Path) -> None:
    with manifest.open(newline="") as file:
        rows = list(csv.DictReader(file))
    with manifest.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(row | {"label": row["kind"]} for row in rows)
    fresh = read(manifest)
    kept = ImageDataModule(str(manifest), label_budget=2, keep_unlabelled=True)
    kept.setup()
    for data in (kept, kept.without_val(), fresh.few(2, seed=0).with_unlabelled()):
        train, test = data.indices("train"), data.indices("test")
        labelled = data.table.targets[train] >= 0
        assert labelled.sum() == 6 < len(train) and data.hidden[train].tolist() == (~labelled).tolist()
        for name, kind in (("kind", None), ("age", "regression"), ("kind", "multi_label"), ("height", None)):
            column, whole = (Column.read(each, name, kind) for each in (data, fresh))  # type: ignore[arg-type]
            assert column.present[train].tolist() == (labelled & whole.present[train]).tolist()
            assert column.classes == whole.classes
            np.testing.assert_equal(column.values[test], whole.values[test])
    assert not fresh.hidden.any()


def test_own_labels_below_zero_are_no_numbers_unless_they_have_a_point(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8), np.uint8)
    for number, pixels in enumerate(images):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")

    def sources(labels: list[float]) -> list[Path]:
        np.savez(tmp_path / "a.npz", x=images, y=np.array(labels))
        np.savez(tmp_path / "b.npz", x_train=images[:3], y_train=np.array(labels[:3]), x_test=images[3:])
        rows = [f"{number}.png,{label}" for number, label in enumerate(labels)]
        (tmp_path / "c.csv").write_text("\n".join(["path,label", *rows]))
        blobs = [(tmp_path / f"{number}.png").read_bytes() for number in range(4)]
        pq.write_table(pa.table({"image": blobs, "label": labels}), tmp_path / "d.parquet")
        return [tmp_path / name for name in ("a.npz", "b.npz", "c.csv", "d.parquet")]

    for path in (path for labels in ([-5, -1, 0, 3], [-5, -4, -3, -2]) for path in sources(labels)):
        with pytest.raises(ValueError, match=r"holds whole numbers below zero.* write them with a point") as caught:
            Column.read(read(path), "label", "regression")
        assert "\n" not in str(caught.value)
    for path in sources([-5.5, -1.0, 0.0, 3.0]):
        data = read(path)
        column = Column.read(data, "label", "regression")
        assert sorted(column.values[column.present].tolist())[:3] == [-5.5, -1.0, 0.0]
    for path in sources([5, 1, 0, 3]):
        assert Column.read(read(path), "label", "regression").present.sum() >= 3
