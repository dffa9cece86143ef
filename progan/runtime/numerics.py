"""The precision of convolutions and products, and the same bits on every start.

Weights, norms, statistics and losses stay float32."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def float32_as(rounding: str) -> Iterator[None]:
    """How float32 convolutions and products are done: `ieee`, exactly, or `tf32` on GPUs, faster.

    torch's own default is tf32 for convolutions. Each backend is set by itself: before torch 2.12
    the setting for all of them does not reach cuDNN's convolutions. The older switches are set,
    too (first, as they change the newer ones): other libraries read them, which torch refuses where
    the two disagree. cuDNN has an older one for convolutions and recurrent layers together.
    """
    cuda, cudnn, mkldnn = torch.backends.cuda, torch.backends.cudnn, torch.backends.mkldnn
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
    """Of products and of cuDNN, while the newer ones are all at `ieee`: then torch tells the former
    whatever it is, and refuses the latter only where it is set."""
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
    """`fp32`, `tf32` or `bf16` for convolutions and products; weights stay float32."""
    # Without autocast's cache: its casts would be parts of two graphs, which a compiler refuses.
    bf16 = torch.autocast(
        device.type, torch.bfloat16, enabled=precision == "bf16", cache_enabled=False
    )
    with float32_as("tf32" if precision == "tf32" else "ieee"), bf16:
        yield


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Inside, torch takes algorithms that always sum in the same order, and refuses others.

    Where that is not wanted, cuDNN tries its algorithms at each new shape and takes the fastest:
    shapes are fixed within a phase, so that this is soon paid back.
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
