"""What is installed, and the devices, memory and compiler that it finds."""

import logging
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch

from progan.doctor.finding import GOOD, NOT_HERE, SLOW, WRONG, Finding
from progan.runtime import machine
from progan.runtime.launch import processes
from progan.runtime.text import human_bytes
from progan.training.compile import compiled, lacking, needs, why_compile_failed

LEAST_MEMORY = 2 * 2**30  # bytes free; torch and the demo take about one GiB
LEAST_SHARED = 2**28  # bytes of /dev/shm, where NCCL's processes meet; Docker gives 64 MiB


def versions() -> Finding:
    found = {name: value for name, value in machine.versions().items() if value}
    return Finding("versions", GOOD, ", ".join(f"{k} {v}" for k, v in found.items()))


def driver() -> Finding:
    """NVIDIA's driver, by its own tool. A GPU that torch does not see is the commonest mistake."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        known = torch.cuda.is_available()
        return Finding(
            "driver",
            GOOD if known else NOT_HERE,
            f"no nvidia-smi; GPUs that torch sees: {torch.cuda.device_count()}",
        )
    words = [tool, "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=20)
    if done.returncode:
        remedy = "install NVIDIA's driver again, and restart the machine"
        return Finding("driver", WRONG, "nvidia-smi finds no working driver", remedy)
    version = done.stdout.split("\n")[0].strip()
    if torch.cuda.is_available():
        return Finding("driver", GOOD, f"NVIDIA {version}", figures={"driver": version})
    if torch.version.cuda is None:
        says, remedy = "this torch is built for CPUs only", "install the one for CUDA (pytorch.org)"
    else:
        says = f"torch, built for CUDA {torch.version.cuda}, sees no GPU"
        remedy = "install a newer driver or a torch for an older CUDA; is CUDA_VISIBLE_DEVICES set?"
    return Finding("driver", WRONG, f"NVIDIA {version}, but {says}", remedy)


def device(chosen: torch.device) -> Finding:
    """The device that this process computes on."""
    name = machine.device_name(chosen)
    if chosen.type == "cpu":
        cores, threads = usable_cores(), torch.get_num_threads()
        says, figures = f"CPU, {name}, {cores} cores, {threads} threads", {"threads": threads}
        if threads < cores // 4 and processes() == 1:
            return Finding("device", SLOW, says, "unset OMP_NUM_THREADS", figures)
        return Finding("device", GOOD, says, figures=figures)
    if chosen.type != "cuda":
        return Finding("device", GOOD, f"{name}: progan is not tested on it; see the lines below")
    major, minor = torch.cuda.get_device_capability(chosen)
    says = f"{torch.cuda.device_count()} x {name}, compute capability {major}.{minor}"
    return Finding("device", GOOD, says, figures={"capability": f"{major}.{minor}"})


def usable_cores() -> int:
    """Physical cores that this process may use; torch has a thread for each."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(psutil.cpu_count(logical=False) or 1, allowed or 1)


def memory(chosen: torch.device) -> Finding:
    """Free memory now, of the host and of the device."""
    host = psutil.virtual_memory()
    free = {"host": (host.available, host.total)}
    if chosen.type == "cuda":
        free["device"] = torch.cuda.mem_get_info(chosen)
    says = ", ".join(
        f"{human_bytes(a)} of {human_bytes(b)} free ({k})" for k, (a, b) in free.items()
    )
    figures = {f"{k}_free_gb": round(a / 2**30, 2) for k, (a, _) in free.items()}
    if min(a for a, _ in free.values()) < LEAST_MEMORY:
        return Finding("memory", SLOW, says, "close what else uses it", figures)
    return Finding("memory", GOOD, says, figures=figures)


def shared_memory(folder: Path = Path("/dev/shm")) -> Finding:
    """The size of /dev/shm, where NCCL's processes meet."""
    if not folder.is_dir():
        return Finding("shared memory", NOT_HERE, "this system has no /dev/shm")
    size = shutil.disk_usage(folder).total
    says, figures = f"{human_bytes(size)} in /dev/shm", {"shm_bytes": size}
    if size < LEAST_SHARED and torch.cuda.device_count() > 1:
        remedy = "NCCL needs more: docker run --shm-size=1g"
        return Finding("shared memory", WRONG, says, remedy, figures)
    return Finding("shared memory", GOOD, says, figures=figures)


def compiler(chosen: torch.device) -> Finding:
    """Look for what `torch.compile` needs, and compile a function of one line."""
    if missing := lacking(chosen):
        says = f"no {missing}: training is not compiled, and slower"
        state = SLOW if chosen.type == "cuda" else NOT_HERE
        return Finding("compiler", state, says, f"install {missing}")
    x = torch.arange(1000.0, device=chosen)
    (function,) = compiled(lambda x: (x.sin() * 2 + 1).sum())
    try:
        with silent(logging.WARNING):  # torch's, of a toolkit without a GPU
            found = function(x)
    except Exception as failure:  # of any kind: compilers are other programs
        return not_compiled("compiler", failure)
    expected = (x.double().cpu().sin() * 2 + 1).sum()
    error = float((found.cpu() - expected).abs() / expected.abs())
    if not error < 1e-4:
        remedy = "set -o run.compile=false, and report it"
        return Finding("compiler", WRONG, f"compiled code errs by {error:.1e}", remedy)
    return Finding("compiler", GOOD, f"{needs(chosen)}: a small function compiles, and is right")


@contextmanager
def silent(level: int) -> Iterator[None]:
    """Suppresses all logging up to a level."""
    before = logging.root.manager.disable
    logging.disable(level)
    try:
        yield
    finally:
        logging.disable(before)


def not_compiled(name: str, error: Exception) -> Finding:
    """Not `WRONG`: training says so, and goes on uncompiled."""
    remedy = "training goes on uncompiled, slower; -o run.compile=false saves the try"
    return Finding(name, SLOW, f"cannot be compiled: {why_compile_failed(error)}", remedy)
