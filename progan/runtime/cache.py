"""The folder for prepared data, and a lock on it."""

import os
from pathlib import Path

from filelock import FileLock


def default_cache() -> Path:
    """$PROGAN_CACHE, else $XDG_CACHE_HOME/progan, else ~/.cache/progan."""
    if chosen := os.environ.get("PROGAN_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "progan"


def cache_folder(cache: Path | None) -> Path:
    """`cache` with `~` expanded, or the default folder."""
    return Path(os.path.expanduser(cache or default_cache()))


def lock(name: str, cache: Path | None) -> FileLock:
    """A lock that one process at a time can hold, of all that use the same cache folder."""
    path = cache_folder(cache) / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path)
