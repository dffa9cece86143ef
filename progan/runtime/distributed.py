"""Counted randomness, devices, and averaging over processes."""

import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, ProjectConfiguration, patch_environment
from torch import Tensor

from progan.runtime.errors import LostProcessError, UserError, brief
from progan.runtime.launch import processes, restarts, should_be_more
from progan.runtime.text import printable
from progan.runtime.watch import WatchedAccelerator

TORCHRUN = "launch with torchrun --nproc_per_node N -m progan train …"
# What torch says where another process does not answer.
LOST = re.compile("timed? ?out|connection (closed|reset|refused)|broken pipe|peer", re.IGNORECASE)
MARGIN = timedelta(minutes=1)  # after which torch ends what our own watch has not

# Every use of chance has a number of its own, so that no two ever share draws. Never renumber:
# it would change what a seed means.
STREAMS = {
    "weights": 0,
    "order": 1,
    "flips": 2,
    "critic": 3,
    "generator": 4,
    "samples": 5,
    "augment": 6,
    "metrics": 7,
    "patches": 8,
    "directions": 9,
    "balance": 10,
}


def random(seed: int, stream: str, position: int = 0) -> np.random.Generator:
    """Draws that depend on (seed, stream, position) and on nothing that happened before.

    NumPy's, because it hashes all of the triple; torch's CPU generator keeps 32 bits of a seed.
    """
    sequence = np.random.SeedSequence((seed, STREAMS[stream], position))
    return np.random.Generator(np.random.PCG64(sequence))


def share(batch_size: int, rank: int, processes: int) -> slice:
    """The rank's contiguous part of a global batch."""
    size = batch_size // processes
    return slice(rank * size, (rank + 1) * size)


def pinned(values: np.ndarray | Tensor, device: torch.device) -> Tensor:
    """Where a copy to a GPU starts without waiting for what the GPU is doing."""
    tensor = torch.as_tensor(values)
    return tensor.pin_memory() if device.type == "cuda" else tensor


def upload(values: Tensor, device: torch.device) -> Tensor:
    """What has been pinned, on the device; nothing is waited for."""
    return values.to(device, non_blocking=device.type == "cuda")


def average(accelerator: Accelerator, tensors: Sequence[Tensor]) -> list[Tensor]:
    """The mean of each tensor over all processes, by one flat reduction."""
    if accelerator.num_processes == 1:
        return list(tensors)
    flat = accelerator.reduce(torch.cat([t.reshape(-1) for t in tensors]), reduction="mean")
    parts = flat.split([t.numel() for t in tensors])
    return [part.view(t.shape) for part, t in zip(parts, tensors, strict=True)]


def gathered(accelerator: Accelerator, rows: Tensor) -> Tensor:
    """The rows [n, …] of all processes, by rank, where they were; each may have another n."""
    mine = rows.to(accelerator.device)  # Accelerate gathers from and to nowhere else
    counts = accelerator.gather(torch.tensor([len(mine)], device=mine.device)).tolist()
    padding = mine.new_zeros(max(counts) - len(mine), *mine.shape[1:])
    parts = accelerator.gather(torch.cat([mine, padding])).split(max(counts))
    whole = torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])
    return whole.to(rows.device)


def on_any(accelerator: Accelerator, flag: bool) -> bool:
    """Whether `flag` is set on any process; the same answer on all of them.

    The flag is a CPU tensor, reduced with gloo: the GPU is not waited for.
    """
    if accelerator.num_processes == 1:
        return flag
    return bool(accelerator.reduce(torch.tensor(float(flag)), reduction="sum") > 0)


def same_everywhere(accelerator: Accelerator, number: int) -> bool:
    """Whether all processes have the same number, an int64."""
    if accelerator.num_processes == 1:
        return True
    mine = torch.tensor([number], device=accelerator.device)
    return bool((accelerator.gather(mine) == number).all())


def check_same_checkpoints(accelerator: Accelerator, run_dir: Path, nimg: int) -> None:
    """Raises UserError unless all processes have restored the same images shown."""
    if not same_everywhere(accelerator, nimg):
        raise UserError(
            f"the processes do not see the same checkpoints in {run_dir}; on several machines "
            "--run-dir must be a shared folder"
        )


def check_same_images(accelerator: Accelerator, identity: str) -> None:
    """Raises UserError unless all processes have opened data of the same identity."""
    if not same_everywhere(accelerator, zlib.crc32(identity.encode())):
        raise UserError(
            "the processes do not see the same images; data that each machine prepares by itself "
            "must come from the same files, or give a shared folder as data.cache"
        )


def check_same_weights(
    accelerator: Accelerator, checksum: Callable[[], int], nimg: int, newest: Callable[[], object]
) -> None:
    """Raises UserError unless all processes have weights of the same checksum.

    checksum: waits for the device, so it is asked for only where there are several processes.
    newest: tells where to go on from.
    """
    if accelerator.num_processes > 1 and not same_everywhere(accelerator, checksum()):
        raise UserError(
            f"the processes' weights differ at {nimg / 1000} kimg, which must never be: a machine "
            f"may be faulty. Start again to go on from {newest()}"
        )


@contextmanager
def lost_processes_told(
    accelerator: Accelerator, timeout_minutes: float, newest: Callable[[], Path | str]
) -> Iterator[None]:
    """Raises LostProcessError in place of what torch says where another process does not answer.

    newest: tells where to go on from.
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


def checksum(tensors: Sequence[Tensor]) -> int:
    """Of float32 tensors bit by bit: the sum of their bits as integers, in whatever order."""
    sums = [t.detach().contiguous().view(torch.int32).sum() for t in tensors]
    factors = torch.arange(1, len(sums) + 1, device=sums[0].device)  # which tensor has them counts
    return int((torch.stack(sums) * factors).sum())


@contextmanager
def failed_start_told(timeout_minutes: float) -> Iterator[None]:
    """Raises UserError in place of what torch and Accelerate say where processes do not meet."""
    try:
        yield
    except torch.distributed.DistError as error:
        raise LostProcessError(
            f"another process has not come within {timeout_minutes:g} minutes, or has ended "
            f"({brief(error)}); start again"
        ) from error
    except NotImplementedError as error:
        if "NCCL_P2P_DISABLE" not in str(error):
            raise
        raise UserError(
            "with this driver several GPUs of the RTX 40 series cannot reach each other's memory; "
            "set NCCL_P2P_DISABLE=1 and NCCL_IB_DISABLE=1 in the environment, or install driver "
            "550.40.07 or later"
        ) from error


def join_again(backend: str, timeout: timedelta) -> None:
    """Meets the processes that torchrun has started again.

    On one machine torchrun's store still has the addresses of those that have ended
    (pytorch#135712), so each start takes names of its own in it.
    """
    store, rank, count = next(torch.distributed.rendezvous("env://"))
    store = torch.distributed.PrefixStore(f"start {restarts()}", store)
    torch.distributed.init_process_group(
        backend, timeout=timeout, store=store, rank=rank, world_size=count
    )


def process_group(timeout_minutes: float, on_gpu: bool) -> list[InitProcessGroupKwargs]:
    """How several processes meet, for Accelerate; nothing for one. Restarted ones have then met."""
    if processes() == 1:
        return []
    # Gloo beside NCCL, so that `on_any` need not wait for the GPU.
    backend = "cuda:nccl,cpu:gloo" if on_gpu and torch.cuda.is_available() else "gloo"
    timeout = timedelta(minutes=timeout_minutes) + MARGIN
    if restarts() and not torch.distributed.is_initialized():
        join_again(backend, timeout)
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
        device: where to compute; `None`: on a GPU if there is one. Of one with no number, each of
            several processes takes its own.

    Raises:
        UserError: the launcher started several processes and Accelerate joined fewer. (It would
            train each alone, without a word, into the same folder.) Or they do not meet.
    """
    if should_be_more():
        raise UserError(f"accelerate was asked for several processes and started one; {TORCHRUN}")
    on_gpu = torch.accelerator.is_available() and (device is None or device.type != "cpu")
    # With several processes Accelerate numbers the devices itself.
    chosen = device is not None and processes() == 1
    with (
        failed_start_told(timeout_minutes),
        patch_environment(accelerate_torch_device=device) if chosen else nullcontext(),
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
