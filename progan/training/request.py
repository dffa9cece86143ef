"""The run that is asked for: its settings and its folder, checked before any work. No torch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from progan.config.config import Config
from progan.config.load import assignments, load_config, validate
from progan.config.schedule import check_batches
from progan.config.yaml_io import dump_yaml
from progan.data.sources.find import NAMED, is_local, is_missing
from progan.runs.folder import base_name, begun_with, check_run_dir, is_complete, read_config
from progan.runtime.errors import UserError
from progan.runtime.launch import check_launch, processes
from progan.runtime.paths import to_path

Overrides = Sequence[str] | Mapping[str, Any]


def new_run(
    data: str | Path | None,
    config: str | Path | Config | None,
    overrides: Overrides,
    run_dir: str | Path | None,
) -> tuple[Config, Path]:
    """Settings and folder of a run on `data`; the folder may hold the same run, to go on with.

    Raises:
        UserError: a setting is wrong, or the folder holds something else.
    """
    made = with_absolute_paths(resolve(data, config, overrides))
    source = made.data.source
    if source is None:
        raise UserError("what to train on? give --data demo, or --data with a folder of images")
    folder = Path("runs") / base_name(source) if run_dir is None else to_path(run_dir, "--run-dir")
    check_start(made, folder)
    return made, folder


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
        return validate(config.model_dump(), None, changes)
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


def check_start(config: Config, run_dir: Path) -> None:
    """Raises UserError for what can be refused before any work is done, by `--dry-run` too."""
    from progan.runs.tracking import check_tracker  # here, as it loads torch

    check_launch()
    before = begun_with(run_dir)
    if before is None or not before.shortfall():  # older versions began such runs
        config.check_reach()
    check_batches(config.make_schedule(), processes(), config.network.stddev_group)
    check_tracker(config.run.tracker)
    check_run_dir(run_dir, config)
