"""Checks that phases follow each other, and that cycles and optimizers' options fit them."""

import math

from progan.config.curves import Cycles, maps_in
from progan.config.optimizers import OPTIONS, momentum_of
from progan.config.phase_list import cycles_of, length, optimizer_of, option_of, planned
from progan.config.resolutions import START_RESOLUTION, has
from progan.config.schedule_settings import OptimConfig, PhaseConfig, ScheduleConfig

REPLACED = ("start_resolution", "start_alpha", "stable_kimg", "fade_kimg")  # by schedule.phases
OPTION_NAMES = sorted({name for options in OPTIONS.values() for name in options})


def check_phases(resolution: int, settings: ScheduleConfig, optim: OptimConfig) -> None:
    """Raises ValueError, with the place, unless a schedule can be made of these settings."""
    default = ScheduleConfig()
    if settings.cycles and settings.learning_rate != default.learning_rate:
        raise ValueError("schedule.cycles replace schedule.learning_rate: give one of them")
    if settings.phases:
        for name in REPLACED:
            if getattr(settings, name) != getattr(default, name):
                raise ValueError(f"schedule.phases replace schedule.{name}: give one of them")
        check_list(settings.phases, resolution, optim)
    elif settings.start_alpha is not None and settings.start_resolution == START_RESOLUTION:
        raise ValueError(
            f"schedule.start_alpha ({settings.start_alpha:g}) is for a resolution that fades in, "
            "and training starts at 4x4, which does not: leave it away, or set "
            "schedule.start_resolution to what the networks have reached"
        )
    found = planned(resolution, settings)
    end, total = found[-1].end / 1000, settings.total_kimg
    if total is not None and round(total * 1000) > found[-1].end:
        raise ValueError(
            f"schedule.total_kimg ({total:,.10g}) is more than schedule.phases have "
            f"({end:,.10g}); lengthen the last one"
        )
    phases = [each.phase for each in found]
    check_options(phases, settings, optim)
    if settings.cycles:
        follow = [phase for phase in phases if cycles_of(phase, settings) is settings.cycles]
        kinds = [optimizer_of(phase, optim) for phase in follow]
        try:
            check_cycles(settings.cycles, end if total is None else total, kinds, optim, "the run")
        except ValueError as error:
            raise ValueError(f"schedule.cycles: {error}") from None


def check_options(phases: list[PhaseConfig], settings: ScheduleConfig, optim: OptimConfig) -> None:
    """Raises ValueError for an option that no phase, or a phase, can use."""
    kinds = list(dict.fromkeys(optimizer_of(phase, optim) for phase in phases))
    for name in OPTION_NAMES:
        if getattr(optim, name) is not None and not any(name in OPTIONS[kind] for kind in kinds):
            raise ValueError(f"optim.{name}: {no_option(kinds[0], name)}")
    for number, phase in enumerate(phases, 1):
        cycles = cycles_of(phase, settings)
        moves = option_of(phase, optim, "momentum") or (cycles and cycles.kind.momenta())
        if option_of(phase, optim, "nesterov") and not moves:
            place = f"schedule.phases, phase {number}: " if settings.phases else "optim."
            raise ValueError(f"{place}nesterov needs momentum; give momentum, or leave it away")


def check_list(phases: list[PhaseConfig], resolution: int, optim: OptimConfig) -> None:
    before = None
    for number, phase in enumerate(phases, 1):
        try:
            check_size(phase, before, resolution)
            check_optimizer(phase, before, optim)
        except ValueError as error:
            raise ValueError(f"schedule.phases, phase {number}: {error}") from None
        before = phase


def check_size(phase: PhaseConfig, before: PhaseConfig | None, resolution: int) -> None:
    """Raises ValueError unless the phase can follow the one before, and has a length."""
    r = phase.resolution
    size = f"{r}x{r}"
    if r > resolution:
        raise ValueError(f"{size} is more than network.resolution ({resolution})")
    if before and r not in (before.resolution, 2 * before.resolution):
        raise ValueError(
            f"{size} cannot follow {before.resolution}x{before.resolution}; a phase has the "
            "resolution of the one before, or twice that"
        )
    if phase.fade and (r == 4 or (before and before.resolution == r)):
        raise ValueError(f"{size} is there already and cannot fade in; leave fade away")
    if not length(phase):
        raise ValueError("kimg is missing: length in thousands of images")


def check_optimizer(phase: PhaseConfig, before: PhaseConfig | None, optim: OptimConfig) -> None:
    """Raises ValueError unless the phase's optimizer has its options, and can go on if it is to."""
    kind = optimizer_of(phase, optim)
    for name in OPTION_NAMES:
        if getattr(phase, name) is not None and name not in OPTIONS[kind]:
            raise ValueError(no_option(kind, name))
    r = phase.resolution
    if not all(has(each, r) for each in maps_in(phase.learning_rate)):
        raise ValueError(f"learning_rate has no value for {r}x{r}; give a number or a ramp")
    if before and not phase.restart and optimizer_of(before, optim) != kind:
        raise ValueError(
            f"restart is false, but {kind} cannot go on from the moments of "
            f"{optimizer_of(before, optim)}; leave restart away"
        )
    if phase.cycles:
        if phase.learning_rate is not None:
            raise ValueError("cycles replace learning_rate: give one of them")
        check_cycles(phase.cycles, phase.kimg, [kind], phase, "the phase")


def check_cycles(
    cycles: Cycles,
    kimg: float | None,
    kinds: list[str],
    beside: PhaseConfig | OptimConfig,
    what: str,
) -> None:
    """Raises ValueError unless cycles fill their images, and optimizers have their momentum.

    Args:
        kimg: length of what they go over; None: their own.
        kinds: optimizers that follow them.
        beside: the settings that must not have the momentum, too.
    """
    own = cycles.kind.kimg()
    if own is not None and kimg is not None and not math.isclose(own, kimg, rel_tol=1e-3):
        raise ValueError(
            f"the cycles have {own:,.10g} kimg, and {what} has {kimg:,.10g}; leave length away, "
            f"and they fill {what}"
        )
    for kind in kinds if cycles.kind.momenta() else ():
        name = momentum_of(kind)
        if not name:
            raise ValueError(f"{kind} has no momentum: leave momentum_max and momentum_min away")
        if getattr(beside, name) is not None:
            raise ValueError(f"momentum_max and momentum_min replace {name}: give one of them")


def no_option(kind: str, name: str) -> str:
    return f"{kind} has no {name}; it has {', '.join(OPTIONS[kind])}"
