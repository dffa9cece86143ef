"""What this machine is: its devices, which one to use, the versions of what computes there."""

import logging
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import psutil
import torch

from progan import __version__
from progan.runtime.errors import UserError
from progan.runtime.launch import is_main, processes

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


def fastest_device() -> torch.device:
    """An accelerator, if there is one."""
    there = torch.accelerator.is_available()  # without a driver torch still names one
    return torch.accelerator.current_accelerator() if there else torch.device("cpu")


def devices() -> list[torch.device]:
    """All that torch finds here, the CPU last."""
    kind, count = fastest_device().type, torch.accelerator.device_count()
    return [*(torch.device(kind, i) for i in range(count)), torch.device("cpu")]


def take_device(name: str) -> torch.device:
    """The device that `run.device` or --device names; one with a number becomes the current one.

    Raises:
        UserError: it is not there, or each of several processes would take the same.
    """
    if name == "auto":
        device = fastest_device()
    else:
        device, there = torch.device(name), devices()
        if device not in there and name not in {d.type for d in there}:
            raise UserError(
                f"there is no device {name} here, but {', '.join(map(str, there))}; choose one of "
                "these by run.device or --device, or auto"
            )
    if device.index is not None:
        if processes() > 1:
            raise UserError(
                f"run.device={name} is for one process; each of these {processes()} takes a GPU of "
                f"its own: give {device.type}, and choose GPUs by CUDA_VISIBLE_DEVICES"
            )
        torch.accelerator.set_device_index(device.index)  # of what names no number
    if is_main() and is_untested(device):
        log.warning(
            "progan has not been tested on %s: progan doctor tells whether it computes right here; "
            "run.device=cpu or --device cpu does without it",
            "AMD GPUs" if device.type == "cuda" else device.type,
        )
    return device


def is_untested(device: torch.device) -> bool:
    """All but CPUs and NVIDIA's GPUs (AMD's are called cuda, too)."""
    return device.type not in ("cpu", "cuda") or (device.type == "cuda" and bool(torch.version.hip))


def synchronize(device: torch.device) -> None:
    """Wait until the device is done with all that it has been given."""
    if device.type != "cpu":
        torch.accelerator.synchronize()


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


def memory_of(device: torch.device) -> int:
    """Bytes, all together."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return psutil.virtual_memory().total


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
