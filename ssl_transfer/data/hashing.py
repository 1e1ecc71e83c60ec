"""Hashes of contents, and random orders made from them."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np


def content_hash(data: bytes) -> str:
    """32 hexadecimal digits of BLAKE2b.

    >>> content_hash(b"")
    'cae66941d9efbd404e4d88758ea67670'
    """
    return blake2b(data, digest_size=16).hexdigest()


def array_hashes(images: np.ndarray) -> np.ndarray:
    """The content hash of every image of an array `(N, ...)`, `(N,)` S32."""
    return np.fromiter((content_hash(image.tobytes()).encode() for image in images), "S32", len(images))


def hash_order(keys: np.ndarray, seed: int, purpose: str) -> np.ndarray:
    """uint64 `(N,)`: random numbers that depend on the key, the seed and the purpose only."""
    secret = f"{seed}/{purpose}".encode()
    digests = b"".join(blake2b(key, digest_size=8, key=secret).digest() for key in keys.tolist())
    return np.frombuffer(digests, np.uint64)
