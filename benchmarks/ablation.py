"""What each part of the networks is worth: growing runs, complete and without one part.

    python benchmarks/ablation.py faces.zip --work DIR     # an hour and a half on two cores

The small network of growing.py grows from 4x4 to 32x32, complete and without equalized learning
rate, pixel norm or minibatch stddev, with several seeds. All runs have the same number of images;
time does not count, so they may share the machine. Metrics are measured during training and, with
the whole protocols, at the end. Runs that DIR already has are continued. Prints a table and JSON.
"""

import argparse
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean

from growing import GROWING, train

from progan.runs.records import METRICS, SECTION, lines_of

WITHOUT: dict[str, dict[str, object]] = {
    "nothing": {},
    "equalized": {"network.equalized": "false"},
    "pixel-norm": {"network.pixel_norm": "false"},
    "stddev": {"network.stddev_group": 1},
}
# A run has 50 ticks, so the whole protocols are measured only after the last image.
MEASURED = "{swd2000: every 5 ticks, swd16k: every 1000 ticks, msssim10k: every 1000 ticks}"
COLUMNS = ("swd16k", "swd16k_at_32", "swd16k_at_16", "swd16k_floor", "msssim10k", "msssim10k_reals")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="images, as for progan train")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR")
    parser.add_argument("--kimg", type=float, default=200, help="of each run [default: 200]")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="seeds [default: 3]")
    cores = os.cpu_count()
    parser.add_argument("--jobs", type=int, default=cores, metavar="N", help="simultaneous runs")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(max(cores // arguments.jobs, 1))
    runs: dict[str, list[Path]] = {name: [] for name in WITHOUT}
    with ThreadPoolExecutor(arguments.jobs) as pool:
        trained = []
        for seed in range(arguments.seeds):
            for name, changes in WITHOUT.items():
                run = arguments.work / f"without-{name}-{seed}"
                length = {"schedule.total_kimg": arguments.kimg, "run.seed": seed}
                settings = GROWING | changes | length | {"run.metrics": MEASURED}
                trained.append(pool.submit(train, arguments.data, settings, run))
                runs[name].append(run)
        for one in trained:
            one.result()
    results = {name: [last_line(run) for run in folders] for name, folders in runs.items()}
    print_table(results)
    print(json.dumps({"kimg": arguments.kimg, "results": results}))


def last_line(run: Path) -> dict[str, float]:
    _, line = lines_of(run / METRICS)[-1]
    return {column: line[SECTION + column] for column in COLUMNS}


def print_table(results: dict[str, list[dict[str, float]]]) -> None:
    """Print Markdown: the mean over seeds, and each seed's value."""
    print(f"\n| without | {' | '.join(COLUMNS)} |\n|{'---|' * (len(COLUMNS) + 1)}")
    for name, lines in results.items():
        columns = [[line[column] for line in lines] for column in COLUMNS]
        cells = [f"{mean(v):.4g} ({', '.join(f'{x:.4g}' for x in v)})" for v in columns]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
