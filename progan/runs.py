"""A run's folder: reading its config, and whether another config may go on there."""

import os
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from progan.config import Config, differences
from progan.disk import write_atomically
from progan.errors import UserError
from progan.json_lines import append_line, read_lines
from progan.settings import load_config

LOCK = ".lock"
STOP = "stop"
COMPLETE = "complete"
STARTS = "starts.jsonl"
BEFORE = {LOCK, STOP, STARTS, "config.yaml.partial"}  # all that a start may leave that failed


@contextmanager
def lock_run(run_dir: Path) -> Iterator[None]:
    """One start at a time in a run's folder; the lock of a process that died does not hold."""
    run_dir.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(run_dir / LOCK, timeout=0):
            yield
    except Timeout:
        raise UserError(f"another process is training in {run_dir}; stop it, or wait") from None


def read_config(run_dir: Path, overrides: list[str]) -> Config:
    """The config a run was started with, and overrides to it."""
    file = run_dir / "config.yaml"
    if not file.is_file():
        raise UserError(
            f"{run_dir} is no run: it has no config.yaml; start one with "
            f"progan train --data NAME --run-dir {run_dir}"
        )
    return load_config(str(file), overrides)


def check_run_dir(run_dir: Path, config: Config) -> None:
    """Raises UserError unless `run_dir` is new, empty, or a run of the same config.

    Only the keys in `config.CHANGEABLE` may differ.
    """
    if run_dir.exists() and not run_dir.is_dir():
        raise UserError(f"--run-dir {run_dir} is a file; give a folder")
    parent = next(folder for folder in (run_dir, *run_dir.absolute().parents) if folder.exists())
    if not os.access(parent, os.W_OK):
        raise UserError(f"--run-dir {run_dir} cannot be written: no permission in {parent}")
    if not run_dir.exists() or all(path.name in BEFORE for path in run_dir.iterdir()):
        return
    if not (run_dir / "config.yaml").is_file():
        raise UserError(
            f"--run-dir {run_dir} holds something else (it has no config.yaml of a run); "
            "give a new or empty folder"
        )
    for name in ("checkpoints", "images", "snapshots"):
        if (run_dir / name).exists() and not (run_dir / name).is_dir():
            raise UserError(f"{run_dir / name} must be a folder; move that file away")
    changed = differences(load_config(str(run_dir / "config.yaml")), config)
    if changed:
        raise UserError(
            f"the run in {run_dir} was started with other settings:\n  "
            + "\n  ".join(changed)
            + "\nuse the same settings to go on, or another --run-dir to start anew"
        )


def record_start(run_dir: Path, environment: dict[str, Any]) -> list[str]:
    """Add a line to `starts.jsonl`; returns what differs from the start before, `key: old -> new`.

    `environment` is a dictionary of plain values; the time and command line are added.
    """
    file = run_dir / STARTS
    before = (read_lines(file) or [{}])[-1]
    record = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(sys.argv),
        **environment,
    }
    append_line(file, record)
    return [
        f"{key}: {before[key]} -> {value}"
        for key, value in environment.items()
        if key in before and before[key] != value
    ]


def write_config(run_dir: Path, config: Config) -> None:
    """The resolved config, beside what the run writes."""
    write_atomically(
        run_dir / "config.yaml",
        lambda temporary: temporary.write_text(config.to_yaml(), encoding="utf-8"),
    )


def base_name(path: str | Path) -> str:
    """What a run or its samples are called by default."""
    name = re.sub(r"-*[{}*?]+", "-", Path(path).name)  # of shards' patterns
    return re.sub(r"\.(zip|tar|tgz|tar\.\w+|np[yz]|safetensors)$", "", name).strip("-") or "run"
