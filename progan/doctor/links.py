"""An all-reduce between each two processes, and between all: correct, and how fast?"""

import json
import subprocess
import sys
import time
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import distributed as dist

from progan.doctor.finding import GOOD, NOT_HERE, WRONG, Finding
from progan.runtime.accelerator import make_accelerator
from progan.runtime.device import synchronize
from progan.runtime.launch import is_main

ALL_PAIRS = 8  # up to this many processes; among more, each with the next one
TIMEOUT = 1  # minutes
REMEDY = "try NCCL_P2P_DISABLE=1, then NCCL_IB_DISABLE=1; NCCL_DEBUG=INFO shows more"


def links(accelerator: Accelerator) -> Finding:
    """Between the processes that torchrun has started, else between this machine's GPUs."""
    count = torch.cuda.device_count() if accelerator.device.type == "cuda" else 1
    if accelerator.num_processes > 1:
        return finding_of(measured(accelerator))
    if count > 1:
        return finding_of(launched(count))
    return Finding("links", NOT_HERE, "one device: nothing to compare")


def measured(accelerator: Accelerator) -> list[dict[str, Any]]:
    """The result of each group of processes, the same list on all: between, right, gb_per_sec."""
    count, rank = accelerator.num_processes, accelerator.process_index
    pairs = (
        combinations(range(count), 2)
        if count <= ALL_PAIRS
        else zip(range(count - 1), range(1, count), strict=True)
    )
    ranks = [*map(list, pairs), *([list(range(count))] if count > 2 else [])]
    mine = []
    for members in ranks:
        group = dist.new_group(members)  # all processes must make it
        if rank in members:
            mine += [{"between": members, **reduced(accelerator.device, members, group)}]
        accelerator.wait_for_everyone()
    found: dict[tuple[int, ...], dict[str, Any]] = {}
    for each in gather_object(mine):  # wrong if one member says so; as slow as the slowest
        key = tuple(each["between"])
        before = found.setdefault(key, each)
        before["right"] &= each["right"]
        before["gb_per_sec"] = min(before["gb_per_sec"], each["gb_per_sec"])
    return [found[key] for key in map(tuple, ranks)]


def reduced(device: torch.device, members: list[int], group: Any) -> dict[str, Any]:
    """All-reduce numbers whose sum each member knows; the best time of three."""
    size = 2**22 if device.type == "cpu" else 2**26  # of float32
    seconds = []
    for _ in range(3):
        values = torch.arange(size, device=device).remainder_(1000).float()
        values *= dist.get_rank() + 1
        synchronize(device)
        start = time.perf_counter()
        dist.all_reduce(values, group=group)
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    expected = torch.arange(size, device=device).remainder_(1000).float()
    expected *= sum(member + 1 for member in members)  # whole numbers: exact in float32
    return {"right": torch.equal(values, expected), "gb_per_sec": 4 * size / min(seconds) / 1e9}


def finding_of(found: list[dict[str, Any]]) -> Finding:
    says = ", ".join(
        f"{'-'.join(map(str, each['between']))} "
        + (f"{each['gb_per_sec']:.2g} GB/s" if each["right"] else "wrong sums")
        for each in found
    )
    if not found or not all(each["right"] for each in found):
        return Finding("links", WRONG, says or "no answer", REMEDY, {"groups": found})
    return Finding("links", GOOD, f"all-reduce {says}", figures={"groups": found})


def launched(count: int) -> list[dict[str, Any]]:
    """The same by new processes, one a GPU; empty if they fail or hang."""
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
    words += [str(count), "-m", "progan.doctor.links"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=60 * TIMEOUT)
        return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else []
    except subprocess.TimeoutExpired:
        return []


if __name__ == "__main__":
    accelerator = make_accelerator(Path("."), None, TIMEOUT)
    found = measured(accelerator)
    if is_main():
        print(json.dumps(found))
    accelerator.end_training()
