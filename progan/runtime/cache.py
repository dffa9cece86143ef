"""The folder for prepared data, and a lock on it."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from progan.runtime.disk import DiskError
from progan.runtime.errors import UserError
from progan.runtime.lock import file_lock
from progan.runtime.paths import to_path


def default_cache() -> Path:
    """$PROGAN_CACHE, else $XDG_CACHE_HOME/progan, else ~/.cache/progan."""
    if chosen := os.environ.get("PROGAN_CACHE"):
        return to_path(chosen, "$PROGAN_CACHE")
    if caches := os.environ.get("XDG_CACHE_HOME"):
        return to_path(caches, "$XDG_CACHE_HOME") / "progan"
    if os.path.expanduser("~") == "~":
        raise UserError(
            "this user has no home folder to keep prepared data in; set $PROGAN_CACHE to a folder"
        )
    return to_path("~/.cache/progan", "the cache, as $PROGAN_CACHE is not set")


def cache_folder(cache: Path | None) -> Path:
    """`cache`, or the default folder."""
    return to_path(cache, "data.cache") if cache else default_cache()


def pyramids_folder(cache: Path | None) -> Path:
    """Where prepared images are."""
    return cache_folder(cache) / "pyramids"


@contextmanager
def lock(name: str, cache: Path | None, wait: bool = True) -> Iterator[None]:
    """A lock that one process at a time can hold, of all that use the same cache folder.

    Args:
        wait: see `file_lock`, also for the errors.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(file_lock(cache_folder(cache) / f"{name}.lock", wait))
        except DiskError as error:
            raise DiskError(f"{error}; set data.cache or $PROGAN_CACHE to one") from None
        yield
