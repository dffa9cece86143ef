"""What training costs: FLOPs counted on the real update, time predicted from measured times."""

import copy
import time
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from progan.config.schedule import Phase, Schedule
from progan.model.networks import Critic, Generator
from progan.runtime import memory
from progan.runtime.device import synchronize
from progan.training.feed import noise
from progan.training.updates import LossSettings, critic_gradients, generator_gradients


class FlopCounter(TorchDispatchMode):
    """Counts the FLOPs of convolutions and matrix products while it is active.

    torch's own `FlopCounterMode` also hooks modules, which `autograd.grad` does not allow.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        # On the meta device torch finds their shapes in Python, which takes a millisecond each.
        if func in ELEMENTWISE and args[0].is_meta:
            shapes = [x.shape for x in args if isinstance(x, Tensor)]
            return args[0].new_empty(torch.broadcast_shapes(*shapes))
        out = func(*args, **kwargs)
        if func._overloadpacket in flop_registry:
            self.flops += flop_registry[func._overloadpacket](*args, **kwargs, out_val=out)
        return out


aten = torch.ops.aten
ELEMENTWISE = {  # the most frequent ones, of floating-point results
    aten.leaky_relu.default,
    aten.leaky_relu_backward.default,
    aten.mul.Tensor,
    aten.mul.Scalar,
    aten.add.Tensor,
    aten.div.Tensor,
    aten.pow.Tensor_Scalar,
}


def random_update(G: Generator, D: Critic, loss: LossSettings, phase: Phase, n: int) -> None:
    """Compute both gradients of one update on noise: all of its cost but Adam's, with no effect."""
    r = phase.resolution
    batch = noise(G, n, r, augmented=bool(loss.augment))
    alpha = torch.tensor(0.5, device=batch.z.device) if phase.fading else None
    parameters = [list(net.active_parameters(r, phase.fading).values()) for net in (G, D)]
    critic_gradients(G, D, parameters[1], batch, alpha, loss)
    generator_gradients(G, D, parameters[0], batch.of_fakes(), alpha, loss, r)


def whole_groups(D: Critic, n: int) -> int:
    """About `n` images, in whole groups of minibatch stddev."""
    return D.stddev_group * max(1, n // D.stddev_group)


def gflops_per_image(G: Generator, D: Critic, loss: LossSettings, phase: Phase) -> float:
    """GFLOP an image of one update (a multiply-add is two), counted without computing.

    The networks may be on the meta device.
    """
    n = whole_groups(D, 4)
    with torch.device("meta"), FlopCounter() as counter:
        random_update(G, D, loss, phase, n)
    return counter.flops / n / 1e9


def count_gflops(
    G: Generator, D: Critic, loss: LossSettings, schedule: Schedule
) -> dict[Phase, float]:
    """GFLOP an image for each phase; takes some 0.3 s a phase, whatever the networks' size."""
    meta_G, meta_D = shell(G), shell(D)
    return {phase: gflops_per_image(meta_G, meta_D, loss, phase) for phase in schedule.phases}


class CostModel:
    """Seconds an image for each phase, measured or extrapolated.

    Small resolutions do not fill a machine. So a phase's cost is that of the nearest measured one
    times the ratio of FLOPs, which is too long while the resolution is small.
    """

    def __init__(self, schedule: Schedule, gflops: dict[Phase, float]):
        self.schedule = schedule
        self.gflops = gflops
        self.seconds: dict[Phase, float] = {}

    def observe(self, phase: Phase, seconds_per_image: float) -> None:
        self.seconds[phase] = seconds_per_image

    def per_image(self, phase: Phase) -> float | None:
        """Seconds an image; `None` while nothing has been measured."""
        if phase in self.seconds:
            return self.seconds[phase]
        if not self.seconds:
            return None
        near = min(self.seconds, key=lambda p: abs(p.start_nimg - phase.start_nimg))
        return self.seconds[near] * self.gflops[phase] / self.gflops[near]

    def seconds_of(self, phase: Phase) -> float | None:
        """Seconds of a whole phase in this run; `None` while nothing has been measured."""
        each = self.per_image(phase)
        images = self.schedule.end_of(phase) - phase.start_nimg
        return None if each is None else each * images

    def seconds_left(self, nimg: int) -> float | None:
        """Seconds from `nimg` to the end of the run; `None` while nothing has been measured."""
        total = 0.0
        for phase in self.schedule.phases:
            images = self.schedule.end_of(phase) - max(phase.start_nimg, nimg)
            each = self.per_image(phase)
            if each is None:
                return None
            total += max(images, 0) * each
        return total


def measure(
    costs: CostModel,
    G: Generator,
    D: Critic,
    loss: LossSettings,
    accelerator: Accelerator,
    budget: float,
) -> None:
    """Time updates of each phase, smallest first, until about `budget` seconds are spent.

    If a whole forward pass would take long, four images are timed; if memory is short, half as
    many as before. Phases from the first of which nothing fits are left to extrapolation.
    """

    def timed(phase: Phase, n: int) -> float:
        begin = time.perf_counter()
        random_update(G, D, loss, phase, n)
        synchronize(accelerator.device)
        return time.perf_counter() - begin

    def times_of_what_fits(phase: Phase, n: int) -> tuple[int, list[float]]:
        """Number of images, and seconds of three updates: the first finds memory and kernels."""
        while True:
            try:
                return n, [timed(phase, n) for _ in range(3)]
            except Exception as error:
                if not memory.is_short(error):
                    raise
            memory.release(accelerator.device)
            smaller = whole_groups(D, n // 2)
            if smaller >= n:
                return n, []
            n = smaller

    left = budget
    for phase in costs.schedule.phases:
        n = phase.images_per_pass(accelerator.num_processes)
        expected = costs.per_image(phase) or 0
        if expected * n > budget / 4:
            n = min(n, whole_groups(D, 4))
        if 3 * n * expected > left:
            return
        n, times = times_of_what_fits(phase, n)
        if not times:
            return
        left -= sum(times)
        costs.observe(phase, min(times) / n / accelerator.num_processes)


Network = TypeVar("Network", Generator, Critic)


def shell(network: Network) -> Network:
    """A copy of a network on the meta device: shapes without numbers."""
    return copy.deepcopy(network).to("meta")
