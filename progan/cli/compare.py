"""The command `progan compare`: metrics of runs, in one table and one picture."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from progan.cli.options import JSON, PICTURES, PathOption, check_picture, check_target
from progan.runtime.disk import write_json
from progan.runtime.launch import is_main

if TYPE_CHECKING:
    from progan.analysis.compare import Comparison
    from progan.analysis.curves import Run


# Settings that determine the images on both sides of a metric.
DECISIVE = (
    *("data.source", "data.max_images", "data.fit", "data.mirror", "data.labels"),
    *("data.drop_copies", "network.resolution", "network.channels"),
)


@click.command()
@click.argument("folders", metavar="RUN…", nargs=-1, required=True, type=PathOption())
@click.option(
    "--metrics",
    metavar="LIST",
    help="Such as swd16k,fid50k or swd16k_at_32. [default: all, without their details]",
)
@click.option(
    "--out",
    type=PathOption(),
    default="compare.png",
    show_default=True,
    metavar="FILE",
    help=f"The picture: {', '.join(PICTURES)}.",
)
@JSON
def compare(
    folders: tuple[Path, ...], metrics: str | None, out: Path, json_file: Path | None
) -> None:
    """Compare runs by their metrics, in a table and a picture.

    Shows values against images shown and against hours of training. They come from the runs'
    metrics.jsonl, which progan evaluate writes; between two evaluations a straight line is assumed.

    \b
    progan compare runs/growing runs/full
    progan compare runs/* --metrics swd16k --out swd.svg
    """
    from progan.analysis.compare import CLOCKS, compare_runs, draw, figures, sentence
    from progan.analysis.curves import MOST, chosen_metrics, read_runs
    from progan.model.grid import save_figure

    if not is_main():
        return
    drawn_in = check_picture(out, "--out")
    figures_in = check_target(json_file)
    runs, without = read_runs(folders)
    names = chosen_metrics(runs, metrics)
    notes = unlike([run.folder for run in runs])
    click.echo(figures(runs, names))
    for line in [f"note: {folder} has no metrics yet" for folder in without] + notes:
        click.echo(line)
    found = (compare_runs(runs, name, clock) for name in names for clock in CLOCKS)
    comparisons = [comparison for comparison in found if comparison]
    if notes:
        comparisons = [each._replace(ahead=None, by=None) for each in comparisons]
    for comparison in comparisons:
        click.echo(sentence(comparison))
    if len(runs) > 1 and not comparisons:
        click.echo(
            "no two runs have the same metric; evaluate each: progan evaluate RUN --metrics …"
        )
    drawn = names[:MOST]
    save_figure(draw(runs, drawn), out)
    if len(names) > MOST:
        click.echo(f"the picture has the first {MOST} of {len(names)} metrics; --metrics chooses")
    click.echo(f"plotted in {drawn_in}")
    if json_file:
        write_json(json_file, content(runs, names, comparisons))
        click.echo(f"all figures in {figures_in}")


def unlike(folders: list[Path]) -> list[str]:
    """Notes on settings that differ and give the same metric different meanings."""
    from progan.config.config import flatten
    from progan.runs.folder import read_config

    configs = [flatten(read_config(folder, []).shared()) for folder in folders]
    seen = {key: {json.dumps(config[key]).strip('"') for config in configs} for key in DECISIVE}
    return [
        f"note: their {key} differs ({', '.join(sorted(values))}): the metrics cannot be compared"
        for key, values in seen.items()
        if len(values) > 1
    ]


def content(
    runs: "list[Run]", metrics: list[str], comparisons: "list[Comparison]"
) -> dict[str, Any]:
    """The values of the table and the picture, for JSON."""
    return {
        "runs": [
            {
                "name": run.name,
                "folder": str(run.folder),
                "nimg": run.nimg,
                "hours": run.hours,
                "metrics": {
                    name: [point._asdict() for point in run.metrics[name]]
                    for name in metrics
                    if name in run.metrics
                },
            }
            for run in runs
        ],
        "comparisons": [comparison._asdict() for comparison in comparisons],
    }
