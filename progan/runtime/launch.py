"""How many processes there are and which one this is, as the launcher set it. Imports no torch."""

import os
import time

import psutil


def processes() -> int:
    """Number of processes that train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def processes_here() -> int:
    """Number of these on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def started() -> float:
    """Time of the start, as `time.monotonic()` counts; torchrun's own, as it may restart this."""
    here = psutil.Process()
    parent = here.parent() if "TORCHELASTIC_RUN_ID" in os.environ else None
    age = time.time() - (parent or here).create_time()
    return time.monotonic() - max(age, 0.0)


def restarts() -> int:
    """How often torchrun has restarted the processes, if it does so by itself, on one machine."""
    alone = os.environ.get("GROUP_WORLD_SIZE", "1") == "1"
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) if alone else 0


def should_be_more() -> bool:
    """Whether `accelerate launch` was asked for several processes and started this one alone.

    With --cpu it does so silently.
    """
    asked = "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_PORT" in os.environ
    return asked and "WORLD_SIZE" not in os.environ


def prints_errors() -> bool:
    """Whether this is the process of its machine that prints errors."""
    return int(os.environ.get("LOCAL_RANK", "0")) == 0


def is_main() -> bool:
    """Whether this is the process that writes files and prints."""
    return int(os.environ.get("RANK", "0")) == 0


def let_threads_sleep() -> None:
    """Makes torch's CPU threads sleep, not spin, at barriers; call it before torch is imported.

    GNU OpenMP spins for milliseconds at every barrier. On a busy machine the thread waited for may
    not even run, and small networks get tens of times slower. No spinning at all would cost a
    quarter of the speed on an idle machine.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
