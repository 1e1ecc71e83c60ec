"""Checks of the arguments that every DataModule has."""

from __future__ import annotations

from ssl_transfer.data.decode import MAX_PIXELS


def check_decoding(max_pixels: int, resize: str, on_bad_image: str) -> None:
    """Raise ValueError for a cap above Pillow's own, or a word that is not known."""
    if max_pixels > MAX_PIXELS:
        raise ValueError(f"data.max_pixels must not exceed {MAX_PIXELS}, Pillow's own limit, not {max_pixels}")
    if resize not in ("crop", "pad", "stretch"):
        raise ValueError(f"data.resize must be crop or pad or stretch, not {resize!r}")
    if on_bad_image not in ("refuse", "skip"):
        raise ValueError(f"data.on_bad_image must be refuse or skip, not {on_bad_image!r}")
