"""Time and memory that SWD and MS-SSIM take. Its last line is JSON.

    python benchmarks/metrics.py                 # 16384 images of 128x128: minutes on two cores
    python benchmarks/metrics.py --resolution 256 --images 4096

Both sides are noise, made before the clock starts: no generator and no disk is timed. Memory is
the peak of the whole process, with torch.
"""

import argparse
import json
import resource
import time
from collections.abc import Iterator

import numpy as np
import torch

from progan.metrics.measuring import measure
from progan.metrics.metric import Metric
from progan.metrics.msssim import MSSSIM
from progan.metrics.swd import SWD
from progan.runtime import machine
from progan.runtime.device import fastest_device

BATCH = 64
KINDS = 4  # different batches, repeated; metrics cut them in different places


def batches(resolution: int, seed: int) -> Iterator[np.ndarray]:
    """Endless noise, uint8 [BATCH, 3, r, r]."""
    draw = np.random.default_rng(seed)
    made = [
        draw.integers(0, 256, (BATCH, 3, resolution, resolution), np.uint8) for _ in range(KINDS)
    ]
    while True:
        yield from made


def timed(metric: Metric, resolution: int, device: torch.device) -> float:
    start = time.perf_counter()
    measure(metric, batches(resolution, 0), batches(resolution, 1), device)
    return round(time.perf_counter() - start, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--images", type=int, default=16384, help="for SWD; pairs for MS-SSIM")
    arguments = parser.parse_args()
    device, count = fastest_device(), arguments.images
    figures = {**machine.describe(device), **machine.versions(), "commit": machine.commit()}
    figures |= vars(arguments)
    figures["swd seconds"] = timed(SWD(f"swd{count}", count), arguments.resolution, device)
    figures["peak GB"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)
    figures["msssim seconds"] = timed(MSSSIM(f"msssim{count}", count), arguments.resolution, device)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
