"""Runs side by side: values at equal images and at equal hours, a table and a picture."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from progan.analysis.curves import Point, Run, interpolate
from progan.config.metric_names import PROTOCOLS, REALS, better, parts
from progan.runtime.text import human_time, table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

CLOCKS = ("nimg", "hours")
SHORT = 2  # hours; shorter runs are drawn over minutes
MARKERS = "osD^vP"
COLUMNS = ("run", "metric", "newest", "best", "at kimg", "after", "reached kimg", "trained")


class Comparison(NamedTuple):
    """Values of runs at the same nimg or hours.

    Args:
        values: by run; None: no evaluations around that time.
        ahead: the run with the best value; None if there is none.
        by: its lead over the next; None if the metric has no best or one run has no value.
    """

    metric: str
    clock: str
    at: float
    values: dict[str, float | None]
    ahead: str | None
    by: float | None


def curve_of(run: Run, metric: str, clock: str) -> list[tuple[float, float]]:
    """(x, value), by x."""
    points = [(getattr(point, clock), point.value) for point in run.metrics.get(metric, [])]
    return sorted((point for point in points if point[0] is not None), key=lambda point: point[0])


def compare_runs(runs: Sequence[Run], metric: str, clock: str) -> Comparison | None:
    """The runs that have a metric at the last nimg or hours that all of them have reached.

    None: fewer than two runs have it.
    """
    curves = {run.name: curve for run in runs if (curve := curve_of(run, metric, clock))}
    if len(curves) < 2:
        return None
    at = min(curve[-1][0] for curve in curves.values())
    values = {name: interpolate(curve, at) for name, curve in curves.items()}
    return Comparison(metric, clock, at, values, *leader(values, better(metric)))


def leader(values: dict[str, float | None], wanted: str | None) -> tuple[str | None, float | None]:
    """The run with the best value, and its lead; (None, 0) if the two best are equal."""
    known = [(value, name) for name, value in values.items() if value is not None]
    if wanted is None or len(known) < 2:
        return None, None
    known.sort(reverse=wanted == "higher")
    (first, name), (second, _) = known[:2]
    return (name if first != second else None), abs(first - second)


def sentence(comparison: Comparison) -> str:
    """`swd2000 after 30m 00s: growing 21.3, full 28.9; growing is ahead by 7.6`."""
    metric, clock, at, values, ahead, by = comparison
    time = f"at {at / 1000:,.1f} kimg" if clock == "nimg" else f"after {human_time(3600 * at)}"
    said = [f"{n} (begins later)" if v is None else f"{n} {v:.4g}" for n, v in values.items()]
    verdict = f"; {ahead} is ahead by {by:.3g}" if ahead else "; none is ahead" if by == 0 else ""
    return f"{metric} {time}: {', '.join(said)}{verdict}"


def best_of(points: Sequence[Point], metric: str) -> Point | None:
    """The first of the best; None if neither low nor high is better."""
    which = {"lower": min, "higher": max}.get(better(metric) or "")
    return which(points, key=lambda point: point.value) if which and points else None


def figures(runs: Sequence[Run], metrics: Sequence[str]) -> str:
    """A table with a line for each metric and run."""
    return table([COLUMNS, *(row(run, metric) for metric in metrics for run in runs)], left=(0, 1))


def row(run: Run, metric: str) -> tuple[str, ...]:
    """The cells of a run's line; a dash where there is no value."""
    points = run.metrics.get(metric, [])
    newest = points[-1].value if points else None
    nimg, hours, best = best_of(points, metric) or (None, None, None)
    values = (f"{value:.4g}" if value is not None else "-" for value in (newest, best))
    return run.name, metric, *values, *when(nimg, hours), *when(run.nimg, run.hours)


def when(nimg: int | None, hours: float | None) -> tuple[str, str]:
    kimg = "-" if nimg is None else f"{nimg / 1000:,.1f}"
    return kimg, human_time(None if hours is None else 3600 * hours)


def unit_of(runs: Sequence[Run], clock: str) -> tuple[float, str]:
    """The factor by which a clock's values are drawn, and the axis label."""
    if clock == "nimg":
        return 1 / 1000, "images shown (kimg)"
    if max((run.hours or 0 for run in runs), default=0) < SHORT:
        return 60, "minutes of training"
    return 1, "hours of training"


def draw(runs: Sequence[Run], metrics: Sequence[str]) -> "Figure":
    """A picture with a row for each metric: against images shown, and against hours or minutes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 0.8 + 2.8 * len(metrics)), layout="constrained")
    rows = figure.subplots(len(metrics), len(CLOCKS), sharex="col", sharey="row", squeeze=False)
    legend: dict[str, Line2D] = {}  # of all axes, as a run may have only some of the metrics
    for axes, metric in zip(rows, metrics, strict=True):
        for axis, clock in zip(axes, CLOCKS, strict=True):
            legend |= draw_runs(axis, runs, metric, clock) | draw_reals(axis, runs, metric)
            finish(axis)
        axes[0].set_ylabel(metric)
        axes[0].set_title(title(metric), loc="left", fontsize="medium")
    for axis, clock in zip(rows[-1], CLOCKS, strict=True):
        axis.set_xlabel(unit_of(runs, clock)[1])
    figure.align_ylabels()
    entries = sorted(legend.items(), key=lambda entry: entry[1].get_linestyle() == "--")
    labels = [label.replace("$", r"\$") for label, _ in entries]  # else it begins a formula
    lines = [line for _, line in entries]
    figure.legend(lines, labels, loc="outside upper center", ncols=4, frameon=False)
    return figure


def title(metric: str) -> str:
    """What a metric measures, and whether lower or higher is better."""
    wanted = better(metric)
    what = PROTOCOLS[parts(metric)[0]].what
    return f"{what}, {wanted} is better" if wanted else what


def draw_runs(axis: "Axes", runs: Sequence[Run], metric: str, clock: str) -> dict[str, "Line2D"]:
    """A line for each run that has the metric; its colour is the same in all axes."""
    lines = {}
    unit, _ = unit_of(runs, clock)
    for i, run in enumerate(runs):
        if curve := curve_of(run, metric, clock):
            x, y = [unit * x for x, _ in curve], [value for _, value in curve]
            marker, colour = MARKERS[i % len(MARKERS)], f"C{i % 10}"
            (line,) = axis.plot(x, y, color=colour, marker=marker, markersize=4.5, linewidth=1.8)
            lines[run.name] = line
    if not lines:  # only hours can be missing
        middle: dict[str, Any] = {"ha": "center", "va": "center", "transform": axis.transAxes}
        axis.text(0.5, 0.5, "no times known", color="0.5", **middle)
    return lines


def draw_reals(axis: "Axes", runs: Sequence[Run], metric: str) -> dict[str, "Line2D"]:
    """Dashed lines, the metric of reals against other reals: one, or one for each data set."""
    kind, _, ending = parts(metric)
    levels: dict[str, list[int]] = {}
    if kind in REALS and not ending:
        for i, run in enumerate(runs):
            if points := run.metrics.get(f"{metric}_{REALS[kind]}"):
                levels.setdefault(f"{points[-1].value:.4g}", []).append(i)
    lines = {}
    for level, same in levels.items():
        whose, colour = "reals against reals", "0.55"
        if len(levels) > 1:
            whose, colour = "reals of " + ", ".join(runs[i].name for i in same), f"C{same[0] % 10}"
        lines[whose] = axis.axhline(float(level), color=colour, linestyle="--", linewidth=1.4)
    return lines


def finish(axis: "Axes") -> None:
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_xlim(left=0)
