"""The command `progan schedule`: a schedule as a table and a plot."""

from pathlib import Path

import click

from progan.cli.options import CONFIG, OVERRIDES, PathOption, check_picture
from progan.config.load import load_config
from progan.runtime.launch import is_main


@click.command()
@CONFIG
@OVERRIDES
@click.option(
    "--plot",
    "plot_file",
    type=PathOption(),
    metavar="FILE.png",
    help="Plot resolution, alpha, batch size, rates, optimizers, options and all else that "
    "changes, over images shown and over predicted hours.",
)
@click.option("--no-time", is_flag=True, help="Plot over images only, without trial updates.")
def schedule(
    config_name: str | None, overrides: tuple[str, ...], plot_file: Path | None, no_time: bool
) -> None:
    """Print the phases of a schedule, or plot it."""
    from progan.cli.dry_run import costs_here
    from progan.cli.phases import phase_table, plot
    from progan.training.forecast import TRYING

    config = load_config(config_name, list(overrides))
    config.check_reach()
    made, costs = config.make_schedule(), None
    plotted_in = check_picture(plot_file, "--plot") if plot_file else ""
    if plot_file and not no_time:
        if is_main():
            click.echo(f"{TRYING}\n")
        costs, *_ = costs_here(config, c_dim=0)
    if not is_main():
        return
    click.echo(phase_table(made, costs))
    if plot_file:
        known = costs is not None and costs.left(0) is not None
        plot(made, plot_file, costs if known else None)
        click.echo(f"plotted in {plotted_in}")
