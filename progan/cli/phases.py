"""Shows a schedule before it runs: a table of its phases, and a plot over images shown."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from progan.config.schedule import Phase, Ramp, Schedule
from progan.runtime.text import table

if TYPE_CHECKING:  # it imports torch, which a table does not need
    from progan.training.costs import CostModel


def rate_text(phase: Phase) -> str:
    if isinstance(phase.rate, Ramp):
        return f"{phase.rate.start:g} -> {phase.rate.end:g} {phase.rate.decay}"
    return f"{phase.rate:g}"


def phase_table(schedule: Schedule, costs: "CostModel | None" = None) -> str:
    """A table with a line per phase; with `costs` also FLOPs and time."""
    header = ["phase", "from kimg", "to kimg", "images", "updates", "batch", "learning rate"]
    if costs:
        header += ["GFLOP/image", "time"]
    rows = [header]
    for phase in schedule.phases:
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
        if costs:
            each = costs.range_of(phase)
            row += [
                f"{costs.work[phase].gflops:.3g}",
                "-" if each is None else str(each.times(images)),
            ]
        rows.append(row)
    total = f"total {schedule.total_nimg / 1000:,.1f} kimg"
    if costs:
        total += f", about {costs.left(0) or 'an unknown time'} on this machine"
    return f"{table(rows)}\n{total}"


def plot(schedule: Schedule, path: Path) -> None:
    """Plots resolution, alpha, batch size and learning rate over kimg to a picture file."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    from progan.model.grid import save_figure

    curves: list[tuple[str, Callable[[Phase, int], float], bool]] = [
        ("resolution", lambda phase, nimg: phase.resolution, True),
        ("alpha", lambda phase, nimg: 1.0 if (a := phase.alpha(nimg)) is None else a, False),
        ("batch size", lambda phase, nimg: phase.batch_size, True),
        ("learning rate", lambda phase, nimg: phase.learning_rate(nimg), False),
    ]
    figure, axes = plt.subplots(len(curves), 1, figsize=(9, 8), sharex=True, layout="constrained")
    for axis, (name, value, powers_of_two) in zip(axes, curves, strict=True):
        x, y = points(schedule, value)
        axis.plot(x, y, linewidth=1.8)
        for phase in schedule.phases:
            if phase.fading:
                end = schedule.end_of(phase)
                axis.axvspan(phase.start_nimg / 1000, end / 1000, alpha=0.12, linewidth=0)
        if powers_of_two:
            axis.set_yscale("log", base=2)
            ticks = sorted(set(y))
            axis.set_yticks(ticks, [f"{t:g}" for t in ticks])
            axis.minorticks_off()
        axis.set_ylabel(name)
        axis.grid(alpha=0.3)
        axis.margins(x=0.01)
    axes[0].set_title("shaded: the resolution fades in")
    axes[-1].set_xlabel("images shown (kimg)")
    save_figure(figure, path)
    plt.close(figure)


def points(
    schedule: Schedule, value: Callable[[Phase, int], float]
) -> tuple[list[float], list[float]]:
    """A curve over kimg: 33 points per phase, so that ramps show and steps stay vertical."""
    x, y = [], []
    for phase in schedule.phases:
        end = schedule.end_of(phase)
        for i in range(33):
            nimg = phase.start_nimg + (end - phase.start_nimg) * i // 32
            x.append(nimg / 1000)
            y.append(value(phase, nimg))
    return x, y
