"""The command `progan compare`: metrics of runs, in one table and one picture."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from progan.launch import is_main
from progan.options import JSON, PICTURES, PathOption, check_picture, check_target

if TYPE_CHECKING:
    from progan.metrics.compare import Comparison
    from progan.metrics.curves import Run


# What the images on both sides of a metric depend on.
DECISIVE = {
    "data": ("source", "max_images", "fit", "mirror", "labels"),
    "network": ("resolution", "channels"),
}


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

    Values are seen against images shown and against the time they took. They are those in the runs'
    metrics.jsonl, which progan evaluate writes; between two evaluations a straight line is taken.

    \b
    progan compare runs/growing runs/full
    progan compare runs/* --metrics swd16k --out swd.svg
    """
    from progan.metrics.compare import CLOCKS, draw, save, sentence, table
    from progan.metrics.compare import compare as compared
    from progan.metrics.curves import chosen_metrics, read_runs

    if not is_main():
        return
    check_picture(out, "--out")
    check_target(json_file)
    runs = read_runs(folders)
    names = chosen_metrics(runs, metrics)
    notes = unlike(folders)
    click.echo(table(runs, names))
    comparisons = [found for name in names for by in CLOCKS if (found := compared(runs, name, by))]
    for comparison in comparisons:
        click.echo(sentence(comparison))
    for line in notes:
        click.echo(line)
    save(draw(runs, names), out)
    click.echo(f"plotted in {out}")
    if json_file:
        text = json.dumps(content(runs, names, comparisons), indent=2, allow_nan=False)
        json_file.write_text(text + "\n", encoding="utf-8")
        click.echo(f"all figures in {json_file}")


def unlike(folders: tuple[Path, ...]) -> list[str]:
    """Words on settings without which the same metric means two things."""
    from progan.runs import read_config

    configs = [read_config(folder, []) for folder in folders]
    seen = {
        f"{section}.{key}": {str(getattr(getattr(config, section), key)) for config in configs}
        for section, keys in DECISIVE.items()
        for key in keys
    }
    return [
        f"note: their {key} differs ({', '.join(sorted(values))}), so the metrics do not compare"
        for key, values in seen.items()
        if len(values) > 1
    ]


def content(
    runs: "list[Run]", metrics: list[str], comparisons: "list[Comparison]"
) -> dict[str, Any]:
    """What the table and the picture show."""
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
