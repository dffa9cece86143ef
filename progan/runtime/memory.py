"""Measures peak and free memory, and explains errors when memory is short."""

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
# Short memory in the messages of torch's allocators, CUDA, its libraries such as cuBLAS, and cuDNN
# (which finds no algorithm if every workspace is too large).
SHORT = re.compile(
    "out of memory|not enough memory|can't allocate memory|ALLOC_FAILED|ALLOCATION_FAILED"
    "|cudaErrorMemoryAllocation|unable to find an engine to execute this computation",
    re.IGNORECASE,
)


def reset_peak(device: torch.device) -> None:
    """Start a new measurement of the peak."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif can_measure_peak():
        if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
            trim(0)  # memory that is freed, but kept by glibc
        (PROCESS / "clear_refs").write_text("5")  # see proc(5)


def peak(device: torch.device) -> int | None:
    """Peak bytes: tensors on a GPU; the whole process on a CPU, or `None` if unknown there."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if not can_measure_peak():
        return None
    lines = (PROCESS / "status").read_text().splitlines()
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")), None)


def free(device: torch.device) -> int:
    """Bytes of a GPU that tensors could take: free, or kept by torch for reuse."""
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept


def can_measure_peak() -> bool:
    """Whether peak memory of a process can be measured here: on Linux, but not in all sandboxes."""
    return os.access(PROCESS / "clear_refs", os.W_OK)


def in_use() -> int:
    """Bytes that this process holds in the host's memory."""
    return psutil.Process().memory_info().rss


def is_short(error: BaseException) -> bool:
    """Whether an error, or one that caused it, says that memory was short.

    Not all are a `torch.OutOfMemoryError`: libraries have errors of their own, and a compiler
    wraps those that occur while it compiles or first runs.
    """
    if isinstance(error, UserError):
        return False  # already explained
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        if isinstance(cause, torch.OutOfMemoryError | MemoryError):
            return True
        if isinstance(cause, RuntimeError) and SHORT.search(str(cause)):
            return True
        seen.append(cause)
        cause = getattr(cause, "inner_exception", None) or cause.__cause__ or cause.__context__
    return False


@contextmanager
def explain_short_memory(where: Callable[[], str], remedy: str) -> Iterator[None]:
    """Replaces errors of short memory by a UserError with a remedy.

    Args:
        where: says where it happened, for example "in 8x8 fading"; called only then.
    """
    try:
        yield
    except Exception as error:
        if not is_short(error):
            raise
        raise UserError(f"out of memory {where()} ({brief(error)}); {remedy}") from error


def release(device: torch.device) -> None:
    """Frees unused memory: reference cycles, and what torch keeps for reuse on the device."""
    gc.collect()
    if device.type != "cpu":
        torch.accelerator.memory.empty_cache()


def memory_of(device: torch.device) -> int:
    """Total bytes of a GPU, or of the host."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return psutil.virtual_memory().total


def memory_in_use(device: torch.device) -> dict[str, float]:
    """Statistics: GiB that this process holds, and its peak on the GPU."""
    report = {"Resources/cpu_mem_gb": in_use() / 2**30}
    if device.type == "cuda":
        report["Resources/peak_gpu_mem_gb"] = torch.cuda.max_memory_allocated(device) / 2**30
    return report
