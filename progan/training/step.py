"""One training step: an update of the critic, one of the generator, one of the average."""

import copy
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from accelerate import Accelerator
from torch import Tensor

from progan.config.resolutions import ByResolution, at_resolution
from progan.config.schedule import Phase
from progan.model.networks import Critic, Generator
from progan.runtime import memory
from progan.runtime.distributed import average
from progan.runtime.numerics import computing_in
from progan.runtime.speeds import resolve_precision
from progan.training import ema
from progan.training.compile import compiled, why_compile_failed
from progan.training.feed import Batch, noise
from progan.training.updates import (
    Adam,
    Gradients,
    LossSettings,
    Means,
    accumulate,
    apply,
    critic_gradients,
    generator_gradients,
)

log = logging.getLogger("progan")


class Step:
    """The networks, their optimizers and average, and what one step does to them.

    An update whose gradients are not finite is skipped.

    For each step call `set_progress`, `update_critic`, `update_generator` and `average`, in
    this order; `begin` first, and
    whenever the phase changes.

    Args:
        precision: of convolutions and products, see `runtime.numerics` and `runtime.speeds`.
        half_life_kimg: of the average.
        penalty_interval: the penalty takes part in one of so many updates, weighted by as much.
        compile: whether to compile the gradients of the next phase to begin (see
            `progan.training.compile`); from the first failure on, none are.
    """

    def __init__(
        self,
        G: Generator,
        D: Critic,
        loss: LossSettings,
        accelerator: Accelerator,
        precision: str,
        half_life_kimg: ByResolution[float],
        penalty_interval: int = 1,
        compile: bool = False,
    ):
        self.G, self.D = G, D
        self.G_ema = copy.deepcopy(G).requires_grad_(False)
        self.G_opt, self.D_opt = (Adam(network.parameters(), fused=True) for network in (G, D))
        self.loss = replace(loss, penalty_weight=loss.penalty_weight * penalty_interval)
        self.without_penalty = replace(loss, penalty=None)
        self.penalty_interval = penalty_interval
        self.accelerator = accelerator
        self.precision = resolve_precision(precision, accelerator)
        self.half_life_kimg = half_life_kimg
        self.compile = compile
        self.compiler_works = True
        self.skipped = torch.zeros(2, device=accelerator.device)  # if the last D's and G's were
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
            if restart:
                optimizer.state.clear()
            betas = (float(phase.beta1), float(phase.beta2))
            optimizer.param_groups[0].update(betas=betas, eps=phase.eps)
        self.critic_gradients, self.generator_gradients = critic_gradients, generator_gradients
        self.compile = self.compile and self.compiler_works
        if self.compile:
            self.compile_gradients()

    def compile_gradients(self) -> None:
        """Compile for the phase now, on noise; where that fails, say why and go on without."""
        eager = critic_gradients, generator_gradients
        try:
            self.critic_gradients, self.generator_gradients = compiled(*eager)
            self.try_out()
        except Exception as error:  # of any kind: compilers are other programs
            if memory.is_short(error):
                raise
            self.critic_gradients, self.generator_gradients = eager
            self.compile = self.compiler_works = False
            if self.accelerator.is_local_main_process:
                log.warning(
                    "the training step is not compiled, as that failed: %s",
                    why_compile_failed(error),
                )

    def rehearse(self) -> None:
        """All that the phase's steps keep and compute at once, without effect."""
        for optimizer, parameters in (
            (self.D_opt, self.D_parameters),
            (self.G_opt, self.G_parameters),
        ):  # room for Adam's state, by a step that is skipped
            apply(optimizer, parameters, [torch.full_like(p, math.nan) for p in parameters])
        processes = self.accelerator.num_processes
        self.try_out(self.phase.batch_size // processes)

    def try_out(self, n: int | None = None) -> None:
        """Compute all that the phase computes, without effect, on `n` images of noise.

        `None`: as many as a forward pass of the phase has. Of more, two passes are accumulated.
        """
        phase, G, device = self.phase, self.G, self.accelerator.device
        in_a_pass = phase.images_per_pass(self.accelerator.num_processes)
        n = n or in_a_pass
        augmented = bool(self.loss.augment)
        batch = noise(n, phase.resolution, G.channels, G.z_dim, G.c_dim, augmented, device)
        self.set_progress(phase.start_nimg)
        with computing_in(self.precision, device):
            losses = [self.loss, self.without_penalty][: min(self.penalty_interval, 2)]
            for loss in losses:
                accumulate(partial(self.critic_pass, loss=loss), batch.split(in_a_pass)[:2])
            accumulate(self.generator_pass, batch.of_fakes().split(in_a_pass)[:2])

    def set_progress(self, nimg: int) -> None:
        """Set what varies within the phase: alpha, the learning rate, if the penalty is due."""
        alpha = self.phase.alpha(nimg)
        if alpha is not None:
            alpha = torch.full((), alpha, device=self.accelerator.device)
        self.alpha = alpha
        update = (nimg - self.phase.start_nimg) // self.phase.batch_size
        self.penalty_due = update % self.penalty_interval == 0
        for optimizer in (self.G_opt, self.D_opt):
            optimizer.param_groups[0]["lr"] = self.phase.learning_rate(nimg)

    def update_critic(self, batch: Batch) -> Means:
        """Update the critic; returns the statistics of the global batch."""
        grads, stats = self.of_critic(batch)
        self.skipped[0] = apply(self.D_opt, self.D_parameters, grads)
        return stats

    def update_generator(self, batch: Batch) -> Means:
        """Update the generator; returns the statistics of the global batch."""
        grads, stats = self.of_generator(batch)
        self.skipped[1] = apply(self.G_opt, self.G_parameters, grads)
        return stats

    def of_critic(self, batch: Batch) -> Gradients:
        """The critic's gradients over the global batch, of which `batch` is this process's."""
        loss = self.loss if self.penalty_due else self.without_penalty
        return self.averaged(partial(self.critic_pass, loss=loss), batch)

    def of_generator(self, batch: Batch) -> Gradients:
        """The generator's, likewise."""
        return self.averaged(self.generator_pass, batch)

    def critic_pass(self, batch: Batch, loss: LossSettings) -> Gradients:
        return self.critic_gradients(self.G, self.D, self.D_parameters, batch, self.alpha, loss)

    def generator_pass(self, batch: Batch) -> Gradients:
        return self.generator_gradients(
            self.G,
            self.D,
            self.G_parameters,
            batch,
            self.alpha,
            self.loss,
            self.phase.resolution,
        )

    def average(self) -> None:
        """Let the averaged generator follow."""
        ema.update(self.G_averages, self.G_parameters, self.decay)

    def checksum(self) -> int:
        """Of all weights, bit by bit."""
        networks = (self.G, self.D, self.G_ema)
        return checksum([p for network in networks for p in network.parameters()])

    def averaged(self, gradients_of: Callable[[Batch], Gradients], batch: Batch) -> Gradients:
        """Over this process's passes, then over the processes."""
        passes = batch.split(self.phase.images_per_pass(self.accelerator.num_processes))
        with computing_in(self.precision, self.accelerator.device):
            grads, stats = accumulate(gradients_of, passes)
        tensors = average(self.accelerator, [*grads, *stats.values()])
        means = dict(zip(stats, tensors[len(grads) :], strict=True))
        return tensors[: len(grads)], means


def checksum(tensors: Sequence[Tensor]) -> int:
    """Of float32 tensors bit by bit: the sum of their bits as integers, in whatever order."""
    sums = [t.detach().contiguous().view(torch.int32).sum() for t in tensors]
    factors = torch.arange(1, len(sums) + 1, device=sums[0].device)  # which tensor has them counts
    return int((torch.stack(sums) * factors).sum())
