"""A lock by a file, which one process at a time holds."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import lock_descriptor, unlock_descriptor

from progan.runtime.disk import DiskError, open_plain
from progan.runtime.errors import UserError
from progan.runtime.launch import processes

log = logging.getLogger("progan")


class Busy(Exception):
    """Another process holds the lock."""


@contextmanager
def file_lock(path: Path, wait: bool = True, shared: bool = True) -> Iterator[None]:
    """Holds a lock inside. It ends with the process, however that ends.

    Some network file systems have no locks: there, one process goes on without and warns.

    Args:
        wait: until no other process holds it.
        shared: whether all processes that torchrun has started take this lock. Without it they
            would disturb each other, so they are refused.

    Raises:
        Busy: another process holds it, and `wait` is false.
        UserError: the file cannot be opened, is a link, or cannot be locked though it must.
    """
    descriptor = locked(path, wait, shared)
    try:
        yield
    finally:
        with suppress(OSError):  # of a file system without locks
            unlock_descriptor(descriptor)
        os.close(descriptor)


def is_held(path: Path) -> bool | None:
    """Whether a process holds the lock, as far as this machine knows; None: it cannot know.

    Takes a lock that is free for a moment.

    Raises:
        UserError: the file is a link, or no file.
    """
    for flags in (os.O_RDWR, os.O_RDONLY):  # the latter for a file of another user
        with suppress(OSError):
            if not os.path.lexists(path):
                return False
            descriptor = open_plain(path, flags)
            try:
                return not lock_descriptor(descriptor, blocking=False)
            finally:
                os.close(descriptor)  # which unlocks it
    return None


def locked(path: Path, wait: bool, shared: bool) -> int:
    """The opened and locked file."""
    while True:
        descriptor = opened(path)
        try:
            if not lock_descriptor(descriptor, blocking=wait):
                raise Busy(path)
            if is_still(path, descriptor):
                return descriptor
        except OSError as error:
            if not (shared and processes() > 1):
                log.warning(
                    "%s cannot be locked (%s): this file system seems to have no locks. Make sure "
                    "that no second process writes to %s",
                    *(path, error.strerror or error, path.parent),
                )
                return descriptor
            os.close(descriptor)
            raise UserError(
                f"{path} cannot be locked ({error.strerror or error}), and the "
                f"{processes()} processes would disturb each other; set data.cache or "
                "$PROGAN_CACHE to a folder on a file system with locks, such as a local disk"
            ) from None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def opened(path: Path) -> int:
    """The file, made if it is not there. Another user's, which may only be read, will do."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return open_plain(path, os.O_RDWR | os.O_CREAT)
        except PermissionError:
            return open_plain(path, os.O_RDONLY)
    except OSError as error:
        raise DiskError(
            f"cannot lock {path}: {error.strerror or error}; progan needs a folder that it may "
            "write to"
        ) from None


def is_still(path: Path, descriptor: int) -> bool:
    """Whether the path still names the opened file: its last holder may have removed it."""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
