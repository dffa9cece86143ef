"""Averages, sums and checks over all processes."""

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor

from progan.runtime.errors import UserError


def share(batch_size: int, rank: int, processes: int) -> slice:
    """The contiguous part of a global batch that belongs to `rank`."""
    size = batch_size // processes
    return slice(rank * size, (rank + 1) * size)


def average(accelerator: Accelerator, tensors: Sequence[Tensor]) -> list[Tensor]:
    """The mean of each tensor over all processes, by one flat reduction."""
    if accelerator.num_processes == 1:
        return list(tensors)
    flat = accelerator.reduce(torch.cat([t.reshape(-1) for t in tensors]), reduction="mean")
    parts = flat.split([t.numel() for t in tensors])
    return [part.view(t.shape) for part, t in zip(parts, tensors, strict=True)]


def gathered(accelerator: Accelerator, rows: Tensor) -> Tensor:
    """The rows [n, …] of all processes, by rank, on the rows' device; n may differ."""
    mine = rows.to(accelerator.device)  # Accelerate gathers only there
    counts = accelerator.gather(torch.tensor([len(mine)], device=mine.device)).tolist()
    padding = mine.new_zeros(max(counts) - len(mine), *mine.shape[1:])
    parts = accelerator.gather(torch.cat([mine, padding])).split(max(counts))
    whole = torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])
    return whole.to(rows.device)


def summed(accelerator: Accelerator | None, counts: Sequence[int]) -> list[int]:
    """The sum of each count over all processes; None: there is one process.

    As in `on_any`, nothing waits for the GPU.
    """
    if accelerator is None or accelerator.num_processes == 1:
        return list(counts)
    return accelerator.reduce(torch.tensor(counts), reduction="sum").tolist()


def on_any(accelerator: Accelerator, flag: bool) -> bool:
    """Whether `flag` is set on any process; the same answer on all of them.

    The flag is a CPU tensor, reduced with gloo, so that nothing waits for the GPU.
    """
    if accelerator.num_processes == 1:
        return flag
    return bool(accelerator.reduce(torch.tensor(float(flag)), reduction="sum") > 0)


def same_everywhere(accelerator: Accelerator, number: int) -> bool:
    """Whether all processes have the same int64 number."""
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

    Args:
        checksum: called only if there are several processes, as it waits for the device.
        newest: gives the checkpoint from which the run can go on.
    """
    if accelerator.num_processes > 1 and not same_everywhere(accelerator, checksum()):
        raise UserError(
            f"the processes' weights differ at {nimg / 1000:,.10g} kimg, which must never be: a "
            f"machine may be faulty. Start again to go on from {newest()}"
        )
