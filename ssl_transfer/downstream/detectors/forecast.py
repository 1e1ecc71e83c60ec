"""What a memory bank will cost, before it is built."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

GIB = 2**30
CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class MemoryForecast:
    """Memory in bytes at the peak, and seconds, that building a memory bank will take; `text` says it in a line."""

    bytes: int
    seconds: float
    text: str


def duration(seconds: float) -> str:
    """Seconds in words, to the precision of a forecast.

    >>> duration(0.2), duration(42), duration(400), duration(20_000)
    ('a second', '42 s', '7 min', '5.6 h')
    """
    if seconds < 1.5:
        return "a second"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def size(count: float) -> str:
    """Bytes in words.

    >>> size(3e6), size(5e9)
    ('3 MiB', '4.7 GiB')
    """
    return f"{count / GIB:.1f} GiB" if count >= GIB / 10 else f"{count / 2**20:.0f} MiB"


def free_bytes(device: torch.device) -> int:
    """Memory that can be taken now: of the GPU, or of this machine and this process's group; a guess elsewhere."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = [_machine(), _group()]
    return min((value for value in free if value is not None), default=8 * GIB)


def matmul_rate(device: torch.device) -> float:
    """Floating-point operations a second of a float32 product, measured within a few hundredths of a second."""
    x = torch.ones(1024, 512, device=device)

    def run(times: int) -> float:
        start = time.perf_counter()
        for _ in range(times):
            product = x @ x.T
        float(product[0, 0])  # waits for a GPU
        return time.perf_counter() - start

    run(1)
    return 4 * 2 * 1024 * 512 * 1024 / max(run(4), 1e-6)


def largest_share(fits: Callable[[float], bool], below: float) -> float | None:
    """The largest share of two digits below `below` that fits, or None; a smaller share is taken to need less."""
    exponent = 1.0
    while exponent > 1e-6:
        for digits in range(99, 9, -1):
            share = float(f"{digits * exponent / 100:.6g}")
            if share < below and fits(share):
                return share
        exponent /= 10
    return None


def _machine() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) * 1024 if found else None


def _group() -> int | None:
    """What a container's limit leaves; files in the cache count as free."""
    try:
        limit, used = ((CGROUP / name).read_text().strip() for name in ("memory.max", "memory.current"))
        if limit == "max":
            return None
        lines = (line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
        cached = sum(int(value) for name, value in lines if name in ("inactive_file", "active_file"))
        return max(0, int(limit) - int(used) + cached)
    except (OSError, ValueError):
        return None
