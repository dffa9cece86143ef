"""The phase, alpha, batch size and learning rate at each number of images shown. No torch.

Progress is one integer, `nimg`: the real images shown to the critic so far. A schedule is a
constant; nothing in it is stepped, saved or restored.
"""

import math
from bisect import bisect_right
from dataclasses import dataclass, replace

from progan.config.resolutions import ByResolution, at_resolution, resolutions_to
from progan.config.settings import OptimConfig, ScheduleConfig
from progan.config.value_types import Ramp
from progan.runtime.errors import UserError


@dataclass(frozen=True)
class Phase:
    """A stretch of training at one resolution, fading or stable, with its own settings.

    Covers `start_nimg <= nimg < end_nimg`, a whole number of batches.
    """

    resolution: int
    fading: bool
    start_nimg: int
    end_nimg: int
    batch_size: int  # images an update over all processes
    batch_gpu: int | None  # images a forward pass on one process; None: all of its share
    rate: float | Ramp
    beta1: float
    beta2: float
    eps: float

    def progress(self, nimg: int) -> float:
        return (nimg - self.start_nimg) / (self.end_nimg - self.start_nimg)

    def alpha(self, nimg: int) -> float | None:
        """Weight of the newest block, linear over the fade; `None` when nothing fades."""
        return self.progress(nimg) if self.fading else None

    def learning_rate(self, nimg: int) -> float:
        """Adam's rate for both networks."""
        return self.rate.at(self.progress(nimg)) if isinstance(self.rate, Ramp) else self.rate

    def images_per_pass(self, processes: int) -> int:
        """Images a forward pass on one process: `batch_gpu`, at most the process's share."""
        share = self.batch_size // processes
        return min(self.batch_gpu or share, share)

    def __str__(self) -> str:
        return f"{self.resolution}x{self.resolution} {'fading' if self.fading else 'stable'}"


@dataclass(frozen=True)
class Schedule:
    """All phases, in order and without gaps, and the length of the run (see `make_schedule`).

    `total_nimg` may end inside the last phase: a shortened run is the beginning of the long one.
    """

    phases: tuple[Phase, ...]
    total_nimg: int

    def at(self, nimg: int) -> Phase:
        """The phase of the update that starts at `nimg`."""
        return self.phases[bisect_right(self.phases, nimg, key=lambda p: p.start_nimg) - 1]

    def ends_update(self, nimg: int) -> bool:
        """Whether an update ends, or the run begins, at `nimg`."""
        phase = self.at(max(nimg - 1, 0))
        return (nimg - phase.start_nimg) % phase.batch_size == 0

    def end_of(self, phase: Phase) -> int:
        """The end of a phase in this run, which may cut the last one short."""
        return min(phase.end_nimg, self.total_nimg)

    def ticks_from(self, phase: Phase, nimg: int, tick_kimg: ByResolution[float]) -> int:
        """Ticks that a phase still has at `nimg`; its last image ends one, too."""
        images = self.end_of(phase) - max(phase.start_nimg, nimg)
        return max(0, math.ceil(images / (1000 * at_resolution(tick_kimg, phase.resolution))))

    def reached(self, nimg: int) -> tuple[int, float | None]:
        """Resolution and alpha of networks trained up to `nimg`.

        At a boundary, those of the phase that ends there.
        """
        phase = self.at(max(nimg - 1, 0))
        alpha = phase.alpha(nimg)
        return phase.resolution, None if alpha == 1 else alpha


def make_schedule(resolution: int, settings: ScheduleConfig, optim: OptimConfig) -> Schedule:
    """Train at `start_resolution`, fade the next one in, train there, … up to `resolution`.

    Every resolution trains `stable_kimg` after fading in for `fade_kimg`; the last trains on until
    `total_kimg` (`None`: for its own `stable_kimg`). A phase ends at the whole number of its
    batches nearest to its nominal end, so `nimg` lands on every boundary and roundings do not add
    up.
    """
    phases: list[Phase] = []
    nominal_end = 0.0
    first, total_kimg = settings.start_resolution, settings.total_kimg
    total = math.inf if total_kimg is None else round(total_kimg * 1000)
    resolutions = [r for r in resolutions_to(resolution) if r >= first]
    for r in resolutions:
        batch_size = at_resolution(settings.batch_size, r)
        for fading in (False,) if r == first else (True, False):
            kimg = settings.fade_kimg if fading else settings.stable_kimg
            nominal_end += at_resolution(kimg, r) * 1000
            if r == resolution and not fading and total < math.inf:
                nominal_end = total
            start = phases[-1].end_nimg if phases else 0
            batches = round((nominal_end - start) / batch_size)
            if batches > 0:
                phase = Phase(
                    resolution=r,
                    fading=fading,
                    start_nimg=start,
                    end_nimg=start + batches * batch_size,
                    batch_size=batch_size,
                    batch_gpu=at_resolution(settings.batch_gpu, r),
                    rate=at_resolution(settings.learning_rate, r),
                    beta1=at_resolution(optim.beta1, r),
                    beta2=at_resolution(optim.beta2, r),
                    eps=at_resolution(optim.eps, r),
                )
                phases.append(phase)
    if not phases:
        raise UserError(
            "the schedule has no images to train on: schedule.total_kimg "
            f"({total_kimg}) and schedule.stable_kimg ({settings.stable_kimg}) leave less than one "
            f"batch (schedule.batch_size: {settings.batch_size})"
        )
    return shorten(phases, total)


def shorten(phases: list[Phase], total: float) -> Schedule:
    """The schedule cut at the whole batch nearest to `total`; phases keep their own ends."""
    end = phases[-1].end_nimg
    if total < end:
        phase = next(p for p in phases if p.end_nimg >= total)
        batches = round((total - phase.start_nimg) / phase.batch_size)
        end = max(phase.start_nimg + batches * phase.batch_size, phases[0].batch_size)
    return Schedule(tuple(p for p in phases if p.start_nimg < end), end)


def shortfall(resolution: int, settings: ScheduleConfig, optim: OptimConfig) -> str:
    """Why the run would end before `resolution` has faded in, and what helps; empty if it does not.

    Its images would be those of a smaller resolution, enlarged.
    """
    schedule = make_schedule(resolution, settings, optim)
    reached, alpha = schedule.reached(schedule.total_nimg)
    if (reached, alpha) == (resolution, None):
        return ""
    if reached < resolution:
        ends = f"ends at {reached}x{reached}, and network.resolution is {resolution}"
    else:
        ends = f"ends while {reached}x{reached} still fades in (alpha {alpha:.2g})"
    whole = make_schedule(resolution, settings.model_copy(update={"total_kimg": None}), optim)
    end = whole.phases[-1]
    if end.resolution < resolution:  # whatever the total
        return (
            f"the schedule {ends}: schedule.fade_kimg ({settings.fade_kimg}) and "
            f"schedule.stable_kimg ({settings.stable_kimg}) leave {resolution}x{resolution} less "
            f"than a batch; raise them, or set network.resolution={reached}"
        )
    faded = end.end_nimg if end.fading else end.start_nimg
    return (
        f"the run {ends}, as schedule.total_kimg is {settings.total_kimg:,.10g}: "
        f"{resolution}x{resolution} has faded in after {faded / 1000:,.10g} kimg and has trained "
        f"after {whole.total_nimg / 1000:,.10g}; set -o schedule.total_kimg=null, which means "
        "until then, or -o network.resolution="
        f"{reached if alpha is None else max(reached // 2, 4)}, or shorten schedule.stable_kimg "
        "and schedule.fade_kimg (to train a part of the run for now, use --max-hours)"
    )


def fits(phase: Phase, processes: int, stddev_group: int) -> bool:
    """Whether the batch divides into equal forward passes of whole groups on all processes."""
    size, gpu = phase.batch_size, phase.images_per_pass(processes)
    return gpu > 0 and size % (gpu * processes) == 0 and gpu % min(stddev_group, size) == 0


def check_batches(schedule: Schedule, processes: int, stddev_group: int) -> None:
    """Checks that every batch divides into processes, forward passes and minibatch-stddev groups.

    Raises:
        UserError: names the numbers, the rule and settings that would fit.
    """
    for phase in schedule.phases:
        if fits(phase, processes, stddev_group):
            continue
        size, gpu = phase.batch_size, phase.images_per_pass(processes)
        where = f"at {phase.resolution}x{phase.resolution}"
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
