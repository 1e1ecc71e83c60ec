"""Shards: what goes in comes out, in an order of seed and epoch, shared without an image twice; a fit on them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from ssl_transfer.cli import main
from ssl_transfer.data import stream as module
from ssl_transfer.data import stream_loader
from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.data.stream import StreamDataModule, StreamLoader, write_shards
from ssl_transfer.downstream import Classifier
from ssl_transfer.encoders import EncoderSpec, load_encoder
from ssl_transfer.pretraining import SimCLR
from ssl_transfer.running.fit import fit
from ssl_transfer.running.recorder import RunCheckpoint

SPEC = EncoderSpec(arguments={"widths": [8, 16], "strides": [1, 2]}, pool=2)
QUIET: dict[str, Any] = {"enable_progress_bar": False, "verbose": False}


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits as shards of 20 kB, train and val."""
    root = tmp_path_factory.mktemp("shards")
    for split in ("train", "val"):
        write_shards(ImageDataModule("digits"), root / split, split, chunk_bytes="20KB")
    assert len(list((root / "train").glob("*.bin"))) > 5
    return root


def opened(root: Path, **options: Any) -> StreamDataModule:
    known = {"size": 8, "channels": 1, "batch_size": 64, "num_workers": 0, "val": str(root / "val")}
    data = StreamDataModule(str(root / "train"), **(known | options))
    data.setup()
    return data


def indices(loader: StreamLoader, epoch: int = 0) -> list[int]:
    loader.sampler.set_epoch(epoch)
    return [int(index) for batch in loader for index in batch.index]


@pytest.mark.parametrize("workers", [0, 1])
def test_digits_come_back_as_they_are(shards: Path, digits: ImageDataModule, workers: int) -> None:
    data = opened(shards, num_workers=workers)
    assert data.classes == digits.classes and data.shape == digits.shape
    assert np.allclose([data.mean, data.std], [digits.mean, digits.std], rtol=1e-6)
    for split in ("train", "val"):
        batches, known = list(data.loader(split)), digits.indices(split)
        assert [int(i) for batch in batches for i in batch.index] == list(data.indices(split))
        found = sorted((b.images[i].numpy().tobytes(), int(b.targets[i])) for b in batches for i in range(len(b.index)))
        expected = [(digits.images([row])[0].tobytes(), int(digits.table.targets[row])) for row in known]
        assert found == sorted(expected)


def test_the_number_of_workers_is_no_other_data(shards: Path) -> None:
    """A run may go on with more of them, though sums in another order differ in their last bit."""
    assert len({opened(shards, num_workers=workers, channels=3).fingerprint for workers in (0, 1, 2)}) == 1
    assert opened(shards, size=9).fingerprint != opened(shards).fingerprint


def test_files_go_in_as_they_are_and_are_decoded_alike(photos: Path, tmp_path: Path) -> None:
    known = ImageDataModule(str(photos), size=12)
    known.setup()
    count = write_shards(str(photos), tmp_path / "train")
    stream = StreamDataModule(str(tmp_path / "train"), size=12, num_workers=0)
    stream.setup()
    batch = next(iter(stream.loader("train")))
    rows = known.indices("train")
    assert count == len(rows) == len(batch.index) and stream.classes == ["ant", "bee"]
    found = sorted((image.numpy().tobytes(), int(k)) for image, k in zip(batch.images, batch.targets, strict=True))
    assert found == sorted((known.images([row])[0].tobytes(), int(known.table.targets[row])) for row in rows)
    packed = (tmp_path / "train" / "chunk-0-0.bin").read_bytes()
    assert all(Path(path).read_bytes() in packed for path in known.table.paths[rows])


@pytest.mark.parametrize("workers", [0, 2])
def test_the_order_is_a_function_of_seed_and_epoch(shards: Path, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = opened(shards, num_workers=workers)
    loader = data.train_dataloader()
    first = indices(loader)
    assert len(first) == 64 * len(loader) == 64 * (1132 // 64) == len(set(first))
    assert indices(loader, 1) != first and indices(data.train_dataloader()) == first
    assert sorted(first) != first
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")
    assert indices(data.train_dataloader()) != first


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("seen", [1, 2, 5, 16])
def test_an_epoch_goes_on_where_it_was_left(shards: Path, workers: int, seen: int) -> None:
    data = opened(shards, num_workers=workers)
    whole = data.train_dataloader()
    whole.sampler.set_epoch(3)
    batches = list(whole)
    broken = data.train_dataloader()
    broken.sampler.set_epoch(3)
    for number, _ in enumerate(broken, 1):
        if number == seen:
            state = broken.state_dict()
            break
    resumed = data.train_dataloader()
    resumed.load_state_dict(state)
    rest = list(resumed)
    assert [b.index.tolist() for b in rest] == [b.index.tolist() for b in batches[seen:]]
    assert all(torch.equal(a.images, b.images) for a, b in zip(rest, batches[seen:], strict=True))
    assert indices(resumed, 4) == indices(data.train_dataloader(), 4)


def test_another_layout_starts_the_epoch_anew_and_says_so(shards: Path) -> None:
    loader = opened(shards, batch_size=32).train_dataloader()
    loader.load_state_dict({"epoch": 0, "batches": 2, "batch_size": 64, "workers": 0, "processes": 1})
    with pytest.warns(UserWarning, match="starts anew"):
        assert len(list(loader)) == len(loader)


@pytest.mark.parametrize("workers", [0, 2])
def test_processes_share_the_images(shards: Path, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from ssl_transfer.data import shards as litdata_side

    data, world = opened(shards, num_workers=workers, batch_size=20), 3
    train, val = [], []
    for rank in range(world):
        env = litdata_side._DistributedEnv(world, rank, 1)
        monkeypatch.setattr(litdata_side._DistributedEnv, "detect", lambda env=env: env)
        monkeypatch.setattr(stream_loader, "process_rank", lambda rank=rank: (rank, world))
        train.append([batch.index.tolist() for batch in data.train_dataloader()])
        val.append([batch.index.tolist() for batch in data.val_dataloader()])
        assert len(train[-1]) == len(data.train_dataloader()) and len(val[-1]) == len(data.val_dataloader())
        bank = data.loader("train", limit=100, everywhere=True)
        assert sorted(i for batch in bank for i in batch.index.tolist()) == list(range(100))
    assert {len(batch) for batches in train for batch in batches} == {20}
    flat = [i for batches in train for batch in batches for i in batch]
    assert len(flat) == len(set(flat)) == world * 20 * (1132 // (20 * world))
    assert sorted(i for batches in val for batch in batches for i in batch) == list(data.indices("val"))
    assert [[len(batch) for batch in batches] for batches in val] == [[20, 20, 2]] * world  # in step


def test_fewer_images_than_a_batch(photos: Path, tmp_path: Path) -> None:
    count = write_shards(str(photos), tmp_path / "train")
    data = StreamDataModule(str(tmp_path / "train"), size=8, num_workers=0)
    data.setup()
    assert [len(batch.index) for batch in data.train_dataloader()] == [count]
    assert len(data.indices("val")) == len(data.val_dataloader()) == len(list(data.val_dataloader())) == 0


def test_a_fit(shards: Path, tmp_path: Path) -> None:
    data = opened(shards, num_workers=1)
    run = fit(SimCLR(SPEC, hidden_dim=16, output_dim=8), data, tmp_path / "run", max_epochs=2, **QUIET)
    metrics = run.metrics()
    assert metrics["val/knn_accuracy"] > 0.7 and metrics["images_seen"] == 2 * 64 * (1132 // 64)
    assert load_encoder(run.encoder)(torch.zeros(1, 1, 8, 8)).shape[0] == 1
    told = json.loads((run.encoder / "config.json").read_text())
    assert data.fingerprint in json.dumps(told) and run.summary.exists()


class Stop(Exception):
    """The process died."""


class Kill(pl.Callback):
    """Dies before a step."""

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == 23:
            raise Stop


def test_a_resumed_fit_reaches_the_same_weights(shards: Path, tmp_path: Path) -> None:
    def run(name: str, **options: Any) -> Any:
        options = {"max_epochs": 2, "checkpoint": RunCheckpoint(every_n_steps=5), **QUIET, **options}
        return fit(SimCLR(SPEC, hidden_dim=16, output_dim=8), opened(shards), tmp_path / name, **options)

    whole = run("whole")
    with pytest.raises(Stop):
        run("broken", callbacks=[Kill()])
    resumed = run("broken", resume=True)
    first, second = (torch.load(r.last, weights_only=True)["state_dict"] for r in (whole, resumed))
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_the_command_line(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["fit", "--model", "SimCLR", "--data", "ssl_transfer.StreamDataModule", "--data.size", "8"]
    line += ["--data.train", str(shards / "train"), "--data.channels", "1", "--data.num_workers", "0"]
    line += ["--data.val", str(shards / "val"), "--trainer.default_root_dir", str(tmp_path / "run")]
    small = ["--trainer.max_steps", "2", "--trainer.enable_progress_bar", "false", "--model.hidden_dim", "16"]
    assert main([*line, *small]) == 0, capsys.readouterr().err
    assert (tmp_path / "run" / "encoder" / "model.safetensors").exists()


@pytest.fixture
def damaged(photos: Path, tmp_path: Path) -> Path:
    """Shards of which one image is cut short behind its header."""
    victim = photos / "ant" / "3.png"
    victim.write_bytes(victim.read_bytes()[:-24])
    write_shards(ImageDataModule(str(photos), size=8, val_fraction=0), tmp_path / "bad")
    return tmp_path / "bad"


@pytest.mark.parametrize("workers", [0, 1])
def test_a_corrupt_image_is_refused_by_its_number(damaged: Path, workers: int) -> None:
    data = StreamDataModule(str(damaged), size=8, batch_size=5, num_workers=workers)
    with pytest.raises(
        ValueError, match=r"data.train: image \d+ \(\S*3.png\) cannot be read: .*on_bad_image skip$"
    ) as e:
        data.setup()
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("workers", [0, 1])
def test_or_left_out_and_never_replaced(damaged: Path, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = StreamDataModule(str(damaged), size=8, batch_size=5, num_workers=workers, on_bad_image="skip")
    with pytest.warns(UserWarning, match=r"1 unreadable images are left out: \S*3.png"):
        data.setup()
    assert [path.endswith("3.png") for path, _ in data.rejected] == [True]
    assert sorted(len(batch.index) for batch in data.train_dataloader()) == [4, 5, 5, 5]
    assert len(data.rejected) == 1
    monkeypatch.setattr(module, "process_rank", lambda: (0, 2))
    with pytest.raises(ValueError, match="works in one process"):
        list(data.loader("train", everywhere=True))


def test_shards_from_elsewhere_pass_through_a_bounded_cache(shards: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    bound = 60_000 / 2**30  # three shards of nine
    data = StreamDataModule(
        f"local:{shards / 'train'}",
        8,
        channels=1,
        batch_size=64,
        num_workers=0,
        cache_dir=str(cache),
        cache_budget=bound,
    )
    data.setup()
    near = opened(shards)
    assert indices(data.train_dataloader()) == indices(near.train_dataloader())
    kept = sum(file.stat().st_size for file in cache.rglob("*.bin"))
    assert kept <= 100_000 < sum(file.stat().st_size for file in (shards / "train").glob("*.bin"))


def test_what_a_stream_cannot_do(shards: Path, tmp_path: Path, mistake: Callable[..., str]) -> None:
    data = opened(shards)
    with pytest.raises(ValueError, match="keeps no table of all labels"):
        fit(Classifier(SPEC), data, tmp_path / "run", max_epochs=1, **QUIET)
    with pytest.raises(ValueError, match="predict writes a table"):
        data.predict_dataloader()
    common = ("fit", "--model", "SimCLR", "--data", "ssl_transfer.StreamDataModule", "--data.size", "8")
    assert "has no index.json" in mistake(*common, "--data.train", str(tmp_path))
    assert "data.channels must be 1 or 3" in mistake(*common, "--data.train", "x", "--data.channels", "2")
    assert "label_budget" in mistake(*common, "--data.train", "x", "--data.label_budget", "2")


def test_writing_refuses(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not an empty folder"):
        write_shards("digits", shards / "train")
    with pytest.raises(ValueError, match="split must be one of"):
        write_shards("digits", tmp_path / "new", "all")
    np.save(tmp_path / "four.npy", np.zeros((3, 4, 4, 4), np.uint8))
    with pytest.raises(ValueError, match="1 or 3 channels"):
        write_shards(ImageDataModule(str(tmp_path / "four.npy"), val_fraction=0), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_deep_images_need_a_range(tmp_path: Path) -> None:
    deep = (np.arange(8 * 4 * 4).reshape(8, 4, 4, 1) * 400).astype(np.uint16)
    np.save(tmp_path / "deep.npy", deep)
    write_shards(ImageDataModule(str(tmp_path / "deep.npy"), val_fraction=0), tmp_path / "train")
    with pytest.raises(ValueError, match=r"16 bits need --data\.value_range"):
        StreamDataModule(str(tmp_path / "train"), size=4, channels=1, num_workers=0).setup()
    data = StreamDataModule(str(tmp_path / "train"), 4, channels=1, num_workers=0, value_range=(0, 51_000))
    data.setup()
    (batch,) = list(data.loader("train"))
    expected = np.rint(deep / 200).astype(np.uint8).transpose(0, 3, 1, 2)
    assert sorted(i.tobytes() for i in batch.images.numpy()) == sorted(i.tobytes() for i in expected)


def test_pickled_samples_are_refused(tmp_path: Path) -> None:
    from litdata.streaming.writer import BinaryWriter

    writer = BinaryWriter(str(tmp_path / "train"), chunk_bytes="64MB")
    writer.add_item(0, (b"image", {1, 2}))
    writer.done()
    writer.merge(1)
    with pytest.raises(ValueError, match="samples are pickled"):
        StreamDataModule(str(tmp_path / "train"), size=4, num_workers=0).setup()


def test_without_litdata(monkeypatch: pytest.MonkeyPatch, shards: Path, mistake: Callable[..., str]) -> None:
    monkeypatch.delitem(sys.modules, "ssl_transfer.data.shards")
    monkeypatch.setitem(sys.modules, "litdata", None)
    arguments = ("--data.train", str(shards / "train"), "--data.size", "8")
    told = mistake("fit", "--model", "SimCLR", "--data", "ssl_transfer.StreamDataModule", *arguments)
    assert told.endswith("a stream of shards needs litdata: pip install 'ssl_transfer[stream]'\n")
    with pytest.raises(ValueError, match="needs litdata"):
        write_shards("digits", shards / "new")
