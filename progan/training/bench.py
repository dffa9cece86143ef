"""How fast a config trains on this machine, phase by phase, and where the time goes."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from statistics import median
from typing import Any

import numpy as np
import psutil
from accelerate import Accelerator

from progan.config.config import Config
from progan.config.schedule import Phase
from progan.data.labels import Labels
from progan.runtime import memory
from progan.runtime.device import timed
from progan.runtime.distributed import on_any
from progan.runtime.errors import UserError
from progan.runtime.launch import processes_here
from progan.training.build import compiles, make_costs, make_feed, make_loss, make_step
from progan.training.feed import Batch, Feed, Latents
from progan.training.memory_fit import SMALLER, rehearsed
from progan.training.step import Step
from progan.training.work import shell, work_of

WARM_UP = 3  # steps before anything is timed: they compile, find memory and kernels
REPEATS = {1.0: 3, 0.1: 10, 0.0: 50}  # of a step that takes more than this many seconds
SAFE_SHARE = 0.8  # of a host's free memory, which must not run out


@dataclass(frozen=True)
class Figures:
    """Measurements of one phase. Rates are of all processes, memory of this one."""

    resolution: int
    fading: bool
    batch_size: int
    batch_gpu: int  # images a forward pass on one process
    compiled: bool
    images_per_sec: float
    sec_per_kimg: float
    gflop_per_image: float
    tflops: float  # achieved, on one process
    share_of_peak: float | None  # of the device's peak, if that is known
    peak_memory_gb: float | None
    shares: dict[str, float]  # of the time: data, critic, penalty, generator, optimizer


class Noise:
    """Images from memory, in place of a data set (see `data.dataset.Dataset`)."""

    def __init__(self, config: Config):
        self.title = self.identity = "noise"
        self.count = 10_000
        self.channels: int = config.network.channels
        self.resolution = config.network.resolution
        digits = Labels(tuple("0123456789"), np.arange(self.count) % 10)
        self.labels = digits if config.data.labels else None
        self.block = np.empty((0, 0, 0, 0), np.uint8)

    def is_identified_by(self, identity: str) -> bool:
        return identity == self.identity

    def level(self, resolution: int) -> None:
        return None

    def read(self, indices: np.ndarray, resolution: int) -> np.ndarray:
        block = self.block  # threads read at the same time
        if block.shape[-1] != resolution:
            shape = (64, self.channels, resolution, resolution)
            self.block = block = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        return block[indices % 64]

    def close(self) -> None:
        pass


def bench(
    config: Config,
    accelerator: Accelerator,
    phases: list[Phase],
    find_batch: bool,
    peak_tflops: float | None,
) -> Iterator[Figures]:
    """Measure each of the phases with the config's networks, loss and precision, on noise.

    Args:
        find_batch: put as many images into a forward pass as fit, instead of the phase's number.
        peak_tflops: the device's peak.

    Raises:
        UserError: out of memory.
    """
    feed = make_feed(config, Noise(config), accelerator)
    where = "the start"
    remedy = SMALLER if find_batch else "--find-batch finds how many images fit into a pass"
    with closing(feed.stream), memory.explain_short_memory(lambda: f"at {where}", remedy):
        loss = make_loss(config)
        step = make_step(config, feed.c_dim, loss, accelerator)
        auto = config.run.compile == "auto"
        costs = make_costs(config, loss, step.G, step.D, accelerator) if auto else None
        for phase in phases:
            where = str(phase)
            compile = compiles(config, costs.seconds_of(phase) if costs else None, accelerator)
            if find_batch:
                phase = replace(phase, batch_gpu=largest_fit(step, phase))
            yield measure_phase(step, feed, phase, peak_tflops, compile)


def measure_phase(
    step: Step, feed: Feed, phase: Phase, peak_tflops: float | None, compile: bool = False
) -> Figures:
    accelerator = step.accelerator
    memory.reset_peak(accelerator.device)
    step.begin(phase, True, compile)
    rate = phase.step_size / time_whole(step, feed, phase)
    peak = memory.peak(accelerator.device)
    gflops = gflops_of(step, phase)
    tflops = gflops * rate / accelerator.num_processes / 1000
    return Figures(
        resolution=phase.resolution,
        fading=phase.fading,
        batch_size=phase.batch_size,
        batch_gpu=phase.images_per_pass(accelerator.num_processes),
        compiled=step.compiled,
        images_per_sec=rate,
        sec_per_kimg=1000 / rate,
        gflop_per_image=gflops,
        tflops=tflops,
        share_of_peak=tflops / peak_tflops if peak_tflops else None,
        peak_memory_gb=None if peak is None else peak / 2**30,
        shares=time_shares(step, feed, phase),
    )


def gflops_of(step: Step, phase: Phase) -> float:
    """GFLOP of one image; the penalty counts as often as it takes part."""
    return work_of(shell(step.G), shell(step.D), step.loss, phase, step.penalty_interval).gflops


def time_whole(step: Step, feed: Feed, phase: Phase) -> float:
    """Median seconds of a training step, data included."""
    accelerator, interval = step.accelerator, step.penalty_interval
    nimg = middle_of(phase)
    size, r, updates = phase.batch_size, phase.resolution, phase.critic_updates
    positions = count(nimg, size)  # the data are read as in training

    def train(penalty: bool) -> None:
        step.set_progress(nimg)
        for _ in range(updates):
            at = next(positions)
            step.update_critic(feed.critic_batch(at, size, r), penalty)
        step.update_generator(feed.generator_batch(at, size, r, updates))
        step.average()

    def seconds_of(penalty: bool) -> float:
        work = partial(train, penalty)
        warm = [timed(work, accelerator.device) for _ in range(WARM_UP)]
        repeats = repeats_for(accelerator, warm[-1])
        return median([timed(work, accelerator.device) for _ in range(2 * repeats)][repeats:])

    seconds = seconds_of(penalty=True)
    if interval == 1:
        return seconds
    without = seconds_of(penalty=False)
    return without + (seconds - without) / interval


def middle_of(phase: Phase) -> int:
    """An `nimg` half way through the phase, at a whole step."""
    length = phase.end_nimg - phase.start_nimg
    return phase.start_nimg + length // 2 // phase.step_size * phase.step_size


def repeats_for(accelerator: Accelerator, seconds: float) -> int:
    """How often to repeat a step of this duration; the same on all processes."""
    for limit, repeats in REPEATS.items():
        if on_any(accelerator, seconds > limit):
            return repeats
    raise AssertionError


def time_shares(step: Step, feed: Feed, phase: Phase) -> dict[str, float]:
    """The share of each part of a step, measured with waits for the device in between."""
    nimg = middle_of(phase)
    step.set_progress(nimg)
    rounds = [time_parts(step, feed, phase, nimg + i * phase.batch_size) for i in range(4)]
    rounds = rounds[1:]  # the first one warms up, and compiles what the whole step did not need
    parts = {name: median(each[name] for each in rounds) for name in rounds[0]}
    parts["penalty"] = max(parts["penalty"] - parts["critic"], 0.0) / step.penalty_interval
    for name in ("critic", "penalty"):
        parts[name] *= phase.critic_updates
    return {name: seconds / sum(parts.values()) for name, seconds in parts.items()}


def time_parts(step: Step, feed: Feed, phase: Phase, nimg: int) -> dict[str, float]:
    """Seconds of each part of a step once; `penalty` is the critic's time with the penalty."""
    device, size = step.accelerator.device, phase.batch_size
    seconds = {}

    def clocked(name: str, work: Callable[[], Any]) -> Any:
        results = []
        seconds[name] = timed(lambda: results.append(work()), device)
        return results[0]

    def both() -> tuple[Batch, Latents]:
        place = nimg, size, phase.resolution
        return feed.critic_batch(*place), feed.generator_batch(*place)

    critic, generator = clocked("data", both)
    mean = step.over_processes
    clocked("critic", lambda: mean(step.D_gradients(critic, penalty=False)))
    D_grads, _ = clocked("penalty", lambda: mean(step.D_gradients(critic, penalty=True)))
    G_grads, _ = clocked("generator", lambda: mean(step.G_gradients(generator)))

    def optimize() -> None:
        step.D_opt.apply(step.D_parameters, D_grads)
        step.G_opt.apply(step.G_parameters, G_grads)
        step.average()

    clocked("optimizer", optimize)
    return seconds


def largest_fit(step: Step, phase: Phase) -> int:
    """The largest number of images a forward pass that fits, up to this process's share.

    On a GPU all are tried, from the largest. On a CPU short memory would end the process, so the
    need of the smallest is measured and that of the others calculated.
    """
    share = phase.batch_size // step.accelerator.num_processes
    sizes = [n for n in range(share, 0, -1) if share % n == 0]
    sizes = [n for n in sizes if step.fits(replace(phase, batch_gpu=n))]
    if step.accelerator.device.type == "cpu":
        return largest_by_calculation(step, phase, sizes)
    for n in sizes:
        if rehearsed(step, replace(phase, batch_gpu=n), restart=True):
            return n
    raise UserError(f"not even {sizes[-1]} images fit into memory at {phase}; {SMALLER}")


def largest_by_calculation(step: Step, phase: Phase, sizes: list[int]) -> int:
    """The largest size that fits, if memory grows in proportion to what the smallest needs."""
    device, smallest = step.accelerator.device, sizes[-1]
    memory.reset_peak(device)
    before = memory.in_use()
    step.begin(replace(phase, batch_gpu=smallest), restart=True)
    step.rehearse()
    peak = memory.peak(device)
    if peak is None:
        raise UserError("--find-batch needs a GPU, or a CPU under Linux that reports peak memory")
    each = max(peak - before, 1) / smallest
    free = psutil.virtual_memory().available * SAFE_SHARE / processes_here()
    return next((n for n in sizes if n * each < free), smallest)
