"""The most memory that this process has held since it was last asked."""

from pathlib import Path

import psutil
import torch

PROCESS = Path("/proc/self")


def reset_peak(device: torch.device) -> None:
    """Begin anew: from here on counts."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif PROCESS.exists():
        (PROCESS / "clear_refs").write_text("5")  # see proc(5)


def peak(device: torch.device) -> int | None:
    """Bytes: tensors on a GPU; on a CPU the whole process (`None` where the system is silent)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if not PROCESS.exists():
        return None
    lines = (PROCESS / "status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def in_use() -> int:
    """Bytes of this process."""
    return psutil.Process().memory_info().rss
