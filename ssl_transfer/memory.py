"""Memory that was freed goes back to the system."""

from __future__ import annotations

import ctypes
import sys


def give_back_memory() -> None:
    """Ask the C library to return freed memory; a long stream otherwise comes to hold some hundred megabytes of it.

    Does nothing where the C library is not GNU's.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
