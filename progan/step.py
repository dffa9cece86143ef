"""One training step: an update of the critic, one of the generator, one of the average."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from progan import ema
from progan.data.batches import Batch
from progan.distributed import average
from progan.networks import Critic, Generator
from progan.precision import chosen, computing_in
from progan.schedule import ByResolution, Phase, at_resolution
from progan.updates import (
    Gradients,
    Loss,
    Statistics,
    accumulate,
    apply,
    critic_gradients,
    generator_gradients,
)


class Step:
    """The networks, their optimizers and average, and what one step does to them.

    For each step call `at`, `critic`, `generator` and `average`, in this order; `begin` first, and
    whenever the phase changes.

    Args:
        precision: of convolutions and products, see `progan.precision`.
        half_life_kimg: of the average.
    """

    def __init__(
        self,
        G: Generator,
        D: Critic,
        loss: Loss,
        accelerator: Accelerator,
        precision: str,
        half_life_kimg: ByResolution[float],
    ):
        self.G, self.D = G, D
        self.G_ema = copy.deepcopy(G).requires_grad_(False)
        self.G_opt, self.D_opt = (
            torch.optim.Adam(network.parameters(), fused=True) for network in (G, D)
        )
        self.loss = loss
        self.accelerator = accelerator
        self.precision = chosen(precision, accelerator.device)
        self.half_life_kimg = half_life_kimg
        self.phase: Phase | None = None
        self.alpha: Tensor | None = None

    def begin(self, phase: Phase, restart: bool) -> None:
        """Pick the weights that take part; `restart` Adam at the phase's first image."""
        self.phase = phase
        r = phase.resolution
        active = [network.active_parameters(r, phase.fading) for network in (self.G, self.D)]
        self.G_parameters, self.D_parameters = (list(named.values()) for named in active)
        averages = dict(self.G_ema.named_parameters())
        self.G_averages = [averages[name] for name in active[0]]
        self.decay = ema.decay(phase.batch_size, at_resolution(self.half_life_kimg, r))
        for optimizer in (self.G_opt, self.D_opt):
            optimizer.zero_grad(set_to_none=True)  # what does not take part has no gradient
            if restart:
                optimizer.state.clear()
            betas = (float(phase.beta1), float(phase.beta2))
            optimizer.param_groups[0].update(betas=betas, eps=phase.eps)

    def at(self, nimg: int) -> None:
        """Set what varies within the phase: alpha and the learning rate."""
        alpha = self.phase.alpha(nimg)
        if alpha is not None:
            alpha = torch.full((), alpha, device=self.accelerator.device)
        self.alpha = alpha
        for optimizer in (self.G_opt, self.D_opt):
            optimizer.param_groups[0]["lr"] = self.phase.learning_rate(nimg)

    def critic(self, batch: Batch) -> Statistics:
        """Update the critic; returns the statistics of the global batch."""
        gradients = partial(critic_gradients, self.G, self.D, self.D_parameters)
        grads, stats = self.gradients(gradients, batch)
        apply(self.D_opt, self.D_parameters, grads)
        return stats

    def generator(self, batch: Batch) -> Statistics:
        """Update the generator; returns the statistics of the global batch."""
        gradients = partial(generator_gradients, self.G, self.D, self.G_parameters)
        grads, stats = self.gradients(gradients, batch, resolution=self.phase.resolution)
        apply(self.G_opt, self.G_parameters, grads)
        return stats

    def average(self) -> None:
        """Let the averaged generator follow."""
        ema.update(self.G_averages, self.G_parameters, self.decay)

    def gradients(self, of: Callable[..., Gradients], batch: Batch, **settings: Any) -> Gradients:
        """Gradients and statistics over the global batch, of which `batch` is this process's."""
        passes = batch.split(self.phase.images_per_pass(self.accelerator.num_processes))
        with computing_in(self.precision, self.accelerator.device):
            grads, stats = accumulate(
                partial(of, alpha=self.alpha, loss=self.loss, **settings), passes
            )
        tensors = average(self.accelerator, [*grads, *stats.values()])
        means = dict(zip(stats, tensors[len(grads) :], strict=True))
        return tensors[: len(grads)], means
