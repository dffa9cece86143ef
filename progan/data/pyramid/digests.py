"""Digests of prepared images, by which a level is recognized."""

import hashlib

import numpy as np

BYTES = 8  # of a digest: two of three million images are the same by chance once in four million
DTYPE = np.dtype("<u8")


def digests_of(images: np.ndarray) -> np.ndarray:
    """A digest of each image, uint8 [n, C, r, r] -> uint64 [n]."""
    found = [hashlib.sha256(image).digest()[:BYTES] for image in np.ascontiguousarray(images)]
    return np.frombuffer(b"".join(found), DTYPE)


def checksum(digests: np.ndarray) -> str:
    """One for images in this order, by their digests."""
    return hashlib.sha256(digests.astype(DTYPE).tobytes()).hexdigest()
