"""Is growing worth it? The same small network, with and without growing, for the same time.

    python benchmarks/growing.py faces.zip --work DIR             # an hour and a half on two cores

Compares growing from 4x4 to 32x32 with training at 32x32 from the start. The two train one after
the other, each for --minutes of its own clock (updates, without ticks). Then snapshots are
evaluated, about one per minute, and the last one with the whole protocols. Whatever DIR already
has is not trained or evaluated again. The last line is JSON.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from progan.analysis.curves import HOURS, interpolate, read_runs
from progan.runs.records import METRICS, STATS, lines_of
from progan.runs.snapshot_file import snapshot_path

CURVES = "swd2000,msssim1000"  # by minute
AT_THE_END = "swd16k,msssim10k"
BATCH = 16  # the paper's, as is Adam's rate of 0.001
GROWING = {
    "network.resolution": 32,
    "network.z_dim": 128,
    "network.channel_base": 1024,
    "network.channel_max": 64,
    "schedule.stable_kimg": "{4: 12, 8: 24, 16: 36}",
    "schedule.fade_kimg": "{4: 12, 16: 24, 32: 36}",
    "schedule.total_kimg": 2000,  # never reached
    "schedule.batch_size": BATCH,
    "schedule.learning_rate": 0.001,
    "data.mirror": "true",
    "ema.half_life_kimg": 5,
    "run.tick_kimg": 4,
    "run.snapshot_ticks": 1,
    "run.checkpoint_ticks": 20,
}
FULL = {"schedule.start_resolution": 32, "schedule.stable_kimg": 2000, "schedule.fade_kimg": 0}
SIDES = {"growing": {}, "full": FULL}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="images, as for progan train")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    runs = {name: arguments.work / name for name in SIDES}
    for name, changes in SIDES.items():
        settings = GROWING | changes | {"run.seed": arguments.seed}
        train_for(arguments.minutes, arguments.data, settings, runs[name])
    for run in runs.values():
        snapshots = by_minute(run, arguments.minutes)
        evaluate(run, snapshots, CURVES)
        evaluate(run, snapshots[-1:], AT_THE_END)
    picture = arguments.work / "compare.png"
    progan("compare", *runs.values(), "--metrics", CURVES, "--out", picture)
    print_by_minute(list(runs.values()), arguments.minutes)
    figures = {name: last_line(run) for name, run in runs.items()}
    print(json.dumps({"minutes": arguments.minutes, "seed": arguments.seed} | figures))


def progan(*arguments: object) -> None:
    print("progan", *arguments, flush=True)
    subprocess.run([sys.executable, "-m", "progan", *map(str, arguments)], check=True)


def train(data: str, settings: dict[str, object], run: Path, *more: object) -> None:
    """Start or resume a run, and train it to its end."""
    options = [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]
    progan("train", "--data", data, "--run-dir", run, *more, *options)


def train_for(minutes: float, data: str, settings: dict[str, object], run: Path) -> None:
    """Train until the run's own clock, which excludes ticks and starts, has passed `minutes`."""
    while hours(run)[-1:] < [minutes / 60]:
        left = minutes / 60 - max(hours(run), default=0)
        train(data, settings, run, "--max-hours", f"{left + 0.02:.4f}")


def hours(run: Path) -> list[float]:
    """Hours of training, at each tick."""
    return [line[HOURS] for _, line in lines_of(run / STATS)]


def by_minute(run: Path, minutes: float) -> list[Path]:
    """The last snapshot of each minute, up to `minutes`."""
    newest: dict[int, int] = {}
    for nimg, line in lines_of(run / STATS):
        if line[HOURS] * 60 <= minutes and snapshot_path(run, nimg).exists():
            newest[int(line[HOURS] * 60)] = nimg
    return [snapshot_path(run, nimg) for nimg in newest.values()]


def evaluate(run: Path, snapshots: list[Path], metrics: str) -> None:
    first = metrics.partition(",")[0]
    done = {
        snapshot_path(run, x["nimg"]) for _, x in lines_of(run / METRICS) if f"Metrics/{first}" in x
    }
    if left := [path for path in snapshots if path not in done]:
        progan("evaluate", *left, "--metrics", metrics)


def print_by_minute(folders: list[Path], minutes: float) -> None:
    """Print a Markdown table for each metric, with straight lines between evaluations."""
    runs, _ = read_runs(folders)
    for metric in CURVES.split(","):
        print(f"\n| minutes | {' | '.join(run.name for run in runs)} |")
        print(f"|{'---|' * (len(runs) + 1)}")
        curves = [[((p.hours or 0.0) * 60, p.value) for p in run.metrics[metric]] for run in runs]
        at = [minute for minute in (1, 2, 3, 5, 8, 10, 12, 15, 20, 25) if minute < minutes]
        rows = {str(minute): [interpolate(curve, minute) for curve in curves] for minute in at}
        rows["last"] = [curve[-1][1] for curve in curves]
        for title, values in rows.items():
            said = ["-" if value is None else f"{value:.3g}" for value in values]
            print(f"| {title} | {' | '.join(said)} |")


def last_line(run: Path) -> dict[str, float]:
    """Results of the whole protocols for the last snapshot, and its time in minutes."""
    results = [line for _, line in lines_of(run / METRICS) if "Metrics/swd16k" in line][-1]
    at = {nimg: line[HOURS] for nimg, line in lines_of(run / STATS)}
    return results | {"minutes": round(60 * at[results["nimg"]], 2)}


if __name__ == "__main__":
    main()
