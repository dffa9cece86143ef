"""How fast a training step is, compared with the textbook's. Its last line is JSON.

    python benchmarks/step.py                       # small widths, for CPUs
    python benchmarks/step.py --paper               # the paper's widths and batches, 4 … 1024

The reference is `plain.py`: eager, float32 (TF32 on GPUs), NCHW, unfused. Ours has the defaults of
this machine. Both have the same widths, batch and loss, and cuDNN searches for its fastest
algorithms for both. They take turns; ratios are those of the medians. Peak memory is measured for
each side alone: on a GPU in this process, on a CPU in a new process.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from plain import PlainStep

from progan.config.config import Config
from progan.config.load import load_config
from progan.config.resolutions import resolutions_to
from progan.config.schedule import Phase
from progan.model.growing import channels_at
from progan.runtime import machine, memory
from progan.runtime.device import timed
from progan.runtime.numerics import computing_in, deterministic
from progan.training.build import make_loss, make_step
from progan.training.feed import Batch, Latents

SIDES = ("plain", "progan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--resolutions", default=None, help="for example 8,16 [default: 8 … 128]")
    parser.add_argument("--channel-base", type=int, default=2048)
    parser.add_argument("--channel-max", type=int, default=128)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--paper", action="store_true", help="use the paper's widths and batches")
    parser.add_argument("--fading", action="store_true", help="measure fading phases")
    parser.add_argument("--seconds", type=float, default=20, help="time for each resolution")
    parser.add_argument("-o", dest="overrides", action="append", default=[], help="as in progan")
    parser.add_argument("--memory-of", choices=SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        (r,) = resolutions(arguments)
        print(peak_memory(arguments.memory_of, r, arguments))
        return
    figures: dict[Any, Any] = {
        **machine.describe(Accelerator().device),
        **machine.versions(),
        "commit": machine.commit(),
    }
    with deterministic(False):
        for r in resolutions(arguments):
            figures[r] = compare(r, arguments)
    print(json.dumps(figures))


def resolutions(arguments: argparse.Namespace) -> list[int]:
    if arguments.resolutions:
        return [int(r) for r in arguments.resolutions.split(",")]
    return resolutions_to(1024) if arguments.paper else resolutions_to(128)[1:]


def compare(r: int, arguments: argparse.Namespace) -> dict[str, float]:
    """Median images/s and peak memory of both sides, and the ratios to the plain step."""
    rates, n = rates_in_turn(r, arguments)
    measure = memory_in_process if Accelerator().device.type == "cpu" else peak_memory
    peaks = {side: measure(side, r, arguments) for side in SIDES}
    figures = {
        "batch": n,
        **{f"{side} images/s": round(rate, 2) for side, rate in rates.items()},
        "ratio": round(rates["progan"] / rates["plain"], 2),
        **{f"{side} peak MiB": round(size) for side, size in peaks.items()},
        "memory ratio": round(peaks["progan"] / peaks["plain"], 2),
    }
    print(
        f"{r}x{r}: " + ", ".join(f"{name} {value}" for name, value in figures.items()), flush=True
    )
    return figures


def rates_in_turn(r: int, arguments: argparse.Namespace) -> tuple[dict[str, float], int]:
    """Images/s of both sides, and their batch size."""
    device = Accelerator().device
    steps, n = {}, 0
    for side in SIDES:
        steps[side], n = make(side, r, arguments)
        for _ in range(3):  # allocates memory, chooses kernels, compiles
            steps[side]()
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    end = time.perf_counter() + arguments.seconds
    while time.perf_counter() < end or len(seconds["plain"]) < 5:
        for side, step in steps.items():
            seconds[side].append(timed(step, device))
    return {side: n / statistics.median(times) for side, times in seconds.items()}, n


def make(side: str, r: int, arguments: argparse.Namespace) -> tuple[Callable[[], None], int]:
    """A function that does one step on noise, and its batch size."""
    widths = [] if arguments.paper else [
        f"network.channel_base={arguments.channel_base}",
        f"network.channel_max={arguments.channel_max}",
        f"network.z_dim={arguments.channel_max}",
        f"schedule.batch_size={arguments.batch}",
    ]  # fmt: skip
    config = load_config(None, [f"network.resolution={r}", *widths, *arguments.overrides])
    phases = [p for p in config.make_schedule().phases if p.resolution == r]
    phase = next(p for p in phases if p.fading == (arguments.fading and r > 4))
    accelerator = Accelerator()
    make_side = {"plain": make_plain, "progan": make_ours}[side]
    return make_side(config, phase, accelerator, noise(config, phase, accelerator.device))


def noise(config: Config, phase: Phase, device: torch.device) -> dict[str, torch.Tensor]:
    n, r, z_dim = phase.batch_size, phase.resolution, config.network.z_dim
    return {
        "reals": torch.randn(n, 3, r, r, device=device),
        "z": torch.randn(n, z_dim, device=device),
        "mix": torch.rand(n, device=device, requires_grad=True),
        "z2": torch.randn(n, z_dim, device=device),
    }


def make_plain(
    config: Config, phase: Phase, accelerator: Accelerator, draws: dict[str, torch.Tensor]
) -> tuple[Callable[[], None], int]:
    width = partial(
        channels_at,
        channel_base=config.network.channel_base,
        channel_max=config.network.channel_max,
    )
    step = PlainStep(phase.resolution, config.network.z_dim, width, accelerator.device)
    precision = "tf32" if accelerator.device.type == "cuda" else "fp32"

    def run() -> None:
        with computing_in(precision, accelerator.device):
            step(**draws, alpha=0.5 if phase.fading else None)

    return run, phase.batch_size


def make_ours(
    config: Config, phase: Phase, accelerator: Accelerator, draws: dict[str, torch.Tensor]
) -> tuple[Callable[[], None], int]:
    step = make_step(config, 0, make_loss(config), accelerator)
    step.begin(phase, restart=True)
    critic = Batch(draws["z"], None, draws["reals"], draws["mix"])
    generator = Latents(draws["z2"])

    def run() -> None:
        step.set_progress((phase.start_nimg + phase.end_nimg) // 2)
        step.update_critic(critic)
        step.update_generator(generator)
        step.average()

    return run, phase.batch_size


def memory_in_process(side: str, r: int, arguments: argparse.Namespace) -> float:
    """`peak_memory` in a new process, as the C library keeps freed memory."""
    command = [sys.executable, *sys.argv, "--memory-of", side, "--resolutions", str(r)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def peak_memory(side: str, r: int, arguments: argparse.Namespace) -> float:
    """MiB that three steps need: on the GPU, or in the process beyond its memory at 4x4."""
    device = Accelerator().device
    before = 0
    if device.type == "cpu":
        warm, _ = make(side, 4, arguments)  # the libraries' own memory
        warm()
        before = memory.in_use()
    memory.release(device)  # of earlier measurements
    memory.reset_peak(device)
    step, _ = make(side, r, arguments)
    for _ in range(3):
        step()
    peak = memory.peak(device)
    assert peak is not None, "a device that counts its memory"
    return (peak - before) / 2**20


if __name__ == "__main__":
    main()
