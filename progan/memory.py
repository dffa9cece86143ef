"""The most memory that this process has held since it was last asked, and what is free."""

import ctypes
import os
from pathlib import Path

import psutil
import torch

PROCESS = Path("/proc/self")


def reset_peak(device: torch.device) -> None:
    """Begin anew: from here on counts."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif tells():
        if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
            trim(0)  # what has been freed, but kept by glibc
        (PROCESS / "clear_refs").write_text("5")  # see proc(5)


def peak(device: torch.device) -> int | None:
    """Bytes: tensors on a GPU; on a CPU the whole process (`None` where the system is silent)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if not tells():
        return None
    lines = (PROCESS / "status").read_text().splitlines()
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")), None)


def free(device: torch.device) -> int:
    """Bytes of a GPU that tensors could take: no one's, or kept by torch for the next tensors."""
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept


def tells() -> bool:
    """Whether this is a Linux that counts; some sandboxes look like one."""
    return os.access(PROCESS / "clear_refs", os.W_OK)


def in_use() -> int:
    """Bytes of this process."""
    return psutil.Process().memory_info().rss
