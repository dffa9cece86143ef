"""Records of a run by images shown: `metrics.jsonl` and `stats.jsonl`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from progan.runtime.disk import append_line, read_lines, write_atomically

METRICS = "metrics.jsonl"
STATS = "stats.jsonl"  # of the ticks
SECTION = "Metrics/"  # before a metric's name, in the file and in TensorBoard
LATER = "evaluated"  # marks lines that training has not written
LIMIT = 1e12  # larger values are of no use, and may not be drawn


def record(run_dir: Path, nimg: int, results: dict[str, float]) -> None:
    """Add a line for a snapshot that was evaluated after training."""
    keyed = {SECTION + name: value for name, value in results.items()}
    append_line(run_dir / METRICS, {"nimg": nimg, LATER: True, **keyed})


def has(run_dir: Path, nimg: int, names: Sequence[str]) -> bool:
    """Whether training has recorded all of these metrics at `nimg`."""
    lines = [line for line in read(run_dir / METRICS) if LATER not in line]
    keys = {key for line in lines if line["nimg"] == nimg for key in line}
    wanted = [SECTION + name for name in names]
    return all(any(key == w or key.startswith(f"{w}_") for key in keys) for w in wanted)


def read(file: Path) -> list[dict[str, float]]:
    """The lines that are whole, each a dictionary with an `nimg`; none if there is no file."""
    return [line for line in read_lines(file) if isinstance(line.get("nimg"), int)]


def drop_lines_after(file: Path, nimg: int) -> None:
    """Remove statistics of images that will be shown again, and a half-written last line."""
    if file.exists():
        kept = "".join(json.dumps(line) + "\n" for line in read(file) if line["nimg"] <= nimg)
        write_atomically(file, lambda part: part.write_text(kept, encoding="utf-8"))


def lines_of(file: Path) -> list[tuple[int, dict[str, Any]]]:
    """The lines, each with its nimg."""
    found = [(number(line["nimg"]), line) for line in read(file)]
    return [(int(nimg), line) for nimg, line in found if nimg is not None and nimg >= 0]


def number(value: Any) -> float | None:
    """`value` if it is a number that can be drawn, else None; files may hold anything."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) <= LIMIT else None  # false for nan, too
