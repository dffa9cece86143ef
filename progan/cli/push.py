"""The command `progan push`: a snapshot onto the Hugging Face Hub."""

import shlex
from pathlib import Path

import click

from progan.cli.options import SNAPSHOT, PathOption, say
from progan.runtime.errors import UserError
from progan.runtime.hub import model_name


@click.command()
@click.argument("source", metavar="RUN|SNAPSHOT", type=SNAPSHOT)
@click.argument("model", metavar="USER/MODEL")
@click.option(
    "--private",
    is_flag=True,
    help="If the model is new: show it to you alone, or to your organization.",
)
@click.option(
    "--dry-run",
    "folder",
    type=PathOption(),
    metavar="DIR",
    help="Upload nothing; write the files into the folder DIR, to look at and to edit.",
)
def push(source: Path, model: str, private: bool, folder: Path | None) -> None:
    """Upload a snapshot to the Hugging Face Hub, with a model card.

    Everybody can then use it: progan sample hf://USER/MODEL. Before the first upload, log in with
    hf auth login; progan neither asks for your token nor keeps it.

    progan writes the card from the snapshot and its run. What only you can know is marked "To fill
    in". So write the files into a folder first, edit README.md there, and push the folder, as
    below. A card that is on the Hub already is replaced only by one from such a folder.

    \b
    progan push runs/faces user/faces --dry-run faces
    progan push faces user/faces --private
    """
    from progan.outputs.hub import check_folder, model_of
    from progan.outputs.model_card import CARD, TODO
    from progan.runs.snapshot_file import load_snapshot
    from progan.runs.which_snapshot import find_snapshot

    if folder and private:
        raise UserError("--dry-run uploads nothing, so there is nothing for --private to hide")
    model_name(model)
    if folder:
        check_folder(folder)
    made = model_of(load_snapshot(find_snapshot(source)), model)
    if folder:
        line = made.write(folder)
    else:
        say(f"uploading to hf://{made.name}: {made.sizes}")
        line = made.push(private)
    todo = bytes(made.files[CARD]).count(TODO.encode())
    click.echo(line + f"; {todo} places in {CARD} are marked To fill in" * bool(todo))
    if folder:
        click.echo(f"when it is filled in: progan push {shlex.quote(str(folder))} {made.name}")
