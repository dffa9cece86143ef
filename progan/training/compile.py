"""Compiles each update's gradients to one graph, the penalty's double backward inside."""

import os
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch

from progan.runtime.cache import default_cache
from progan.runtime.errors import brief

BACKEND = "inductor"
# To compile one phase: the longer of the measured times; docs/performance.md has both.
SECONDS = 60.0
SPEEDUP = 1.2
FOLDER = "TORCHINDUCTOR_CACHE_DIR"
CHOSEN = FOLDER in os.environ  # by the user; later torch sets it to a temporary folder


def pays(seconds: float | None, device: torch.device) -> bool:
    """Whether compiling a phase takes less time than it saves.

    Args:
        seconds: of the uncompiled phase; `None`: unknown, so it does not pay.
    """
    if device.type == "cpu" and lacking(device):
        return False
    return seconds is not None and seconds * (1 - 1 / SPEEDUP) > SECONDS


def lacking(device: torch.device) -> str | None:
    """The missing compiler for the device; `None` if it is there."""
    needed = needs(device)
    there = find_spec(needed) if device.type == "cuda" else shutil.which(needed)
    return None if there else needed


def needs(device: torch.device) -> str:
    """The compiler for the device: a package for GPUs, else a program."""
    return "triton" if device.type == "cuda" else os.environ.get("CXX", "g++")


def compiled(*functions: Callable[..., Any]) -> list[Callable[..., Any]]:
    """The functions, compiled for one phase at their first calls; earlier phases' are dropped.

    `torch.compile` has no double backward. With `trace_autograd_ops` the calls of `autograd.grad`
    are traced as part of the function, which leaves nothing to differentiate.

    Compiled code is kept for later starts, always in the user's own cache: it will be run, so it
    must not come from a run's folder or a config that somebody else made.
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
    """Why something could not be compiled, in one line.

    A compiler's error is inside Dynamo's; Dynamo's own reason is further down in its text.
    """
    error = getattr(error, "inner_exception", error)
    lines = [line.strip() for line in str(error).splitlines()]
    context = [line for line in lines if line.startswith("Developer debug context:")]
    return ": ".join([type(error).__name__, brief(error), *context])
