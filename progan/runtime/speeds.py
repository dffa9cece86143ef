"""Measures how fast this CPU's convolutions are in each precision, and so decides `auto`."""

import hashlib
import json
import logging
import math
import time
from pathlib import Path
from statistics import harmonic_mean
from typing import Any

import torch
from accelerate import Accelerator
from torch.nn.functional import conv2d

from progan.runtime.cache import cache_folder
from progan.runtime.disk import DiskError, write_json
from progan.runtime.distributed import on_any
from progan.runtime.machine import device_name, peak_tflops
from progan.runtime.numerics import computing_in

log = logging.getLogger("progan")

CONVOLUTIONS = [[256, 16], [128, 16], [64, 32], [32, 64], [16, 128]]  # channels and resolution
IMAGES = 8
REPEATS = 4  # the first one allocates memory and loads kernels


def resolve_precision(precision: str, accelerator: Accelerator) -> str:
    """`precision`, with `auto` decided: bf16 where the device gains by it, else fp32.

    The first process decides for all, also for those on other machines.
    """
    if precision != "auto":
        return precision
    gains = accelerator.is_main_process and gains_by_bf16(accelerator.device)
    return "bf16" if on_any(accelerator, gains) else "fp32"


def gains_by_bf16(device: torch.device) -> bool:
    """Whether bf16 is faster here. GPUs with bf16 units gain; CPUs with them may not: measured."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if not multiplies_bf16(device):
        return False
    rates = measured(device)
    return harmonic_mean(rates["bf16"]) > harmonic_mean(rates["fp32"])


def multiplies_bf16(device: torch.device) -> bool:
    """Whether this is a CPU with AMX or AVX-512 for bf16, which is many times slower without."""
    able = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return any(able.get(name) for name in ("amx_bf16", "avx512_bf16"))


def known_peak(device: torch.device, precision: str) -> tuple[float | None, str | None]:
    """The device's peak in TFLOP/s and its source; `None` if unknown."""
    if peak := peak_tflops(device, precision):
        return peak, "data sheet"
    rates = measured(device, again=True).get(precision)
    return (max(rates) / 1000, "measured") if rates else (None, None)


def measured(device: torch.device, again: bool = False) -> dict[str, list[float]]:
    """GFLOP/s of each of `CONVOLUTIONS`, in each precision that a CPU has instructions for.

    The first call takes a second or two with this process's threads and keeps the figures for this
    machine in the cache. Empty for other devices.

    Args:
        again: measure again and return the better figures, as the machine may have been busy. The
            kept figures do not change, so `resolve_precision` does not change its mind.
    """
    if device.type != "cpu":
        return {}
    precisions = ["fp32", "bf16"] if multiplies_bf16(device) else ["fp32"]
    of = {
        "device": device_name(device),
        "capabilities": dict(torch.cpu.get_capabilities()),
        "torch": str(torch.__version__),
        "threads": torch.get_num_threads(),
        "convolutions": CONVOLUTIONS,
        "precisions": precisions,
    }
    name = hashlib.sha256(json.dumps(of).encode()).hexdigest()[:16]
    path = cache_folder(None) / "speeds" / f"{name}.json"
    kept = load(path, of)
    if kept is not None and not again:
        return kept
    rates: dict[str, list[float]] = {p: [] for p in precisions}
    for channels, resolution in CONVOLUTIONS:
        for p in precisions:  # alternating, as other load comes and goes
            rates[p].append(gflops(channels, resolution, p, device))
    if kept is not None:
        return {p: list(map(max, rates[p], kept[p])) for p in precisions}
    save(path, {"of": of, "gflops": rates})
    return rates


def gflops(channels: int, resolution: int, precision: str, device: torch.device) -> float:
    """GFLOP/s of a 3x3 convolution and its two gradients, at its best time."""
    shapes = [(IMAGES, channels, resolution, resolution), (channels, channels, 3, 3)]
    images, weight = (
        torch.ones(shape, device=device).to(memory_format=torch.channels_last).requires_grad_()
        for shape in shapes
    )
    seconds = math.inf
    with computing_in(precision, device):
        for _ in range(REPEATS):
            start = time.perf_counter()
            out = conv2d(images, weight, padding=1)
            torch.autograd.grad(out, (images, weight), torch.ones_like(out))
            seconds = min(seconds, time.perf_counter() - start)
    return 3 * 2 * 9 * channels**2 * resolution**2 * IMAGES / seconds / 1e9


def load(path: Path, of: dict[str, Any]) -> dict[str, list[float]] | None:
    """Kept figures, or `None` if the file is missing, damaged or about something else."""
    try:
        content = json.loads(path.read_bytes())
        rates = {p: [float(rate) for rate in content["gflops"][p]] for p in of["precisions"]}
        whole = all(len(each) == len(CONVOLUTIONS) for each in rates.values())
        right = all(0 < rate < math.inf for each in rates.values() for rate in each)
        return rates if whole and right and content["of"] == of else None
    except Exception:  # a file may contain anything
        return None


def save(path: Path, content: dict[str, Any]) -> None:
    """Keeps the figures, if the disk allows it."""
    try:
        write_json(path, content, replace=True)
    except (DiskError, OSError) as error:
        log.warning("%s; it will be measured again next time", error)
