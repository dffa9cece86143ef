"""What torchrun or accelerate told this process, known before torch is imported."""

import os

import psutil


def processes() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def processes_here() -> int:
    """How many of them share this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def started() -> float:
    """When this was started, by `time.time()`: torchrun's own start, if it starts it again."""
    here = psutil.Process()
    return (here.parent() if "TORCHELASTIC_RUN_ID" in os.environ else here).create_time()


def restarts() -> int:
    """How often torchrun has started the processes again, where it alone decides on that."""
    alone = os.environ.get("GROUP_WORLD_SIZE", "1") == "1"
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) if alone else 0


def should_be_more() -> bool:
    """Whether `accelerate launch` was asked for several processes and started this one alone.

    With --cpu it does so, and says nothing.
    """
    asked = "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_PORT" in os.environ
    return asked and "WORLD_SIZE" not in os.environ


def speaks() -> bool:
    """Whether this is the process of its machine that tells of errors."""
    return int(os.environ.get("LOCAL_RANK", "0")) == 0


def is_main() -> bool:
    """Whether this is the process that writes and speaks."""
    return int(os.environ.get("RANK", "0")) == 0


def let_threads_sleep() -> None:
    """Before torch is imported: its CPU threads wait for each other sleeping, not spinning.

    GNU OpenMP spins for milliseconds at every barrier. On a machine that does anything else, the
    thread that is waited for may not even run, and small networks get tens of times slower. Not
    to spin at all costs a quarter of the speed on a machine that does nothing else.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
