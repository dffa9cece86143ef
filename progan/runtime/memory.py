"""Memory: the most that this process has held, what is free, and what happens where it is short."""

import ctypes
import gc
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch

from progan.runtime.errors import UserError, brief

PROCESS = Path("/proc/self")
# What short memory is called by torch's allocators, CUDA, cuBLAS and its like, and cuDNN (whose
# search finds no algorithm where every workspace is too large).
SHORT = re.compile(
    "out of memory|not enough memory|can't allocate memory|ALLOC_FAILED|ALLOCATION_FAILED"
    "|cudaErrorMemoryAllocation|unable to find an engine to execute this computation",
    re.IGNORECASE,
)


def reset_peak(device: torch.device) -> None:
    """Begin anew: from here on counts."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif can_measure_peak():
        if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
            trim(0)  # what has been freed, but kept by glibc
        (PROCESS / "clear_refs").write_text("5")  # see proc(5)


def peak(device: torch.device) -> int | None:
    """Bytes: tensors on a GPU; on a CPU the whole process (`None` where the system is silent)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if not can_measure_peak():
        return None
    lines = (PROCESS / "status").read_text().splitlines()
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")), None)


def free(device: torch.device) -> int:
    """Bytes of a GPU that tensors could take: no one's, or kept by torch for the next tensors."""
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept


def can_measure_peak() -> bool:
    """Whether this is a Linux that counts; some sandboxes look like one."""
    return os.access(PROCESS / "clear_refs", os.W_OK)


def in_use() -> int:
    """Bytes of this process."""
    return psutil.Process().memory_info().rss


def is_short(error: BaseException) -> bool:
    """Whether an error says, itself or by what caused it, that memory was short.

    Not all are a `torch.OutOfMemoryError`: libraries have errors of their own, and a compiler
    wraps what happens while it compiles or first runs.
    """
    if isinstance(error, UserError):
        return False  # has been told
    seen: list[BaseException | None] = [None]
    while error not in seen:
        if isinstance(error, torch.OutOfMemoryError | MemoryError):
            return True
        if isinstance(error, RuntimeError) and SHORT.search(str(error)):
            return True
        seen.append(error)
        error = getattr(error, "inner_exception", None) or error.__cause__ or error.__context__
    return False


@contextmanager
def explain_short_memory(where: Callable[[], str], remedy: str) -> Iterator[None]:
    """Raises UserError in place of what says that memory was short.

    where: such as "in 8x8 fading"; asked when it has happened.
    """
    try:
        yield
    except Exception as error:
        if not is_short(error):
            raise
        raise UserError(f"out of memory {where()} ({brief(error)}); {remedy}") from error


def release(device: torch.device) -> None:
    """Give back what nothing uses: cycles of Python's, and what torch keeps for later."""
    gc.collect()
    if device.type != "cpu":
        torch.accelerator.memory.empty_cache()


def memory_of(device: torch.device) -> int:
    """Bytes, all together."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return psutil.virtual_memory().total


def memory_in_use(device: torch.device) -> dict[str, float]:
    """GiB this process holds, and the most it held on the GPU."""
    report = {"Resources/cpu_mem_gb": psutil.Process().memory_info().rss / 2**30}
    if device.type == "cuda":
        report["Resources/peak_gpu_mem_gb"] = torch.cuda.max_memory_allocated(device) / 2**30
    return report
