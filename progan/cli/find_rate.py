"""The command `progan find-rate`: losses while the learning rate rises."""

import math
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from progan.cli.options import (
    CONFIG,
    OVERRIDES,
    CheckedOption,
    PathOption,
    check_picture,
    say,
    to_number,
    to_resolution,
)
from progan.config.phase_text import rate_text
from progan.runtime.errors import UserError
from progan.runtime.launch import processes
from progan.runtime.text import table

if TYPE_CHECKING:
    from progan.config.schedule import Phase
    from progan.runtime.stopping import StopRequest
    from progan.training.find_rate import Found, Search
    from progan.training.request import Asked

ROWS = 20  # of the table
NETWORKS = {"both": ("G", "D"), "G": ("G",), "D": ("D",)}
WORDS = {"G": "generator", "D": "critic"}


def to_factor(text: str) -> float:
    """A number above one."""
    if (number := to_number(text)) <= 1:
        raise ValueError("must be more than 1")
    return number


NUMBER = CheckedOption("number", to_number)


@click.command("find-rate")
@click.argument("run", metavar="[RUN]", required=False, type=PathOption())
@click.option("--data", metavar="NAME|PATH", help="What to train on, as for progan train.")
@CONFIG
@OVERRIDES
@click.option(
    "--resolution",
    type=CheckedOption("resolution", to_resolution),
    metavar="R",
    help="Where to try. [default: where the run is; without a run the last resolution]",
)
@click.option(
    "--network",
    type=click.Choice(list(NETWORKS)),
    default="both",
    show_default=True,
    help="Whose rate rises; another network stays as it is.",
)
@click.option(
    "--start", type=NUMBER, metavar="RATE", default=1e-6, show_default=True, help="The first rate."
)
@click.option(
    "--end", type=NUMBER, metavar="RATE", default=1.0, show_default=True, help="The last rate."
)
@click.option("--linear", is_flag=True, help="Rise by equal steps, not by equal factors.")
@click.option(
    "--updates",
    type=click.IntRange(20, 100_000),
    metavar="N",
    help="How many updates the search makes. [default: 200, or all that a shorter phase has]",
)
@click.option(
    "--stop-div",
    metavar="X",
    type=CheckedOption("number", to_factor),
    default=4.0,
    show_default=True,
    help="Stop once the loss is so many times its best.",
)
@click.option("--plot", type=PathOption(), metavar="FILE.png", help="Plot losses over rates.")
def find_rate(
    run: Path | None,
    data: str | None,
    config_name: str | None,
    overrides: tuple[str, ...],
    resolution: int | None,
    network: str,
    start: float,
    end: float,
    linear: bool,
    updates: int | None,
    stop_div: float,
    plot: Path | None,
) -> None:
    """Find a learning rate: train while it rises.

    You see where losses fall and where they break. It begins from the state of a RUN, which stays
    untouched, or from first weights with --data or --config. Nothing is written but the plot.
    docs/training.md says what the losses of GANs can tell.

    \b
    progan find-rate runs/faces --plot rates.png
    progan find-rate --data demo --resolution 16 --network D
    """
    from progan.training.find_rate import BEGIN, Search

    if processes() > 1:
        raise UserError("find-rate works in one process: start it without torchrun")
    search = Search(NETWORKS[network], start, end, linear=linear, stop_div=stop_div)
    plotted_in = check_picture(plot, "--plot") if plot else ""
    asked = run_asked_for(run, data, config_name, overrides)
    found, stopped = searched(asked, run is not None, resolution, search, updates)
    if reason := stopped.reason():
        click.echo(f"stopped ({reason}) after {len(found.rates)} of {found.search.updates} updates")
    click.echo(loss_table(found))
    for line in conclusion(found):
        click.echo(line)
    if plot and len(found.rates) > BEGIN:
        draw(found, plot)
        click.echo(f"plotted in {plotted_in}")
    if stopped.signal:
        sys.exit(128 + stopped.signal)


def run_asked_for(
    run: Path | None, data: str | None, config_name: str | None, overrides: tuple[str, ...]
) -> "Asked":
    """The run whose state is tried, or the one that would begin.

    Raises:
        UserError: both are given, or it cannot be trained.
    """
    from progan.training.request import new_run, old_run

    if run is None:
        return new_run(data, config_name, overrides, None, click.echo, any_folder=True)
    if data or config_name:
        raise UserError(
            f"{run} has its own settings: leave out --data and --config "
            "(-o data.source=PATH says where its data is now)"
        )
    return old_run(run, overrides, goes_on=False)


def searched(
    asked: "Asked", restore: bool, resolution: int | None, search: "Search", updates: int | None
) -> "tuple[Found, StopRequest]":
    """Try the rates until the loss is bad, or a signal comes.

    Args:
        updates: that are asked for, in place of those of `search`.
    """
    from progan.data.opening import dataset_of, find_data
    from progan.runtime.device import take_device
    from progan.runtime.memory import explain_short_memory
    from progan.runtime.numerics import deterministic
    from progan.runtime.progress import progress_bar
    from progan.runtime.stopping import StopRequest
    from progan.training.find_rate import Found, start_of, try_rates, updates_for
    from progan.training.start import make_trainer

    config, run_dir, opened = asked
    device, stop = take_device(config.run.device), StopRequest()
    opened = find_data(config.data, False, say) if opened is None else opened
    data = dataset_of(opened, config, say)
    with closing(data), stop, deterministic(config.run.deterministic):
        trainer = make_trainer(config, run_dir, data, device, stop, click.echo)
        state = trainer.checkpoint.load_newest() if restore else None
        if not restore and resolution is None:
            resolution = config.network.resolution
        start = start_of(trainer.schedule, trainer.progress.nimg, resolution)
        search = replace(search, updates=updates_for(trainer.schedule, start.phase, updates))
        found = Found(search, config.loss.penalty_interval)
        click.echo(introduction(start.phase, state, search))
        short = explain_short_memory(lambda: f"in {start.phase}", "set schedule.batch_gpu")
        bar = progress_bar("trying", search.updates, 0, say, "updates")
        with closing(trainer.stream), short, bar as done:
            for rate, losses in try_rates(trainer, start, search):
                found.add(rate, losses)
                done(1)
                if found.bad() or stop.reason():
                    break
    return found, stop


def introduction(phase: "Phase", state: Path | None, search: "Search") -> str:
    """Where the search begins, and what it tries."""
    weights = f"the weights of {state.name}" if state else "a new run's weights"
    whose = " and ".join(WORDS[name] for name in search.networks)
    return (
        f"{phase}, batch size {phase.batch_size}, {phase.optimizer}, from {weights}: "
        f"{search.updates} updates with rates of the {whose} from {search.start:g} to "
        f"{search.end:g} (the schedule has {rate_text(phase)} there)"
    )


def loss_table(found: "Found") -> str:
    """Rates and smoothed losses of about `ROWS` updates, the last one included."""
    last, count = len(found.rates) - 1, min(ROWS, len(found.rates))
    rows = [["rate", "critic's loss", "generator's loss"]]
    for i in (last * k // max(count - 1, 1) for k in range(count)):
        losses = [found.losses[name].smoothed[i] for name in "DG"]
        rows.append([f"{found.rates[i]:.3g}", *(f"{loss:.4g}" for loss in losses)])
    return table(rows, left=())


def conclusion(found: "Found") -> list[str]:
    """What the losses say, with the rule."""
    from progan.training.find_rate import BEGIN

    losses, whose = found.watched, f"the {WORDS[found.search.watched]}'s loss"
    count, lines = len(found.rates), []
    if bad := found.bad():
        lines.append(f"the {WORDS[bad]}'s loss was bad at a rate of {found.rates[-1]:.2g}")
    if count <= BEGIN:
        return [*lines, f"{count} of {found.search.updates} updates are too few to tell more"]
    rate = found.suggestion()
    if rate is None:
        return [*lines, f"{whose} fell at no rate by more than it varies: this suggests no rate"]
    lines.append(
        f"suggested learning rate: {rate:.1g}, a tenth of {rate * 10:.2g}, where {whose} was lowest"
    )
    if losses.lowest() == len(found.rates) - 1 and not bad:
        lines.append("it still fell at the last rate: a larger --end may find a higher one")
    return lines


def room(found: "Found", name: str) -> tuple[float, float]:
    """The losses that a network's panel has room for: all up to the lowest one that decides, and
    some above. Those of a training that breaks are beyond, as they may be a million times larger.
    """
    from progan.training.find_rate import BEGIN

    until = max(found.watched.lowest() + 1, BEGIN)
    shown = [loss for loss in found.losses[name].raw[:until] if math.isfinite(loss)] or [0.0]
    span = max(shown) - min(shown) or 1.0
    return min(shown) - 0.1 * span, max(shown) + 0.5 * span


def draw(found: "Found", file: Path) -> None:
    """Losses over rates, single ones pale, a panel for each network."""
    from matplotlib.figure import Figure

    from progan.model.grid import save_figure

    figure = Figure(figsize=(9, 6), layout="constrained")
    for axis, name in zip(figure.subplots(2, sharex=True), "DG", strict=True):
        losses = found.losses[name]
        axis.plot(found.rates, losses.raw, color="C0", alpha=0.25, linewidth=1)
        axis.plot(found.rates, losses.smoothed, color="C0", linewidth=1.8)
        axis.set_ylim(*room(found, name))
        axis.set_ylabel(f"{WORDS[name]}'s loss")
        axis.grid(alpha=0.3)
        rate = found.suggestion()
        if rate is not None and name == found.search.watched:
            axis.axvline(rate, color="C1", linestyle="--", label=f"suggested: {rate:.1g}")
            axis.axvline(10 * rate, color="0.6", linestyle=":", label="lowest loss")
            axis.legend()
    figure.suptitle("losses while the rate rises; pale: of each update", fontsize="medium")
    axis.set_xlabel("learning rate")
    if not found.search.linear:
        axis.set_xscale("log")
    figure.align_ylabels()
    save_figure(figure, file)
