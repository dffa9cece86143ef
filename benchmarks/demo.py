"""How much faster the whole demo is than the demo in float32, unfused, NCHW. Ends in JSON.

    python benchmarks/demo.py                # about a quarter of an hour on two cores
    python benchmarks/demo.py --share 0.2    # the same schedule, a fifth as long

Both sides are `progan train --data demo` with everything that belongs to a run: data, grids,
statistics, snapshots, checkpoints. They take turns of some seconds, one stopped while the other
runs, so that a machine that slows down slows both. Images/s include each process's start.
"""

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from progan.config.load import load_config
from progan.runtime import machine

TURN = 5  # seconds
PROGAN = "from progan.cli.main import main; main()"
# There is no setting for NCHW, as nobody would want it.
NCHW = "import progan.model.networks; progan.model.networks.channels_last = lambda x: x; "
SIDES = {
    "plain": (NCHW + PROGAN, ["run.precision=fp32", "network.fused_scale=false"]),
    "progan": (PROGAN, []),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--share", type=float, default=1.0, help="of the demo's length [default: 1]"
    )
    parser.add_argument("--work", type=Path, help="a folder to keep [default: a temporary one]")
    arguments = parser.parse_args()
    lengths = shortened(arguments.share)
    images = load_config("demo", lengths).make_schedule().total_nimg
    work = arguments.work or Path(tempfile.mkdtemp(prefix="progan-bench-"))
    subprocess.run(
        [sys.executable, "-m", "progan", "data", "prepare", "demo", str(work / "data")]
        + ["--max-resolution", "32"],
        check=True,
        capture_output=True,
    )
    figures: dict[str, Any] = {**machine.describe(torch.device("cpu")), **machine.versions()}
    figures |= {"commit": machine.commit(), "images": images}
    try:
        commands = {
            side: train(code, work, work / side, [*lengths, *settings])
            for side, (code, settings) in SIDES.items()
        }
        for side, seconds in in_turn(commands).items():
            figures[f"{side} images/s"] = round(images / seconds, 1)
            print(f"{side}: {images:,} images in {seconds:.0f} s", flush=True)
    finally:
        if not arguments.work:
            shutil.rmtree(work)
    figures["ratio"] = round(figures["progan images/s"] / figures["plain images/s"], 2)
    print(json.dumps(figures))


def shortened(share: float) -> list[str]:
    """Settings that scale the demo's schedule by `share`."""
    schedule: dict[str, Any] = load_config("demo").schedule.model_dump()
    scaled: dict[str, Any] = {
        key: {r: kimg * share for r, kimg in schedule[key].items()}
        for key in ("stable_kimg", "fade_kimg")
    }
    scaled["total_kimg"] = schedule["total_kimg"] * share
    return [f"schedule.{key}={value}" for key, value in scaled.items()]


def train(code: str, work: Path, run: Path, settings: list[str]) -> list[str]:
    """Command that trains one side."""
    command = [sys.executable, "-c", code, "train", "--config", "demo", "--run-dir", str(run)]
    command += ["--data", str(work / "data")]
    return command + [part for setting in settings for part in ("-o", setting)]


def in_turn(commands: dict[str, list[str]]) -> dict[str, float]:
    """Run the commands in turns. Returns the seconds that each ran."""
    processes, seconds = {}, dict.fromkeys(commands, 0.0)
    for name, command in commands.items():
        processes[name] = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        processes[name].send_signal(signal.SIGSTOP)
    while processes:
        for name, process in list(processes.items()):
            start = time.perf_counter()
            process.send_signal(signal.SIGCONT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(TURN)
                del processes[name]
                assert process.returncode == 0, f"{name} failed"
            if process.returncode is None:
                process.send_signal(signal.SIGSTOP)
            seconds[name] += time.perf_counter() - start
    return seconds


if __name__ == "__main__":
    main()
