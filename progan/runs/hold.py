"""A run's folder while it is trained in: its lock, and what to do if it is deleted, moved or
replaced."""

import logging
import os
import time
from contextlib import ExitStack, suppress
from pathlib import Path

from progan.config.config import Config
from progan.runs.folder import FILES, FOLDERS, STOP, check_run_dir, write_config
from progan.runs.heartbeat import RUNNING, begin_heartbeat
from progan.runs.which_run import CONFIG, LOCK
from progan.runtime.disk import DiskError
from progan.runtime.errors import UserError
from progan.runtime.lock import Busy, file_lock
from progan.runtime.text import stamp

log = logging.getLogger("progan")

GLANCE = 0.1  # seconds; `is_held` takes a lock for much less


class Hold(ExitStack):
    """A lock on a run's folder against a second start; it ends with the `with` or the process.

    Raises:
        UserError: another process holds it.
    """

    def __init__(self, run_dir: Path):
        super().__init__()
        self.run_dir = run_dir
        self.checkpoints = False  # whether there are any
        self.trains = False  # between `begin` and `end`
        self.take()

    def take(self) -> None:
        with suppress(Busy):
            return self.lock()
        time.sleep(GLANCE)  # somebody may only have looked
        try:
            self.lock()
        except Busy:
            raise UserError(
                f"another process is training in {self.run_dir}; stop it, or wait"
            ) from None

    def lock(self) -> None:
        self.enter_context(file_lock(self.run_dir / LOCK, wait=False, shared=False))
        self.taken = os.lstat(self.run_dir / LOCK)

    def begin(self) -> None:
        """Say in the folder that a run trains here, until `end` or the end of this process.

        Raises:
            DiskError: it cannot be written.
        """
        self.trains = True
        self.callback(begin_heartbeat(self.run_dir))

    def end(self) -> None:
        """Say that it does not any more, as it has ended in good order."""
        self.trains = False
        if self.is_there():
            (self.run_dir / RUNNING).unlink(missing_ok=True)

    def keep(self, config: Config, nimg: int) -> bool:
        """Take the folder again if it is no longer there; call this before writing into it.

        Args:
            nimg: how far the run is.

        Returns:
            Whether config.yaml or all checkpoints were missing. The first is there again.

        Raises:
            UserError: the folder is another one now, in which a run of other settings is, or one
                that is further on, or another process trains. Nothing has been written there.
            DiskError: the folder cannot be made again.
        """
        had, self.checkpoints = self.checkpoints, any(self.run_dir.glob("checkpoints/*.pt"))
        lost = not self.is_there()
        if lost:
            self.close()
            try:
                self.take()
                if not self.holds_remains():
                    check_run_dir(self.run_dir, config)
                self.check_not_ahead(nimg)
            except DiskError:
                raise
            except UserError as error:
                raise UserError(
                    f"the folder of this run was deleted or moved while it trained, and its place "
                    f"is taken, so nothing was written there: {error}"
                ) from error
        if self.trains and (lost or not (self.run_dir / RUNNING).exists()):
            self.begin()
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

    def check_not_ahead(self, nimg: int) -> None:
        """Raises UserError if the folder has a checkpoint of more images than `nimg`."""
        newest = max(self.run_dir.glob("checkpoints/checkpoint-*.pt"), default=None)
        if newest and newest.name > f"checkpoint-{stamp(nimg)}.pt":
            raise UserError(
                f"it holds {newest.name}, and this run is at {nimg / 1000:.10g} kimg only; go on "
                f"from there with --resume {self.run_dir}"
            )

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
