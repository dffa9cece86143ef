"""Steps and samples under CUDA's dispatch and autocast, with tensors without values.

They need a device, as autograd's engine asks CUDA for one: `test_stub.py` runs them on the stub,
where STUB_CUDNN=1 makes PyTorch choose layouts as it does for cuDNN.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from phases import a_phase
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from progan.config.resolutions import resolutions_to
from progan.config.schedule import Curve
from progan.metrics.msssim import MSSSIM
from progan.metrics.swd import SWD
from progan.model import sampling
from progan.model.layers import upsample2x
from progan.model.networks import Critic, Generator, quantized
from progan.runtime.accelerator import make_accelerator
from progan.runtime.numerics import computing_in
from progan.training.ema import Average, HalfLife
from progan.training.feed import noise
from progan.training.losses import ADVERSARIAL, PENALTIES
from progan.training.step import Step
from progan.training.updates import LossSettings, critic_gradients, generator_gradients

CUDA = torch.device("cuda")
KINDS = ("color", "translation", "cutout")
FORWARD = torch.ops.aten.convolution.default
BACKWARD = torch.ops.aten.convolution_backward.default
READS = {torch.ops.aten._local_scalar_dense.default, torch.ops.aten.is_nonzero.default}
BF16 = torch.bfloat16
WIDTH = 16  # channels of all features
BATCH = 4
IMAGES = (BATCH, 2 * BATCH)  # in a convolution: the critic has reals and fakes together


def needs_device(test):
    return pytest.mark.gpu(pytest.mark.usefixtures("gpu")(test))


class Convolution(NamedTuple):
    images: tuple[Tensor, Tensor]  # input and output; of a backward pass both inputs
    kernel: Tensor


class Watch(TorchDispatchMode):
    """Records convolutions; refuses operations for which a host would wait."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions: list[Convolution] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func not in READS, "reads a number on the host"
        out = func(*args, **(kwargs or {}))
        if func is FORWARD:
            self.convolutions.append(Convolution((args[0], out), args[1]))
        elif func is BACKWARD:
            self.convolutions.append(Convolution(args[:2], args[2]))
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        if any(x.is_cuda for x in given):
            left = [x for x in tree_leaves(out) if isinstance(x, Tensor) and not x.is_cuda]
            assert not left, f"{func} copies to the host"
        return out


@contextmanager
def on_cuda() -> Iterator[Watch]:
    """Tensors without values, on CUDA unless said otherwise."""
    with FakeTensorMode(allow_non_fake_inputs=True), torch.device(CUDA), Watch() as watch:
        yield watch


def networks(resolution: int, channels: int = 3, c_dim: int = 0, fused: bool = True):
    shape = {"channel_base": WIDTH * 1024, "channel_max": WIDTH, "fused_scale": fused}
    G = Generator(resolution, channels, z_dim=8, c_dim=c_dim, **shape)
    return G, Critic(resolution, channels, c_dim=c_dim, **shape)


def check_gradients(parameters, grads) -> None:
    assert len(grads) == len(parameters)
    for parameter, grad in zip(parameters, grads, strict=True):
        assert grad.dtype == torch.float32 and grad.shape == parameter.shape and grad.is_cuda


def check_convolutions(watch: Watch, precision: str, channels: int = 3) -> None:
    """All are in the precision; the inner ones have the channels of a pixel side by side.

    Inner ones are from features to features: not from or to images or maps, and not the penalty's
    derivatives in kernels, where autograd lets images and channels change places. (Of grey images
    no layout is promised: their one channel has no order, so cuDNN's backward from them makes
    features in planes.)
    """
    expected = BF16 if precision == "bf16" else torch.float32
    inner = []
    for images, kernel in watch.convolutions:
        assert {x.dtype for x in (*images, kernel)} == {expected}
        if all(len(x) in IMAGES and x.shape[1] == WIDTH for x in images):
            inner += images
    assert inner
    if channels > 1:
        others = [x for x in inner if not x.is_contiguous(memory_format=torch.channels_last)]
        assert not others, [(tuple(x.shape), x.stride()) for x in others]


PAPER = LossSettings()


def check_step(
    resolution: int,
    fading: bool,
    precision: str,
    loss: LossSettings = PAPER,
    channels: int = 3,
    c_dim: int = 0,
    fused: bool = True,
    passes: int = 1,
    penalty_interval: int = 1,
) -> None:
    """A phase is begun and rehearsed; then both updates and the average."""
    phase = a_phase(resolution, fading, 0, 1000, BATCH * passes, BATCH, 0.001)
    accelerator = make_accelerator(Path("."), None)
    with on_cuda() as watch:
        G, D = networks(resolution, channels, c_dim, fused)
        with warnings.catch_warnings(action="ignore"):  # torch's own, of copying such tensors
            averages = Average(G, [HalfLife(Curve(10.0).at)])
            step = Step(G, D, loss, accelerator, precision, averages, penalty_interval)
        step.begin(phase, restart=True)
        step.rehearse()
        found = noted(step)
        batch = noise(G, phase.batch_size, resolution, augmented=bool(loss.augment))
        step.set_progress(0)
        stats = step.update_critic(batch) | step.update_generator(
            batch.for_generator(loss.relativistic)
        )
        step.average()
    check_convolutions(watch, precision, channels)
    for parameters, grads in zip((step.D_parameters, step.G_parameters), found, strict=True):
        check_gradients(parameters, grads)
    for name, value in (stats | {"skipped": step.skipped.sum()}).items():
        assert value.dtype == torch.float32 and value.shape == () and value.is_cuda, name
    for average, parameter in zip(step.averages.averages[0], step.G_parameters, strict=True):
        assert average.dtype == torch.float32 and average.shape == parameter.shape


def noted(step: Step) -> list[list[Tensor]]:
    """The gradients of the step's updates, as they come."""
    found, real = [], step.over_processes

    def and_noted(gradients):
        found.append(gradients[0])
        return real(gradients)

    step.over_processes = and_noted
    return found


PHASES = [(r, fading) for r in resolutions_to(1024) for fading in (False, True)]
PHASES.remove((4, True))


@needs_device
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("resolution, fading", PHASES)
def test_every_resolution(resolution, fading, precision):
    """Reference: dtypes, shapes and layouts that a step promises: float32 gradients and averages of
    their parameters' shapes; convolutions in the precision, channels last; nothing read by the
    host."""
    check_step(resolution, fading, precision)


@needs_device
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_a_step_in_passes(precision):
    """Reference: as above, for accumulated gradients, and for a penalty in every second update.
    (tf32 is float32 in all that can be seen here.)"""
    check_step(8, True, precision, passes=3, penalty_interval=2)


BOTH, FEW = ("wgan", "logistic"), ("wgan_gp", "r1", None)
LOSSES = [
    *(LossSettings(a, p, augment=k) for a in BOTH for p in FEW for k in ((), KINDS)),
    *(LossSettings(a, "r1_r2", augment=KINDS) for a in ADVERSARIAL if a not in BOTH),
    *(LossSettings("relativistic", p) for p in PENALTIES if p not in FEW),
    *(replace(PAPER, augment=(kind,)) for kind in KINDS),
]


@needs_device
@pytest.mark.parametrize("fading", [False, True])
@pytest.mark.parametrize(
    "loss", LOSSES, ids=lambda loss: f"{loss.adversarial} {loss.penalty} {'+'.join(loss.augment)}"
)
def test_every_loss(loss, fading):
    """Reference: as above, for each loss, penalty and augmentation."""
    check_step(8, fading, "bf16", loss)


@needs_device
@pytest.mark.parametrize("fading", [False, True])
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize(
    "channels, labels", [(3, "classes"), (3, "attributes"), (1, "classes"), (1, None)]
)
def test_every_network(labels, channels, fused, fading):
    """Reference: as above, for labels, grey images, and resampling fused or not."""
    loss = LossSettings() if labels is None else LossSettings(labels=labels)
    check_step(16, fading, "bf16", loss, channels, 0 if labels is None else 3, fused)


@needs_device
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("resolution, fading", PHASES)
def test_samples(resolution, fading, fused, monkeypatch):
    """Reference: uint8 images on the device, by convolutions in float32 (`sampling.in_batches` has
    no autocast, whatever training has); they alone are copied to the host."""
    made = []

    def on_host(images: Tensor) -> Tensor:
        """Some with values in place of them, as a host's array has values."""
        made.append(quantized(images))
        with unset_fake_temporarily():
            return torch.zeros(images.shape, dtype=torch.uint8, device="cpu")

    monkeypatch.setattr(sampling, "quantized", on_host)
    monkeypatch.setattr(sampling, "has_nan", lambda images: False)  # waits just before that copy
    c_dim = 0 if fused else 3
    labels = None if fused else [k % c_dim for k in range(2 * BATCH)]
    with on_cuda() as watch:
        G, _ = networks(resolution, c_dim=c_dim, fused=fused)
        alpha = 0.5 if fading else None
        z = sampling.latents(range(2 * BATCH), G.z_dim)
        images = sampling.in_batches(G, z, labels, resolution, alpha, BATCH)
    assert images.shape == (2 * BATCH, 3, resolution, resolution)
    for part in made:
        assert part.dtype == torch.uint8 and part.is_cuda
        assert part.shape == (BATCH, 3, resolution, resolution)
    assert len(made) == 2
    check_convolutions(watch, "fp32")


@needs_device
def test_upsampling_keeps_its_dtype():
    """Reference: the dtype given; CUDA's autocast by itself would make it float32."""
    with on_cuda(), computing_in("bf16", CUDA):
        x = torch.empty(2, 16, 4, 4, dtype=BF16)
        assert torch.nn.functional.interpolate(x, scale_factor=2).dtype == torch.float32
        assert upsample2x(x).dtype == BF16


# The kind: operators that autocast treats otherwise on CUDA ---------------------------------------

# Of CUDA's list, where the CPU's has nothing, and why each does no harm.
HARMLESS = {
    "linalg_vector_norm": "pixel norm's; it names its dtype, which autocast then keeps",
    "pow.Tensor_Scalar": "of float32: squares of scores and norms, and a norm's derivative",
    "reciprocal": "of float32, in the derivative of a quotient",
    "rsqrt": "of the float32 mean square in pixel norm",
    "softplus": "of float32 scores",
    "sum": "of float32 gradients and scores",
    "sum.dim_IntList": "of float32; a backward's sum of bfloat16 is only more exact",
    "log_softmax.int": "of float32 logits",
    "scatter_add": "of one dtype, the backward of gather",
    "exp": "of float64, a window's weights",
    "convolution": "the same convolution, under another name, that both cast",
    "_convolution": "likewise",
}


def updates() -> None:
    """Both updates, with all losses, under the CPU's autocast."""
    for loss, c_dim, fused in (
        (LossSettings(augment=KINDS), 0, True),
        (LossSettings("logistic", "r1"), 3, False),
        (LossSettings("relativistic-average", "wgan_lp"), 0, False),
        (LossSettings(labels="attributes"), 3, True),
    ):
        G, D = networks(8, c_dim=c_dim, fused=fused)
        batch = noise(G, 4, 8, augmented=bool(loss.augment))
        alpha = torch.tensor(0.5)
        with torch.autocast("cpu", BF16, cache_enabled=False):
            for network, function, part, more in (
                (D, critic_gradients, batch, ()),
                (G, generator_gradients, batch.for_generator(loss.relativistic), (8,)),
            ):
                active = list(network.active_parameters(8, True).values())
                function(G, D, active, part, alpha, loss, *more)


def samples_and_metrics() -> None:
    """They have no autocast, but might have one day."""
    G, _ = networks(32)
    images = torch.from_numpy(sampling.generate(G, range(16), None, 32, 0.5))
    for metric in (SWD("swd16", 16), MSSSIM("msssim8", 8)):
        for side in ("reals", "fakes"):
            metric.add(side, images, 0)
        metric.result()


@pytest.mark.parametrize("compute", [updates, samples_and_metrics])
def test_what_autocast_treats_otherwise_on_cuda(compute):
    """Reference: torch's own tables of the two autocasts, for every operator that the profiler
    sees; a new one must be examined and listed."""
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    names = [n for n in torch._C._dispatch_get_all_op_names() if n.startswith("aten::")]
    only_cuda = {n for n in names if has(n, "AutocastCUDA") and not has(n, "AutocastCPU")}
    torch.manual_seed(0)
    kinds = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=kinds, acc_events=True) as seen:
        compute()
    used = {event.name for event in seen.events()}
    # The profiler reports no overloads.
    found = {n.partition(".")[0] for n in only_cuda} & used
    assert "aten::upsample_nearest2d" in found, "or this test sees nothing"
    listed = {f"aten::{name.partition('.')[0]}" for name in HARMLESS}
    assert found - {"aten::upsample_nearest2d"} <= listed, found - listed
