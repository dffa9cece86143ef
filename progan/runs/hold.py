"""A run's folder while it is trained in: its lock, and what to do if it is deleted, moved or
replaced."""

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from progan.config.config import Config
from progan.runs.folder import CONFIG, FILES, FOLDERS, LOCK, STOP, check_run_dir, write_config
from progan.runtime.disk import DiskError
from progan.runtime.errors import UserError
from progan.runtime.lock import Busy, file_lock

log = logging.getLogger("progan")


class Hold:
    """A lock on a run's folder, which ends with the process.

    Raises:
        UserError: another process holds it.
    """

    def __init__(self, run_dir: Path):
        self.run_dir = run_dir
        self.stack = ExitStack()
        self.checkpoints = False  # whether there are any
        self.take()

    def take(self) -> None:
        try:
            self.stack.enter_context(file_lock(self.run_dir / LOCK, wait=False, shared=False))
        except Busy:
            raise UserError(
                f"another process is training in {self.run_dir}; stop it, or wait"
            ) from None
        self.taken = os.lstat(self.run_dir / LOCK)

    def keep(self, config: Config) -> bool:
        """Take the folder again if it is no longer there; call this before writing into it.

        Returns:
            Whether config.yaml or all checkpoints were missing. The first is there again.

        Raises:
            UserError: the folder is another one now, in which a run of other settings is, or
                another process trains. Nothing has been written there.
            DiskError: the folder cannot be made again.
        """
        had, self.checkpoints = self.checkpoints, any(self.run_dir.glob("checkpoints/*.pt"))
        if not self.is_there():
            self.stack.close()
            try:
                self.take()
                if not self.holds_remains():
                    check_run_dir(self.run_dir, config)
            except DiskError:
                raise
            except UserError as error:
                raise UserError(
                    f"the folder of this run was deleted or moved while it trained, and its place "
                    f"is taken, so nothing was written there: {error}"
                ) from error
        if (self.run_dir / CONFIG).exists() and (self.checkpoints or not had):
            return False  # perhaps of a copy that has come back; some file systems renumber files
        write_config(self.run_dir, config)
        log.warning(
            "files in %s were deleted or moved while training. It goes on there: config.yaml and a "
            "checkpoint are saved again, other files are not. To end the run: touch %s",
            self.run_dir,
            self.run_dir / STOP,
        )
        return True

    def is_there(self) -> bool:
        """Whether the lock is still the one that was taken."""
        try:
            return os.path.samestat(os.lstat(self.run_dir / LOCK), self.taken)
        except FileNotFoundError:
            return False
        except OSError:  # a network folder may be out of reach for a moment
            return True

    def holds_remains(self) -> bool:
        """Whether nothing but parts of a run is left, as someone is deleting it."""
        names = {path.name for path in self.run_dir.iterdir()}
        return CONFIG not in names and names <= {*FILES, *FOLDERS}


@contextmanager
def lock_run(run_dir: Path) -> Iterator[Hold]:
    """Lock a run's folder against a second start; see `Hold`."""
    hold = Hold(run_dir)
    try:
        yield hold
    finally:
        hold.stack.close()
