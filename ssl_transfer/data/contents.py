"""A first look at every image: its header and the hash of its contents, without decoding."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ssl_transfer.data.decode import BadImage, Header, probe
from ssl_transfer.data.hashing import array_hashes, content_hash
from ssl_transfer.data.parallel import in_order
from ssl_transfer.data.records import SPLITS, Records
from ssl_transfer.data.sources.base import Source, read_file


@dataclass
class Contents:
    """Per row of a source: the header (None where rejected), the hash, and the hash of the mask ("" without one)."""

    headers: list[Header | None]
    hashes: np.ndarray  # S32, hex
    masks: list[str]
    rejected: dict[int, str]  # row: reason


def examine(source: Source, max_pixels: int) -> Contents:
    """Header and hash of every image of a source; what cannot be read is rejected with its reason."""
    if source.arrays is not None:
        return _of_arrays(source.arrays)
    if source.parts:
        return _one_after_the_other([examine(part, max_pixels) for part in source.parts])
    return _of_files(source, max_pixels)


def _of_arrays(arrays: np.ndarray) -> Contents:
    count, height, width, channels = arrays.shape
    bits = 8 * arrays.dtype.itemsize
    same = Header("array", height, width, channels, bits, "16 bits, scaled to 8 bits" if bits == 16 else "")
    return Contents([same] * count, array_hashes(arrays), [""] * count, {})


def _one_after_the_other(parts: list[Contents]) -> Contents:
    whole = Contents([], np.concatenate([part.hashes for part in parts]), [], {})
    for part in parts:
        whole.rejected |= {len(whole.headers) + row: reason for row, reason in part.rejected.items()}
        whole.headers += part.headers
        whole.masks += part.masks
    return whole


def _of_files(source: Source, max_pixels: int) -> Contents:
    paths = source.records.paths

    def look(row: int) -> tuple[Header | None, str, str, str]:
        digest = mask_digest = ""
        try:
            data = source.read(row)
            digest = content_hash(data)
            mask = source.mask_path(row)
            mask_digest = "" if mask is None else content_hash(read_file(mask))
            return probe(data, str(paths[row]), max_pixels), digest, mask_digest, ""
        except BadImage as error:
            return None, digest, mask_digest, error.reason

    contents = Contents([], np.zeros(len(source), "S32"), [], {})
    seen: dict[Header | None, Header | None] = {None: None}  # most images of a source share a header
    for row, found in enumerate(in_order(look, range(len(source)), "Reading")):
        header, digest, mask_digest, reason = found
        contents.headers.append(seen.setdefault(header, header))
        contents.hashes[row] = digest.encode()
        contents.masks.append(mask_digest)
        if header is None:
            contents.rejected[row] = reason
    return contents


def duplicates_across_splits(records: Records) -> np.ndarray:
    """Rows of val and test whose exact contents also lie in an earlier split (of train, val, test).

    >>> records = Records.of(["a", "b", "c"], splits=["train", "test", "test"])
    >>> records.hashes = np.array([b"1", b"1", b"2"])
    >>> duplicates_across_splits(records).tolist()
    [1]
    """
    rank = np.array([SPLITS.index(split) for split in records.splits])
    _, inverse = np.unique(records.hashes, return_inverse=True)
    earliest = np.full(len(records), len(SPLITS))
    np.minimum.at(earliest, inverse, rank)
    return np.flatnonzero(rank > earliest[inverse])


def count_duplicates(table: Records, source: str) -> int:
    """How many exact duplicates stand across the splits that a source states, said in a warning where there are any."""
    stated = table.select(table.splits != "")
    doubles = duplicates_across_splits(stated)
    if len(doubles):
        warnings.warn(
            f"{len(doubles)} images of {source} stand in more than one split, so its scores flatter: "
            f"{listed(stated.paths[doubles])}",
            stacklevel=4,
        )
    return len(doubles)


def listed(items: Iterable[str], limit: int = 3) -> str:
    """The first few items in one line.

    >>> listed(["a", "b", "c", "d"])
    'a; b; c; …'
    """
    items = list(items)
    return "; ".join(items[:limit]) + ("; …" if len(items) > limit else "")
