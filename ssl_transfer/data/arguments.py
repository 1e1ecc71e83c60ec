"""Checks of the arguments that every DataModule has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ssl_transfer.data.decode import MAX_PIXELS

if TYPE_CHECKING:
    from ssl_transfer.data.module import ImageDataModule


def check_image_arguments(data: ImageDataModule) -> None:
    """Raise ValueError for an argument of an ImageDataModule that is out of its range."""
    for name in ("size", "channels", "batch_size", "label_budget", "max_pixels"):
        value = getattr(data, name)
        if value is not None and value < 1:
            raise ValueError(f"data.{name} must be at least 1, not {value}")
    for name in ("val_fraction", "test_fraction", "anomaly_val_fraction"):
        value = getattr(data, name)
        if value is not None and not 0 <= value < 1:
            raise ValueError(f"data.{name} must lie in [0, 1), not {value}")
    if data.val_fraction + (data.test_fraction or 0) >= 1:
        raise ValueError("data.val_fraction + data.test_fraction must leave something to train on (below 1)")
    if data.normal is not None and data.label_budget is not None:
        raise ValueError(
            f"data.label_budget={data.label_budget} draws labels to learn from, and with data.normal={data.normal!r} "
            "none is learned from: leave one of the two out"
        )
    if data.memory_budget < 0:
        raise ValueError(f"data.memory_budget is in GiB and must not be negative, not {data.memory_budget}")
    check_decoding(data.max_pixels, data.resize, data.on_bad_image)


def check_decoding(max_pixels: int, resize: str, on_bad_image: str) -> None:
    """Raise ValueError for a cap above Pillow's own, or a word that is not known."""
    if max_pixels > MAX_PIXELS:
        raise ValueError(f"data.max_pixels must not exceed {MAX_PIXELS}, Pillow's own limit, not {max_pixels}")
    if resize not in ("crop", "pad", "stretch"):
        raise ValueError(f"data.resize must be crop or pad or stretch, not {resize!r}")
    if on_bad_image not in ("refuse", "skip"):
        raise ValueError(f"data.on_bad_image must be refuse or skip, not {on_bad_image!r}")
