"""Both networks' gradients on a device: compared with float64 on the CPU, and repeated."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from progan.config.config import Config
from progan.config.load import load_config
from progan.doctor.finding import GOOD, WRONG, Finding
from progan.runtime.numerics import computing_in, deterministic
from progan.runtime.randomness import make_rng
from progan.training.build import make_loss, make_networks
from progan.training.feed import Batch
from progan.training.updates import critic_gradients, generator_gradients

CPU = torch.device("cpu")
Functions = Mapping[str, Callable]
EAGER: Functions = {"D": critic_gradients, "G": generator_gradients}
FADES = {4: False, 8: True, 32: False}
ALPHA = 0.4  # of the fade
# Norm of a whole gradient's error, relative to the gradient's norm. Over 16 batches and two widths
# float32 erred by 2e-7 … 1e-6, in a few cases by 4e-4 … 2e-3: there rounding may have changed the
# sign of something next to 0, where a leaky ReLU has its kink. So the best of a few batches counts:
# a wrong program errs on all of them. bfloat16 erred by 0.02 … 0.3; float16, which has tf32's
# digits, by 0.002 … 0.05.
TOLERANCES = {"fp32": 1e-5, "tf32": 0.1, "bf16": 0.25}
BATCHES = 3


@dataclass(frozen=True)
class Networks:
    """Sizes of the networks, and the number of images."""

    channel_base: int = 512
    channel_max: int = 32
    z_dim: int = 32
    images: int = 4

    def config(self, resolution: int) -> Config:
        widths = ("channel_base", "channel_max", "z_dim")
        settings = [f"network.{name}={getattr(self, name)}" for name in widths]
        return load_config(None, [f"network.resolution={resolution}", *settings])


def batch_of(
    config: Config, n: int, number: int, device: torch.device, dtype: torch.dtype
) -> Batch:
    """n images of noise, latents and mixing factors, the same on every machine for a number."""
    r = config.network.resolution
    draw = make_rng(0, "critic", r + number)
    shapes = [(n, config.network.z_dim), (n, config.network.channels, r, r)]
    drawn = [draw.standard_normal(shape, dtype=np.float32) for shape in shapes]
    drawn.append(draw.random(n, dtype=np.float32))
    z, reals, mix = (torch.from_numpy(x).to(device, dtype) for x in drawn)
    return Batch(z, None, reals, mix.requires_grad_())


def gradients(
    networks: Networks,
    resolution: int,
    number: int,
    device: torch.device,
    precision: str = "fp32",
    functions: Functions = EAGER,
    dtype: torch.dtype = torch.float32,
) -> dict[str, list[Tensor]]:
    """Gradients of the paper's loss by network, computed by `functions`."""
    config, fading = networks.config(resolution), FADES[resolution]
    G, D = (network.to(dtype) for network in make_networks(config, 0, device))
    batch = batch_of(config, networks.images, number, device, dtype)
    alpha = torch.tensor(ALPHA, device=device, dtype=dtype) if fading else None
    found = {}
    with computing_in(precision, device):
        for name, function in functions.items():
            network, fed, more = (
                (D, batch, ()) if name == "D" else (G, batch.for_generator(), (resolution,))
            )
            parameters = list(network.active_parameters(resolution, fading).values())
            found[name] = function(G, D, parameters, fed, alpha, make_loss(config), *more)[0]
    return found


@cache
def reference(networks: Networks, resolution: int, number: int) -> dict[str, list[Tensor]]:
    """The same in float64 on the CPU."""
    return gradients(networks, resolution, number, CPU, dtype=torch.float64)


def relative_error(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Norm of the difference of whole gradients, relative to the norm of the expected one."""
    a, b = (
        torch.cat([g.to(CPU, torch.float64).flatten() for g in part]) for part in (found, expected)
    )
    return float((a - b).norm() / b.norm())


def errors(
    networks: Networks,
    resolution: int,
    device: torch.device,
    precision: str,
    functions: Functions,
) -> dict[str, float]:
    """By network, on the first batch that is within the tolerance, else on the last one."""
    for number in range(BATCHES):
        found = gradients(networks, resolution, number, device, precision, functions)
        expected = reference(networks, resolution, number)
        by_network = {name: relative_error(found[name], expected[name]) for name in found}
        if all(error <= TOLERANCES[precision] for error in by_network.values()):  # nan is not
            break
    return by_network


def against_float64(
    networks: Networks,
    resolutions: Sequence[int],
    device: torch.device,
    precision: str,
    functions: Functions = EAGER,
) -> Finding:
    """Compare the gradients of both networks at each resolution with float64."""
    name = f"gradients, {precision}" + ("" if functions is EAGER else ", compiled")
    bound, figures = TOLERANCES[precision], {}
    for r in resolutions:
        for network, error in errors(networks, r, device, precision, functions).items():
            figures[f"{network} {r}x{r}"] = error
    says = ", ".join(f"{place} {error:.0e}" for place, error in figures.items())
    says = f"off float64 by {says}; at most {bound:g}"
    good = all(error <= bound for error in figures.values())  # false for nan
    remedy = "" if good else remedy_of(precision, functions is not EAGER)
    finite = {place: error if math.isfinite(error) else None for place, error in figures.items()}
    return Finding(name, GOOD if good else WRONG, says, remedy, finite)


def remedy_of(precision: str, is_compiled: bool) -> str:
    if is_compiled:
        return "set -o run.compile=false if the eager ones are good, and report it"
    if precision != "fp32":
        return "set -o run.precision=fp32 if that one is good, and report it"
    return "do not train here: update the driver and torch, test the memory, and report it"


def precisions(device: torch.device) -> list[str]:
    """The precisions that the device has; CPUs compute bfloat16 correctly, even if slowly."""
    if device.type != "cuda":
        return ["fp32", "bf16"]
    bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    tf32 = torch.version.hip is None and torch.cuda.get_device_capability(device) >= (8, 0)
    return ["fp32"] + ["tf32"] * tf32 + ["bf16"] * bf16


def twice(networks: Networks, resolution: int, device: torch.device, precision: str) -> Finding:
    """Compute the same gradients twice, with run.deterministic and without; compare the bits."""

    def same() -> bool:
        first, second = (gradients(networks, resolution, 0, device, precision) for _ in range(2))
        pairs = [zip(first[name], second[name], strict=True) for name in first]
        return all(torch.equal(a, b) for pair in pairs for a, b in pair)

    without = same()
    with deterministic(True):
        right = same()
    figures = {"deterministic": right, "otherwise": without}
    if not right:
        says = "two computations of the same differ, even with run.deterministic"
        remedy = "a run will not resume bit for bit; test the memory, and report it"
        return Finding("determinism", WRONG, says, remedy, figures)
    says = "the same bits twice" + ("" if without else ", with -o run.deterministic=true only")
    return Finding("determinism", GOOD, says, figures=figures)
