"""Curves of a run as pictures for a page, in dark ink and in light ink."""

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from progan.config.metric_names import PROTOCOLS, REALS, is_whole, parts
from progan.runs.charts import about
from progan.runs.records import SECTION, STATS, lines_of, metrics_of, number
from progan.runs.summary import Summary

Points = list[tuple[float, float]]
INK = {"light": "#1f2328", "dark": "#e6edf3"}  # by the page's colour scheme
COLOURS = {"light": ("#0b62c4", "#c2410c"), "dark": ("#6cb2ff", "#ffa15c")}
MOST = 1500  # points of a curve; more would not be seen
CHARTS = (  # title, and keys of the statistics by the names of their curves
    ("Losses", {"critic": "Loss/D", "generator": "Loss/G"}),
    ("Scores by the critic", {"reals": "Loss/scores/real", "fakes": "Loss/scores/fake"}),
    ("Gradient penalty", {"penalty": "Loss/gradient_penalty", "norm": "Loss/gradient_norm"}),
    ("Variety of samples", {"": "Progress/variety"}),
    ("Images a second", {"": "Timing/images_per_sec"}),
)


@dataclass(frozen=True)
class Chart:
    """Curves over kimg in one picture.

    Args:
        about: what each curve shows, and what is good.
        lines: points (kimg, value) by name; the name is empty if there is one only.
        reals: what real images get, a dashed line; None if unknown.
    """

    title: str
    about: tuple[str, ...]
    lines: dict[str, Points] = field(default_factory=dict)
    reals: float | None = None


def points_of(lines: list[tuple[int, dict]], key: str) -> Points:
    """The values of a key by kimg; a later line replaces an earlier one."""
    values = {nimg: v for nimg, line in lines if (v := number(line.get(key))) is not None}
    return [(nimg / 1000, value) for nimg, value in sorted(values.items())]


def charts_of(run: Summary) -> Iterator[Chart]:
    """The charts for which there are values: of the ticks, then of metrics."""
    ticks = lines_of(run.folder / STATS)
    for title, keys in CHARTS:
        found = {name: points for name, key in keys.items() if (points := points_of(ticks, key))}
        if found:
            yield Chart(title, tuple(filter(None, map(about, keys.values()))), found)
    metrics = metrics_of(run.folder)
    for name in sorted(filter(is_whole, metrics)):
        kind, values = parts(name)[0], sorted(metrics[name].items())
        points = [(nimg / 1000, value) for nimg, value in values]
        reals = metrics.get(f"{name}_{REALS[kind]}") if kind in REALS else None
        level = reals[max(reals)] if reals else None
        title = f"{name}: {PROTOCOLS[kind].what}"
        yield Chart(title, (about(SECTION + name),), {"": points}, level)


def draw(chart: Chart, scheme: str) -> bytes:
    """An SVG without a background, wide enough for a phone.

    Args:
        scheme: "light" or "dark", that of the page below it.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    ink = INK[scheme]
    texts = "text.color", "axes.labelcolor", "xtick.color", "ytick.color"
    settings: dict[Any, Any] = dict.fromkeys((*texts, "axes.edgecolor", "grid.color"), ink)
    with rc_context(settings | {"svg.hashsalt": "progan", "font.size": 10}):
        figure = Figure(figsize=(4.8, 2.6), layout="constrained")
        axis = figure.subplots()
        for (name, points), colour in zip(chart.lines.items(), COLOURS[scheme], strict=False):
            thinned = [*points[: -1 : len(points) // MOST + 1], points[-1]]
            dots = "o" if len(points) < 20 else ""  # a line of one point would not be seen
            x, y = zip(*thinned, strict=True)
            axis.plot(x, y, color=colour, marker=dots, markersize=3, label=name or "samples")
        if chart.reals is not None:
            axis.axhline(chart.reals, color=ink, linestyle="--", linewidth=1.2, label="real images")
        if any(chart.lines) or chart.reals is not None:
            axis.legend(frameon=False, fontsize=9)
        axis.set_xlabel("images shown (kimg)")
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25)
        file = io.BytesIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    return file.getvalue()
