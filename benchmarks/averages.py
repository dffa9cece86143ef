"""Which average fits a run of which length? One run, and many averages of its generator.

    python benchmarks/averages.py faces.zip --work DIR                  # a small run of 96 kimg
    python benchmarks/averages.py demo --config demo --work DIR --at 12,20,28

No average changes the training, so one run tells of all: none (live), half-lives that are fixed or
a share of the images shown, and power averages. Each is measured at the kimg in --at and at the
end. Ctrl-C stops the run; the same command goes on with it, and measures what has not been measured
yet. Prints a Markdown table and JSON.
"""

import argparse
import json
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from progan.config.schedule import Curve
from progan.data.opening import open_data
from progan.metrics.of_snapshot import compare_with_data
from progan.runs.folder import COMPLETE, STOP, is_complete
from progan.runs.hold import Hold
from progan.runs.snapshot import Snapshot
from progan.runs.snapshot_file import load_snapshot, save_snapshot
from progan.runtime.accelerator import make_accelerator
from progan.runtime.disk import write_json
from progan.runtime.stopping import StopRequest
from progan.runtime.text import kimg_of, stamp
from progan.training.ema import Average, HalfLife, Kind, Power
from progan.training.request import new_run
from progan.training.trainer import Trainer

SETTINGS = {  # without --config: 12 kimg for each fade and each resolution
    "network.resolution": 32,
    "network.z_dim": 64,
    "network.channel_base": 1024,
    "network.channel_max": 64,
    "schedule.stable_kimg": 12,
    "schedule.fade_kimg": 12,
    "schedule.total_kimg": 96,
    "schedule.batch_size": 16,
    "data.mirror": True,
    "run.tick_kimg": 4,
}


def kinds(config) -> dict[str, Kind]:
    """The averages by name. A decay of 0.999 an update is the official one."""
    schedule = config.make_schedule()

    def official(nimg: int) -> float:
        return 0.693 * schedule.at(nimg).batch_size

    found: dict[str, Kind] = {"live": HalfLife(official, 0.0), "0.999": HalfLife(official)}
    found |= {f"{kimg} kimg": HalfLife(Curve(kimg).at) for kimg in (0.5, 1, 2, 4)}
    shares = (0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2)
    found |= {f"share {share}": HalfLife(official, share) for share in shares}
    return found | {f"power {length}": Power(length) for length in (0.05, 0.1, 0.15)}


class Following(Trainer):
    """A trainer whose generator is followed by more averages, which its checkpoints hold, too.

    Args:
        at: kimg at which they are saved, besides the end.
    """

    def __init__(self, at: set[float], *arguments):
        super().__init__(*arguments)
        self.at = at
        self.names = kinds(self.config)
        self.followed = Average(self.step.G, list(self.names.values()), self.schedule)
        for name, network in zip(self.names, self.followed.networks, strict=True):
            self.checkpoint.parts[f"followed {name}"] = network

    def begin_phase(self, phase) -> None:
        super().begin_phase(phase)
        self.followed.begin(self.step.G.active_parameters(phase.resolution, phase.fading))

    def train_step(self, phase) -> None:
        before = self.progress.nimg
        super().train_step(phase)
        self.followed.update(before, self.progress.nimg)

    def tick(self, phase) -> None:
        nimg, data = self.progress.nimg, self.stream.data.identity
        if nimg / 1000 in self.at or nimg == self.schedule.total_nimg:
            for name, network in zip(self.names, self.followed.networks, strict=True):
                file = self.run_dir / "snapshots" / f"followed-{name}-{stamp(nimg)}.safetensors"
                reached = self.schedule.reached(nimg)
                save_snapshot(Snapshot(file, network, self.config, nimg, *reached, None, data))
        super().tick(phase)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="images, as for progan train")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="the run's folder")
    parser.add_argument("--config", metavar="PRESET", help="instead of the small run")
    parser.add_argument("--at", default="", metavar="KIMG,…", help="when to measure, at ticks")
    parser.add_argument("--metric", default="swd4096")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    settings: dict[str, Any] = {} if arguments.config else {**SETTINGS}
    settings |= {"run.seed": arguments.seed, "run.tracker": None}
    config, run_dir, _ = new_run(arguments.data, arguments.config, settings, arguments.work, print)
    at = {float(kimg) for kimg in arguments.at.split(",") if kimg}
    if not is_complete(run_dir, config):
        data = open_data(config)
        with closing(data), Hold(run_dir) as hold, StopRequest(run_dir / STOP) as stop:
            accelerator = make_accelerator(run_dir, None)
            complete = Following(at, config, data, run_dir, accelerator, stop, hold).run()
        if not complete:
            sys.exit("stopped; the same command goes on")
        (run_dir / COMPLETE).touch()
    show(measured(run_dir, arguments.metric), arguments)


def measured(run_dir: Path, metric: str) -> dict[str, dict[str, float]]:
    """The metric by kimg and name of average; kept in the run's folder."""
    kept = run_dir / f"averages-{metric}.json"
    results = json.loads(kept.read_text()) if kept.exists() else {}
    accelerator = make_accelerator(Path("."), None, device=torch.device("cpu"))
    for file in sorted((run_dir / "snapshots").glob("followed-*"), key=kimg_of, reverse=True):
        of_kimg, name = results.setdefault(f"{kimg_of(file):g}", {}), file.stem.split("-")[1]
        if name not in of_kimg:
            found = compare_with_data(load_snapshot(file), [metric], None, None, accelerator, None)
            of_kimg[name] = found.results[metric]
            of_kimg["reals against reals"] = found.results[f"{metric}_floor"]
            print(f"{kimg_of(file):g} kimg, {name}: {of_kimg[name]:.2f}", flush=True)
            write_json(kept, results)
    return results


def show(results: dict[str, dict[str, float]], arguments: argparse.Namespace) -> None:
    """Print a row for each average, a column for each number of images."""
    columns = sorted(results, key=float)
    print(f"\n| average | {' | '.join(f'{kimg} kimg' for kimg in columns)} |")
    print(f"|{'---|' * (len(columns) + 1)}")
    for name in results[columns[-1]]:
        values = [results[kimg].get(name) for kimg in columns]
        print(f"| {name} | {' | '.join('-' if v is None else f'{v:.1f}' for v in values)} |")
    print(json.dumps({"metric": arguments.metric, "seed": arguments.seed, "results": results}))


if __name__ == "__main__":
    main()
