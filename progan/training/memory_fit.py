"""Begins a phase with as many images in a forward pass as memory has room for."""

import time
from collections.abc import Iterator
from dataclasses import replace

from progan.config.schedule import Phase, Schedule
from progan.data.stream import Stream
from progan.runtime import memory
from progan.runtime.distributed import on_any
from progan.runtime.errors import UserError
from progan.training.feed import Feed
from progan.training.step import Step

SMALLER = "choose smaller networks (network.channel_base), or smaller groups (network.stddev_group)"


def begin_what_fits(
    step: Step, stream: Stream, phase: Phase, restart: bool, compile: bool = False
) -> Phase:
    """Begin the phase and rehearse its step; while memory is short, with half the images a pass.

    First, a level of the data that is kept on the device is given up. The update stays the same,
    as gradients are accumulated. All processes do the same. Returns the phase as begun.

    Raises:
        UserError: not even the smallest part of the batch fits.
    """
    if step.accelerator.device.type != "cpu":
        memory.release(step.accelerator.device)  # the phase before has left other sizes
    while not rehearsed(step, phase, restart, compile):
        if on_any(step.accelerator, stream.let_go()):
            continue
        smaller = halved(phase, step)
        if smaller is None:
            raise UserError(
                f"not even {step.images_per_pass} images fit into memory at {phase}; {SMALLER}"
            )
        phase = smaller
    return phase


def rehearsed(step: Step, phase: Phase, restart: bool, compile: bool = False) -> bool:
    """Whether the phase's step fits into the memory of every process."""
    try:
        step.begin(phase, restart, compile)
        step.rehearse()
        failed = False
    except Exception as error:
        if not memory.is_short(error):
            raise
        failed = True  # the error ends here, as its traceback holds the attempt's tensors
    failed = on_any(step.accelerator, failed)
    if failed:
        memory.release(step.accelerator.device)
    return not failed


def halved(phase: Phase, step: Step) -> Phase | None:
    """The phase with half as many images a pass; `None` if these are not whole groups."""
    n = phase.images_per_pass(step.accelerator.num_processes)
    smaller = replace(phase, batch_gpu=n // 2)
    return smaller if n % 2 == 0 and step.fits(smaller) else None


def try_phases(step: Step, feed: Feed, schedule: Schedule) -> Iterator[str]:
    """Try every phase's data and memory as training will need them; yields a line about each.

    Uncompiled, as compiling takes minutes and compiled steps need no more memory.

    Raises:
        UserError: a phase would fail.
    """
    device, processes = step.accelerator.device, step.accelerator.num_processes
    for phase in schedule.phases:
        memory.reset_peak(device)
        start = time.perf_counter()
        feed.critic_batch(phase.start_nimg, phase.batch_size, phase.resolution)
        n = begin_what_fits(step, feed.stream, phase, restart=True).images_per_pass(processes)
        peak, seconds = memory.peak(device), time.perf_counter() - start
        needs = "" if peak is None else f", {peak / 2**30:.2f} GiB at most"
        yield f"{phase}: {n} images a forward pass{needs}; tried in {seconds:.1f} s"
