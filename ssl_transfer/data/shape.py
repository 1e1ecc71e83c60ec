"""Which size and how many channels the store gets."""

from __future__ import annotations

from collections.abc import Sequence

from ssl_transfer.data.decode import Header


def choose_shape(
    headers: Sequence[Header], paths: Sequence[str], size: int | None, channels: int | None
) -> tuple[int, int, int]:
    """(C, H, W) for images of these headers.

    `size` None keeps the common height and width. `channels` None is 1 where all are grey, 3 where some are RGB, else
    the common number. Raises ValueError where sizes differ and none was asked for, or channels cannot be converted.

    >>> choose_shape([Header("L", 4, 6, 1), Header("RGB", 4, 6, 3)], ["a", "b"], None, None)
    (3, 4, 6)
    """
    return (_channels(headers, paths, channels), *_size(headers, paths, size))


def _size(headers: Sequence[Header], paths: Sequence[str], size: int | None) -> tuple[int, int]:
    if size is not None:
        return size, size
    first = headers[0]
    for header, path in zip(headers, paths, strict=True):
        if (header.height, header.width) != (first.height, first.width):
            raise ValueError(
                f"data.size is needed where sizes differ: {paths[0]} is {first.width}×{first.height}, "
                f"{path} is {header.width}×{header.height}; give one, e.g. --data.size 96"
            )
    return first.height, first.width


def _channels(headers: Sequence[Header], paths: Sequence[str], channels: int | None) -> int:
    found = {header.channels: path for header, path in zip(headers, paths, strict=True)}
    if channels is None and len(found) == 1:
        return next(iter(found))
    if channels is None and found.keys() == {1, 3}:
        return 3
    if channels is None:
        examples = ", ".join(f"{path} has {count}" for count, path in sorted(found.items()))
        raise ValueError(f"data.source mixes images of different channels ({examples}); keep one kind")
    for count, path in found.items():
        if count not in (1, channels) and (count, channels) != (3, 1):
            raise ValueError(
                f"data.channels={channels} cannot be made of the {count} channels of {path}; "
                f"use --data.channels {count} or leave it out"
            )
    return channels
