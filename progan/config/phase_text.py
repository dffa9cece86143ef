"""Phases in words: their rates, their optimizers, and the rows of a table of them."""

from progan.config.curves import Pieces, Ramp
from progan.config.optimizers import OPTIONS
from progan.config.schedule import Curve, Phase, Schedule


def curve_text(curve: Curve) -> str:
    """A rate or an option, such as `0.002 -> 0.0005 cosine`."""
    if isinstance(curve.shape, Ramp):
        over = " over the run" if curve.shape.over == "run" else ""
        return f"{curve.shape.start:g} -> {curve.shape.end:g} {curve.shape.decay}{over}"
    if isinstance(curve.shape, Pieces):
        values = [value for ramp in curve.shape.ramps for value in (ramp.start, ramp.end)]
        return f"{min(values):g} to {max(values):g} in cycles"
    return f"{curve.shape:g}"


def rate_text(phase: Phase) -> str:
    if phase.G_rate == phase.D_rate:
        return curve_text(phase.G_rate)
    return f"G {curve_text(phase.G_rate)}, D {curve_text(phase.D_rate)}"


def optimizer_text(phase: Phase) -> str:
    """Its name and the options that are not its defaults."""
    other = [
        f"{name} {curve_text(curve)}"
        for name, curve in phase.options
        if curve.shape != OPTIONS[phase.optimizer][name]
    ]
    kept = [] if phase.restart else ["goes on"]
    return ", ".join([phase.optimizer, *other, *kept])


def phase_rows(schedule: Schedule) -> list[list[str]]:
    """A table of the phases: a header, then a row for each."""
    header = ["phase", "from kimg", "to kimg", "images", "updates", "batch", "learning rate"]
    optimizers = [optimizer_text(phase) for phase in schedule.phases]
    told = set(optimizers) != {"adam"}
    rows = [header + ["optimizer"] * told]
    for phase, optimizer in zip(schedule.phases, optimizers, strict=True):
        images = schedule.end_of(phase) - phase.start_nimg
        row = [
            str(phase),
            f"{phase.start_nimg / 1000:.1f}",
            f"{(phase.start_nimg + images) / 1000:.1f}",
            f"{images:,}",
            f"{images // phase.batch_size:,}",
            str(phase.batch_size),
            rate_text(phase),
        ]
        rows.append(row + [optimizer] * told)
    return rows
