"""How many processes there are and which one this is, as the launcher set it. Imports no torch."""

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from progan.runtime.errors import UserError

# What a process must know to join others; every launcher sets all of it.
NEEDED = ("WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT")
# By each of these, and LOCAL_RANK, Accelerate looks for others.
SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")


def number(name: str) -> int | None:
    """The variable of the environment, if it is a number from 0."""
    text = os.environ.get(name, "")
    return int(text) if re.fullmatch("[0-9]{1,9}", text) else None


def processes() -> int:
    """Number of processes that train together; 1 unless all that they need to meet is set."""
    return (number("WORLD_SIZE") or 1) if all(os.environ.get(name) for name in NEEDED) else 1


def processes_here() -> int:
    """Number of these on this machine."""
    return (number("LOCAL_WORLD_SIZE") or 1) if processes() > 1 else 1


def rank() -> int:
    """Which of them this is."""
    return (number("RANK") or 0) if processes() > 1 else 0


def check_launch() -> None:
    """Raises UserError if only a part of what a launcher sets is there, such as after an export."""
    if os.environ.get("WORLD_SIZE", "") in ("", "0", "1"):
        return  # one process, whatever else is left over
    missing = [name for name in NEEDED if not os.environ.get(name)]
    size, mine = number("WORLD_SIZE"), number("RANK")
    if missing or size is None or mine is None or mine >= size:
        there = ", ".join(f"{name}={os.environ[name]}" for name in NEEDED if name in os.environ)
        without = f" without {', '.join(missing)}" if missing else ", which cannot be"
        raise UserError(
            f"{there} in the environment{without}; for one process: unset {' '.join(NEEDED)}; for "
            "several: launch with torchrun --nproc_per_node N -m progan train …"
        )


def by_hand() -> bool:
    """Whether this is one of several processes, which torchrun has not started."""
    return processes() > 1 and "TORCHELASTIC_RUN_ID" not in os.environ


@contextmanager
def alone() -> Iterator[None]:
    """Inside, one process is by itself: what is left over from a launcher is hidden."""
    names = [n for n in (*SIZES, *NEEDED[1:], "LOCAL_RANK") if processes() == 1 and n in os.environ]
    hidden = {name: os.environ.pop(name) for name in names}
    try:
        yield
    finally:
        os.environ.update(hidden)


def started() -> float:
    """Time of the start, as `time.monotonic()` counts; torchrun's own, as it may restart this."""
    here = psutil.Process()
    parent = here.parent() if "TORCHELASTIC_RUN_ID" in os.environ else None
    age = time.time() - (parent or here).create_time()
    return time.monotonic() - max(age, 0.0)


def restarts() -> int:
    """How often torchrun has restarted the processes, if it does so by itself, on one machine."""
    one_machine = os.environ.get("GROUP_WORLD_SIZE", "1") == "1"
    return (number("TORCHELASTIC_RESTART_COUNT") or 0) if one_machine else 0


def should_be_more() -> bool:
    """Whether `accelerate launch` was asked for several processes and started this one alone.

    With --cpu it does so silently.
    """
    asked = "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_PORT" in os.environ
    return asked and "WORLD_SIZE" not in os.environ


def prints_errors() -> bool:
    """Whether this is the process of its machine that prints errors."""
    return processes() == 1 or not number("LOCAL_RANK")


def is_main() -> bool:
    """Whether this is the process that writes files and prints."""
    return rank() == 0


def let_threads_sleep() -> None:
    """Makes torch's CPU threads sleep, not spin, at barriers; call it before torch is imported.

    GNU OpenMP spins for milliseconds at every barrier. On a busy machine the thread waited for may
    not even run, and small networks get tens of times slower. No spinning at all would cost a
    quarter of the speed on an idle machine.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
