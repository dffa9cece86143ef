"""Why a schedule ends before its last resolution has faded in."""

from progan.config.schedule import make_schedule
from progan.config.schedule_settings import OptimConfig, ScheduleConfig


def shortfall(
    resolution: int, settings: ScheduleConfig, optim: OptimConfig, critic_updates: int = 1
) -> str:
    """Why the run would end before `resolution` has faded in, and what helps; empty if it does not.

    Its images would be those of a smaller resolution, enlarged.
    """
    schedule = make_schedule(resolution, settings, optim, critic_updates=critic_updates)
    reached, alpha = schedule.reached(schedule.total_nimg)
    if (reached, alpha) == (resolution, None):
        return ""
    if reached < resolution:
        ends = f"ends at {reached}x{reached}, and network.resolution is {resolution}"
    else:
        ends = f"ends while {reached}x{reached} still fades in (alpha {alpha:.2g})"
    longer = settings.model_copy(update={"total_kimg": None})
    whole = make_schedule(resolution, longer, optim, critic_updates=critic_updates)
    end = whole.phases[-1]
    if settings.phases and end.resolution < resolution:
        return f"the schedule {ends}: add phases, or set network.resolution={end.resolution}"
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
