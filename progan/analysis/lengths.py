"""Averages of several lengths, compared by a metric: a table and a picture."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from progan.config.metric_names import better
from progan.runtime.text import percent, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from progan.runs.averages import KeptAverages
    from progan.runtime.progress import Say


class Measured(NamedTuple):
    """A length, how far its profile is from the wanted one, and what the metric says of it."""

    length: float
    missed: float
    value: float
    floor: float | None  # of reals against other reals


def measured(
    kept: "KeptAverages",
    lengths: Sequence[float],
    metric: str,
    data: str | None,
    device: str,
    say: "Say",
) -> list[Measured]:
    """The metric of the average of each length."""
    from progan.metrics.of_snapshot import compare_with_data
    from progan.runs.snapshot_file import average_path
    from progan.runtime.accelerator import make_accelerator
    from progan.runtime.device import take_device

    accelerator = make_accelerator(Path("."), None, device=take_device(device))
    found = []
    for length in lengths:
        snapshot, missed = kept.snapshot(length)
        run = kept.newest.file.parents[1]
        snapshot = replace(snapshot, file=average_path(run, length, snapshot.nimg))
        if say:
            say(f"measuring {metric} of length {length:g}")
        results = compare_with_data(snapshot, [metric], data, None, accelerator, say).results
        found.append(Measured(length, missed, results[metric], results.get(f"{metric}_floor")))
    accelerator.end_training()
    return found


def best_of(found: Sequence[Measured], metric: str) -> Measured:
    """The length with the best value."""
    best = min if better(metric) == "lower" else max
    return best(found, key=lambda one: one.value)


def figures(found: Sequence[Measured], metric: str, nimg: int) -> str:
    """A table with a line for each length."""
    first = best_of(found, metric)
    rows = [("length", "kimg", "profile error", metric, "")]
    for one in found:
        kimg = f"{one.length * nimg / 1000:,.3g}"
        mark = "best" if one is first else ""
        rows.append((f"{one.length:g}", kimg, percent(one.missed), f"{one.value:.4g}", mark))
    return table(rows, left=(4,))


def content(found: Sequence[Measured], metric: str, nimg: int) -> dict[str, Any]:
    """The figures, for JSON."""
    return {"metric": metric, "nimg": nimg, "lengths": [one._asdict() for one in found]}


def draw(found: Sequence[Measured], metric: str, nimg: int) -> "Figure":
    """The metric against the length, as a share and in images."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axis = figure.subplots()
    lengths = [one.length for one in found]
    axis.plot(lengths, [one.value for one in found], marker="o", linewidth=1.8)
    best = best_of(found, metric)
    axis.plot([best.length], [best.value], marker="o", markersize=11, fillstyle="none", color="C3")
    if best.floor is not None:
        axis.axhline(best.floor, color="0.55", linestyle="--", linewidth=1.4)
        axis.annotate("reals against reals", (lengths[0], best.floor), va="bottom", color="0.4")
    axis.set_xscale("log")
    axis.set_xticks(lengths, [f"{length:g}" for length in lengths])
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xlabel(f"relative length of the average (share of {nimg / 1000:,g} kimg)")
    axis.set_ylabel(f"{metric} ({better(metric)} is better)")
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    return figure
