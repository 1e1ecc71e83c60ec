"""The folder of what was made from images once and need not be made again."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ssl_transfer.files import whole_file


def cache_folder(cache_dir: Path | str | None) -> Path:
    """Where stores live: the argument, else the environment's SSL_TRANSFER_CACHE, else ~/.cache/ssl_transfer."""
    return Path(cache_dir or os.environ.get("SSL_TRANSFER_CACHE") or "~/.cache/ssl_transfer").expanduser() / "stores"


def made_once(key: str, make: Callable[[], np.ndarray], cache_dir: Path | str | None = None) -> np.ndarray:
    """What `make` gives, as a memory-mapped file of the cache from the second call with this key on.

    A damaged file is made again. A cache that cannot be written to is done without. cache_dir: see `cache_folder`.
    """
    path = cache_folder(cache_dir) / f"{key}.npy"
    if (kept := _kept(path)) is not None:
        return kept
    array = make()
    try:
        with whole_file(path) as unfinished, unfinished.open("wb") as file:
            np.save(file, array, allow_pickle=False)
    except OSError:
        return array
    kept = _kept(path)
    return array if kept is None else kept


def _kept(path: Path) -> np.ndarray | None:
    """The array of a file, None where there is none that can be read whole."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, EOFError, ValueError):  # no file; an empty one; one that is cut off, or of something else
        return None
