"""The work of an update: FLOPs and values written, counted on the real update without computing."""

import copy
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from progan.config.schedule import Phase, Schedule
from progan.model.networks import Critic, Generator
from progan.training.feed import noise
from progan.training.updates import LossSettings, critic_gradients, generator_gradients


class Work(NamedTuple):
    """What one image of an update costs.

    Small images and wide layers take time by their FLOPs, large images and narrow layers by the
    values that are written to memory.
    """

    gflops: float  # of convolutions and matrix products; a multiply-add is two
    values: float  # written by all operations
    parameters: int  # that it moves, of both networks


class WorkCounter(TorchDispatchMode):
    """Counts FLOPs of convolutions and matrix products, and values written, while it is active.

    torch's own `FlopCounterMode` also hooks modules, which `autograd.grad` does not allow.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = self.values = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        # On the meta device torch finds their shapes in Python, which takes a millisecond each.
        if func in ELEMENTWISE and args[0].is_meta:
            shapes = [x.shape for x in args if isinstance(x, Tensor)]
            out = args[0].new_empty(torch.broadcast_shapes(*shapes))
        else:
            out = func(*args, **kwargs)
        self.values += sum(x.numel() for x in tree_leaves(out) if isinstance(x, Tensor))
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


def random_update(
    G: Generator,
    D: Critic,
    loss: LossSettings,
    phase: Phase,
    n: int,
    generator: bool = True,
) -> None:
    """Compute both gradients of one update on noise: all of its cost but Adam's, with no effect.

    generator: False computes the critic's alone.
    """
    r = phase.resolution
    batch = noise(G, n, r, augmented=bool(loss.augment))
    alpha = torch.tensor(0.5, device=batch.z.device) if phase.fading else None
    parameters = [list(net.active_parameters(r, phase.fading).values()) for net in (G, D)]
    critic_gradients(G, D, parameters[1], batch, alpha, loss)
    if generator:
        latents = batch.for_generator(loss.relativistic)
        generator_gradients(G, D, parameters[0], latents, alpha, loss, r)


def whole_groups(D: Critic, n: int) -> int:
    """About `n` images, in whole groups of minibatch stddev."""
    return D.stddev_group * max(1, n // D.stddev_group)


def work_per_image(
    G: Generator, D: Critic, loss: LossSettings, phase: Phase, generator: bool = True
) -> Work:
    """What an image of one update costs, counted without computing (see `random_update`).

    The networks may be on the meta device.
    """
    n = whole_groups(D, 4)
    with torch.device("meta"), WorkCounter() as counter:
        random_update(G, D, loss, phase, n, generator)
    moved = (G, D) if generator else (D,)
    active = [net.active_parameters(phase.resolution, phase.fading) for net in moved]
    parameters = sum(p.numel() for named in active for p in named.values())
    return Work(counter.flops / n / 1e9, counter.values / n, parameters)


def work_of(G: Generator, D: Critic, loss: LossSettings, phase: Phase, interval: int) -> Work:
    """`work_per_image`, with the penalty in one of `interval` updates only, and the generator's
    update in one of the phase's `critic_updates`."""
    kinds = variants(loss, interval, phase.critic_updates)
    parts = [(work_per_image(G, D, kind, phase, **more), share) for kind, more, share in kinds]
    gflops, values, parameters = (sum(share * work[i] for work, share in parts) for i in range(3))
    return Work(gflops, values, round(parameters))


def count_work(
    G: Generator, D: Critic, loss: LossSettings, schedule: Schedule, interval: int = 1
) -> dict[Phase, Work]:
    """The work of each phase; takes some 0.3 s a phase, whatever the networks' size."""
    meta_G, meta_D = shell(G), shell(D)
    return {phase: work_of(meta_G, meta_D, loss, phase, interval) for phase in schedule.phases}


Variant = tuple[LossSettings, dict[str, bool], float]


def variants(loss: LossSettings, interval: int, critic_updates: int) -> list[Variant]:
    """The loss with its penalty and without it; `random_update`'s choice of networks, both and the
    critic alone; and which share of the critic's updates has these."""
    penalties = [(loss, 1 / interval), (replace(loss, penalty=None), 1 - 1 / interval)]
    networks: list[tuple[dict[str, bool], float]] = [
        ({}, 1 / critic_updates),
        ({"generator": False}, 1 - 1 / critic_updates),
    ]
    return [(kind, n, p * q) for kind, p in penalties for n, q in networks if p * q > 0]


Network = TypeVar("Network", Generator, Critic)


def shell(network: Network) -> Network:
    """A copy of a network on the meta device: shapes without numbers."""
    return copy.deepcopy(network).to("meta")
