"""The precision of convolutions and matrix products, and deterministic algorithms.

Weights, norms, statistics and losses stay float32.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def float32_as(rounding: str) -> Iterator[None]:
    """Inside, float32 convolutions and products are exact (`ieee`) or faster (`tf32`, on GPUs).

    torch's own default is tf32 for convolutions. Each backend is set by itself: before torch 2.12
    the common setting does not reach cuDNN's convolutions. The older switches are set, too (first,
    as they change the newer ones): other libraries read them, and torch raises an error there if
    old and new disagree. cuDNN has one older switch for convolutions and recurrent layers together.
    """
    backends: Any = torch.backends  # whose parts have no types
    cuda, cudnn, mkldnn = backends.cuda, backends.cudnn, backends.mkldnn
    settings = (cuda.matmul, cudnn.conv, cudnn.rnn, mkldnn.matmul, mkldnn.conv)
    before = [setting.fp32_precision for setting in settings]
    for setting in settings:
        setting.fp32_precision = "ieee"
    older = older_switches()
    set_older_switches("high" if rounding == "tf32" else "highest", rounding == "tf32")
    for setting in settings:
        setting.fp32_precision = rounding
    try:
        yield
    finally:
        set_older_switches(*older)
        for setting, value in zip(settings, before, strict=True):
            setting.fp32_precision = value


def older_switches() -> tuple[str, bool]:
    """The older switches of products and of cuDNN; call it while the newer ones are all `ieee`.

    Then torch returns the former whatever it is, and raises an error for the latter only if set.
    """
    try:
        cudnn = torch.backends.cudnn.allow_tf32
    except RuntimeError:
        cudnn = True
    return torch.get_float32_matmul_precision(), cudnn


def set_older_switches(products: str, cudnn: bool) -> None:
    torch.set_float32_matmul_precision(products)
    torch.backends.cudnn.allow_tf32 = cudnn


@contextmanager
def computing_in(precision: str, device: torch.device) -> Iterator[None]:
    """Inside, convolutions and products are in `fp32`, `tf32` or `bf16`; weights stay float32."""
    # Without autocast's cache, whose casts would be parts of two graphs: compilers refuse that.
    bf16 = torch.autocast(
        device.type, torch.bfloat16, enabled=precision == "bf16", cache_enabled=False
    )
    with float32_as("tf32" if precision == "tf32" else "ieee"), bf16:
        yield


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Inside, torch uses only algorithms that always sum in the same order, if `wanted`.

    If not, cuDNN tries its algorithms at each new shape and keeps the fastest. This soon pays, as
    shapes are fixed within a phase.
    """
    cudnn = torch.backends.cudnn
    before = torch.are_deterministic_algorithms_enabled(), cudnn.benchmark
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
        torch.use_deterministic_algorithms(True)
    cudnn.benchmark = not wanted
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        cudnn.benchmark = before[1]
