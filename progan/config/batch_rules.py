"""Checks that batches divide into processes, forward passes and groups of images."""

from dataclasses import replace

from progan.config.schedule import Phase, Schedule
from progan.runtime.errors import UserError


def fits(phase: Phase, processes: int, stddev_group: int, whole: bool = False) -> bool:
    """Whether the batch divides into equal forward passes of whole groups on all processes.

    whole: whether one forward pass must have all of it.
    """
    size, gpu = phase.batch_size, phase.images_per_pass(processes)
    if gpu == 0 or (whole and gpu < size):
        return False
    return size % (gpu * processes) == 0 and gpu % min(stddev_group, size) == 0


def check_batches(
    schedule: Schedule, processes: int, stddev_group: int, whole: bool = False
) -> None:
    """Checks that every batch divides into processes, forward passes and groups (see `fits`).

    Raises:
        UserError: names the numbers, the rule and settings that would fit.
    """
    for phase in schedule.phases:
        if fits(phase, processes, stddev_group, whole):
            continue
        size, gpu = phase.batch_size, phase.images_per_pass(processes)
        where = f"at {phase.resolution}x{phase.resolution}"
        if whole and gpu < size:
            raise UserError(
                "loss.adversarial=relativistic-average compares scores with means over the whole "
                f"batch, so it must be one forward pass; {where} it has {size} images, and a pass "
                f"has {gpu} (processes: {processes}): leave schedule.batch_gpu at null and train "
                "with one process, or set loss.adversarial=relativistic"
            )
        if gpu == phase.batch_gpu:
            unit = step = gpu * processes
            rule = f"batch_gpu x processes ({gpu} x {processes} = {unit})"
        else:
            unit, step = processes, processes * stddev_group
            rule = f"the number of processes ({processes})"
        if size % unit:
            near = [n for n in (size // step * step, (size // step + 1) * step) if n]
            good = [n for n in near if fits(replace(phase, batch_size=n), processes, stddev_group)]
            remedy = f"; set schedule.batch_size={' or '.join(map(str, good))}" if good else ""
            raise UserError(
                f"schedule.batch_size ({size}) {where} must be divisible by {rule}{remedy}"
            )
        groups = range(min(stddev_group, gpu), 1, -1)
        good = [g for g in groups if all(fits(p, processes, g) for p in schedule.phases)]
        remedy = f"set network.stddev_group={good[0]}, or " if good else ""
        raise UserError(
            f"a forward pass {where} has {gpu} images (schedule.batch_gpu, or batch_size "
            f"{size} over {processes} processes), which must be a multiple of network.stddev_group "
            f"({stddev_group}); {remedy}change schedule.batch_size or schedule.batch_gpu"
        )
