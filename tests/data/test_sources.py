from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ssl_transfer.data.decode import BadImage, decode
from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.data.sources import open_source
from tests.conftest import encoded, scene


def _save(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    scene(seed=seed).save(path)
    return path


def _names(source: Any, folder: Path) -> list[str]:
    return [Path(path).relative_to(folder).as_posix() for path in source.records.paths]


def test_flat_folder_has_no_labels(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", ".hidden.png", "notes.txt"):
        _save(tmp_path / name) if name != "notes.txt" else (tmp_path / name).write_text("no image")
    source = open_source(str(tmp_path))
    assert _names(source, tmp_path) == ["a.JPG", "b.png"]
    assert source.records.classes is None and source.records.targets.tolist() == [-1, -1]
    assert decode(source.read(1), "b").shape == (16, 24, 3)


def test_class_folders_and_nested_ones(tmp_path: Path) -> None:
    for name in ("dog/1.png", "cat/deep/2.png", "cat/3.png", "loose.png"):
        _save(tmp_path / name)
    records = open_source(str(tmp_path)).records
    assert records.classes == ["cat", "dog"]
    labels = dict(zip(_names(open_source(str(tmp_path)), tmp_path), records.targets.tolist(), strict=True))
    assert labels == {"cat/3.png": 0, "cat/deep/2.png": 0, "dog/1.png": 1, "loose.png": -1}


@pytest.mark.parametrize("validation", ["val", "valid", "Validation"])
def test_split_folders(tmp_path: Path, validation: str) -> None:
    for name in ("train/cat/1.png", "train/dog/2.png", f"{validation}/dog/3.png", "test/cat/4.png"):
        _save(tmp_path / name)
    records = open_source(str(tmp_path)).records
    assert sorted(zip(records.splits, records.targets.tolist(), strict=True)) == [
        ("test", 0), ("train", 0), ("train", 1), ("val", 1)
    ]  # fmt: skip
    assert records.classes == ["cat", "dog"]


def test_a_class_called_train_is_a_class(tmp_path: Path) -> None:
    for name in ("train/1.png", "bus/2.png"):
        _save(tmp_path / name)
    assert open_source(str(tmp_path)).records.classes == ["bus", "train"]


def test_images_outside_split_folders_are_left_out_aloud(tmp_path: Path) -> None:
    for name in ("train/1.png", "test/2.png", "old/3.png"):
        _save(tmp_path / name)
    with pytest.warns(UserWarning, match="1 images of .* lie outside its split folders"):
        assert len(open_source(str(tmp_path))) == 2


def test_masks_are_never_images(tmp_path: Path) -> None:
    for name in ("a/x.jpg", "a/x.png", "a/y.png", "b/x.png"):
        _save(tmp_path / name)
    source = open_source(str(tmp_path))
    assert _names(source, tmp_path) == ["a/x.jpg", "a/y.png", "b/x.png"]
    assert [source.mask_path(row) for row in range(3)] == [str(tmp_path / "a/x.png"), None, None]
    only = open_source(str(tmp_path), pattern="*.jpg")
    assert _names(only, tmp_path) == ["a/x.jpg"] and only.mask_path(0) is not None


def _mvtec(folder: Path) -> Path:
    for number, name in enumerate(
        ("train/good/000", "train/good/001", "test/good/000", "test/crack/000", "test/crack/001")
    ):
        _save(folder / f"{name}.png", seed=number)
    (folder / "ground_truth" / "crack").mkdir(parents=True)
    mask = np.zeros((16, 24), np.uint8)
    mask[4:8, 10:20] = 255
    Image.fromarray(mask).save(folder / "ground_truth" / "crack" / "000_mask.png")
    return folder


def test_ground_truth_beside_splits_is_masks(tmp_path: Path) -> None:
    """The layout of MVTec AD; one of the defects has no mask, which is fine."""
    source = open_source(str(_mvtec(tmp_path)))
    assert _names(source, tmp_path) == [
        "test/crack/000.png", "test/crack/001.png", "test/good/000.png", "train/good/000.png", "train/good/001.png"
    ]  # fmt: skip
    expected = str(tmp_path / "ground_truth/crack/000_mask.png")
    assert [source.mask_path(row) for row in range(5)] == [expected, None, None, None, None]
    only = open_source(str(tmp_path), pattern="test/*")
    assert len(only) == 3 and only.mask_path(0) == expected
    assert source.records.classes == ["crack", "good"]
    data = ImageDataModule(str(tmp_path), val_fraction=0.0)
    data.setup("fit")
    assert data.normal_targets == [1] and data.describe()["normal"] == ["good"]
    batch = next(iter(data.test_dataloader()))
    assert batch.masks is not None and batch.masks.sum((1, 2, 3)).tolist() == [40, 0, 0]


def test_a_ground_truth_of_no_image_is_said(tmp_path: Path) -> None:
    _save(_mvtec(tmp_path) / "ground_truth" / "crack" / "7_msk.png")
    with pytest.warns(UserWarning, match=r"1 masks of .* belong to no image \(ground_truth/crack/7_msk\.png\)"):
        assert len(open_source(str(tmp_path))) == 5


def test_ground_truth_without_a_test_folder_is_a_class(tmp_path: Path) -> None:
    for name in ("ground_truth/1.png", "sky/2.png"):
        _save(tmp_path / name)
    assert open_source(str(tmp_path)).records.classes == ["ground_truth", "sky"]


def test_a_mask_of_another_size_is_one_line(tmp_path: Path) -> None:
    Image.new("L", (24, 17)).save(_mvtec(tmp_path) / "ground_truth" / "crack" / "000_mask.png")
    with pytest.raises(ValueError, match=r"test/crack/000\.png \(its mask .*000_mask\.png is 24×17, the image 24×16\)"):
        ImageDataModule(str(tmp_path)).setup()


def test_pattern(tmp_path: Path) -> None:
    for name in ("a/x.png", "b/x.png", "b/y.png"):
        _save(tmp_path / name)
    assert _names(open_source(str(tmp_path), pattern="x*"), tmp_path) == ["a/x.png", "b/x.png"]
    assert _names(open_source(str(tmp_path), pattern="b/*"), tmp_path) == ["b/x.png", "b/y.png"]
    with pytest.raises(ValueError, match=r"no image that matches data.pattern '\*.tif'"):
        open_source(str(tmp_path), pattern="*.tif")


def _manifest(path: Path, rows: list[dict[str, str]]) -> str:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def test_csv_manifest(tmp_path: Path) -> None:
    _save(tmp_path / "in" / "a.png")
    rows = [
        {"path": "in/a.png", "label": "10", "split": "train", "group": "g1", "mask": "in/m.png", "status": "ok"},
        {"path": "in/b.png", "label": "2", "split": "valid", "group": "", "mask": "", "status": "converted"},
        {"path": "in/c.png", "label": "", "split": "", "group": "", "mask": "", "status": ""},
        {"path": "in/d.png", "label": "2", "split": "", "group": "", "mask": "", "status": "rejected"},
    ]
    source = open_source(_manifest(tmp_path / "m.csv", rows))
    records = source.records
    assert records.classes == ["2", "10"] and records.targets.tolist() == [1, 0, -1]
    assert records.splits.tolist() == ["train", "val", ""] and records.groups.tolist() == ["g1", "", ""]
    assert source.mask_path(0) == str(tmp_path / "in/m.png") and source.mask_path(1) is None
    assert source.read(0) == (tmp_path / "in/a.png").read_bytes()
    with pytest.raises(BadImage, match="no such file"):
        source.read(1)


def test_manifest_targets(tmp_path: Path) -> None:
    numbers = open_source(_manifest(tmp_path / "n.csv", [{"path": "a", "label": "0.5"}, {"path": "b", "label": ""}]))
    assert numbers.records.targets.dtype == np.float32 and np.isnan(numbers.records.targets[1])
    table = pa.table({"path": ["a", "b"], "label": [["x", "y"], ["y"]]})
    pq.write_table(table, tmp_path / "m.parquet")
    several = open_source(str(tmp_path / "m.parquet")).records
    assert several.classes == ["x", "y"] and several.targets.tolist() == [[1, 1], [0, 1]]


def test_manifest_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no column 'path'; it has file"):
        open_source(_manifest(tmp_path / "a.csv", [{"file": "x"}]))
    with pytest.raises(ValueError, match="split 'tst'; it must be train, val, test or empty"):
        open_source(_manifest(tmp_path / "b.csv", [{"path": "x", "split": "tst"}]))


def _hugging_face(path: Path, seeds: list[int], names: list[str] | None = None, label: str = "label") -> None:
    images = [{"bytes": encoded(scene(seed=seed), "PNG"), "path": f"{seed}.png"} for seed in seeds]
    table = pa.table({"image": images, label: pa.array([seed % 2 for seed in seeds], pa.int64())})
    if names:
        features = {label: {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=2)


def test_parquet_with_images(tmp_path: Path) -> None:
    _hugging_face(tmp_path / "data" / "train-00000-of-00001.parquet", [1, 2, 3, 4, 5], ["even", "odd"])
    _hugging_face(tmp_path / "data" / "test-00000-of-00001.parquet", [6, 7], ["even", "odd"])
    alone = open_source(str(tmp_path / "data" / "train-00000-of-00001.parquet"))
    assert len(alone) == 5 and set(alone.records.splits) == {""} and alone.records.classes == ["even", "odd"]
    for row in (4, 0, 3, 1, 2):
        assert alone.read(row) == encoded(scene(seed=row + 1), "PNG")
    both = open_source(str(tmp_path))
    assert both.records.splits.tolist() == ["test"] * 2 + ["train"] * 5
    assert both.records.targets.tolist() == [0, 1, 1, 0, 1, 0, 1]


def test_parquet_without_metadata_or_images(tmp_path: Path) -> None:
    _hugging_face(tmp_path / "a.parquet", [1, 3], label="fine_label")
    assert open_source(str(tmp_path / "a.parquet")).records.classes == ["1"]
    pq.write_table(pa.table({"x": [1]}), tmp_path / "b.parquet")
    with pytest.raises(ValueError, match="no column 'path'; it has x"):
        open_source(str(tmp_path / "b.parquet"))
    (tmp_path / "c.parquet").write_text("no parquet")
    with pytest.raises(ValueError, match=r"data\.source: .*c\.parquet"):
        open_source(str(tmp_path / "c.parquet"))


def test_npy_and_npz(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 6, 7), dtype=np.uint8)
    np.save(tmp_path / "a.npy", images)
    source = open_source(str(tmp_path / "a.npy"))
    assert source.arrays is not None and source.arrays.shape == (5, 6, 7, 1) and (source.arrays[..., 0] == images).all()
    np.savez(tmp_path / "b.npz", x_train=images, y_train=np.arange(5) % 2, x_test=images[:2], y_test=np.array([0, 1]))
    records = open_source(str(tmp_path / "b.npz")).records
    assert records.splits.tolist() == ["train"] * 5 + ["test"] * 2 and records.classes == ["0", "1"]
    np.savez(tmp_path / "c.npz", images=np.zeros((2, 3, 8, 8), np.float32), labels=np.array(["b", "a"]))
    channels_first = open_source(str(tmp_path / "c.npz"))
    assert channels_first.arrays is not None and channels_first.arrays.shape == (2, 8, 8, 3)
    assert channels_first.records.targets.tolist() == [1, 0]
    np.savez(tmp_path / "d.npz", train_images=images, val_images=images[:1], train_labels=np.ones((5, 1), int))
    partly = open_source(str(tmp_path / "d.npz")).records
    assert partly.targets.tolist() == [0] * 5 + [-1] and partly.splits[-1] == "val"


def test_array_errors(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(ValueError, match="pickled objects, which are never loaded"):
        open_source(str(tmp_path / "a.npy"))
    np.save(tmp_path / "b.npy", np.full((2, 4, 4), 16.0))
    with pytest.raises(ValueError, match=r"floats from 16 to 16; scale them to \[0, 1\]"):
        open_source(str(tmp_path / "b.npy"))
    np.savez(tmp_path / "c.npz", pictures=np.zeros((2, 4, 4)))
    with pytest.raises(ValueError, match="it holds pictures"):
        open_source(str(tmp_path / "c.npz"))
    np.savez(tmp_path / "d.npz", x=np.zeros((2, 4, 4)), y=np.zeros(3, int))
    with pytest.raises(ValueError, match="2 images but 3 labels"):
        open_source(str(tmp_path / "d.npz"))


def test_digits() -> None:
    source = open_source("digits")
    assert source.arrays is not None and source.arrays.shape == (1797, 8, 8, 1) and source.arrays.max() == 255
    assert (source.records.splits == "test").sum() == 539
    assert (open_source("digits").records.splits == source.records.splits).all()


def test_unknown_sources_suggest_what_was_meant(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="named 'FashonMNIST'; did you mean FashionMNIST") as caught:
        open_source("FashonMNIST")
    assert "\n" not in str(caught.value)
    (tmp_path / "photos").mkdir()
    with pytest.raises(ValueError, match=r"did you mean .*photos"):
        open_source(str(tmp_path / "photo"))
    (tmp_path / "a.mp4").write_bytes(b"")
    with pytest.raises(ValueError, match="unknown kind"):
        open_source(str(tmp_path / "a.mp4"))


def test_torchvision_arrays(real_data: Path) -> None:
    source = open_source("FashionMNIST", root=str(real_data))
    assert source.arrays is not None and source.arrays.shape == (70_000, 28, 28, 1)
    assert source.records.classes is not None and source.records.classes[9] == "Ankle boot"
    assert (source.records.splits == "test").sum() == 10_000 and source.records.targets[:3].tolist() == [9, 0, 0]


def test_torchvision_files_pass_through_our_decoder(tmp_path: Path) -> None:
    for name in ("Forest/1.jpg", "River/2.jpg"):
        _save(tmp_path / "eurosat" / "2750" / name)
    source = open_source("EuroSAT", root=str(tmp_path))
    assert source.records.classes == ["Forest", "River"] and source.records.targets.tolist() == [0, 1]
    assert source.read(1) == (tmp_path / "eurosat/2750/River/2.jpg").read_bytes()


def test_a_failed_download_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision.datasets

    def offline(root: str, train: bool, download: bool = False) -> None:
        raise OSError("no network") if download else RuntimeError("Dataset not found")

    monkeypatch.setattr(torchvision.datasets, "KMNIST", offline)
    with pytest.raises(ValueError, match=r"KMNIST is not in data.root .* \(no network\); .* --data.root"):
        open_source("KMNIST", root=str(tmp_path))
