"""Counted randomness, devices, and averaging over processes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, ProjectConfiguration
from torch import Tensor

from progan.errors import UserError
from progan.launch import processes

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


def pinned(values: np.ndarray, device: torch.device) -> Tensor:
    """Where a copy to a GPU starts without waiting for what the GPU is doing."""
    tensor = torch.from_numpy(values)
    return tensor.pin_memory() if device.type == "cuda" else tensor


def upload(values: np.ndarray, device: torch.device) -> Tensor:
    """Values on the device; nothing is waited for."""
    return pinned(values, device).to(device, non_blocking=device.type == "cuda")


def average(accelerator: Accelerator, tensors: Sequence[Tensor]) -> list[Tensor]:
    """The mean of each tensor over all processes, by one flat reduction."""
    if accelerator.num_processes == 1:
        return list(tensors)
    flat = accelerator.reduce(torch.cat([t.reshape(-1) for t in tensors]), reduction="mean")
    parts = flat.split([t.numel() for t in tensors])
    return [part.view(t.shape) for part, t in zip(parts, tensors, strict=True)]


def on_any(accelerator: Accelerator, flag: bool) -> bool:
    """Whether `flag` is set on any process; the same answer on all of them.

    The flag is a CPU tensor, reduced with gloo: the GPU is not waited for.
    """
    if accelerator.num_processes == 1:
        return flag
    return bool(accelerator.reduce(torch.tensor(float(flag)), reduction="sum") > 0)


def same_everywhere(accelerator: Accelerator, number: int) -> bool:
    """Whether all processes have the same number."""
    mine = torch.tensor([number], device=accelerator.device)
    return bool((accelerator.gather(mine) == number).all())


def make_accelerator(run_dir: Path, tracker: str | None) -> Accelerator:
    """Joins the other processes and picks the device.

    Raises:
        UserError: the launcher started several processes and Accelerate joined fewer. (It would
            train each alone, without a word, into the same folder.)
    """
    where = ProjectConfiguration(project_dir=str(run_dir), logging_dir=str(run_dir))
    cpu = not torch.accelerator.is_available()  # else torchrun's CPU processes stay alone
    handlers = []
    if torch.cuda.is_available() and processes() > 1:
        # Gloo beside NCCL, so that `on_any` need not wait for the GPU.
        handlers.append(InitProcessGroupKwargs(backend="cuda:nccl,cpu:gloo"))
    accelerator = Accelerator(
        cpu=cpu, log_with=tracker, project_config=where, kwargs_handlers=handlers
    )
    if accelerator.num_processes != processes():
        raise UserError(
            f"{processes()} processes were started, but {accelerator.num_processes} joined; "
            "launch with torchrun --nproc_per_node N -m progan train …"
        )
    return accelerator


@contextmanager
def float32_as(rounding: str) -> Iterator[None]:
    """How float32 convolutions and products are done: `ieee`, exactly, or `tf32` on GPUs, faster.

    torch's own default is tf32 for convolutions. Each backend is set by itself: before torch 2.12
    the setting for all of them does not reach cuDNN's convolutions.
    """
    cuda, cudnn, mkldnn = torch.backends.cuda, torch.backends.cudnn, torch.backends.mkldnn
    settings = (cuda.matmul, cudnn.conv, mkldnn.matmul, mkldnn.conv)
    before = [setting.fp32_precision for setting in settings]
    for setting in settings:
        setting.fp32_precision = rounding
    try:
        yield
    finally:
        for setting, value in zip(settings, before, strict=True):
            setting.fp32_precision = value


@contextmanager
def computing_in(precision: str, device: torch.device) -> Iterator[None]:
    """`fp32`, `tf32` or `bf16` for convolutions and products; weights stay float32."""
    bf16 = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
    with float32_as("tf32" if precision == "tf32" else "ieee"), bf16:
        yield
