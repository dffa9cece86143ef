"""Describes this machine for records: its devices, their peaks, versions of libraries."""

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

# TFLOP/s of dense products from vendors' data sheets, by precision and the device's full name: a
# part of a name may also fit a slower device.
HOPPER: dict[str, float] = {"bf16": 989, "tf32": 495, "fp32": 67}
A100 = {"bf16": 312, "tf32": 156, "fp32": 19.5}
PEAK_TFLOPS: dict[str, dict[str, float]] = {
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
    """The device's name, as its vendor calls it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu" and (info := Path("/proc/cpuinfo")).exists():
        lines = info.read_text().splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        return names[0] if names else platform.machine()
    return platform.processor() or platform.machine() if device.type == "cpu" else device.type


def peak_tflops(device: torch.device, precision: str) -> float | None:
    """TFLOP/s from the device's data sheet, or `None` if we do not know it."""
    return PEAK_TFLOPS.get(device_name(device), {}).get(precision)


def describe(device: torch.device) -> dict[str, str | int | float]:
    """The device and its machine, for the record of a measurement."""
    return {
        "device": device_name(device),
        "device_memory_gb": round(memory_of(device) / 2**30, 1),
        "cores": os.cpu_count() or 0,
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def versions() -> dict[str, str | None]:
    """Versions of the libraries that determine results."""
    found = {name: version(name) for name in ("torch", "torchvision", "accelerate", "numpy")}
    return {"progan": __version__, "python": platform.python_version(), **found} | {
        "cuda": torch.version.cuda if torch.cuda.is_available() else None,
        "cudnn": str(torch.backends.cudnn.version()) if torch.cuda.is_available() else None,
    }


def environment(device: torch.device) -> dict[str, str | int | float | None]:
    """All that may change the last bits of results."""
    return {**describe(device), **versions(), "commit": commit()}


def commit() -> str | None:
    """The commit of the running source, with a + if changed since; `None` outside of git."""
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
