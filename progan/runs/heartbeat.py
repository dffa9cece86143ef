"""The file `running`, which says on what machine a run trains, and by its time that it still does.

A lock would say so, too, but only to processes that share it: some network file systems have none,
others keep one for each machine. Loads no torch.
"""

import json
import os
import platform
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from progan.runtime.disk import open_plain, write_text
from progan.runtime.text import printable

RUNNING = "running"
BEAT = 30.0  # seconds from one sign of life to the next
SILENT = 300.0  # seconds without one, after which nothing runs: network folders show files late
MOST_PID = 2**32
MOST_BYTES = 4096  # of a file that may be somebody else's


class Life(NamedTuple):
    """What `running` says.

    Args:
        host, pid: the process that trains, or has ended without a word.
        here: whether that is, or was, under the system that runs here now.
        age: seconds since the last sign of life.
    """

    host: str
    pid: int
    here: bool
    age: float

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def begin_heartbeat(run_dir: Path) -> Callable[[], None]:
    """Writes `running`, and renews its time from now on, in a thread that ends with the process.

    Returns:
        What ends the renewing; the file is left.

    Raises:
        DiskError: it cannot be written.
    """
    file, over = run_dir / RUNNING, threading.Event()
    content = {
        "host": platform.node(),
        "pid": os.getpid(),
        "system": this_system(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_text(file, json.dumps(content) + "\n")

    def renew() -> None:
        while not over.wait(BEAT):
            with suppress(OSError):  # it was moved, or a network folder is out of reach
                os.utime(file)  # without a time: on a network the server's own

    threading.Thread(target=renew, daemon=True).start()
    return over.set


def read_life(run_dir: Path) -> Life | None:
    """What `running` says; None if there is none, as nothing trains there."""
    file = run_dir / RUNNING
    try:
        age = max(time.time() - os.lstat(file).st_mtime, 0.0)  # clocks differ
        with open(file, "rb", opener=open_plain) as opened:
            content = json.loads(opened.read(MOST_BYTES))
        host, pid, system = str(content["host"]), content["pid"], content["system"]
        if type(pid) is not int or not 0 <= pid <= MOST_PID:
            raise ValueError("no process has such a number")
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, RecursionError):  # damaged, or a link
        return Life("an unknown machine", 0, False, age)
    return Life(printable(host)[:60], pid, system == this_system(), age)


def this_system() -> str:
    """Names the system from its start to its end: all its processes share locks, in containers,
    too."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return platform.node()
