"""The list of phases that settings describe: the given one, or the one that maps stand for."""

from typing import NamedTuple

from progan.config.resolutions import at_resolution, resolutions_to
from progan.config.schedule_settings import OptimConfig, PhaseConfig, ScheduleConfig


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


def length(phase: PhaseConfig) -> float:
    """Of a phase in a list, in kimg; 0 if it has none."""
    return phase.kimg or (phase.cycles and phase.cycles.kind.kimg()) or 0.0


def optimizer_of(phase: PhaseConfig, optim: OptimConfig) -> str:
    return phase.optimizer or at_resolution(optim.optimizer, phase.resolution)
