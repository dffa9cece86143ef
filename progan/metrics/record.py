"""What metrics have found in a run, by images shown: `metrics.jsonl`."""

from collections.abc import Sequence
from pathlib import Path

from progan.json_lines import append_line, read_lines

METRICS = "metrics.jsonl"
STATS = "stats.jsonl"  # beside it, of the ticks
SECTION = "Metrics/"  # of the keys in the file and in TensorBoard


def record(run_dir: Path, nimg: int, results: dict[str, float]) -> None:
    """Add a line."""
    keyed = {SECTION + name: value for name, value in results.items()}
    append_line(run_dir / METRICS, {"nimg": nimg, **keyed})


def has(run_dir: Path, nimg: int, names: Sequence[str]) -> bool:
    """Whether all of these metrics have been recorded at `nimg`."""
    keys = {key for line in read(run_dir / METRICS) if line["nimg"] == nimg for key in line}
    wanted = [SECTION + name for name in names]
    return all(any(key == w or key.startswith(f"{w}_") for key in keys) for w in wanted)


def read(file: Path) -> list[dict[str, float]]:
    """The lines that are whole, each a dictionary with an `nimg`; none if there is no file."""
    return [line for line in read_lines(file) if isinstance(line.get("nimg"), int)]
