"""Which recipe is best at equal images? Many small runs side by side, by SWD.

    python benchmarks/recipes.py faces.zip --work DIR             # hours on two cores
    python benchmarks/recipes.py faces.zip --work DIR --recipes mine.yaml --seeds 0-2

A recipe is a dictionary of overrides, {"loss.penalty": "r1"}, on top of one test: a small network
grows from 4x4 to 32x32 in 8 equal half-phases, the last two at 32x32. Its "config" is the preset
that it begins with. YAML files hold recipes by name. Each run has one thread, so they do not
disturb each other; what DIR already has is continued, not made again. At its end a run is compared
with its data: the averaged generator, and the live one. Prints a table, best first, and JSON.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import mean

from progan.cli.options import parse_seeds
from progan.config.load import assignments, read_file
from progan.runs.records import STATS, lines_of
from progan.runtime.disk import write_json

Recipe = dict[str, object]

TEST: Recipe = {
    "network.resolution": 32,
    "network.z_dim": 64,
    "network.channel_base": 1024,
    "network.channel_max": 64,
    "schedule.batch_size": 16,
    "data.mirror": True,
    "run.device": "cpu",
    "run.precision": "fp32",
    "run.compile": False,
    "run.tick_kimg": 4,
    "run.tracker": None,
}
PAPER: Recipe = {"ema.half_life_kimg": 11.1, "ema.rampup": None}  # 0.999 an update
SHORT: Recipe = {"ema.half_life_kimg": {4: 4, 32: 2}, "ema.rampup": None}
FALLING_RATE = {"start": 0.002, "end": 0.0005, "decay": "cosine"}
PLAIN: Recipe = SHORT | {
    "network.pixel_norm": False,
    "schedule.learning_rate": {4: 0.002, 32: FALLING_RATE},
}
FALLING = {"start": 0.4, "end": 0.04, "decay": "cosine"}
RELATIVISTIC: Recipe = (
    PLAIN
    | {"loss.adversarial": "relativistic", "loss.penalty": "r1_r2", "loss.weights.drift": 0}
    | {"loss.weights.penalty": {4: 0.02, 8: 0.05, 16: 0.1, 32: FALLING}}
)
GROWING: Recipe = {"schedule.stable_kimg": 6, "schedule.fade_kimg": 6}
MODERN: Recipe = {"config": "modern"} | GROWING
RECIPES: dict[str, Recipe] = {
    "paper": PAPER,
    "short average": SHORT,
    "no pixel norm, falling rate": PLAIN,
    "batches of 8": PLAIN | {"schedule.batch_size": 8},
    "logistic, lazy r1": PLAIN
    | {"loss.adversarial": "logistic", "loss.penalty": "r1", "loss.penalty_interval": 8}
    | {"loss.weights.penalty": {4: 0.02, 8: 0.05, 16: 0.1, 32: 0.2}, "loss.weights.drift": 0},
    "relativistic": RELATIVISTIC,
    "short growing": PLAIN | GROWING,
    "from 32x32": PLAIN | {"schedule.start_resolution": 32},
    "modern": MODERN,
    "modern, rate falling over the run": MODERN
    | {"schedule.learning_rate": FALLING_RATE | {"over": "run"}},
    "modern, one cycle": MODERN | {"schedule.cycles": {"one_cycle": {"rate": 0.003}}},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="images, as for progan train")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR")
    parser.add_argument("--recipes", metavar="FILE", help="YAML [default: those in this script]")
    parser.add_argument("--seeds", default="0-2", help="numbers and ranges [default: 0-2]")
    parser.add_argument("--kimg", type=float, default=12, help="of a half-phase [default: 12]")
    parser.add_argument("--metric", default="swd4096", help="[default: swd4096]")
    cores = os.cpu_count()
    parser.add_argument("--jobs", type=int, default=cores, metavar="N", help="simultaneous runs")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    recipes = read_file(arguments.recipes) if arguments.recipes else RECIPES
    length = {
        "schedule.stable_kimg": arguments.kimg,
        "schedule.fade_kimg": arguments.kimg,
        "schedule.total_kimg": 8 * arguments.kimg,
    }
    processes = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.jobs, processes, max_tasks_per_child=1) as pool:
        started = {
            (name, seed): pool.submit(
                result,
                arguments.data,
                TEST | length | recipe | {"run.seed": seed},
                arguments.metric,
                arguments.work / f"{name.replace(' ', '-').replace(',', '')}-{seed}",
            )
            for seed in parse_seeds(arguments.seeds)
            for name, recipe in recipes.items()
        }
        found = {key: run.result() for key, run in started.items()}
    by_name = {name: [found[key] for key in found if key[0] == name] for name in recipes}
    print_table(by_name)
    print(json.dumps({"metric": arguments.metric, "kimg": 8 * arguments.kimg, "results": by_name}))


def result(data: str, settings: Recipe, metric: str, run: Path) -> dict[str, float]:
    """Train a run to its end and measure it, as far as that is not done."""
    file = run / f"{metric}.json"
    if not file.exists():
        train(data, settings, run)
        write_json(file, measure(run, metric))
    return json.loads(file.read_text(encoding="utf-8"))


def train(data: str, settings: Recipe, run: Path) -> None:
    """Start a run or go on with it; what it prints goes to a log next to it."""
    settings = dict(settings)
    preset = settings.pop("config", None)
    options = ["--config", str(preset)] if preset else []
    options += [part for setting in assignments(settings) for part in ("-o", setting)]
    command = [sys.executable, "-m", "progan", "train", "--data", data, "--run-dir", str(run)]
    run.parent.mkdir(parents=True, exist_ok=True)
    with open(run.with_name(f"{run.name}.log"), "a") as log:
        done = subprocess.run([*command, *options], stdout=log, stderr=log)
    if done.returncode:
        sys.exit(f"{run} has failed: see {log.name}")


def measure(run: Path, metric: str) -> dict[str, float]:
    """The metric of the averaged and the live generator and of reals; hours of training."""
    import progan
    from progan.runs.checkpoint import checkpoints_of, read

    snapshot = progan.load(run)
    average = progan.evaluate(snapshot, metric, device="cpu")
    snapshot.G.load_state_dict(read(checkpoints_of(run)[-1])["G"])
    live = progan.evaluate(snapshot, metric, device="cpu")
    _, last = lines_of(run / STATS)[-1]
    return {
        "average": average[metric],
        "live": live[metric],
        "reals": average[f"{metric}_floor"],
        "hours": last["Timing/total_hours"],
    }


def print_table(results: dict[str, list[dict[str, float]]]) -> None:
    """Print Markdown, best first: the mean over seeds, and each seed's value."""
    columns = ("average", "live", "reals", "hours")
    print(f"\n| recipe | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")

    def average(name: str) -> float:
        return mean(line["average"] for line in results[name])

    for name in sorted(results, key=average):
        lines = results[name]
        every = [[line[column] for line in lines] for column in columns]
        cells = [f"{mean(v):.3g} ({', '.join(f'{x:.3g}' for x in v)})" for v in every]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
