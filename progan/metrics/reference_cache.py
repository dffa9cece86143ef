"""Results about reals, kept in the cache under the checksum of the data."""

import hashlib
import logging
from pathlib import Path
from typing import Any

import numpy as np

from progan.data.dataset import Dataset
from progan.data.decode import READING
from progan.data.pyramid.format import Pyramid
from progan.runtime.cache import cache_folder
from progan.runtime.disk import DiskError, write_atomically

log = logging.getLogger("progan")

VERSION = 1  # of the protocols: raised when they give other numbers


class ReferenceCache:
    """Arrays by name for one data set at one resolution; may be deleted at any time."""

    def __init__(self, cache: Path | None, data: Dataset, resolution: int, mirror: bool):
        made_from = data.meta.made_from if isinstance(data, Pyramid) else f"{READING}"
        what = f"{VERSION} {data.identity} {made_from} {data.channels} {resolution} {mirror}"
        name = hashlib.sha256(what.encode()).hexdigest()[:16]
        self.folder = cache_folder(cache) / "metrics" / f"{data.title}-{resolution}-{name}"

    def load(self, name: str) -> dict[str, np.ndarray] | None:
        """The arrays; None if they are not there, or damaged (NumPy then raises any error)."""
        try:
            with open(self.folder / f"{name}.npz", "rb") as file:
                return dict(np.load(file, allow_pickle=False))
        except Exception:
            return None

    def save(self, name: str, arrays: dict[str, Any]) -> None:
        """Write arrays; a disk that refuses them gets a warning only."""

        def write(temporary: Path) -> None:
            with open(temporary, "wb") as file:
                np.savez(file, **arrays)

        try:
            write_atomically(self.folder / f"{name}.npz", write)
        except (DiskError, OSError) as error:
            log.warning("%s; it will be computed again next time", error)
