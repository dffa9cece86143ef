"""What CUDA's dispatch and autocast make of the updates, by tensors without values.

They want a device, as autograd's engine asks CUDA for one: `test_stub.py` runs them on the stub.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from progan import ema
from progan.data.batches import noise
from progan.layers import upsample2x
from progan.networks import Critic, Generator, quantized
from progan.precision import computing_in
from progan.schedule import resolutions_to
from progan.updates import Loss, accumulate, critic_gradients, generator_gradients

CUDA = torch.device("cuda")
KINDS = ("color", "translation", "cutout")
CONVOLUTION = torch.ops.aten.convolution.default
READS = {torch.ops.aten._local_scalar_dense.default, torch.ops.aten.is_nonzero.default}
BF16 = torch.bfloat16


def needs_device(test):
    return pytest.mark.gpu(pytest.mark.usefixtures("gpu")(test))


class Watch(TorchDispatchMode):
    """Notes the convolutions; refuses what a host would wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions: list[tuple[torch.Tensor, torch.Tensor]] = []  # images and kernels

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func not in READS, "reads a number on the host"
        if func is CONVOLUTION:
            self.convolutions.append((args[0], args[1]))
        out = func(*args, **(kwargs or {}))
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        if any(x.is_cuda for x in given):
            left = [x for x in tree_leaves(out) if isinstance(x, torch.Tensor) and not x.is_cuda]
            assert not left, f"{func} copies to the host"
        return out


@contextmanager
def on_cuda(precision: str) -> Iterator[Watch]:
    """Tensors without values, computed with as training does."""
    with FakeTensorMode(), torch.device(CUDA), computing_in(precision, CUDA), Watch() as watch:
        yield watch


def networks(resolution: int, channels: int = 3, c_dim: int = 0, fused: bool = True):
    """16 channels at every resolution."""
    shape = {"channel_base": 16 * 1024, "channel_max": 16, "fused_scale": fused}
    G = Generator(resolution, channels, z_dim=8, c_dim=c_dim, **shape)
    return G, Critic(resolution, channels, c_dim=c_dim, **shape)


def check_gradients(parameters, grads) -> None:
    assert len(grads) == len(parameters)
    for parameter, grad in zip(parameters, grads, strict=True):
        assert grad.dtype == torch.float32 and grad.shape == parameter.shape and grad.is_cuda


def check_convolutions(watch: Watch, precision: str) -> None:
    """All are in the precision. (Layouts are cuDNN's choice, which the stub does not have.)"""
    expected = BF16 if precision == "bf16" else torch.float32
    assert watch.convolutions
    for x, w in watch.convolutions:
        assert x.dtype == w.dtype == expected, f"{x.dtype} where {expected} is due"


PAPER = Loss()


def check_updates(resolution, fading, precision, loss=PAPER, channels=3, c_dim=0, fused=True):
    """Both updates in two passes each, and the average."""
    with on_cuda(precision) as watch:
        G, D = networks(resolution, channels, c_dim, fused)
        alpha = torch.full((), 0.5) if fading else None
        passes = [
            noise(4, resolution, channels, G.z_dim, c_dim, bool(loss.augment), CUDA)
            for _ in range(2)
        ]
        of_D = list(D.active_parameters(resolution, fading).values())
        of_G = list(G.active_parameters(resolution, fading).values())
        grads, stats = accumulate(
            lambda batch: critic_gradients(G, D, of_D, batch, alpha, loss), passes
        )
        check_gradients(of_D, grads)
        more, more_stats = accumulate(
            lambda batch: generator_gradients(G, D, of_G, batch, alpha, loss, resolution),
            [batch.of_fakes() for batch in passes],
        )
        check_gradients(of_G, more)
        for name, value in (stats | more_stats).items():
            assert value.dtype == torch.float32 and value.shape == () and value.is_cuda, name
        averages = [torch.empty_like(p) for p in of_G]
        ema.update(averages, of_G, 0.9)
    check_convolutions(watch, precision)


@needs_device
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
@pytest.mark.parametrize("fading", [False, True])
@pytest.mark.parametrize("resolution", resolutions_to(1024))
def test_every_resolution(resolution, fading, precision):
    """Reference: dtypes, shapes and layouts that the updates promise: float32 gradients of their
    parameters' shapes; convolutions in the precision; nothing read by the host."""
    if resolution > 4 or not fading:
        check_updates(resolution, fading, precision)


@needs_device
@pytest.mark.parametrize("fading", [False, True])
@pytest.mark.parametrize("augment", [(), *((kind,) for kind in KINDS), KINDS], ids=str)
@pytest.mark.parametrize("penalty", ["wgan_gp", "r1", None])
@pytest.mark.parametrize("adversarial", ["wgan", "logistic"])
def test_every_loss(adversarial, penalty, augment, fading):
    """Reference: as above, for each loss, penalty and augmentation."""
    check_updates(8, fading, "bf16", Loss(adversarial, penalty, augment=augment))


@needs_device
@pytest.mark.parametrize("fading", [False, True])
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("labels", [None, "classes", "attributes"])
def test_every_network(labels, channels, fused, fading):
    """Reference: as above, for labels, grey images, and resampling fused or not."""
    loss = Loss() if labels is None else Loss(labels=labels)
    check_updates(16, fading, "bf16", loss, channels, 0 if labels is None else 3, fused)


@needs_device
@pytest.mark.parametrize("fading", [False, True])
@pytest.mark.parametrize("fused", [False, True])
def test_samples(fused, fading):
    """Reference: uint8 images on the device, by convolutions in float32 (`sampling.generate` has
    no autocast, whatever training has)."""
    with on_cuda("fp32") as watch, torch.no_grad():
        G, _ = networks(32, fused=fused)
        alpha = torch.full((), 0.5) if fading else None
        images = quantized(G(torch.randn(4, 8), resolution=32, alpha=alpha))
        assert images.dtype == torch.uint8 and images.shape == (4, 3, 32, 32)
    check_convolutions(watch, "fp32")


@needs_device
def test_upsampling_keeps_its_dtype():
    """Reference: the dtype given; CUDA's autocast by itself would make it float32."""
    with on_cuda("bf16"):
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
    "convolution": "the same convolution, under another name, that both cast",
    "_convolution": "likewise",
}


def test_what_autocast_treats_otherwise_on_cuda():
    """Reference: torch's own tables of the two autocasts, for every operator that the profiler sees
    in both updates of all losses; what is new must be looked at and listed."""
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    names = [n for n in torch._C._dispatch_get_all_op_names() if n.startswith("aten::")]
    only_cuda = {n for n in names if has(n, "AutocastCUDA") and not has(n, "AutocastCPU")}
    assert "aten::upsample_nearest2d" in only_cuda, "or this test sees nothing"
    torch.manual_seed(0)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
        for loss, c_dim, fused in (
            (Loss(augment=KINDS), 0, True),
            (Loss("logistic", "r1"), 3, False),
            (Loss(labels="attributes"), 3, True),
        ):
            G, D = networks(8, c_dim=c_dim, fused=fused)
            batch = noise(4, 8, 3, G.z_dim, c_dim, bool(loss.augment), torch.device("cpu"))
            alpha = torch.tensor(0.5)
            with torch.autocast("cpu", BF16, cache_enabled=False):
                for network, function, part, more in (
                    (D, critic_gradients, batch, ()),
                    (G, generator_gradients, batch.of_fakes(), (8,)),
                ):
                    active = list(network.active_parameters(8, True).values())
                    function(G, D, active, part, alpha, loss, *more)
    used = {event.name for event in seen.events()}
    # The profiler tells no overloads.
    found = {n for n in only_cuda if n.partition(".")[0] in used} - {"aten::upsample_nearest2d"}
    listed = {f"aten::{name.partition('.')[0]}" for name in HARMLESS}
    assert {n.partition(".")[0] for n in found} <= listed, found
