"""The command `progan config`: all settings, as YAML to edit."""

import shlex
from pathlib import Path

import click

from progan.cli.options import CONFIG, OVERRIDES, PathOption, check_target
from progan.config.load import load_config
from progan.config.reference import commented_yaml
from progan.runtime.disk import write_text
from progan.runtime.errors import UserError

HEAD = "# Settings for progan train --config FILE. One that is left out has its default.\n\n"


@click.command()
@CONFIG
@OVERRIDES
@click.option(
    "--out", type=PathOption(), metavar="FILE", help="Write this new file instead of printing."
)
def config(config_name: str | None, overrides: tuple[str, ...], out: Path | None) -> None:
    """Print all settings and what they mean, as YAML to edit.

    Values are the defaults, changed by --config and -o.

    \b
    progan config --config celeba --out my.yaml
    progan train --config my.yaml --data ./photos
    """
    settings = load_config(config_name, overrides)
    text = HEAD + commented_yaml(settings)
    if out is None:
        click.echo(text, nl=False)
        return
    check_target(out, "--out")
    if out.exists():
        raise UserError(f"--out {out}: the file exists; remove it, or give another name")
    write_text(out, text)
    data = "" if settings.data.source else " --data FOLDER"
    click.echo(f"edit {out}, then: progan train --config {shlex.quote(str(out))}{data}")
