"""Splits for anomaly detection: whatever the source, no anomaly reaches train."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.data.normal import Fractions, choose_splits, find_normal, is_anomaly
from ssl_transfer.data.records import Records
from tests.conftest import encoded, scene

_LEFT_OUT = "ignore:data.normal. .* left out"


def _records(targets: Sequence[int], splits: Sequence[str] | str = "", groups: Sequence[str] | None = None) -> Records:
    names = [f"{i}.png" for i in range(len(targets))]
    records = Records.of(names, np.array(targets, np.int64), splits, groups, ["good", "crack", "hole"])
    records.hashes = np.array([f"{i:032x}" for i in range(len(targets))], "S32")
    return records


def _split(records: Records, val: float = 0.1, test: float | None = None, anomaly_val: float = 0.0) -> np.ndarray:
    return choose_splits(records, "good", Fractions(val, test, anomaly_val), 0)[0]


def _ready(source: Path | str, **arguments: Any) -> ImageDataModule:
    data = ImageDataModule(str(source), **arguments)
    data.setup()
    return data


@pytest.mark.filterwarnings(_LEFT_OUT)
def test_no_anomaly_reaches_train_and_nothing_straddles_what_is_drawn() -> None:
    """Random tables of every kind: labels, groups, duplicates, some stated splits or none."""
    rng = np.random.default_rng(0)
    for trial in range(200):
        count = int(rng.integers(5, 80))
        stated = [[""], ["", "train", "test"], ["train", "val", "test"], ["", "val"], ["train", "val"]][trial % 5]
        groups = [f"g{k}" if k < 6 else "" for k in rng.integers(0, 12, count)] if trial % 2 else None
        records = _records(rng.integers(-1, 3, count).tolist(), rng.choice(stated, count).tolist(), groups)
        records.hashes = records.hashes[rng.integers(0, count, count)]
        anomaly_val = float(rng.choice([0, 0.3]))
        splits = _split(records, anomaly_val=anomaly_val)
        anomalous = records.targets > 0
        assert not anomalous[splits == "train"].any() and (records.targets[splits != ""] >= 0).all()
        tainted = np.isin(records.hashes, records.hashes[anomalous])
        assert not tainted[splits == "train"].any()
        if not anomaly_val:
            assert not anomalous[splits == "val"].any()
        if "test" in records.splits:
            if not anomaly_val:
                assert ((splits == "test") == ((records.splits == "test") & (records.targets >= 0))).all()
        else:
            assert np.isin(splits[anomalous], ["test", "val"]).all()
        if set(records.splits) == {""}:  # all drawn
            used = splits != ""
            for column in (records.hashes, records.groups):
                for value in set(column[used].tolist()) - {""}:
                    assert len(set(splits[used & (column == value)])) == 1


def test_fractions_and_the_default_of_a_fifth() -> None:
    records = _records([0] * 100 + [1, 2] * 10)
    splits = _split(records)
    counts = [[((splits == s) & (records.targets == k)).sum() for k in range(3)] for s in ("train", "val", "test")]
    assert counts == [[72, 0, 0], [8, 0, 0], [20, 10, 10]]
    assert (_split(records, test=0.0)[:100] != "test").all() and (_split(records, test=0.5)[:100] == "test").sum() == 50
    order = np.random.default_rng(0).permutation(120)
    assert (_split(records.select(order)) == splits[order]).all()


def test_some_anomalies_for_validation() -> None:
    records = _records([0] * 100 + [1, 2] * 10)
    splits, without = _split(records, anomaly_val=0.25), _split(records)
    assert (splits[100:] == "val").sum() == 5 and (splits[100:] == "test").sum() == 15
    assert (splits[:100] == without[:100]).all()
    records.splits[:] = "test"
    records.splits[:50] = "train"
    assert (_split(records, anomaly_val=0.25)[100:] == "val").sum() == 5


def test_anomalies_that_the_source_puts_outside_test() -> None:
    records = _records([0] * 12 + [1] * 6, ["train"] * 6 + ["val"] * 3 + ["test"] * 3 + ["train", "val", "test"] * 2)
    with pytest.warns(UserWarning, match="4 anomalies outside the test split are left out of train, val and test"):
        splits = _split(records)
    assert splits[12:].tolist() == ["", "", "test"] * 2 and (splits[:12] == records.splits[:12]).all()
    with pytest.warns(UserWarning, match="2 anomalies outside"):
        splits = _split(records, anomaly_val=0.5)
    assert splits[12:].tolist() == ["", "val", "test"] * 2


def test_what_may_be_an_anomaly_is_left_out_aloud() -> None:
    records = _records([0, 0, 0, 0, -1, 1], ["train"] * 5 + ["test"])
    records.hashes[0] = records.hashes[5]
    with pytest.warns(UserWarning, match="1 images without a label, 1 normal images that are also labelled an anomaly"):
        splits = _split(records, val=0.0)
    assert splits.tolist() == ["", "train", "train", "train", "", "test"]


def test_a_group_follows_its_anomaly() -> None:
    splits = _split(_records([0] * 20 + [1], groups=["p"] * 5 + [""] * 15 + ["p"]))
    assert (splits[:5] == "test").all() and splits[20] == "test" and (splits == "train").any()


def test_which_classes_are_normal() -> None:
    records = _records([0, 1, 2])
    assert find_normal("crack", records) == [1] and find_normal(["hole", "good"], records) == [0, 2]
    records.classes = ["0 - zero", "1 - one", "a - b - c"]
    assert find_normal("1", records) == [1] and find_normal("1 - one", records) == [1]
    assert find_normal(2 * ["0"], records) == [0]
    assert is_anomaly(np.array([0, 1, 2, -1]), [0, 2]).tolist() == [False, True, False, False]


def test_the_only_class_of_train_is_normal() -> None:
    assert find_normal(None, _records([0, 0, 0, 1], ["train", "", "test", "test"])) == [0]
    for targets in ([0, 1], [0, -1], [-1, -1]):
        assert find_normal(None, _records(targets)) is None
    records = _records([0] * 10 + [1] * 10, ["train"] * 8 + ["test"] * 12)
    splits, normal = choose_splits(records, None, Fractions(0.1, None, 0.4), 0)
    assert normal == [0] and (splits[10:] == "val").sum() == 4 and (splits[:8] != "test").all()
    regression = Records.of(["a"], np.zeros(1, np.float32))
    assert find_normal(None, regression) is None


def test_mistakes_get_one_line() -> None:
    cases: list[tuple[Any, Records, str]] = [
        ("god", _records([0]), r"data\.normal: no class named 'god'; the classes are good; crack; hole"),
        (["good", "holes"], _records([0]), "no class named 'holes'"),
        ([], _records([0]), "no class named"),
        ("good", Records.of(["a.png"]), r"data\.normal='good' needs one class label an image, and the source has none"),
        ("0", Records.of(["a"], np.zeros((1, 2), np.float32), classes=["0", "1"]), "needs one class label"),
    ]
    for normal, records, words in cases:
        with pytest.raises(ValueError, match=words) as caught:
            find_normal(normal, records)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"anomaly_val_fraction=0\.1 needs to know which class is normal"):
        choose_splits(_records([0, 1]), None, Fractions(0.1, None, 0.1), 0)
    with pytest.raises(ValueError, match=r"data\.label_budget=3 draws labels to learn from, and with data\.normal='a'"):
        ImageDataModule("digits", normal="a", label_budget=3)
    with pytest.raises(ValueError, match=r"data\.anomaly_val_fraction must lie in \[0, 1\), not 1\.0"):
        ImageDataModule("digits", anomaly_val_fraction=1.0)


@pytest.mark.filterwarnings(_LEFT_OUT)
def test_fitting_needs_a_normal_image_in_train(tmp_path: Path) -> None:
    for name in ("train/crack/1.png", "test/good/2.png", "test/crack/3.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        scene(seed=len(name) + int(name[-5])).save(tmp_path / name)
    data = _ready(tmp_path, normal="good")
    message = r"has no normal image \(data\.normal='good'\) in train \(train 0, val 0, test 2\)"
    for fresh in (data, ImageDataModule(str(tmp_path), normal="good")):
        with pytest.raises(ValueError, match=message):
            fresh.setup("fit")


def test_folders_manifests_and_parquet_agree(photos: Path, tmp_path: Path) -> None:
    files = sorted(photos.rglob("*.png"))
    names = [path.relative_to(photos).as_posix() for path in files]
    (photos / "m.csv").write_text("\n".join(["path,label", *(f"{name},{name[:3]}" for name in names)]))
    table = {
        "image": [{"bytes": path.read_bytes(), "path": None} for path in files],
        "label": [path.parent.name for path in files],
    }
    pq.write_table(pa.table(table), tmp_path / "p.parquet")
    pixels = np.stack([np.asarray(Image.open(path)) for path in files])
    np.savez(tmp_path / "a.npz", images=pixels, labels=np.array(table["label"]))
    found = []
    for source in (photos, photos / "m.csv", tmp_path / "p.parquet"):
        data = _ready(source, normal="bee", anomaly_val_fraction=0.2)
        assert data.normal_targets == [1] and data.describe()["normal"] == ["bee"]
        assert (data.table.targets[data.indices("train")] == 1).all() and len(data.indices("all")) == 20
        json.dumps(data.describe())
        found.append(data.table.splits.tolist())
    assert found[0] == found[1] == found[2] and found[0].count("test") == 10 and found[0].count("val") == 3
    assert _ready(tmp_path / "a.npz", normal="bee").table.splits.tolist().count("test") == 12
    both = _ready(photos, normal=["bee", "ant"])
    assert both.normal_targets == [0, 1] and len(both.indices("train")) == 14


def test_statistics_are_those_of_the_normal_images_and_the_store_is_shared(photos: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"memory_budget": 0, "cache_dir": str(tmp_path / "cache")}
    ant, bee = (_ready(photos, normal=name, **options) for name in ("ant", "bee"))
    assert len(list((tmp_path / "cache" / "stores").iterdir())) == 1
    assert ant.fingerprint != bee.fingerprint
    images = ant.images(ant.indices("train")) / 255
    assert np.allclose(ant.mean, images.mean((0, 2, 3))) and not np.allclose(ant.mean, bee.mean)


def test_one_against_the_rest_of_mnist(real_data: Path) -> None:
    with pytest.warns(UserWarning, match=r"data\.normal: 54,077 anomalies outside the test split are left out"):
        data = _ready("MNIST", root=str(real_data), normal="0")
    targets = data.table.targets
    assert [len(data.indices(split)) for split in ("train", "val", "test", "all")] == [5331, 592, 10_000, 70_000]
    assert data.describe()["normal"] == ["0 - zero"] and not targets[data.indices("train")].any()
    assert not targets[data.indices("val")].any() and len(set(targets[data.indices("test")])) == 10


def test_torchvision_files(tmp_path: Path) -> None:
    for k, name in enumerate(("Forest", "River")):
        for i in range(10):
            path = tmp_path / "eurosat" / "2750" / name / f"{i}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded(scene(seed=10 * k + i), "JPEG"))
    data = _ready("EuroSAT", root=str(tmp_path), normal="River")
    assert [len(data.indices(split)) for split in ("train", "val", "test")] == [7, 1, 12]


def test_a_train_split_without_labels_is_normal_where_the_test_split_has_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for folder, count in (("train", 20), ("test/good", 4), ("test/hole", 5)):
        (tmp_path / folder).mkdir(parents=True)
        for n in range(count):
            Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(tmp_path / folder / f"{n}.png")
    data = ImageDataModule(str(tmp_path), normal="good")
    data.setup("fit")
    assert [len(data.indices(split)) for split in ("train", "val", "test")] == [18, 2, 9]
    assert [data.classes[k] for k in data.normal_targets or []] == ["good"]
