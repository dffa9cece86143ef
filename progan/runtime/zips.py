"""Zips of a few parts, from anywhere."""

import zipfile
from functools import partial
from typing import IO

HEADER = b"PK\x01\x02"  # of each part, in the list at the end
MOST_PARTS = 20_000  # a network at 1024x1024 with its optimizers has some hundreds
CHUNK = 2**20  # bytes that are searched at once


def open_zip(file: IO[bytes]) -> zipfile.ZipFile:
    """Opens a zip. zipfile keeps some 500 bytes for each part, which has 46 or more in a file.

    Raises:
        ValueError: it has too many parts.
        zipfile.BadZipFile: it is none, or damaged.
    """
    file.seek(0)
    parts = sum(chunk.count(HEADER) for chunk in iter(partial(file.read, CHUNK), b""))
    if parts > MOST_PARTS:
        raise ValueError(f"it has more than {MOST_PARTS:,} parts")
    return zipfile.ZipFile(file)
