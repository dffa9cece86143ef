"""Everything that can be measured in some minutes on a GPU, in one process. Ends in JSON.

    python benchmarks/gpu.py --data faces.zip --json gpu.json
    python benchmarks/gpu.py --parts eager,profile --resolutions 32,1024 --minutes 2

The parts are in `gpu_parts.py`: the paper's networks and batches, grown up to 1024x1024. Each
figure is printed as soon as it is known, and the file is rewritten, so that a crash loses at most
one measurement; the file names the one under way. If a measurement fails, the end of its traceback
is kept and the next one begins. A part's time limit is checked between its measurements: one that
has begun is finished, and those left out are listed.
"""

import argparse
import faulthandler
import json
import math
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from gpu_parts import PARTS, Setup

from progan.cli.options import check_target
from progan.config.load import load_config
from progan.runtime import machine, memory
from progan.runtime.accelerator import make_accelerator
from progan.runtime.device import take_device
from progan.runtime.disk import DiskError, write_json
from progan.runtime.errors import UserError
from progan.runtime.numerics import deterministic
from progan.runtime.secrets import redacted

TRACEBACK_LINES, LINE = 12, 200  # lines kept of an error, and characters of each


def main(words: list[str] | None = None) -> None:
    arguments = parse(words)
    config = load_config(None, ["network.resolution=1024", *arguments.overrides])
    taken = take_device(config.run.device)
    check_target(arguments.json)
    setup = Setup(
        config=config,
        accelerator=make_accelerator(Path("."), None, device=taken),
        resolutions=arguments.resolutions,
        data=arguments.data,
        phase_kimg=arguments.phase_kimg,
    )
    report = Report(arguments.json, setup)
    with deterministic(config.run.deterministic), closing(setup.feed.stream):
        for part in arguments.parts:
            run(part, setup, report, 60 * arguments.minutes)
    print(json.dumps(report.content))


def parse(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=6, help="time for each part [default: 6]")
    parser.add_argument(
        "--parts", type=parts, default=list(PARTS), help=f"[default: {','.join(PARTS)}]"
    )
    parser.add_argument(
        "--resolutions", type=numbers, metavar="4,8,…", help="instead of each part's own"
    )
    parser.add_argument(
        "--data", default="demo", help="images for the real run [default: demo, to 32x32 only]"
    )
    parser.add_argument(
        "--phase-kimg", type=float, default=2.56, help="of the real run's phases [default: 2.56]"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    parser.add_argument("-o", dest="overrides", action="append", default=[], help="as in progan")
    return parser.parse_args(words)


def parts(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - PARTS.keys():
        raise argparse.ArgumentTypeError(f"no parts: {', '.join(unknown)}")
    return names


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


class Report:
    """Results so far: printed, and kept in a file that is complete at any time."""

    def __init__(self, file: Path | None, setup: Setup):
        self.file = file
        device = setup.accelerator.device
        self.content: dict[str, Any] = {
            "machine": machine.describe(device),
            "versions": machine.versions(),
            "commit": machine.commit(),
            "precision": setup.precision,
            "peak_tflops": setup.peak_tflops,
            "config": redacted(setup.config.model_dump(mode="json")),
            "under_way": None,
            "parts": {},
        }
        print(f"{machine.device_name(device)}, {setup.precision}", flush=True)

    def begin(self, part: str, name: str) -> None:
        """Name the next measurement in the file, in case the process crashes."""
        self.content["under_way"] = f"{part}: {name}"
        self.write()

    def add(self, part: str, name: str, figures: Any) -> None:
        figures = finite(figures)
        self.content["parts"].setdefault(part, {})[name] = figures
        self.content["under_way"] = None
        print(f"{part}: {name}: {text(figures)}", flush=True)
        self.write()

    def write(self) -> None:
        if not self.file:
            return
        try:
            write_json(self.file, self.content)
        except (DiskError, OSError) as error:  # the printed figures are still there
            print(error, flush=True)


def finite(value: Any) -> Any:
    """Replace numbers that are not finite, which JSON lacks, by None."""
    if isinstance(value, dict):
        return {str(key): finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def text(value: Any) -> str:
    """One line for people; lines of a program's output stay lines."""
    if isinstance(value, dict):
        inside = ", ".join(f"{key} {text(each)}" for key, each in value.items())
        return f"({inside})"
    if isinstance(value, list):
        return "".join(f"\n    {text(each)}" for each in value) or "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def run(part: str, setup: Setup, report: Report, seconds: float) -> None:
    """Make a part's measurements until its time is over."""
    begin, left_out, device = time.monotonic(), [], setup.accelerator.device

    def measure_all() -> None:
        for name, measure in PARTS[part](setup):
            if time.monotonic() - begin > seconds:
                left_out.append(name)
                continue
            report.begin(part, name)
            start = time.monotonic()
            figures = attempted(measure, device)
            report.add(part, name, {**figures, "seconds": round(time.monotonic() - start, 1)})

    failed = attempted(measure_all, device)  # an error between the part's measurements
    if failed:
        report.add(part, "failed", failed)
    if left_out:
        report.add(part, "left out, as the time was over", left_out)
    report.add(part, "all", {"seconds": round(time.monotonic() - begin, 1)})


def attempted(measure: Callable[[], Any], device: torch.device) -> Any:
    """Result of a measurement, made with memory released before it; or its error."""
    try:
        memory.release(device)
        memory.reset_peak(device)
        return measure()
    except Exception:  # of any kind: the other measurements are still possible
        lines = [line[:LINE] for line in traceback.format_exc().splitlines()]
        return {"error": lines[-1], "traceback": lines[-TRACEBACK_LINES:]}


if __name__ == "__main__":
    faulthandler.enable()  # shows where a library crashes
    try:
        main()
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
