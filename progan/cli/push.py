"""The command `progan push`: a snapshot onto the Hugging Face Hub."""

from pathlib import Path

import click

from progan.cli.options import SNAPSHOT, PathOption, say
from progan.runtime.errors import UserError
from progan.runtime.hub import model_name


@click.command()
@click.argument("source", metavar="RUN|SNAPSHOT", type=SNAPSHOT)
@click.argument("model", metavar="USER/MODEL")
@click.option("--private", is_flag=True, help="Only you, or your organization, see a new model.")
@click.option(
    "--dry-run",
    "folder",
    type=PathOption(),
    metavar="DIR",
    help="Upload nothing, and write the files into DIR.",
)
def push(source: Path, model: str, private: bool, folder: Path | None) -> None:
    """Put a snapshot onto the Hugging Face Hub, with a model card.

    Anybody can then use it, or with --private those to whom you give the right: progan sample
    hf://USER/MODEL. You log in once with hf auth login; progan neither asks for your token nor
    keeps it.

    The card says what the snapshot and its run tell. What only you can know is marked "To fill
    in". A folder that --dry-run has written can be filled in and pushed: progan push DIR
    USER/MODEL. A card on the Hub is replaced only by one that comes from such a folder.

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
