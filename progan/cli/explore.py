"""The command progan explore."""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from progan.cli.options import DATA, DEVICE, SNAPSHOT, say
from progan.runtime.launch import is_main

if TYPE_CHECKING:
    from progan.outputs.explorer import Explorer


@click.command()
@click.argument("source", metavar="RUN|SNAPSHOT", type=SNAPSHOT)
@click.option(
    "--labels",
    is_flag=True,
    help="Directions of labels, too: a small classifier first learns the labels of the data, and "
    "looks for them in samples. Takes minutes.",
)
@DATA
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    metavar="ADDRESS",
    help="The address to show the page at; 0.0.0.0 shows it to all who reach this machine.",
)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    metavar="N",
    help="The port to show it at. [default: a free one]",
)
@DEVICE
def explore(
    source: Path, labels: bool, data: str | None, host: str, port: int | None, device: str
) -> None:
    """Move through a generator's latent space in the browser.

    Mix up to four seeds, let the network grow, go back in its training, choose classes or
    attributes, and move in directions in which the images vary most. Each picture can be saved.
    Nothing leaves this machine. pip install '.[explore]' (in a clone of progan).

    \b
    progan explore runs/demo
    progan explore runs/faces@best --labels
    """
    if not is_main():
        return
    from progan.outputs.explorer import Explorer, View
    from progan.outputs.explorer_page import listen, private_gradio, serve
    from progan.runtime.device import take_device

    with private_gradio(), listen(host, port) as listening:
        explorer = Explorer(source, take_device(device))
        shown = explorer.caption(View((0,), moment=explorer.start))
        click.echo(f"{explorer.first.file}: {shown}; {len(explorer.files)} snapshots")
        explorer.find_principal()
        if labels or data is not None:
            find_labels(explorer, data)
        serve(explorer, listening, host, click.echo)


def find_labels(explorer: "Explorer", data: str | None) -> None:
    """Adds directions of the labels that the data has."""
    from progan.cli.balance import classifier_for
    from progan.metrics.reference_data import open_reference_data

    with closing(open_reference_data(explorer.first, data, say, labels=True)) as images:
        classifier = classifier_for(explorer.first, images, explorer.device)
    explorer.find_labels(classifier.see, classifier.labels.names, say)
