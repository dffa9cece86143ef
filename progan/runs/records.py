"""Records of a run by images shown: `metrics.jsonl` and `stats.jsonl`."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from progan.config.metric_names import canonical
from progan.runtime.disk import append_line, read_lines, write_text

METRICS = "metrics.jsonl"
STATS = "stats.jsonl"  # of the ticks
SECTION = "Metrics/"  # before a metric's name, in the file and in TensorBoard
HOURS = "Timing/total_hours"  # spent on updates until that tick
ENERGY = "Resources/energy_kwh"  # taken by all GPUs until that tick; not there if unknown
HOURS_LEFT = "Timing/hours_left"  # to the run's end, as likely at that tick
LATER = "evaluated"  # marks lines that training has not written
LIMIT = 1e12  # larger values are of no use, and may not be drawn


def record(run_dir: Path, nimg: int, results: dict[str, float]) -> None:
    """Add a line for a snapshot that was evaluated after training."""
    keyed = {SECTION + name: value for name, value in results.items()}
    append_line(run_dir / METRICS, {"nimg": nimg, LATER: True, **keyed})


def has(run_dir: Path, nimg: int, names: Sequence[str]) -> bool:
    """Whether training has recorded all of these metrics at `nimg`."""
    lines = (line for at, line in lines_of(run_dir / METRICS) if at == nimg and LATER not in line)
    keys = {key for line in lines for key in line}
    wanted = [SECTION + name for name in names]
    return all(any(key == w or key.startswith(f"{w}_") for key in keys) for w in wanted)


def drop_lines_after(file: Path, nimg: int) -> None:
    """Remove statistics of images that will be shown again, and a half-written last line."""
    if file.exists():
        kept = "".join(json.dumps(line) + "\n" for at, line in lines_of(file) if at <= nimg)
        write_text(file, kept)


def remove_after(run_dir: Path, pattern: str, nimg: int) -> None:
    """Remove files of images that will be shown again, by the stamp at the end of their names."""
    for path in run_dir.glob(pattern):
        shown = re.search(r"\d{6,}\.\d{3}(?=\.)", path.name)
        if shown and float(shown[0]) > nimg / 1000:
            path.unlink()


def lines_of(file: Path, last: int = 0) -> list[tuple[int, dict[str, Any]]]:
    """The lines that are whole, each with its nimg; none if there is no file.

    Args:
        last: see `read_lines`.
    """
    found = [(line.get("nimg"), line) for line in read_lines(file, last)]
    return [(nimg, line) for nimg, line in found if type(nimg) is int and 0 <= nimg <= LIMIT]


def number(value: Any) -> float | None:
    """`value` if it is a number that can be drawn, else None; files may hold anything."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) <= LIMIT else None  # false for nan, too


def amount(value: Any) -> float | None:
    """`value` if it is a number that can be drawn and not below 0, else None."""
    found = number(value)
    return None if found is None or found < 0 else found


def metrics_in(line: dict[str, Any]) -> dict[str, float]:
    """A line's metrics with a known name and a number; the file may be from somebody else."""
    found = {}
    for key, given in line.items():
        name = canonical(key.removeprefix(SECTION)) if key.startswith(SECTION) else None
        value = number(given)
        if name is not None and value is not None:
            found[name] = value
    return found


def metrics_of(run_dir: Path) -> dict[str, dict[int, float]]:
    """The recorded metrics of a run by name and images shown; later lines replace earlier ones."""
    found: dict[str, dict[int, float]] = {}
    for nimg, line in lines_of(run_dir / METRICS):
        for name, value in metrics_in(line).items():
            found.setdefault(name, {})[nimg] = value
    return found
