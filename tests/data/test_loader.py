from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
import torch

from ssl_transfer.data import loader as loader_module
from ssl_transfer.data.loader import BatchLoader


def _loader(count: int = 23, batch_size: int = 4, **options: bool) -> BatchLoader:
    images = np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 2, 2), np.uint8)
    return BatchLoader(images, np.arange(count) % 3, np.arange(count), batch_size, **options)


def _order(loader: BatchLoader) -> list[int]:
    return [row for batch in loader for row in batch.index.tolist()]


def test_batches_belong_together() -> None:
    loader = _loader()
    assert len(loader) == 6 == len(list(loader))
    for batch in loader:
        assert batch.images.dtype == torch.uint8 and batch.index.dtype == torch.int64 and batch.masks is None
        assert (batch.images[:, 0, 0, 0] == batch.index).all() and (batch.targets == batch.index % 3).all()
    assert _order(loader) == list(range(23))


def test_order_is_a_function_of_seed_and_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    loader = _loader(shuffle=True)
    first = _order(loader)
    assert first == _order(_loader(shuffle=True)) and sorted(first) == list(range(23))
    loader.sampler.set_epoch(1)
    assert _order(loader) != first
    monkeypatch.setenv("PL_GLOBAL_SEED", "5")
    assert _order(_loader(shuffle=True)) != first


def test_drop_last_unless_it_is_the_only_one() -> None:
    assert len(_order(_loader(drop_last=True))) == 20
    assert _order(_loader(count=3, drop_last=True)) == [0, 1, 2]
    assert len(_loader(count=0, drop_last=True)) == 0 == len(_loader(count=0))


def test_resumes_in_the_middle_of_an_epoch() -> None:
    loader = _loader(shuffle=True)
    loader.sampler.set_epoch(2)
    iterator = iter(loader)
    seen = [next(iterator).index.tolist() for _ in range(2)]
    state = loader.state_dict()
    assert state == {"epoch": 2, "batches": 2}
    again = _loader(shuffle=True)
    again.load_state_dict(state)
    iter(again)  # Lightning makes an iterator, then sets the epoch
    again.sampler.set_epoch(2)
    rest = [batch.index.tolist() for batch in again]
    assert seen + rest == [batch.index.tolist() for batch in loader]
    assert len(list(again)) == len(again)  # the next pass is whole


def test_state_at_the_end_or_of_another_epoch_starts_at_zero() -> None:
    loader = _loader(shuffle=True)
    loader.load_state_dict({"epoch": 0, "batches": len(loader)})
    assert len(list(loader)) == len(loader)
    loader.load_state_dict({"epoch": 0, "batches": 2})
    loader.sampler.set_epoch(1)
    assert len(list(loader)) == len(loader)


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_the_images(monkeypatch: pytest.MonkeyPatch, world: int) -> None:
    def orders(**options: bool) -> list[list[int]]:
        found = []
        for rank in range(world):
            monkeypatch.setattr(loader_module, "process_rank", lambda rank=rank: (rank, world))
            loader = _loader(**options)
            assert len(loader) == len(list(loader))
            found.append(_order(loader))
        return found

    evaluated = orders()
    assert sorted(chain.from_iterable(evaluated)) == list(range(23))
    trained = orders(shuffle=True, drop_last=True)
    assert len({len(order) for order in trained}) == 1
    flat = list(chain.from_iterable(trained))
    assert len(flat) == len(set(flat)) == 23 // (4 * world) * 4 * world


def test_small_data_on_many_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    for rank in range(2):
        monkeypatch.setattr(loader_module, "process_rank", lambda rank=rank: (rank, 2))
        sizes.append(len(_order(_loader(count=7, drop_last=True))))
    assert sizes == [3, 3]
