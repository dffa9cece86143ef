"""Gradients compiled to one graph for each update, the penalty's double backward inside."""

import os
from collections.abc import Callable
from typing import Any

import torch

from progan.data.cache import default_cache
from progan.errors import brief

BACKEND = "inductor"
FOLDER = "TORCHINDUCTOR_CACHE_DIR"
CHOSEN = FOLDER in os.environ  # by the user; later torch sets it to a folder for temporary files


def is_wanted(setting: bool | None, device: torch.device) -> bool:
    """`run.compile`, with `None` decided: on CUDA, where it pays within minutes."""
    return device.type == "cuda" if setting is None else setting


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


def reason(error: Exception) -> str:
    """Why something could not be compiled, in a line.

    A compiler's own error is inside Dynamo's, and Dynamo puts what it met itself further down.
    """
    error = getattr(error, "inner_exception", error)
    lines = [line.strip() for line in str(error).splitlines()]
    context = [line for line in lines if line.startswith("Developer debug context:")]
    return ": ".join([type(error).__name__, brief(error), *context])
