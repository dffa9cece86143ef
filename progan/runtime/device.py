"""The device that computes, and copies to it."""

import logging
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from progan.runtime.errors import UserError
from progan.runtime.launch import is_main, processes

log = logging.getLogger("progan")


def fastest_device() -> torch.device:
    """The current accelerator, or the CPU if there is none."""
    there = torch.accelerator.is_available()  # without a driver torch still names one
    return (torch.accelerator.current_accelerator() if there else None) or torch.device("cpu")


def devices() -> list[torch.device]:
    """All devices that torch finds here, the CPU last."""
    kind, count = fastest_device().type, torch.accelerator.device_count()
    return [*(torch.device(kind, i) for i in range(count)), torch.device("cpu")]


def take_device(name: str) -> torch.device:
    """The device that `run.device` or --device names; with a number, it becomes the current one.

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
        torch.accelerator.set_device_index(device.index)  # for code that gives no number
    if is_main() and is_untested(device):
        log.warning(
            "progan has not been tested on %s: progan doctor checks whether it computes "
            "correctly here; run.device=cpu or --device cpu avoids it",
            "AMD GPUs" if device.type == "cuda" else device.type,
        )
    return device


def is_untested(device: torch.device) -> bool:
    """True for all but CPUs and NVIDIA's GPUs (AMD's are called cuda, too)."""
    return device.type not in ("cpu", "cuda") or (device.type == "cuda" and bool(torch.version.hip))


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished all its work."""
    if device.type != "cpu":
        torch.accelerator.synchronize()


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds until the device has done the work; what it was busy with before does not count."""
    synchronize(device)
    start = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - start


def pinned(values: np.ndarray | Tensor, device: torch.device) -> Tensor:
    """The values in pinned memory, from which `upload` does not wait for a busy GPU."""
    tensor = torch.as_tensor(values)
    return tensor.pin_memory() if device.type == "cuda" else tensor


def upload(values: Tensor, device: torch.device) -> Tensor:
    """Pinned values on the device; does not wait for the copy."""
    return values.to(device, non_blocking=device.type == "cuda")
