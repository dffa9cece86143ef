"""The command `progan schedule`: a schedule as a table and a plot."""

from pathlib import Path

import click

from progan.cli.options import CONFIG, OVERRIDES, PathOption, check_picture
from progan.config.load import load_config


@click.command()
@CONFIG
@OVERRIDES
@click.option(
    "--plot",
    "plot_file",
    type=PathOption(),
    metavar="FILE.png",
    help="Plot resolution, alpha, batch size and learning rate over images shown.",
)
def schedule(config_name: str | None, overrides: tuple[str, ...], plot_file: Path | None) -> None:
    """Print the phases of a schedule, or plot it."""
    from progan.cli.phases import phase_table, plot

    config = load_config(config_name, list(overrides))
    config.check_reach()
    made = config.make_schedule()
    click.echo(phase_table(made))
    if plot_file:
        plotted_in = check_picture(plot_file, "--plot")
        plot(made, plot_file)
        click.echo(f"plotted in {plotted_in}")
