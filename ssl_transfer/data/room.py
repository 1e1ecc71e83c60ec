"""Whether decoded images fit this machine, asked before anything is allocated."""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path

_GIB = 2**30
_LIMITS = (  # of a container, by the version of control groups
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def check_memory(count: int, height: int, width: int, channels: int) -> None:
    """Raise ValueError where `count` decoded images, that are in memory at once, are more than all of it."""
    needed, there = count * channels * height * width, _all_memory()
    if there is not None and needed > there:
        raise ValueError(
            f"data.size: {_told(count, height, width, needed)} in memory at once, and there are "
            f"{there / _GIB:.1f} GiB: give a smaller data.size"
        )


def check_disk(folder: Path, count: int, height: int, width: int, channels: int) -> None:
    """Raise ValueError where `count` decoded images do not fit the disk that `folder` is to lie on."""
    needed, there = count * channels * height * width, _free_disk(folder)
    if there is not None and needed > there:
        raise ValueError(
            f"data.size: {_told(count, height, width, needed)} on disk, and {folder} has {there / _GIB:.1f} GiB free: "
            "give a smaller data.size, or a data.cache_dir with more room"
        )


def _told(count: int, height: int, width: int, needed: int) -> str:
    return f"{count:,} decoded images of {width}×{height} pixels take {needed / _GIB:,.1f} GiB"


def _all_memory() -> float | None:
    """What is built into the machine, or less where a container is limited to less; None where it does not say."""
    try:
        built_in = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
    return min(built_in, *map(_limit, _LIMITS))


def _limit(file: Path) -> float:
    try:
        return int(file.read_text())
    except (OSError, ValueError):  # there is none: no file, or "max"
        return math.inf


def _free_disk(folder: Path) -> int | None:
    """Free bytes where `folder` is or would be made, None where the system does not say."""
    there = next((place for place in (folder, *folder.parents) if place.exists()), folder)
    try:
        return shutil.disk_usage(there).free
    except OSError:
        return None
