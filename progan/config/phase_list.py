"""The list of phases that settings describe: the given one, or the one that maps stand for."""

from typing import Any, NamedTuple

from progan.config.curves import Cycles, Varying
from progan.config.resolutions import at_resolution, resolutions_to
from progan.config.schedule_settings import OptimConfig, PhaseConfig, ScheduleConfig
from progan.runtime.errors import UserError


class Planned(NamedTuple):
    """A phase before its length is rounded to batches."""

    phase: PhaseConfig
    end: float  # in images from the run's first


def planned(resolution: int, settings: ScheduleConfig) -> list[Planned]:
    """All phases: those of `schedule.phases`, or each resolution's fade and stable phase.

    Without a list every resolution trains `stable_kimg` after fading in for `fade_kimg`; the last
    trains on until `total_kimg` (`None`: for its own `stable_kimg`). The first does not fade in, or
    does so from `start_alpha`.
    """
    found, end = [], 0.0
    if settings.phases:
        for phase in settings.phases:
            end += length(phase) * 1000
            found.append(Planned(phase, end))
        return found
    first, start, total = settings.start_resolution, settings.start_alpha, settings.total_kimg
    for r in (r for r in resolutions_to(resolution) if r >= first):
        for fading in (False,) if r == first and start is None else (True, False):
            kimg = at_resolution(settings.fade_kimg if fading else settings.stable_kimg, r)
            if fading and r == first:
                kimg *= 1 - (start or 0)
            end += kimg * 1000
            if r == resolution and not fading and total is not None:
                end = round(total * 1000)
            found.append(Planned(PhaseConfig(resolution=r, fade=fading), end))
    return found


class Rounded(NamedTuple):
    """A phase of whole steps: its first image, its end, and the images of a step."""

    phase: PhaseConfig
    start: int
    end: int
    step: int


def rounded(resolution: int, settings: ScheduleConfig, critic_updates: int) -> list[Rounded]:
    """The phases of `planned` in whole steps.

    Each ends at the whole number of its steps nearest to its nominal end, so `nimg` lands on every
    boundary and roundings do not add up. Of the maps, what has no step is left out.

    Raises:
        UserError: a phase in a list has no step.
    """
    found: list[Rounded] = []
    for number, (phase, nominal_end) in enumerate(planned(resolution, settings), 1):
        step = critic_updates * batch_size_of(phase, settings)
        start = found[-1].end if found else 0
        steps = round((nominal_end - start) / step)
        if steps > 0:
            found.append(Rounded(phase, start, start + steps * step, step))
        elif settings.phases:
            raise UserError(
                f"schedule.phases, phase {number}: {length(phase):g} kimg are not even one step of "
                f"{step:,} images; lengthen it, or leave it away"
            )
    return found


def batch_size_of(phase: PhaseConfig, settings: ScheduleConfig) -> int:
    return phase.batch_size or at_resolution(settings.batch_size, phase.resolution)


def length(phase: PhaseConfig) -> float:
    """Of a phase in a list, in kimg; 0 if it has none."""
    return phase.kimg or (phase.cycles and phase.cycles.kind.kimg()) or 0.0


def optimizer_of(phase: PhaseConfig, optim: OptimConfig) -> str:
    return phase.optimizer or at_resolution(optim.optimizer, phase.resolution)


def option_of(phase: PhaseConfig, optim: OptimConfig, name: str) -> Varying[Any] | None:
    """What settings give for an option of a phase's optimizer; None: nothing."""
    given = getattr(phase, name)
    if given is None and (by_resolution := getattr(optim, name)) is not None:
        given = at_resolution(by_resolution, phase.resolution)
    return given


def cycles_of(phase: PhaseConfig, settings: ScheduleConfig) -> Cycles | None:
    """The cycles that the phase's rates follow: its own, or those of the run."""
    return phase.cycles or (settings.cycles if phase.learning_rate is None else None)
