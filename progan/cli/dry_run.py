"""What `progan train --dry-run` prints: the data, the time, and whether the run would start."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from progan.cli.phases import phase_table
from progan.config.config import Config
from progan.config.yaml_io import dump_yaml
from progan.data.info.look import look
from progan.data.opening import Found, check_prepared, find_data
from progan.data.pyramid.format import Pyramid
from progan.data.sources.find import NAMED
from progan.runs.folder import begun_with, check_progress, check_run_dir
from progan.runs.hold import Hold
from progan.runtime.errors import UserError
from progan.runtime.launch import is_main
from progan.runtime.secrets import redacted
from progan.training.forecast import TRYING, about_data, forecast, grey_hint, is_grey, kimg

if TYPE_CHECKING:  # it loads torch
    from progan.model.networks import Generator
    from progan.training.costs import CostModel

Say = Callable[[str], None]


def dry_run(config: Config, run_dir: Path, found: Found | None) -> None:
    """Print what the run would be. Prepares nothing and writes nothing.

    Args:
        found: the data, if they have been opened.

    Raises:
        UserError: the run would be refused; all else has been printed before.
    """
    from progan.training.transfer import about_init

    say: Say = click.echo if is_main() else lambda line: None
    refusals: list[str] = []
    count = c_dim = nimg = 0
    with collected(refusals):
        count, c_dim = show_data(config, found, say)
    with collected(refusals):
        nimg = show_folder(config, run_dir, say)
        for line in about_init(config, run_dir, c_dim if count else None):
            say(line)
    if nimg < config.make_schedule().total_nimg:
        show_costs(config, run_dir, nimg, count, c_dim, say)
    say("\nsettings that differ from the defaults (progan config lists all):\n")
    differing = redacted(config.model_dump(exclude_defaults=True))
    resolution = {"resolution": config.network.resolution}  # always, as the data may have chosen it
    differing["network"] = resolution | differing.get("network", {})
    say(dump_yaml(differing).rstrip())
    if refusals:
        raise UserError("the run would be refused: " + "\n".join(refusals))


@contextmanager
def collected(refusals: list[str]) -> Iterator[None]:
    """Keeps a UserError for the end, so that all else can be printed before."""
    try:
        yield
    except UserError as error:
        refusals.append(str(error))


def show_data(config: Config, found: Found | None, say: Say) -> tuple[int, int]:
    """Say what the data is; returns the numbers of its images and labels.

    Raises:
        UserError: the run cannot be trained on it.
    """
    known = config.data.source in NAMED
    try:
        found = find_data(config.data, False, say) if found is None else found
    except UserError as error:
        if not known:
            raise
        say(f"not here yet: {error}")  # its preset can be tried before it is fetched
        return 0, 0
    with closing(found) if isinstance(found, Pyramid) else nullcontext():
        grey, lines = False, list[str]()
        count = found.count if isinstance(found, Pyramid) else len(found)
        for line in about_data(config, count, found.labels):
            say(line)
        if isinstance(found, Pyramid):
            check_prepared(found, config)
            grey = is_grey(found)
        elif not known:
            grey, lines = look(config, found)
        for line in [*lines, *grey_hint(config, grey)]:
            say(line)
    return count, len(found.labels.names) if found.labels else 0


def show_folder(config: Config, run_dir: Path, say: Say) -> int:
    """Say what the run's folder holds; returns the images that a run there has shown.

    Raises:
        UserError: the run cannot be there.
    """
    from progan.runs.checkpoint import Checkpoint, Progress

    check_run_dir(run_dir, config)
    if begun_with(run_dir) is None:
        say(f"run folder {run_dir}: a new run")
        return 0
    with Hold(run_dir):  # refused while the run is training
        pass
    progress = Progress()
    Checkpoint(run_dir, config, progress=progress).load_newest()
    nimg = progress.nimg
    check_progress(run_dir, config, nimg)
    complete = nimg == config.make_schedule().total_nimg
    state = "is complete" if complete else "goes on from there" if nimg else "begins"
    say(f"run folder {run_dir}: a run that has shown {kimg(nimg)} kimg, which {state}")
    return nimg


def show_costs(config: Config, run_dir: Path, nimg: int, count: int, c_dim: int, say: Say) -> None:
    """Say what the run takes from `nimg` on, by updates that are tried here."""
    from progan.runs.averages import about_disk

    say(f"{TRYING}\n")
    costs, G, device = costs_here(config, c_dim)
    say(phase_table(costs.schedule, costs))
    for line in forecast(config, run_dir, costs, nimg, count or None, device):
        say(line)
    for line in about_disk(config, run_dir, G):
        say(line)


def costs_here(config: Config, c_dim: int) -> "tuple[CostModel, Generator, str]":
    """The time that updates take here, the generator, and the kind of device."""
    from progan.runtime.accelerator import make_accelerator
    from progan.runtime.device import take_device
    from progan.runtime.numerics import deterministic
    from progan.training.build import make_costs, make_loss, make_networks

    accelerator = make_accelerator(Path("."), None, device=take_device(config.run.device))
    G, D = make_networks(config, c_dim, accelerator.device)
    with deterministic(config.run.deterministic):  # as the run will compute
        costs = make_costs(config, make_loss(config), G, D, accelerator)
    return costs, G, accelerator.device.type
