"""Joins the other processes, and explains torch's errors when one of them is lost."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from itertools import count
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import InitProcessGroupKwargs, ProjectConfiguration, patch_environment

from progan.runtime.errors import LostProcessError, UserError, brief
from progan.runtime.launch import (
    NEEDED,
    alone,
    by_hand,
    check_launch,
    processes,
    restarts,
    should_be_more,
)
from progan.runtime.text import printable
from progan.runtime.watch import WatchedAccelerator

TORCHRUN = "launch with torchrun --nproc_per_node N -m progan train …"
# In torch's errors when another process does not answer.
LOST = re.compile("timed? ?out|connection (closed|reset|refused)|broken pipe|peer", re.IGNORECASE)
MARGIN = timedelta(minutes=1)  # torch gives up this much later than our own watch
joined = count()  # how often this process has joined the others


@contextmanager
def explain_lost_processes(
    accelerator: Accelerator, timeout_minutes: float, newest: Callable[[], Path | str]
) -> Iterator[None]:
    """Replaces torch's error about a lost process by a LostProcessError that says what to do.

    Args:
        newest: gives the checkpoint from which the run can go on.
    """

    def message(why: str) -> str:
        return (
            f"another process has ended or hangs ({why}); run.timeout is {timeout_minutes:g} "
            f"minutes. Start again to go on from {printable(str(newest()))}"
        )

    accelerator.farewell = lambda: message("no answer")
    try:
        yield
    except RuntimeError as error:
        if accelerator.num_processes == 1 or not LOST.search(str(error)):
            raise
        raise LostProcessError(message(brief(error))) from error


@contextmanager
def explain_failed_start(timeout_minutes: float) -> Iterator[None]:
    """Replaces errors of torch and Accelerate at a failed start by a UserError with a remedy."""
    left_over = f", or, for one process, unset {' '.join(NEEDED)}" if by_hand() else ""
    try:
        yield
    except torch.distributed.DistError as error:
        raise LostProcessError(
            f"another process has not come within {timeout_minutes:g} minutes, or has ended "
            f"({brief(error)}); start again{left_over}"
        ) from error
    except NotImplementedError as error:
        if "NCCL_P2P_DISABLE" not in str(error):
            raise
        raise UserError(
            "with this driver several GPUs of the RTX 40 series cannot reach each other's memory; "
            "set NCCL_P2P_DISABLE=1 and NCCL_IB_DISABLE=1 in the environment, or install driver "
            "550.40.07 or later"
        ) from error


def join_again(backend: str, timeout: timedelta, start: str) -> None:
    """Joins the other processes after torchrun has restarted them, or after an earlier run ended.

    On one machine torchrun's store still has the addresses of then (pytorch#135712), so each start
    uses a prefix of its own in the store.
    """
    store, rank, size = next(torch.distributed.rendezvous("env://"))
    store = torch.distributed.PrefixStore(f"start {start}", store)
    torch.distributed.init_process_group(
        backend, timeout=timeout, store=store, rank=rank, world_size=size
    )


def process_group(timeout_minutes: float, on_gpu: bool) -> list[InitProcessGroupKwargs]:
    """Accelerate's settings for joining several processes; joins restarted ones. Empty for one."""
    if processes() == 1:
        return []
    # Gloo besides NCCL, so that `on_any` need not wait for the GPU.
    backend = "cuda:nccl,cpu:gloo" if on_gpu and torch.cuda.is_available() else "gloo"
    timeout = timedelta(minutes=timeout_minutes) + MARGIN
    if not torch.distributed.is_initialized():
        before = next(joined)  # an earlier `train` in the same Python
        if restarts() or before:
            join_again(backend, timeout, f"{restarts()}.{before}")
    return [InitProcessGroupKwargs(backend=backend, timeout=timeout)]


def make_accelerator(
    run_dir: Path,
    tracker: str | None,
    timeout_minutes: float = 10,
    device: torch.device | None = None,
) -> Accelerator:
    """Joins the other processes.

    Args:
        timeout_minutes: how long a process waits for another before it gives up.
        device: where to compute; `None`: on a GPU if there is one. Several processes take a GPU
            each.

    Raises:
        UserError: the processes do not meet, or Accelerate joined fewer than the launcher started.
            (It would silently train each alone, into the same folder.)
    """
    check_launch()
    if should_be_more():
        raise UserError(f"accelerate was asked for several processes and started one; {TORCHRUN}")
    on_gpu = torch.accelerator.is_available() and (device is None or device.type != "cpu")
    # Else Accelerate would keep the device, and the lost group, of an earlier run in this Python.
    AcceleratorState._reset_state(reset_partial_state=True)
    # With several processes Accelerate numbers the devices itself.
    chosen = device if processes() == 1 else None
    with (
        explain_failed_start(timeout_minutes),
        alone(),
        patch_environment(accelerate_torch_device=chosen) if chosen else nullcontext(),
    ):
        accelerator = WatchedAccelerator(
            60 * timeout_minutes,
            lambda: (
                f"another process has ended or hangs: no answer for {timeout_minutes:g} minutes; "
                "start again"
            ),
            log_with=tracker,
            project_config=ProjectConfiguration(str(run_dir), logging_dir=str(run_dir)),
            cpu=not on_gpu,  # else torchrun's CPU processes stay alone
            kwargs_handlers=process_group(timeout_minutes, on_gpu),
        )
    if accelerator.num_processes != processes():
        raise UserError(
            f"{processes()} processes were started, but {accelerator.num_processes} joined; "
            f"{TORCHRUN}"
        )
    return accelerator
