"""Training a run: what `progan train` and Python's `progan.train` share."""

import time
from collections.abc import Callable, Mapping
from contextlib import closing, nullcontext, suppress
from numbers import Real
from pathlib import Path
from typing import Any

import torch

from progan.config.config import Config
from progan.config.load import assignments
from progan.data.dataset import Dataset
from progan.data.opening import dataset_of, find_data
from progan.runs.board import quiet_writers
from progan.runs.folder import COMPLETE, STOP, UNPRINTED, is_complete, record_start
from progan.runs.hold import Hold
from progan.runs.snapshot import Snapshot
from progan.runs.snapshot_file import load
from progan.runs.which_run import board_command
from progan.runtime import machine
from progan.runtime.accelerator import make_accelerator
from progan.runtime.device import take_device
from progan.runtime.disk import append
from progan.runtime.errors import UserError
from progan.runtime.launch import is_main, processes
from progan.runtime.numerics import deterministic
from progan.runtime.output import keep_unprinted, output_outlived
from progan.runtime.stopping import StopRequest
from progan.training.forecast import TRYING, about_data, grey_hint, is_grey
from progan.training.memory_fit import try_phases
from progan.training.request import Asked, beginning, new_run, old_run
from progan.training.trainer import Trainer

Say = Callable[[str], None]


def train(
    data: str | Path | None = None,
    config: str | Path | Config | None = None,
    run_dir: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    init: str | Path | None = None,
    freeze_d: int | None = None,
    download: bool = False,
    max_hours: float | None = None,
) -> Snapshot:
    """Train a run, or go on with one, as `progan train` does; returns its newest snapshot.

    Ctrl-C (in a notebook: interrupt), SIGTERM, `max_hours` and a file called stop in the run's
    folder end it in good order: the snapshot is then of what has been reached, and the same call
    or `resume` goes on.

    Args:
        data: a known data set (`progan data list`), or images: a folder, zip, tar, array, shards.
            None: the one that the config names.
        config: a preset's name, a YAML file or a `Config`. None: the preset of a known data set,
            else the paper's networks, at the largest resolution that nearly all images have.
        run_dir: where the run is kept. None: runs/NAME.
        overrides: settings to change: `{"network.resolution": 64}`.
        init: another run, a checkpoint or a snapshot whose networks a new run starts from. Of a
            snapshot that is the averaged generator; the critic is then new.
        freeze_d: how many of that critic's blocks stay as they are, those that images meet first.
        download: let torchvision fetch a known data set.
        max_hours: stop after so long.

    Raises:
        UserError: something does not fit; the message says what, and what to do.
        OutOfTime: the data were not prepared within `max_hours`; what is prepared is kept.
    """
    say: Say = print if is_main() else lambda line: None
    changes = [*beginning(init, freeze_d), *assignments(overrides or {})]
    return train_and_load(new_run(data, config, changes, run_dir, say), download, max_hours)


def resume(
    run_dir: str | Path,
    overrides: Mapping[str, Any] | None = None,
    *,
    max_hours: float | None = None,
) -> Snapshot:
    """Go on with the run in `run_dir`, as `train` does.

    Args:
        overrides: settings to change. Lengths and intervals may change, most others may not.
        max_hours: stop after so long.

    Raises:
        UserError: there is no run, or it cannot go on so.
    """
    return train_and_load(old_run(run_dir, overrides or {}), False, max_hours)


def train_and_load(asked: Asked, download: bool, max_hours: float | None) -> Snapshot:
    """Train the run and return its newest snapshot; says how it ended."""
    config, run_dir, found = asked
    folder = run_dir.absolute()
    if max_hours is not None and not (isinstance(max_hours, Real) and max_hours > 0):
        raise UserError(f"max_hours is {max_hours!r}; give a number of hours above 0, or None")
    say: Say = print if is_main() else lambda line: None
    start = time.monotonic()
    with output_outlived():
        if already_complete(config, run_dir, say):
            return load(folder)
        device = take_device(config.run.device)
        stop = StopRequest(folder / STOP if is_main() else None, max_hours, start)
        with stop.ended_in_time():
            found = find_data(config.data, download, say) if found is None else found
            data = dataset_of(found, config, say)
        if train_run(config, run_dir, data, device, stop, say):
            say(f"done; the run is in {run_dir}")
        else:
            why = f" ({reason})" if (reason := stop.reason()) else ""  # another process may have it
            say(f"stopped{why}, nothing is lost; go on with progan.resume({str(run_dir)!r})")
    return load(folder)


def train_run(
    config: Config,
    run_dir: Path,
    data: Dataset,
    device: torch.device,
    stop: StopRequest,
    say: Say,
) -> bool:
    """Train the run in `run_dir`; returns whether it is complete (else it was asked to stop).

    Args:
        data: closed at the end, also where the run is refused before it begins.
        say: shows a line to the user; called on the main process only.
    """
    folder = run_dir.absolute()  # the current folder may be deleted or moved while it trains
    with (
        closing(data),
        quiet_writers(),
        Hold(folder) if is_main() else nullcontext() as hold,
        stop,
        deterministic(config.run.deterministic),
    ):
        if is_main():
            keep_unprinted(folder / UNPRINTED)
        trainer = make_trainer(config, folder, data, device, stop, say, hold)
        if is_main():
            announce(trainer, run_dir, say)
        complete = trainer.run()
        if is_main() and complete:
            append(folder / COMPLETE, "")
        if hold:
            hold.end()
    trainer.accelerator.wait_for_everyone()  # none ends before it can be seen that all is done
    # Errors are of a tracker whose disk was full, which has been said.
    with quiet_writers(), suppress(OSError):
        trainer.accelerator.end_training()
    return complete


def already_complete(config: Config, run_dir: Path, say: Say) -> bool:
    """Whether the run has nothing left to do, which needs no data; says so."""
    complete = is_complete(run_dir, config)
    if complete and is_main():
        say(
            f"already complete at {config.make_schedule().total_nimg / 1000:,.10g} kimg; "
            "a larger schedule.total_kimg goes on"
        )
    return complete


def check_run(config: Config, run_dir: Path, data: Dataset, device: torch.device, say: Say) -> None:
    """Try the data and the memory of every phase; writes nothing."""
    with closing(data), deterministic(config.run.deterministic):
        trainer = make_trainer(config, run_dir, data, device, StopRequest(), say)
        with closing(trainer.feed.stream):
            for line in try_phases(trainer.step, trainer.feed, trainer.schedule):
                if is_main():
                    say(line)
    if is_main():
        say("every phase fits; without --check, training starts")


def make_trainer(
    config: Config,
    run_dir: Path,
    data: Dataset,
    device: torch.device,
    stop: StopRequest,
    say: Say,
    hold: Hold | None = None,
) -> Trainer:
    """Meet the other processes and build what trains; says what it trains on."""
    accelerator = make_accelerator(run_dir, config.run.tracker, config.run.timeout, device)
    if is_main():
        lines = [*about_data(config, data.count, data.labels), *grey_hint(config, is_grey(data))]
        for line in lines:
            say(line)
    trainer = Trainer(config, data, run_dir, accelerator, stop, hold)
    for line in trainer.transfer.begin(run_dir):
        if is_main():
            say(line)
    return trainer


def announce(trainer: Trainer, run_dir: Path, say: Say) -> None:
    """Say where the run is kept and what it runs on; recorded, and compared with the last start.

    Args:
        run_dir: as the user gave it.
    """
    device = trainer.accelerator.device
    say(f"run folder {run_dir}; samples while it trains: {run_dir / 'images'}")
    if trainer.config.run.tracker == "tensorboard":
        say(f"curves and samples: {board_command(run_dir)}")
    elif trainer.config.run.tracker:
        say(f"curves and samples go to {trainer.config.run.tracker}")
    count = f"{processes()} x " if processes() > 1 else ""
    say(f"on {count}{machine.device_name(device)}, in {trainer.step.precision}")
    if short := trainer.config.shortfall():
        say(f"warning: {short}")
    environment: dict[str, Any] = machine.environment(device)
    environment |= {"processes": processes(), "precision": trainer.step.precision}
    if origin := trainer.transfer.origin:  # at the run's first start
        environment["init"] = origin.state_dict()
    for line in record_start(trainer.run_dir, environment):
        say(f"not as at the last start: {line}; results may differ in rounding")
    say(TRYING)
