"""The best snapshot by each metric, kept with the others under the metric's name."""

import math
import re
from pathlib import Path

from progan.config.metric_names import better, is_whole
from progan.runs.records import METRICS, SECTION, lines_of, number
from progan.runtime.text import stamp


def best_path(run_dir: Path, name: str, resolution: int, nimg: int) -> Path:
    """Where the best snapshot by a metric is kept, which makes images of `resolution`."""
    size = f"{resolution}x{resolution}"
    return run_dir / "snapshots" / f"best-{name}-{size}-{stamp(nimg)}.safetensors"


def best_files(run_dir: Path) -> dict[str, list[Path]]:
    """Files of best snapshots by metric, the best last. Older versions left out the resolution."""
    found: dict[str, list[Path]] = {}
    files = sorted(run_dir.glob("snapshots/best-*.safetensors"))
    for path in sorted(files, key=stamp_of):
        if match := re.fullmatch(r"best-([a-z]+\d+k?)(-\d+x\d+)?-[\d.]+\.safetensors", path.name):
            found.setdefault(match[1], []).append(path)
    return found


def stamp_of(path: Path) -> str:
    """The end of a snapshot's name, by which files sort as they were made."""
    return path.stem.rpartition("-")[2]


def improved(run_dir: Path, results: dict[str, float]) -> list[str]:
    """Names of the metrics whose values in `results` are the best of this run so far.

    Compared with the recorded values of the best snapshot that is still there, whatever its
    resolution: all are measured at the network's full one, from smaller images enlarged.
    """
    recorded = lines_of(run_dir / METRICS)
    kept = best_files(run_dir)
    names = []
    for name, value in results.items():
        sign = {"lower": 1, "higher": -1}.get(better(name) or "") if is_whole(name) else None
        if sign is None or not math.isfinite(value):
            continue
        old = [
            sign * known
            for nimg, line in recorded
            if (known := number(line.get(SECTION + name))) is not None
            and stamp(nimg) in map(stamp_of, kept.get(name, []))
        ]
        if sign * value < min(old, default=math.inf):
            names.append(name)
    return names


def forget_worse(run_dir: Path) -> None:
    """Remove all but the best snapshot of each metric."""
    for paths in best_files(run_dir).values():
        for path in paths[:-1]:
            path.unlink()
