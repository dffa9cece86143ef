"""Gradients compiled to one graph for each update, the penalty's double backward inside."""

import os
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch

from progan.runtime.cache import default_cache
from progan.runtime.errors import brief

BACKEND = "inductor"
# Of compiling one phase, the longer of what was measured; docs/performance.md has both.
SECONDS = 60.0
SPEEDUP = 1.2
FOLDER = "TORCHINDUCTOR_CACHE_DIR"
CHOSEN = FOLDER in os.environ  # by the user; later torch sets it to a folder for temporary files


def pays(seconds: float | None, device: torch.device) -> bool:
    """Whether compiling a phase takes less time than it saves.

    Args:
        seconds: of the phase without it; None: nobody knows, so it does not.
    """
    if device.type == "cpu" and lacking(device):
        return False
    return seconds is not None and seconds * (1 - 1 / SPEEDUP) > SECONDS


def lacking(device: torch.device) -> str | None:
    """What compiles for the device, if it is not there."""
    needed = needs(device)
    there = find_spec(needed) if device.type == "cuda" else shutil.which(needed)
    return None if there else needed


def needs(device: torch.device) -> str:
    """What compiles for the device: a package for GPUs, else a program."""
    return "triton" if device.type == "cuda" else os.environ.get("CXX", "g++")


def compiled(*functions: Callable[..., Any]) -> list[Callable[..., Any]]:
    """The functions, compiled for one phase at their first calls; earlier phases' are dropped.

    `torch.compile` has no double backward of its own. With `trace_autograd_ops` the calls of
    `autograd.grad` are traced as part of the function, which leaves nothing to differentiate.

    What is compiled is kept for later starts, always in the user's own cache: it is code that
    will be run, which nobody should find in a run or a config that somebody gave them.
    """
    if not CHOSEN:
        os.environ[FOLDER] = str(default_cache() / "compiled")
    torch._dynamo.config.trace_autograd_ops = True
    torch._dynamo.reset()
    return [
        torch.compile(function, fullgraph=True, dynamic=False, backend=BACKEND)
        for function in functions
    ]


def why_compile_failed(error: Exception) -> str:
    """Why something could not be compiled, in a line.

    A compiler's own error is inside Dynamo's, and Dynamo puts what it met itself further down.
    """
    error = getattr(error, "inner_exception", error)
    lines = [line.strip() for line in str(error).splitlines()]
    context = [line for line in lines if line.startswith("Developer debug context:")]
    return ": ".join([type(error).__name__, brief(error), *context])
