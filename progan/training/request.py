"""The run that is asked for: its settings and its folder, checked before any work. No torch."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from progan.config.config import Config
from progan.config.load import assignments, load_config, override, validate
from progan.config.schedule import check_batches
from progan.config.yaml_io import dump_yaml
from progan.data.opening import resolution_of_data
from progan.data.sources.find import NAMED, is_local, is_missing
from progan.runs.folder import base_name, begun_with, check_run_dir, is_complete, read_config
from progan.runtime.errors import UserError
from progan.runtime.launch import check_launch, processes
from progan.runtime.paths import to_path

Say = Callable[[str], None]
Overrides = Sequence[str] | Mapping[str, Any]


def new_run(
    data: str | Path | None,
    config: str | Path | Config | None,
    overrides: Overrides,
    run_dir: str | Path | None,
    say: Say = lambda line: None,
) -> tuple[Config, Path]:
    """Settings and folder of a run on `data`; the folder may hold the same run, to go on with.

    Raises:
        UserError: a setting is wrong, or the folder holds something else.
    """
    made, folder = asked_for(data, config, overrides, run_dir, say)
    check_start(made, folder)
    return made, folder


def asked_for(
    data: str | Path | None,
    config: str | Path | Config | None,
    overrides: Overrides,
    run_dir: str | Path | None,
    say: Say,
) -> tuple[Config, Path]:
    """As `new_run`, whatever the folder holds."""
    made = with_absolute_paths(resolve(data, config, overrides))
    source = made.data.source
    if source is None:
        raise UserError("what to train on? give --data demo, or --data with a folder of images")
    folder = Path("runs") / base_name(source) if run_dir is None else to_path(run_dir, "--run-dir")
    return with_resolution(made, folder, say, known=data is not None), folder


def old_run(run_dir: str | Path, overrides: Overrides) -> tuple[Config, Path]:
    """Settings and folder of a run that has been started.

    Raises:
        UserError: there is no run, its data is not there, or an override may not change.
    """
    folder = to_path(run_dir, "--resume")
    config = with_absolute_paths(read_config(folder, assignments(overrides)))
    source = config.data.source
    if source is not None and is_missing(source) and not is_complete(folder, config):
        raise UserError(
            f"the data of this run, {source}, is not there; if it has moved, go on with "
            f"--resume {run_dir} -o data.source=PATH"
        )
    check_start(config, folder)
    return config, folder


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


def with_absolute_paths(config: Config) -> Config:
    """Paths are kept absolute, so that the run can be resumed from any folder."""
    absolute = {}
    for key, value in config.places().items():
        # Whoever looks for a source that is missing says what else it might be.
        if value is not None and (
            key != "data.source" or is_local(value) and not is_missing(value)
        ):
            absolute[key] = str(to_path(value, key).resolve())
    return config.with_places(absolute)


def with_resolution(config: Config, run_dir: Path, say: Say, known: bool) -> Config:
    """The config; if it gives no resolution, with that of the run in `run_dir`, or of the data.

    Args:
        known: whether the user has named the data in this call.

    Raises:
        UserError: the data cannot be read, or other settings do not fit its resolution.
    """
    source = str(config.data.source)
    if "resolution" in config.network.model_fields_set:
        return config
    if before := begun_with(run_dir):
        resolution = before.network.resolution
    elif source in NAMED:
        resolution = load_config(NAMED[source].preset).network.resolution
    else:
        resolution = resolution_of_data(config.data, say, known)
        say(
            f"{resolution}x{resolution}: the largest resolution that nearly all images have "
            "(another one: -o network.resolution=…)"
        )
    content = override(config.model_dump(exclude_unset=True), [f"network.resolution={resolution}"])
    return validate(content, f"these settings, at {resolution}x{resolution} as the images are")


def check_start(config: Config, run_dir: Path) -> None:
    """Raises UserError for what can be refused before any work is done, by `--dry-run` too."""
    check_settings(config, run_dir)
    check_run_dir(run_dir, config)


def check_settings(config: Config, run_dir: Path) -> None:
    """Raises UserError for a run that cannot be trained, here or in this form."""
    from progan.runs.tracking import check_tracker  # here, as it loads torch

    check_launch()
    before = begun_with(run_dir)
    if before is None or not before.shortfall():  # older versions began such runs
        config.check_reach()
    check_batches(config.make_schedule(), processes(), config.network.stddev_group)
    check_tracker(config.run.tracker)
