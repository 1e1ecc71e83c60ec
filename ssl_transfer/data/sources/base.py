"""What every source offers: a table, and the bytes of a row when asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ssl_transfer.data.columns import Value
from ssl_transfer.data.decode import BadImage
from ssl_transfer.data.records import Records


class Source:
    """Images by row. The table comes first and is cheap; bytes are read only by `read`.

    Args:
        records: one row an image.
        arrays: the images themselves, uint8 or uint16 `(N, H, W, C)`, where the source already is an array.
    """

    def __init__(self, records: Records, arrays: np.ndarray | None = None) -> None:
        assert arrays is None or (arrays.ndim == 4 and arrays.dtype in (np.uint8, np.uint16))
        assert arrays is None or len(arrays) == len(records)
        self.records = records
        self.arrays = arrays
        self.columns: dict[str, list[Value]] = {}  # what else a manifest tells of each row
        self.parts: tuple[Source, ...] = ()  # the sources that this one is made of, whose rows follow each other

    def pixels(self, row: int) -> np.ndarray | None:
        """The image of a row, `(H, W, C)`, where the source holds it as an array; None: decode what `read` gives."""
        return None if self.arrays is None else np.asarray(self.arrays[row])

    def read(self, row: int) -> bytes:
        """The encoded image of a row. Raises BadImage if the file cannot be read."""
        raise NotImplementedError

    def mask_path(self, row: int) -> str | None:
        """The file of the row's mask, if it has one."""
        return None

    def __len__(self) -> int:
        return len(self.records)


class FileSource(Source):
    """Images in files of their own; `masks` gives the mask's file of a row, None where it has none."""

    def __init__(self, records: Records, files: list[Path], masks: list[Path | None] | None = None) -> None:
        super().__init__(records)
        self.files = files
        self.masks = masks

    def read(self, row: int) -> bytes:
        """The bytes of the row's file."""
        return read_file(self.files[row])

    def mask_path(self, row: int) -> str | None:
        """The file of the row's mask, if it has one."""
        mask = self.masks[row] if self.masks else None
        return None if mask is None else str(mask)


def read_file(path: Path | str) -> bytes:
    """The bytes of a file; raises BadImage with the system's reason."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise BadImage(str(path), (error.strerror or str(error)).lower()) from error
