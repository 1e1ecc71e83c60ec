from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image

from ssl_transfer.data.batch import Batch
from ssl_transfer.data.module import ImageDataModule
from tests.conftest import scene

Bad = dict[str, tuple[bytes, str]]


def _ready(source: Path | str, **arguments: Any) -> ImageDataModule:
    data = ImageDataModule(str(source), **arguments)
    data.setup()
    return data


def test_class_folders(photos: Path) -> None:
    data = _ready(photos, val_fraction=0.2)
    assert data.shape == (3, 16, 24) and data.classes == ["ant", "bee"] and data.num_classes == 2
    assert [len(data.indices(s)) for s in ("train", "val", "test", "all")] == [16, 4, 0, 20]
    images = torch.cat([batch.images for batch in data.predict_dataloader()]).numpy()
    for row, path in enumerate(data.table.paths):
        assert (images[row] == np.asarray(Image.open(path)).transpose(2, 0, 1)).all()
    json.dumps(data.describe())


def test_batches_survive_lightnings_transfer(photos: Path) -> None:
    data = _ready(photos)
    batch = next(iter(data.train_dataloader()))
    moved = data.transfer_batch_to_device(batch, torch.device("cpu"), 0)
    assert isinstance(moved, Batch) and moved.masks is None and moved.images.dtype == torch.uint8


def test_setup_twice_is_once(photos: Path) -> None:
    data = _ready(photos)
    store = data._store
    data.setup("test")
    assert data._store is store


def test_fingerprint(photos: Path) -> None:
    first = _ready(photos).fingerprint
    assert first == _ready(photos).fingerprint
    assert first != _ready(photos, seed=1).fingerprint and first != _ready(photos, size=8).fingerprint
    scene(seed=77).save(photos / "ant" / "0.png")
    assert first != _ready(photos).fingerprint


def test_statistics_are_of_train(photos: Path) -> None:
    data = _ready(photos)
    images = np.concatenate([batch.images.numpy() for batch in data.loader("train")]) / 255
    assert np.allclose(data.mean, images.mean((0, 2, 3))) and np.allclose(data.std, images.std((0, 2, 3)))


def test_bad_files_are_refused_by_default(photos: Path, bad_files: dict[str, tuple[bytes, str]]) -> None:
    for name, (data, _) in bad_files.items():
        (photos / "ant" / name).write_bytes(data)
    with pytest.raises(ValueError, match=r"4 of 25 .*bomb\.png \(.*pixels\).*--data\.on_bad_image skip") as caught:
        _ready(photos)
    assert "\n" not in str(caught.value)


def test_a_truncated_file_is_refused_too(photos: Path, bad_files: dict[str, tuple[bytes, str]]) -> None:
    (photos / "ant" / "z.jpg").write_bytes(bad_files["truncated.jpg"][0])
    with pytest.raises(ValueError, match=r"1 of 21 images cannot be read: .*z.jpg \(.*truncated.*scan"):
        _ready(photos, size=16)


def test_skipped_files_are_named_and_replaced_by_nothing(photos: Path, bad_files: dict[str, tuple[bytes, str]]) -> None:
    clean = _ready(photos, size=16)
    for name, (data, _) in bad_files.items():
        (photos / "ant" / name).write_bytes(data)
    with pytest.warns(UserWarning, match="unreadable images are left out"):
        data = _ready(photos, size=16, on_bad_image="skip")
    assert sorted(Path(path).name for path, _ in data.rejected) == sorted(bad_files)
    assert data.table.paths.tolist() == clean.table.paths.tolist()
    assert clean._store is not None and data._store is not None
    assert (data._store.images == clean._store.images).all()
    assert len(data.describe()["rejected"]) == len(bad_files)


def test_duplicates_across_stated_splits_are_counted(tmp_path: Path) -> None:
    for split, seeds in (("train", range(8)), ("test", range(6, 10))):
        (tmp_path / split).mkdir()
        for seed in seeds:
            scene(seed=seed).save(tmp_path / split / f"{seed}.png")
    with pytest.warns(UserWarning, match="2 images of .* stand in more than one split"):
        assert _ready(tmp_path).duplicates_across_splits == 2


def test_groups_of_a_manifest_stay_together(photos: Path) -> None:
    lines = ["path,label,group", *(f"{k}/{i}.png,{k},{k}{i // 2}" for k in ("ant", "bee") for i in range(10))]
    (photos / "m.csv").write_text("\n".join(lines))
    data = _ready(photos / "m.csv", val_fraction=0.3)
    sides = [set(data.table.groups[data.indices(split)]) for split in ("train", "val")]
    assert not sides[0] & sides[1] and len(data.indices("val")) == 6


def test_label_budget(photos: Path) -> None:
    data = _ready(photos, label_budget=3)
    assert np.bincount(data.table.targets[data.indices("train")]).tolist() == [3, 3]
    with pytest.raises(ValueError, match=r"data\.label_budget=11 is more than"):
        _ready(photos, label_budget=11)


def test_few_draws_labels_as_a_fresh_module_does_and_shares_the_images(photos: Path) -> None:
    data = _ready(photos)
    few = data.few(3, seed=0)
    assert few.indices("train").tolist() == _ready(photos, label_budget=3).indices("train").tolist()
    assert few._store is data._store and few.label_budget == 3 and data.label_budget is None
    assert few.fingerprint == _ready(photos, label_budget=3).fingerprint != data.fingerprint
    assert few.indices("train").tolist() != data.few(3, seed=1).indices("train").tolist()
    assert set(few.indices("train")) < set(few.few(5, seed=0).indices("train"))  # from all, not from the three
    assert few.indices("val").tolist() == data.indices("val").tolist() and few.mean == data.mean
    assert few.few(None, seed=0).indices("train").tolist() == data.indices("train").tolist()
    with pytest.raises(ValueError, match=r"data\.label_budget=11 is more than"):
        data.few(11, seed=0)


def test_few_without_a_number_leaves_out_what_has_no_label(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 4, 4), np.uint8)
    targets: list[Any] = [[0, 1, -1, 1, 0, -1], [0.5, np.nan, -1.0, 2.0, 3.0, np.nan]]
    for name, column, kept in zip("ab", targets, ([0, 1, 3, 4], [0, 2, 3, 4]), strict=True):
        np.savez(tmp_path / f"{name}.npz", x_train=images, y_train=np.array(column))
        assert _ready(tmp_path / f"{name}.npz", val_fraction=0.0).few(None, 0).indices("train").tolist() == kept


def test_with_train_chooses_rows_and_few_draws_from_them(photos: Path) -> None:
    data = _ready(photos)
    fold = data.with_train(data.indices("train")[::-2])
    assert fold.indices("train").tolist() == sorted(data.indices("train")[::-2].tolist())
    assert set(fold.few(2, seed=0).indices("train")) < set(fold.indices("train"))
    assert len(fold.train_dataloader().rows) == len(fold.indices("train")) < len(data.train_dataloader().rows)
    assert not len(data.without_val().indices("val")) and len(data.indices("val"))


def test_16_bit_images_are_scaled_by_the_training_range(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(500, 1500, (20, 8, 8)).astype(np.uint16)
    test = np.full((2, 8, 8), 60_000, np.uint16)
    np.savez(tmp_path / "a.npz", x_train=values, x_test=test)
    data = _ready(tmp_path / "a.npz")
    assert data.value_range is not None and 500 <= data.value_range[0] < 510 and 1490 < data.value_range[1] < 1500
    assert (next(iter(data.test_dataloader())).images == 255).all()
    assert data.describe()["value_range"] == list(data.value_range)


def test_store_on_disk_is_used_beyond_the_budget(photos: Path, tmp_path: Path) -> None:
    small = _ready(photos, memory_budget=0, cache_dir=str(tmp_path / "cache"))
    assert small._store is not None and isinstance(small._store.images, np.memmap)
    both = [next(iter(data.loader("all"))).images for data in (small, _ready(photos))]
    assert (both[0] == both[1]).all() and small.fingerprint == _ready(photos).fingerprint


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"size": 0}, "data.size must be at least 1, not 0"),
        ({"batch_size": 0}, "data.batch_size"),
        ({"val_fraction": 1.0}, r"data.val_fraction must lie in \[0, 1\), not 1.0"),
        ({"test_fraction": -0.1}, "data.test_fraction"),
        ({"val_fraction": 0.5, "test_fraction": 0.5}, "leave something to train on"),
        ({"resize": "squash"}, "data.resize must be crop or pad or stretch, not 'squash'"),
        ({"on_bad_image": "ignore"}, "data.on_bad_image"),
        ({"memory_budget": -1.0}, "data.memory_budget"),
        ({"label_budget": 0}, "data.label_budget"),
    ],
)
def test_ranges_are_checked_at_construction(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ImageDataModule("digits", **arguments)


def test_a_source_without_training_images_can_be_embedded_but_not_fitted(tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    scene().save(tmp_path / "test" / "a.png")
    assert len(_ready(tmp_path).indices("all")) == 1
    with pytest.raises(ValueError, match=r"no training images \(train 0, val 0, test 1\)"):
        ImageDataModule(str(tmp_path)).setup("fit")


def test_indices_before_setup_and_of_an_unknown_split(photos: Path) -> None:
    with pytest.raises(ValueError, match=r"known after setup\(\)"):
        ImageDataModule(str(photos)).indices("train")
    with pytest.raises(ValueError, match="'dev' must be one of train, val, test, all"):
        _ready(photos).indices("dev")


def test_limit_spreads_over_the_split(photos: Path) -> None:
    rows = [int(i) for batch in _ready(photos).loader("all", limit=4) for i in batch.index]
    assert rows == [0, 6, 13, 19]


def test_magnetic_tile(real_data: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.size is needed where sizes differ"):
        _ready(real_data / "magnetic_tile")
    data = _ready(real_data / "magnetic_tile", size=32)
    assert data.shape == (1, 32, 32) and len(data.table) == 1344 and data.num_classes == 6
    masks = torch.cat([batch.masks for batch in data.loader("all") if batch.masks is not None])
    defective = torch.from_numpy(data.table.targets != data.classes.index("MT_Free"))  # type: ignore[union-attr]
    assert masks.shape == (1344, 1, 32, 32) and masks[~defective].max() == 0 and masks[defective].max() == 1


def test_cifar_parquet(real_data: Path) -> None:
    data = _ready(real_data / "cifar10_jpeg" / "test.parquet")
    assert data.shape == (3, 32, 32) and np.bincount(data.table.targets).tolist() == [1000] * 10
    assert [len(data.indices(split)) for split in ("train", "val", "test")] == [9000, 1000, 0]


def test_fashion_mnist(real_data: Path) -> None:
    data = _ready("FashionMNIST", root=str(real_data), label_budget=10)
    assert [len(data.indices(split)) for split in ("train", "val", "test")] == [100, 6000, 10_000]
    assert abs(data.mean[0] - 0.286) < 0.002 and abs(data.std[0] - 0.353) < 0.002


class _Notes(pl.LightningModule):
    """Trains nothing; notes which images it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[list[int]] = []

    def training_step(self, batch: Batch, _: int) -> torch.Tensor:
        self.seen.append(batch.index.tolist())
        return self.weight * 0

    def validation_step(self, batch: Batch, _: int) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


# Lightning 2.6 tests torch's LeafSpec in a way that torch now discourages; and it recommends worker processes.
# A resumed run need not save checkpoints of its own.
@pytest.mark.filterwarnings(
    "ignore:.isinstance.treespec, LeafSpec:FutureWarning",
    "ignore:.*does not have many workers",
    "ignore:Be aware that when using .ckpt_path., callbacks",
)
def test_lightning_resumes_in_the_middle_of_an_epoch(photos: Path, tmp_path: Path) -> None:
    def seen(checkpoint: Path | None = None) -> list[list[int]]:
        module = _Notes()
        saving = pl.callbacks.ModelCheckpoint(tmp_path / "saved", "{step}", every_n_train_steps=2, save_top_k=-1)
        trainer = pl.Trainer(
            accelerator="cpu",
            logger=False,
            callbacks=[] if checkpoint else [saving],
            enable_checkpointing=checkpoint is None,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_val_batches=0,
            max_epochs=3,
        )
        data = ImageDataModule(str(photos), batch_size=4)
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        return module.seen

    whole = seen()
    assert len(whole) == 12 and whole[0] != whole[4]
    for step in (2, 4, 6):
        assert seen(tmp_path / "saved" / f"step={step}.ckpt") == whole[step:], step


def test_a_stream_gives_what_the_store_holds(photos: Path, bad_files: Bad) -> None:
    (photos / "ant" / "broken.jpg").write_bytes(bad_files["truncated.jpg"][0])
    options: dict[str, Any] = {"size": 16, "batch_size": 7, "on_bad_image": "skip"}
    data, whole = ImageDataModule(str(photos), **options), ImageDataModule(str(photos), **options)
    with pytest.warns(UserWarning, match="unreadable images are left out"):
        whole.setup()
    with pytest.warns(UserWarning, match="unreadable images are left out"):
        batches = list(data.stream())
    rows = torch.cat([batch.index for batch in batches]).numpy()
    assert data.table.paths[rows].tolist() == whole.table.paths.tolist()
    assert data.table.splits[rows].tolist() == whole.table.splits.tolist()
    images, targets = (torch.cat(column) for column in list(zip(*batches, strict=True))[:2])
    assert np.array_equal(images.numpy(), whole.images(np.arange(len(whole.table))))
    assert targets.tolist() == whole.table.targets.tolist()
    assert max(len(batch.index) for batch in batches) == 7 and data.rejected == whole.rejected


def test_a_stream_refuses_what_it_cannot_read(photos: Path, bad_files: Bad) -> None:
    (photos / "bee" / "broken.jpg").write_bytes(bad_files["truncated.jpg"][0])
    with pytest.raises(ValueError, match=r"broken\.jpg"):
        list(ImageDataModule(str(photos), size=16).stream())


def test_the_fingerprint_knows_which_labels_are_hidden(photos: Path) -> None:
    kept = [_ready(photos, label_budget=budget, keep_unlabelled=True) for budget in (2, 3)]
    whole = _ready(photos)
    assert kept[0].indices("train").tolist() == kept[1].indices("train").tolist()
    assert len({data.fingerprint for data in (*kept, whole)}) == 3
    few = whole.few(2, seed=0)
    more = few.with_unlabelled()
    assert more.fingerprint == kept[0].fingerprint
    assert [data.describe()["keep_unlabelled"] for data in (*kept, more, few, whole)] == [True] * 3 + [False] * 2
    assert [int(data.hidden.sum()) for data in (kept[0], more, few, whole)] == [14, 14, 0, 0]
    assert kept[0].few(1, seed=0).hidden.sum() == 14
