"""A run's folder: its lock, its config, and whether a run with another config may go on there."""

import math
import os
import re
import shlex
import sys
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from progan.config.config import Config, flatten
from progan.config.load import as_begun, read_file, validate
from progan.config.schedule import first_change
from progan.runs.heartbeat import RUNNING
from progan.runs.records import METRICS, STATS, has
from progan.runs.which_run import CONFIG, LOCK, STARTS, other_run
from progan.runtime.disk import append_line, check_plain, read_lines, write_text
from progan.runtime.errors import UserError
from progan.runtime.paths import check_new_folder
from progan.runtime.secrets import bare, redact
from progan.runtime.text import kimg_of, stamp

STOP, COMPLETE = "stop", "complete"
UNPRINTED = "unprinted.txt"  # what could not be printed, as the terminal or the log was gone
FILES = (LOCK, STOP, RUNNING, COMPLETE, STARTS, CONFIG, STATS, METRICS, UNPRINTED)
SUFFIXES = (".pt", ".png", ".safetensors")  # of files in folders of a run
FOLDERS = ("averages", "checkpoints", "evaluated", "images", "snapshots", "tensorboard")
EVENTS = "*tfevents*"  # what TensorBoard reads
BEFORE = (LOCK, STOP, STARTS, UNPRINTED, f"{CONFIG}.partial*")  # of a failed start, as patterns
# Keys that may differ when a run goes on: they change no weight, but for rounding.
CHANGEABLE = {
    "schedule.total_kimg",
    "schedule.batch_gpu",
    "data.source",  # the images themselves are compared (data.stream.Stream)
    "data.root",
    "data.cache",
    "data.label_level",  # so are the labels
    "data.max_bad",
    "data.storage",
    "data.device_cache",
    "data.workers",
    "run.device",
    "run.compile",
    "run.tick_kimg",
    "run.snapshot_ticks",
    "run.checkpoint_ticks",
    "run.keep_checkpoints",
    "run.timeout",
    "run.metrics",
    "run.inception",
    "run.tracker",
}


def read_config(run_dir: Path, overrides: list[str]) -> Config:
    """The config a run was started with, with overrides."""
    check_own(run_dir)
    if run_dir.is_file():
        runs = [folder for folder in run_dir.absolute().parents if (folder / CONFIG).is_file()]
        meant = f", {runs[0]}" if runs else ""
        raise UserError(f"{run_dir} is a file; give the folder of a run{meant}")
    content = settings_of(run_dir)
    if content is None:
        new = f"; start one with progan train --data NAME --run-dir {shlex.quote(str(run_dir))}"
        raise UserError(f"{run_dir} is no run: it has no config.yaml{other_run(run_dir) or new}")
    return validate(as_begun(content), str(run_dir / CONFIG), overrides)


def begun_with(run_dir: Path) -> Config | None:
    """The config of the run in a folder; None if there is no run yet."""
    check_own(run_dir)
    content = settings_of(run_dir)
    return None if content is None else validate(content, str(run_dir / CONFIG))


def settings_of(run_dir: Path) -> dict[str, Any] | None:
    """The content of config.yaml; None if there is no run yet.

    Raises:
        UserError: it cannot be read, is empty, or is gone though there are checkpoints.
    """
    file = run_dir / CONFIG
    content = read_file(str(file)) if file.is_file() else None
    if not content and (content is not None or any(run_dir.glob("checkpoints/checkpoint-*.pt"))):
        raise UserError(
            f"{file} is {'not there' if content is None else 'empty; delete it'}. Make it again "
            "with the settings that the run had (its checkpoints are compared with them): "
            f"progan config --config … -o data.source=… --out {shlex.quote(str(file))}"
        )
    return content


def with_begun_average(config: Config, run_dir: Path) -> Config:
    """The config; its average is that of an older run in `run_dir` where none has been given.

    Runs from before `ema.rampup` go on without it by the command that began them.
    """
    check_own(run_dir)
    content = settings_of(run_dir)
    if content is None or config.ema.model_fields_set & {"kind", "rampup"}:
        return config
    begun = content.get("ema")
    if isinstance(begun, dict) and "kind" in begun:
        return config
    return config.model_copy(update={"ema": config.ema.model_copy(update={"rampup": None})})


def check_own(run_dir: Path) -> None:
    """Raises UserError if a file of the run is a link, or something else than a file.

    In a run from somebody else it might lead to any file of the user's, to be overwritten or read.
    """
    for path in (*(run_dir / name for name in FILES), *run_dir.glob(EVENTS)):
        check_plain(path, written=False)  # a second name is refused by those that write
    for folder in folders_of(run_dir)[1:]:
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            raise UserError(
                f"{folder} must be a folder, and no link to one; move it away, or put the folder "
                "itself in its place"
            )
        if folder.exists():
            check_inside(folder)


def folders_of(run_dir: Path) -> list[Path]:
    """All in which a run keeps files: its own folder, and those in it, if they are there."""
    return [run_dir, *(run_dir / name for name in FOLDERS)]


def check_inside(folder: str | Path) -> None:
    """`check_own` for a folder; the listing itself says what is a file."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False) and not entry.name.endswith(SUFFIXES):
                check_inside(entry.path)
            elif not entry.is_file(follow_symlinks=False):
                check_plain(entry.path, written=False)


def check_run_dir(run_dir: Path, config: Config, written: bool = True) -> None:
    """Raises UserError unless `run_dir` is new, empty, or a run of the same config.

    Only the keys in `CHANGEABLE` may differ; before an imported run's first start, all but the
    networks that it begins with. To be `written`, it must be writable, too.
    """
    parent = next(folder for folder in (run_dir, *run_dir.absolute().parents) if folder.exists())
    if not parent.is_dir():
        where = run_dir if parent == run_dir else f"{run_dir}: {parent}"
        raise UserError(f"--run-dir {where} is a file; give a folder")
    if written and not os.access(parent, os.W_OK):
        raise UserError(f"--run-dir {run_dir} cannot be written: no permission in {parent}")
    check_new_folder(run_dir, "--run-dir")
    check_own(run_dir)
    names = os.listdir(run_dir) if run_dir.exists() else []
    if all(any(fnmatch(name, pattern) for pattern in BEFORE) for name in names):
        return
    if not (run_dir / CONFIG).is_file():
        raise UserError(
            f"--run-dir {run_dir} holds something else (it has no config.yaml of a run); "
            "give a new or empty folder"
        )
    old = read_config(run_dir, [])
    started = (run_dir / STARTS).exists() or any(run_dir.glob("checkpoints/*.pt"))
    imported = not started and old.network.init and old.network.init == config.network.init
    changed = differences(old, config, shown(run_dir))
    if changed and not imported:
        raise UserError(
            f"the run in {run_dir} was started with other settings:\n  "
            + "\n  ".join(changed)
            + "\nuse the same settings to go on, or another --run-dir to start again"
        )


def differences(old: Config, new: Config, nimg: float = math.inf) -> list[str]:
    """`section.key: old -> new` for the settings that differ and may not change on resume.

    Settings of the schedule may change what comes after `nimg` images, where the run is.
    """
    before, after = flatten(old.model_dump()), flatten(new.model_dump())
    changed = [key for key in dict.fromkeys([*before, *after]) if before.get(key) != after.get(key)]
    since = first_change(old.make_schedule(), new.make_schedule())
    if since >= nimg:
        changed = [key for key in changed if not is_scheduled(key)]
    # A setting that is a map, run.metrics, appears here as run.metrics.NAME.
    fixed = [k for k in changed if k not in CHANGEABLE and k.rpartition(".")[0] not in CHANGEABLE]
    lines = [
        f"{key}: they differ from {since / 1000:,.10g} kimg on"
        if key == "schedule.phases"
        else f"{key}: {before.get(key)} -> {after.get(key)}"
        for key in fixed
    ]
    if not lines and since < nimg:
        lines.append(
            f"schedule.total_kimg: {before['schedule.total_kimg']} -> "
            f"{after['schedule.total_kimg']} (it may change, but not once a ramp or cycle leads "
            "to the run's end)"
        )
    return lines


def shown(run_dir: Path) -> int:
    """Images up to the newest checkpoint, by its name; 0 if there is none."""
    kimg = kimg_of(max((run_dir / "checkpoints").glob("checkpoint-*.pt"), default=Path()))
    return 0 if math.isnan(kimg) else round(kimg * 1000)


def is_scheduled(key: str) -> bool:
    """Whether a setting has no effect but through the schedule."""
    if key.startswith(("optim.block_rates", "loss.weights.target")):
        return False
    scheduled = "schedule.", "optim.", "loss.weights.", "data.augment_strength", "ema.half_life"
    return key.startswith(scheduled)


def fixed_settings(config: Config) -> dict[str, Any]:
    """The settings that may not change while a run goes on, and its length, to which a ramp may
    lead. No paths are among them."""
    content = config.model_dump()
    del content["network"]["init"]  # what a checkpoint needs of it is a part of its own
    for key in CHANGEABLE - {"schedule.total_kimg"}:
        section, name = key.split(".")
        del content[section][name]
    return content


def check_begins(run_dir: Path) -> None:
    """Raises UserError for a run that would begin anew and overwrite its snapshots."""
    begins = not any(run_dir.glob("checkpoints/checkpoint-*.pt"))
    if begins and any(run_dir.glob("snapshots/snapshot-*")):
        raise UserError(
            f"{run_dir} has snapshots but no checkpoints, so it cannot go on, and a new start "
            "would overwrite it; sample from it, and train in another --run-dir"
        )


def check_progress(run_dir: Path, config: Config, nimg: int) -> None:
    """Raises UserError unless a run that is at `nimg` can go on, or begin, in this folder."""
    check_begins(run_dir)
    if nimg > config.make_schedule().total_nimg:
        raise UserError(
            f"the run in {run_dir} has shown {nimg / 1000:.10g} kimg, more than "
            f"schedule.total_kimg ({config.schedule.total_kimg}); leave it, or raise it"
        )


def record_start(run_dir: Path, environment: dict[str, Any]) -> list[str]:
    """Add a line to `starts.jsonl`; returns the changes since the last start, `key: old -> new`.

    Args:
        environment: plain values; the time and command line are added.
    """
    file = run_dir / STARTS
    before = (read_lines(file) or [{}])[-1]
    record = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(map(redact, [*program(sys.argv[0]), *sys.argv[1:]])),
        **environment,
    }
    append_line(file, record)
    return [
        f"{key}: {before[key]} -> {value}"
        for key, value in environment.items()
        if key in before and before[key] != value
    ]


def program(path: str) -> list[str]:
    """How people call the program in a file: of progan, not where on this machine it lies."""
    file = Path(path)
    if file.parts[-2:] == ("progan", "__main__.py"):
        return ["python", "-m", "progan"]
    return ["progan"] if file.name == "progan" else [path]


def is_complete(run_dir: Path, config: Config) -> bool:
    """Whether the run has reached its end, metrics included, by the names of its files."""
    total_nimg = config.make_schedule().total_nimg
    end = stamp(total_nimg)
    kept = {f"checkpoints/checkpoint-{end}.pt", f"snapshots/snapshot-{end}.safetensors"}
    patterns = "checkpoints/checkpoint-*.pt", "snapshots/snapshot-*.safetensors"
    newest = {max(run_dir.glob(pattern), default=run_dir) for pattern in patterns}
    return (
        (run_dir / COMPLETE).is_file()
        and newest == {run_dir / name for name in kept}
        and has(run_dir, total_nimg, list(config.run.metrics))
    )


def write_config(run_dir: Path, config: Config) -> None:
    """Write the resolved config into the run's folder."""
    write_text(run_dir / CONFIG, config.to_yaml())


def base_name(path: str | Path) -> str:
    """The default name of a run or its samples."""
    name = re.sub(r"-*[{}*?]+", "-", Path(bare(str(path))).name)  # of shards' patterns
    return re.sub(r"\.(zip|tar|tgz|tar\.\w+|np[yz]|safetensors)$", "", name).strip("-") or "run"
