"""Shows a schedule before it runs: a table of its phases, a plot over images and over hours."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from progan.config.optimizers import OPTIONS
from progan.config.phase_text import phase_rows
from progan.config.schedule import Phase, Schedule
from progan.runtime.text import table

if TYPE_CHECKING:  # they take long to import
    from matplotlib.axes import Axes

    from progan.training.costs import CostModel

SHORT = 2 * 3600  # seconds; shorter runs are plotted over minutes


def phase_table(schedule: Schedule, costs: "CostModel | None" = None) -> str:
    """A table with a line per phase; with `costs` also FLOPs and time."""
    header, *rows = phase_rows(schedule)
    total = f"total {schedule.total_nimg / 1000:,.1f} kimg"
    if costs:
        header += ["GFLOP/image", "time"]
        for row, phase in zip(rows, schedule.phases, strict=True):
            each = costs.range_of(phase)
            images = schedule.end_of(phase) - phase.start_nimg
            time = "-" if each is None else str(each.times(images))
            row += [f"{costs.work[phase].gflops:.3g}", time]
        total += f", about {costs.left(0) or 'an unknown time'} on this machine"
    return f"{table([header, *rows])}\n{total}"


Value = Callable[[Phase, int], float | None]
POINTS = 257  # of a curve in each phase, so that restarts of cycles look vertical


class Panel(NamedTuple):
    """What one axis shows: its name, its lines by label, and the ticks of its values."""

    name: str
    lines: dict[str, Value]
    ticks: Literal["any", "from 0", "powers of two", "optimizers"] = "any"


def panels_of(schedule: Schedule) -> list[Panel]:
    """What is plotted, from top to bottom."""

    def option(name: str) -> Value:
        return lambda phase, nimg: phase.options_at(nimg).get(name)

    def weight(name: str) -> Value:
        return lambda phase, nimg: dict(phase.weights)[name].at(nimg)

    def half_life(phase: Phase, nimg: int) -> float | None:
        return None if phase.half_life is None else phase.half_life.at(nimg)

    rates: dict[str, Value] = {"": lambda phase, nimg: phase.G_rate.at(nimg)}
    if any(phase.G_rate != phase.D_rate for phase in schedule.phases):
        rates = {"G": rates[""], "D": lambda phase, nimg: phase.D_rate.at(nimg)}
    panels = [
        Panel("resolution", {"": lambda phase, nimg: phase.resolution}, "powers of two"),
        Panel("alpha", {"": lambda phase, nimg: 1.0 if (a := phase.alpha(nimg)) is None else a}),
        Panel("batch size", {"": lambda phase, nimg: phase.batch_size}, "powers of two"),
        Panel("learning rate", rates, "from 0"),
    ]
    kinds = optimizers_of(schedule)
    if len(kinds) > 1:
        which: Value = lambda phase, nimg: kinds.index(phase.optimizer)  # noqa: E731
        panels.append(Panel("optimizer", {"": which}, "optimizers"))
    names = dict.fromkeys(name for phase in schedule.phases for name, _ in phase.options)
    told = [name for name in names if is_told(schedule, name)]
    if told:
        panels.append(Panel("options", {name: option(name) for name in told}))
    weights = dict.fromkeys(
        name for phase in schedule.phases for name, curve in phase.weights if curve.varies
    )
    panels += [Panel(name.replace("_", " "), {"": weight(name)}, "from 0") for name in weights]
    if any("half_life" in phase.varying for phase in schedule.phases):
        panels.append(Panel("half-life (kimg)", {"": half_life}, "from 0"))
    return panels


def optimizers_of(schedule: Schedule) -> list[str]:
    """All of them, each once, in the order in which they come."""
    return list(dict.fromkeys(phase.optimizer for phase in schedule.phases))


def is_told(schedule: Schedule, name: str) -> bool:
    """Whether an option is anywhere another than its optimizer's default."""
    return any(
        curve.shape != OPTIONS[phase.optimizer][name]
        for phase in schedule.phases
        for option, curve in phase.options
        if option == name
    )


def plot(schedule: Schedule, path: Path, costs: "CostModel | None" = None) -> None:
    """Plots what varies over images shown to a picture file.

    Args:
        costs: if given, a second column shows the same over predicted hours; over minutes, if the
            run is short.
    """
    from matplotlib.figure import Figure

    from progan.model.grid import save_figure

    panels = panels_of(schedule)
    places: list[tuple[str, Place]] = [("images shown (kimg)", kimg)]
    if costs:
        places.append(predicted(costs))
    size = 9 * len(places), 0.6 + 1.9 * len(panels)
    figure = Figure(figsize=size, layout="constrained")
    rows = figure.subplots(len(panels), len(places), sharex="col", sharey="row", squeeze=False)
    for axes, panel in zip(rows, panels, strict=True):
        for axis, (_, place) in zip(axes, places, strict=True):
            draw(axis, schedule, panel, place)
        axes[0].set_ylabel(panel.name)
        if any(panel.lines):
            axes[0].legend()
    for axis, (unit, _) in zip(rows[-1], places, strict=True):
        axis.set_xlabel(unit)
    kinds = optimizers_of(schedule)
    only = f", with {kinds[0]}" if len(kinds) == 1 else ""
    total = f"{schedule.total_nimg / 1000:,.10g} kimg{only}"
    figure.suptitle(f"{total}; shaded: a resolution fades in", fontsize="medium")
    figure.align_ylabels()
    save_figure(figure, path)


def draw(axis: "Axes", schedule: Schedule, panel: Panel, place: "Place") -> None:
    """Draw a panel's lines, with fades shaded."""
    values = set()
    for i, (label, value) in enumerate(panel.lines.items()):
        x, y = points(schedule, value, place)
        axis.plot(x, y, "--" if i else "-", linewidth=1.8, label=label)  # both show where equal
        values |= set(y)
    for phase in schedule.phases:
        if phase.fading:
            span = place(phase.start_nimg), place(schedule.end_of(phase))
            axis.axvspan(*span, alpha=0.12, linewidth=0)
    if panel.ticks == "powers of two":
        axis.set_yscale("log", base=2)
        ticks = sorted(values)
        axis.set_yticks(ticks, [f"{t:g}" for t in ticks])
        axis.minorticks_off()
    elif panel.ticks == "from 0":
        axis.set_ylim(-0.04 * max(values), 1.08 * max(values))
    elif panel.ticks == "optimizers":
        kinds = optimizers_of(schedule)
        axis.set_yticks(range(len(kinds)), kinds)
        axis.margins(y=0.2)
    axis.grid(alpha=0.3)
    axis.margins(x=0.01)


Place = Callable[[int], float]  # of an image on the axis


def kimg(nimg: int) -> float:
    return nimg / 1000


def predicted(costs: "CostModel") -> tuple[str, Place]:
    """The unit of a run's predicted time, and from images shown to the time since the start."""
    schedule = costs.schedule
    ends = [0, *map(schedule.end_of, schedule.phases)]
    left = [found.likely if (found := costs.left(end)) else 0.0 for end in ends]
    unit, seconds = ("hours", 3600) if left[0] > SHORT else ("minutes", 60)
    spent = [(left[0] - each) / seconds for each in left]
    return f"predicted {unit} on this machine", lambda nimg: float(np.interp(nimg, ends, spent))


def points(
    schedule: Schedule, value: Value, place: Place = kimg
) -> tuple[list[float], list[float]]:
    """A curve over images shown: so many points per phase that ramps show and steps stay vertical.

    What a phase does not have is left out of the line.
    """
    x, y = [], []
    for phase in schedule.phases:
        end = schedule.end_of(phase)
        for i in range(POINTS):
            nimg = phase.start_nimg + (end - phase.start_nimg) * i // (POINTS - 1)
            x.append(place(nimg))
            found = value(phase, nimg)
            y.append(math.nan if found is None else found)
    return x, y
