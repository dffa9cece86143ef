"""What metrics have found in a run, by images shown: `metrics.jsonl`."""

import json
from collections.abc import Sequence
from pathlib import Path

from progan.disk import append

METRICS = "metrics.jsonl"
STATS = "stats.jsonl"  # beside it, of the ticks
SECTION = "Metrics/"  # of the keys in the file and in TensorBoard


def record(run_dir: Path, nimg: int, results: dict[str, float]) -> None:
    """Add a line, also after one that a power cut has torn."""
    keyed = {SECTION + name: value for name, value in results.items()}
    file = run_dir / METRICS
    before = file.read_bytes() if file.exists() else b""
    torn = bool(before) and not before.endswith(b"\n")
    append(file, "\n" * torn + json.dumps({"nimg": nimg, **keyed}) + "\n")


def has(run_dir: Path, nimg: int, names: Sequence[str]) -> bool:
    """Whether all of these metrics have been recorded at `nimg`."""
    keys = {key for line in read(run_dir / METRICS) if line["nimg"] == nimg for key in line}
    wanted = [SECTION + name for name in names]
    return all(any(key == w or key.startswith(f"{w}_") for key in keys) for w in wanted)


def read(file: Path) -> list[dict[str, float]]:
    """The lines that are whole, each a dictionary with an `nimg`; none if there is no file."""
    lines = file.read_text(errors="replace").splitlines() if file.exists() else []
    found = []
    for line in lines:
        try:
            content = json.loads(line)
        except (ValueError, RecursionError):  # the latter for brackets in brackets
            continue
        if isinstance(content, dict) and isinstance(content.get("nimg"), int):
            found.append(content)
    return found
