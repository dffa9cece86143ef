"""The time that a run predicts at its start, and the time it takes, for three runs.

    python benchmarks/predicted.py           # about ten minutes on two cores
    python benchmarks/predicted.py --times 2

Its last line is JSON. The clock starts where training says how long it will take: after the
data are prepared and the trial updates are made. Nothing else should run on the machine.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from progan.config.load import load_config
from progan.data.opening import open_data
from progan.runtime import machine
from progan.runtime.device import take_device
from progan.runtime.stopping import StopRequest
from progan.training import start
from progan.training.costs import Range
from progan.training.trainer import Trainer

CUT = {"schedule.stable_kimg": 1, "schedule.fade_kimg": 1, "schedule.total_kimg": None}
RUNS: dict[str, dict[str, object]] = {
    "the demo, a third as long": {
        "schedule.stable_kimg": {4: 0.7, 8: 1, 16: 2},
        "schedule.fade_kimg": {4: 0.7, 16: 1, 32: 1.3},
        "schedule.total_kimg": 12,
    },
    "narrow networks at 128x128": {
        **CUT,
        "network.resolution": 128,
        "network.channel_max": 16,
        "schedule.fade_kimg": {4: 0.5, 128: 0.2},
        "schedule.stable_kimg": {4: 0.5, 128: 0.2},
    },
    "the demo at 16x16 with a metric": {
        **CUT,
        "network.resolution": 16,
        "run.metrics": {"swd2000": 2},
        "run.tick_kimg": 0.5,
    },
}


class Timed(Trainer):
    """Notes what it predicts, and when."""

    predicted: Range | None = None
    begun = 0.0

    def begin(self) -> None:
        super().begin()
        Timed.predicted, Timed.begun = self.costs.left(0), time.perf_counter()


def run(settings: dict[str, object]) -> dict[str, float]:
    """Seconds predicted and taken by the demo with other settings."""
    config = load_config("demo", settings)
    start.Trainer = Timed  # type: ignore[misc]
    device = take_device(config.run.device)
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        data = open_data(config, say=lambda line: None)
        assert start.train_run(config, run_dir, data, device, StopRequest(), lambda line: None)
    took = time.perf_counter() - Timed.begun
    low, likely, high = Timed.predicted or (0.0, 0.0, 0.0)
    return {"low": low, "likely": likely, "high": high, "took": took, "ratio": took / likely}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=1, help="how often each run is made")
    arguments = parser.parse_args()
    figures: dict[str, Any] = {**machine.versions(), "commit": machine.commit(), "runs": {}}
    for name, settings in RUNS.items():
        for _ in range(arguments.times):
            found = {key: round(value, 2) for key, value in run(settings).items()}
            figures["runs"].setdefault(name, []).append(found)
            print(f"{name}: {found}", flush=True)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
