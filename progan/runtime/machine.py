"""What this machine is: its devices, which one to use, the versions of what computes there."""

import logging
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import torch

from progan import __version__
from progan.runtime.memory import memory_of

log = logging.getLogger("progan")

# TFLOP/s that vendors' data sheets give for dense products, by precision and the device's whole
# name: a part of it would take a slower relative for it.
HOPPER = {"bf16": 989, "tf32": 495, "fp32": 67}
A100 = {"bf16": 312, "tf32": 156, "fp32": 19.5}
PEAK_TFLOPS = {
    "NVIDIA H200": HOPPER,
    "NVIDIA H100 80GB HBM3": HOPPER,
    "NVIDIA A100-SXM4-40GB": A100,
    "NVIDIA A100-SXM4-80GB": A100,
    "NVIDIA A100-PCIE-40GB": A100,
    "NVIDIA A100 80GB PCIe": A100,
    "NVIDIA GeForce RTX 4090": {"bf16": 165, "tf32": 82.6, "fp32": 82.6},
    "NVIDIA GeForce RTX 3090": {"bf16": 71, "tf32": 35.6, "fp32": 35.6},
}


def device_name(device: torch.device) -> str:
    """As its vendor calls it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu" and (info := Path("/proc/cpuinfo")).exists():
        lines = info.read_text().splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        return names[0] if names else platform.machine()
    return platform.processor() or platform.machine() if device.type == "cpu" else device.type


def peak_tflops(device: torch.device, precision: str) -> float | None:
    """What the device can do at most, where that is known."""
    return PEAK_TFLOPS.get(device_name(device), {}).get(precision)


def describe(device: torch.device) -> dict[str, str | int | float]:
    """For the record of a measurement."""
    return {
        "device": device_name(device),
        "device_memory_gb": round(memory_of(device) / 2**30, 1),
        "cores": os.cpu_count() or 0,
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def versions() -> dict[str, str | None]:
    """Of what computes."""
    found = {name: version(name) for name in ("torch", "torchvision", "accelerate", "numpy")}
    return {"progan": __version__, "python": platform.python_version(), **found} | {
        "cuda": torch.version.cuda if torch.cuda.is_available() else None,
        "cudnn": str(torch.backends.cudnn.version()) if torch.cuda.is_available() else None,
    }


def environment(device: torch.device) -> dict[str, str | int | float | None]:
    """What may change the last bits of what is computed."""
    return {**describe(device), **versions(), "commit": commit()}


def commit() -> str | None:
    """Of the source that runs, with a + if it has been changed since; `None` if not from git."""
    folder = Path(__file__).parents[2]
    if not (folder / ".git").exists():
        return None
    try:
        name = git(folder, "rev-parse", "--short=12", "HEAD")
        return name + ("+" if git(folder, "status", "--porcelain", "--", "progan") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
