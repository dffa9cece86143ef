"""Run a command of this Python as if the machine had an NVIDIA H200, which computes nothing.

PyTorch's CUDA build runs on our own runtime, built on first use with gcc. PyTorch uses its CUDA
dispatch, its autocast rules for CUDA, its caching allocator and its compiler. Device memory is
host memory, copies are real, kernels do nothing; with --values the CPU computes their results.

It shows: dtypes that do not match under CUDA's autocast, tensors left on another device, hidden
synchronizations (torch.cuda.set_sync_debug_mode), what a program does when memory is short, errors
in paths that a command takes only on a GPU.

It cannot show: speed; values of CUDA's kernels (without --values numbers are garbage: "not finite",
skipped updates and equal samples mean nothing; sizes that depend on values may be absurd); cuDNN,
which is off, so that convolutions take other paths and other memory; NCCL, cuFFT and CUDA graphs,
which fail; several devices; compiled code, which is compiled but not run (with --values not even
compiled). A segmentation fault means that the stub lacks something.
"""

import argparse
import os
import re
import resource
import sys
from pathlib import Path

import build

from progan.runtime.cache import default_cache

HERE = Path(__file__).resolve().parent
POWERS = {"KiB": 10, "MiB": 20, "GiB": 30}


def size(text: str) -> int:
    """Parse a size such as 110MiB into bytes."""
    match = re.fullmatch(r"(\d+)([KMG]iB)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 24GiB or 110MiB")
    return int(match[1]) << POWERS[match[2]]


def guard(device: int) -> None:
    """Protect the machine's memory from a run whose sizes may be garbage."""
    text = Path("/proc/meminfo").read_text()
    free = int(re.search(r"MemAvailable:\s+(\d+)", text)[1]) * 1024
    limit, hard = device + max(free // 2, 6 << 30), resource.getrlimit(resource.RLIMIT_AS)[1]
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    Path("/proc/self/oom_score_adj").write_text("1000")  # this process is killed first


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--memory", type=size, default="4GiB", help="of the device [4GiB]")
    parser.add_argument("--values", action="store_true", help="by the CPU; slow, and eager only")
    parser.add_argument("command", nargs="+", metavar="COMMAND", help="after --")
    chosen = parser.parse_args()
    if reason := build.why_not():
        sys.exit(reason)
    env = os.environ | build.variables(default_cache()) | {"STUB_TOTAL": str(chosen.memory)}
    env.pop("CUDA_VISIBLE_DEVICES", None)
    if chosen.values:
        env["PYTHONPATH"] = ":".join(filter(None, [f"{HERE}/values", env.get("PYTHONPATH")]))
    guard(chosen.memory)
    os.execvpe(chosen.command[0], chosen.command, env)


if __name__ == "__main__":
    main()
