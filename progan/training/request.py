"""The run that is asked for: its settings and its folder, checked before any work. No torch."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from progan.config.batch_rules import check_batches
from progan.config.config import Config
from progan.config.load import assignments, load_config, override, validate
from progan.config.yaml_io import dump_yaml
from progan.data.opening import Found, find_data, resolution_of
from progan.data.sources.find import NAMED, is_local, is_missing
from progan.runs.folder import (
    base_name,
    begun_with,
    check_begins,
    check_run_dir,
    is_complete,
    read_config,
    with_begun_average,
)
from progan.runs.which_snapshot import here, to_source
from progan.runtime.errors import UserError
from progan.runtime.launch import check_launch, processes
from progan.runtime.paths import to_path

Say = Callable[[str], None]
Overrides = Sequence[str] | Mapping[str, Any]


class Asked(NamedTuple):
    """The run that is asked for.

    Args:
        found: the data, if they have been opened to choose the resolution.
    """

    config: Config
    run_dir: Path
    found: Found | None = None


def new_run(
    data: str | Path | None,
    config: str | Path | Config | None,
    overrides: Overrides,
    run_dir: str | Path | None,
    say: Say = lambda line: None,
    any_folder: bool = False,
) -> Asked:
    """A run on `data`; its folder may hold the same run, to go on with.

    Args:
        any_folder: do not look at what the folder holds.

    Raises:
        UserError: a setting is wrong, or the folder holds something else.
    """
    made = with_absolute_paths(resolve(data, config, overrides))
    source = made.data.source
    if source is None:
        raise UserError("what to train on? give --data demo, or --data with a folder of images")
    folder = Path("runs") / base_name(source) if run_dir is None else to_path(run_dir, "--run-dir")
    made, found = with_resolution(made, folder, say, known=data is not None)
    made = with_begun_average(made, folder)
    check_settings(made, folder)
    if not any_folder:
        check_run_dir(folder, made)
        check_begins(folder)
    return Asked(made, folder, found)


def old_run(run_dir: str | Path, overrides: Overrides, goes_on: bool = True) -> Asked:
    """A run that has been started.

    Args:
        goes_on: whether it is to train on; else its folder is only read.

    Raises:
        UserError: there is no run, its data is not there, or an override may not change.
    """
    folder = to_path(run_dir, "--resume")
    config = with_absolute_paths(read_config(folder, assignments(overrides)))
    source = config.data.source
    if source is not None and is_missing(source) and not is_complete(folder, config):
        remedy = f"go on with --resume {run_dir}" if goes_on else "add"
        raise UserError(
            f"the data of this run, {source}, is not there; if it has moved, {remedy} "
            "-o data.source=PATH"
        )
    check_settings(config, folder)
    check_run_dir(folder, config, written=goes_on)
    check_begins(folder)
    return Asked(config, folder)


def resolve(
    data: str | Path | None, config: str | Path | Config | None, overrides: Overrides
) -> Config:
    """A preset, a file or settings; then `data`, which may choose the preset; then overrides."""
    source = None if data is None else str(data)
    if source == "":
        raise UserError("--data is empty; give a name, or the path of a folder or zip of images")
    if source in NAMED and config is None:
        config = NAMED[source].preset
    changes = assignments(overrides)
    if source is not None:
        changes = [f"data.source={dump_yaml(source)}", *changes]
    if isinstance(config, Config):
        return validate(config.model_dump(exclude_unset=True), None, changes)
    return load_config(config, changes)


def beginning(init: str | Path | None, freeze_d: int | None) -> list[str]:
    """`--init` and `--freeze-d` as settings."""
    given = {"network.init": None if init is None else str(init), "network.freeze_d": freeze_d}
    return assignments({key: value for key, value in given.items() if value is not None})


def with_absolute_paths(config: Config) -> Config:
    """Paths are kept absolute, so that the run can be resumed from any folder."""
    absolute = {}
    for key, value in config.places().items():
        # Whoever looks for a source that is missing says what else it might be.
        if value is not None and (
            key != "data.source" or is_local(value) and not is_missing(value)
        ):
            absolute[key] = str(located(key, value))
    return config.with_places(absolute)


def located(key: str, value: str) -> Path:
    """An absolute path; of networks on the Hub, or of those that come with progan, the file."""
    if key != "network.init":
        return to_path(value, key).resolve()
    source = to_source(value, key)
    found = here(source)
    return source.resolve() if found == source else found


def with_resolution(
    config: Config, run_dir: Path, say: Say, known: bool
) -> tuple[Config, Found | None]:
    """The config; if it gives no resolution, with that of the run in `run_dir`, or of the data.

    Args:
        known: whether the user has named the data in this call.

    Returns:
        The config; the data, if they have been opened.

    Raises:
        UserError: the data cannot be read, or other settings do not fit its resolution.
    """
    source, found = str(config.data.source), None
    if "resolution" in config.network.model_fields_set:
        return config, None
    if before := begun_with(run_dir):
        resolution = before.network.resolution
    elif source in NAMED:
        resolution = load_config(NAMED[source].preset).network.resolution
    else:
        found = find_data(config.data, say=say, known=known)
        resolution = resolution_of(found, config.data)
        say(
            f"{resolution}x{resolution}: the largest resolution that nearly all images have "
            "(another one: -o network.resolution=…)"
        )
    content = override(config.model_dump(exclude_unset=True), [f"network.resolution={resolution}"])
    where = f"these settings, at {resolution}x{resolution} as the images are"
    return validate(content, where), found


def check_settings(config: Config, run_dir: Path) -> None:
    """Raises UserError for a run that cannot be trained, here or in this form."""
    from progan.runs.tracking import check_tracker  # here, as they load torch
    from progan.training.optimizers import check_installed
    from progan.training.transfer import check_init

    check_launch()
    before = begun_with(run_dir)
    if before is None or not before.shortfall():  # older versions began such runs
        config.check_reach()
    group, whole = config.network.stddev_group, config.loss.whole
    schedule = config.make_schedule()
    check_batches(schedule, processes(), group, whole)
    check_installed({phase.optimizer for phase in schedule.phases})
    check_tracker(config.run.tracker)
    check_init(config, run_dir)
