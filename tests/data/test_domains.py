"""Two domains in one DataModule: whose labels are hidden, what a batch holds, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ssl_transfer.data.domains import DomainDataModule
from ssl_transfer.data.halves import HalvedLoader, HalvedOrder

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A file of arrays, of twenty images by default, with a test split of five if asked for."""

    def written(
        name: str, labels: object = None, test: int = 0, shape: tuple[int, ...] = (8, 8), seed: int = 0
    ) -> Path:
        images = np.random.default_rng(seed).integers(0, 256, (20, *shape), np.uint8)
        values = np.arange(20) % 2 if labels is None else np.asarray(labels)
        arrays = {"x_train": images[test:], "y_train": values[test:]}
        if test:
            arrays |= {"x_test": images[:test], "y_test": values[:test]}
        path = tmp_path / f"{name}.npz"
        np.savez(path, **arrays)  # type: ignore[arg-type]
        return path

    return written


def two(source: Path | str, target: Path | str, **options: object) -> DomainDataModule:
    data = DomainDataModule(str(source), str(target), batch_size=4, **options)  # type: ignore[arg-type]
    data.setup("fit")
    return data


def test_labels_of_the_target_are_hidden_but_for_a_test(write: Write) -> None:
    data = two(write("a"), write("b", test=6, seed=1))
    assert (data.table.targets[data.is_target] == -1).all() and (data.table.targets[~data.is_target] >= 0).all()
    assert data.hidden_labels == 14
    for loader in (data.train_dataloader(), data.val_dataloader(), data.predict_dataloader()):
        for batch in loader:
            assert (batch.targets.numpy()[data.is_target[batch.index]] == -1).all()
    (first, *_), labels = list(data.test_dataloader()), np.arange(20) % 2
    assert data.is_target[data.indices("test")].all() and len(data.indices("test")) == 6
    assert first.targets.tolist() == labels[:6][:4].tolist()


def test_splits_do_not_depend_on_the_targets_labels(write: Write) -> None:
    first = two(write("a"), write("b", seed=1), test_fraction=0.2)
    other = two(write("a"), write("c", labels=1 - np.arange(20) % 2, seed=1), test_fraction=0.2)
    for split in ("train", "val", "test"):
        assert first.indices(split).tolist() == other.indices(split).tolist()
    assert first.fingerprint == other.fingerprint


def test_each_domain_has_a_validation_split_and_only_the_target_a_test_split(write: Write) -> None:
    data = two(write("a"), write("b", seed=1), test_fraction=0.2, val_fraction=0.2)
    assert [len(data.domain("train", target)) for target in (False, True)] == [16, 13]
    assert [len(data.domain("val", target)) for target in (False, True)] == [4, 3]  # a fifth of 20, and of 16 left
    assert [len(data.domain("test", target)) for target in (False, True)] == [0, 4]
    assert data.describe()["domains"]["target"] == {"train": 13, "val": 3, "test": 4}


@pytest.mark.parametrize("test", [0, 6])
def test_no_source_image_is_spent_on_a_test(write: Write, test: int) -> None:
    """Whether the target's test split is drawn or stated."""
    source, target = write("a"), write("b", test=test, seed=1)
    plain, asked = two(source, target), two(source, target, test_fraction=0.3)
    for split in ("train", "val"):
        assert plain.domain(split, False).tolist() == asked.domain(split, False).tolist()
    assert len(asked.domain("test", True)) == 6


def test_what_a_user_should_know_is_said(write: Write) -> None:
    data = two(write("a", test=4, labels=[0, 1, 2, 0, -1] * 4), write("b", labels=[1, 0] * 10, seed=1), val_fraction=0)
    assert data.describe()["domains"]["source"] == {"train": 16, "val": 0, "test": 0, "unused": 4}
    assert [remark.replace(str(write("x").parent), "") for remark in data.remarks] == [
        "data.target /b.npz does not have the classes '2' of data.source",
        "4 test images of data.source /a.npz are not used",
        "4 training images of data.source /a.npz have no label",
    ]
    assert two(write("a"), write("b", seed=1)).remarks == []


def test_a_batch_is_half_and_half(write: Write) -> None:
    data = two(write("a"), write("b", test=10, seed=1), val_fraction=0)
    loader = data.train_dataloader()
    seen = []
    for batch in loader:
        of_target = data.is_target[batch.index]
        assert of_target.tolist() == [False, False, True, True]
        seen.append(batch.index.numpy())
    rows = np.concatenate(seen)
    assert sorted(rows[~data.is_target[rows]]) == data.domain("train", False).tolist()  # the larger once
    counts = np.bincount(rows)[data.domain("train", True)]
    assert set(counts.tolist()) == {2}  # the smaller twice


def test_epochs_differ_and_repeat() -> None:
    order = HalvedOrder((9, 5), batch_size=4)
    first = order()
    order.set_epoch(1)
    assert first.tolist() != order().tolist()
    order.set_epoch(0)
    assert first.tolist() == order().tolist()
    assert len(first) == 16 and (first.reshape(-1, 2, 2)[:, 0] < 9).all() and (first.reshape(-1, 2, 2)[:, 1] >= 9).all()


def test_a_domain_smaller_than_half_a_batch() -> None:
    order = HalvedOrder((3, 2), batch_size=16)
    assert sorted(np.bincount(order()).tolist()) == [2, 3, 3, 4, 4]


def test_going_on_in_the_middle_of_an_epoch() -> None:
    def loader() -> HalvedLoader:
        images = np.zeros((30, 1, 2, 2), np.uint8)
        return HalvedLoader(images, np.zeros(30, np.int64), (np.arange(20), np.arange(20, 30)), 4)

    whole = loader()
    whole.sampler.set_epoch(3)
    batches = [batch.index.tolist() for batch in whole]
    begun = loader()
    begun.sampler.set_epoch(3)
    iterator = iter(begun)
    for _ in range(4):
        next(iterator)
    resumed = loader()
    resumed.load_state_dict(begun.state_dict())
    assert [batch.index.tolist() for batch in resumed] == batches[4:]


def test_a_label_budget_counts_the_source_alone_and_leaves_its_images(write: Write) -> None:
    whole, data = two(write("a"), write("b", seed=1)), two(write("a"), write("b", seed=1), label_budget=3)
    for target in (False, True):
        assert data.domain("train", target).tolist() == whole.domain("train", target).tolist()
    targets = data.table.targets[data.domain("train", False)]
    assert np.bincount(targets + 1).tolist() == [12, 3, 3]
    assert data.hidden[data.is_target].all() and int(data.hidden.sum()) == 20 + 12
    assert data.describe()["keep_unlabelled"] and not whole.describe()["keep_unlabelled"]
    assert data.fingerprint != whole.fingerprint


def test_half_of_a_batchs_source_images_are_labelled_under_a_budget(write: Write) -> None:
    data = DomainDataModule(str(write("a")), str(write("b", seed=1)), batch_size=8, label_budget=2, val_fraction=0)
    data.setup("fit")
    rows = []
    for batch in data.train_dataloader():
        assert [int(target) >= 0 for target in batch.targets] == [True] * 2 + [False] * 6
        assert data.is_target[batch.index].tolist() == [False] * 4 + [True] * 4
        rows += batch.index.tolist()
    assert len(rows) == 40  # an epoch goes once through the larger domain
    counts = np.bincount(rows, minlength=40)
    assert set(counts[data.table.targets >= 0].tolist()) <= {2, 3} and counts[data.is_target].tolist() == [1] * 20


def test_some_images_of_a_domain_are_labelled_ones_first(write: Write) -> None:
    data = two(write("a"), write("b", seed=1), label_budget=3)
    seen = np.concatenate([batch.targets for batch in data.domain_loader("train", False, limit=8)])
    assert len(seen) == 8 and (seen >= 0).sum() == 6
    assert [len(b.targets) for b in data.domain_loader("train", True, limit=5)] == [4, 1]


def test_a_copy_of_few_labels_keeps_the_target(write: Write) -> None:
    whole = two(write("a"), write("b", test=4, seed=1))
    few = whole.few(2, seed=1)
    assert few.indices("train").tolist() == whole.indices("train").tolist()
    assert (few.table.targets >= 0).sum() == 4 + len(few.domain("val", False)) and few.fingerprint != whole.fingerprint
    assert (whole.table.targets >= 0).sum() == 20 and len(list(few.test_dataloader())) == 1
    assert whole.few(None, seed=1).fingerprint == whole.fingerprint
    assert next(iter(few.train_dataloader())).index.shape == (4,)
    with pytest.raises(ValueError, match=r"data.target: .* has no training images"):
        whole.with_train(whole.domain("train", False)).train_dataloader()


def test_grey_and_colour_become_colour(write: Write) -> None:
    data = two(write("a"), write("b", shape=(8, 8, 3), seed=1))
    assert data.shape == (3, 8, 8)
    grey = data.images(data.domain("train", False))
    assert (grey == grey[:, :1]).all()


def test_sizes_that_differ_need_one(write: Write) -> None:
    with pytest.raises(ValueError, match=r"data.size is needed where sizes differ: .* is 8×8, .* is 10×10"):
        two(write("a"), write("b", shape=(10, 10), seed=1))
    assert two(write("a"), write("b", shape=(10, 10), seed=1), size=6).shape == (1, 6, 6)


def test_unlabelled_target_and_unlabelled_source_images(write: Write) -> None:
    data = two(write("a", labels=[-1, 0, 1, 0, 1] * 4), write("b", labels=[-1] * 20, seed=1))
    assert data.hidden_labels == 0 and data.classes == ["0", "1"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"labels": np.arange(20) % 3}, "data.target has a class that data.source does not have: '2'; rename"),
        ({"labels": np.arange(20) % 2 + 5}, "data.target has classes that data.source does not have: '5', '6'"),
    ],
)
def test_classes_that_the_source_lacks(write: Write, options: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        two(write("a"), write("b", seed=1, **options))


def test_classes_that_the_target_lacks(write: Write) -> None:
    data = two(write("a", labels=np.arange(20) % 3), write("b", labels=np.arange(20) % 2 + 1, test=6, seed=1))
    (batch, *_) = data.test_dataloader()
    assert batch.targets.tolist() == [1, 2, 1, 2]
    assert "does not have the classes '0' of data.source" in data.remarks[0]


def test_a_source_without_labels(write: Write) -> None:
    with pytest.raises(ValueError, match=r"data.source has no class labels"):
        two(write("a", labels=[-1] * 20), write("b", seed=1))


def test_an_empty_domain(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty"):
        two(photos, tmp_path / "empty")


def test_a_domain_without_training_images(write: Write, tmp_path: Path) -> None:
    images = np.random.default_rng(2).integers(0, 256, (4, 8, 8), np.uint8)
    np.savez(tmp_path / "t.npz", x_test=images, y_test=np.arange(4) % 2)
    with pytest.raises(ValueError, match=r"data.target: .* has no training images"):
        two(write("a"), tmp_path / "t.npz")


@pytest.mark.parametrize("size", [1, 2, 7])
def test_odd_batches(size: int) -> None:
    with pytest.raises(ValueError, match=f"must be even and at least 4, not {size}"):
        DomainDataModule("digits", "digits", batch_size=size)


def test_mistakes_in_the_target_are_told_as_such(write: Write, photos: Path, tmp_path: Path) -> None:
    def said(source: Path | str, target: Path | str, **options: object) -> str:
        with pytest.raises(ValueError) as caught:
            two(source, target, size=8, **options)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert said("digits", "nope").startswith("data.target: no folder, file or data set named 'nope'")
    assert said("nope", "digits").startswith("data.source: no folder")
    assert f"data.target: {photos} holds no image that matches data.target_pattern '*.gif'" in said(
        photos, photos, target_pattern="*.gif"
    )
    (tmp_path / "bad" / "ant").mkdir(parents=True)
    (tmp_path / "bad" / "ant" / "a.png").write_text("no image")
    assert "data.target: 1 of 1 images cannot be read" in said(photos, tmp_path / "bad")
    assert "data.source: 1 of 1 images cannot be read" in said(tmp_path / "bad", tmp_path / "bad")


def test_a_target_of_which_no_image_can_be_read(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_text("no image")
    with pytest.warns(UserWarning, match="1 unreadable"), pytest.raises(ValueError, match=r"data.target: no image of"):
        two(photos, tmp_path / "bad", size=8, on_bad_image="skip")


def test_colour_of_16_bits_beside_8(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    deep, labels = rng.integers(0, 5000, (12, 8, 8, 3)).astype(np.uint16), np.arange(12) % 2
    np.savez(tmp_path / "deep.npz", x=deep, y=labels)
    np.savez(tmp_path / "grey.npz", x=rng.integers(0, 256, (12, 8, 8), np.uint8), y=labels)
    data = two(tmp_path / "deep.npz", tmp_path / "grey.npz", value_range=(0, 5000))
    assert data.shape == (3, 8, 8)
    assert np.abs(data.images([3])[0].transpose(1, 2, 0) - deep[3] / 5000 * 255).max() <= 0.51
    assert (data.original(3).shape, data.original(15).shape) == ((8, 8, 3), (8, 8, 1))


@pytest.mark.parametrize("channels", [2, 4, 5])
def test_all_channels_survive_a_change_of_size(tmp_path: Path, channels: int) -> None:
    rng, labels = np.random.default_rng(0), np.arange(12) % 2
    for name, size in (("a", 8), ("b", 10)):
        images = rng.integers(0, 256, (12, size, size, channels), np.uint8)
        np.savez(tmp_path / f"{name}.npz", x=images, y=labels)
    data = two(tmp_path / "a.npz", tmp_path / "b.npz", size=8)
    assert data.shape == (channels, 8, 8)
    assert (data.images([3])[0] == np.load(tmp_path / "a.npz")["x"][3].transpose(2, 0, 1)).all()


def test_channels_that_do_not_go_together(tmp_path: Path) -> None:
    for name, shape in (("a", (8, 8, 4)), ("b", (8, 8))):
        np.savez(tmp_path / f"{name}.npz", x=np.zeros((6, *shape), np.uint8), y=np.arange(6) % 2)
    with pytest.raises(ValueError, match=r"mixes images of different channels"):
        two(tmp_path / "a.npz", tmp_path / "b.npz")


def test_large_arrays_go_to_disk(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "a.npz", x=rng.integers(0, 256, (20, 8, 8), np.uint8), y=np.arange(20) % 2)
    np.save(tmp_path / "b.npy", rng.integers(0, 256, (30, 8, 8, 3), np.uint8))
    options = {"cache_dir": str(tmp_path / "cache")}
    inside = two(tmp_path / "a.npz", tmp_path / "b.npy", **options)
    outside = two(tmp_path / "a.npz", tmp_path / "b.npy", memory_budget=1e-6, **options)
    stores = inside._store, outside._store
    assert stores[0] is not None and stores[1] is not None
    assert isinstance(stores[1].images, np.memmap) and not isinstance(stores[0].images, np.memmap)
    assert (stores[0].images == stores[1].images).all() and inside.fingerprint == outside.fingerprint


def test_images_above_the_cap_are_rejected(photos: Path) -> None:
    with pytest.raises(ValueError, match=r"above the cap of 10 pixels"):
        two(photos, photos, size=8, max_pixels=10)


def test_the_cache_lies_where_it_is_asked_for(photos: Path, tmp_path: Path) -> None:
    two("digits", f"digitsM:{photos}", cache_dir=str(tmp_path / "here"))
    assert len(list((tmp_path / "here" / "stores").glob("*.npy"))) == 1


def test_a_size_beyond_the_machine(write: Write, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data.size: .* give a smaller data.size") as caught:
        two(write("a"), write("b", seed=1), size=1_000_000, cache_dir=str(tmp_path / "cache"))
    assert "\n" not in str(caught.value) and not (tmp_path / "cache").exists()
