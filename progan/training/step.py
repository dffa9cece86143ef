"""One training step: an update of the critic, one of the generator, one of the average."""

import copy
import logging
import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from progan.config.resolutions import ByResolution, at_resolution
from progan.config.schedule import Phase
from progan.model.networks import Critic, Generator
from progan.runtime import memory
from progan.runtime.distributed import average
from progan.runtime.numerics import computing_in
from progan.runtime.speeds import resolve_precision
from progan.training import ema
from progan.training.compile import compiled, why_compile_failed
from progan.training.feed import Batch, Latents, noise, split
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
    """The networks, their optimizers and the average, and how one step changes them.

    Call `begin` at the start and whenever the phase changes; then for each step `set_progress`,
    `update_critic`, `update_generator` and `average`, in this order. An update whose gradients are
    not finite is skipped.

    Args:
        precision: of convolutions and products, see `runtime.numerics` and `runtime.speeds`.
        half_life_kimg: of the average.
        penalty_interval: one in this many updates has the penalty, weighted by as much.
        compile: compile the gradients of the phases to come (see `progan.training.compile`). After
            the first failure nothing is compiled.
    """

    # Set by `begin` for its phase, and by `set_progress` for each step.
    phase: Phase
    D_parameters: list[nn.Parameter]
    G_parameters: list[nn.Parameter]
    alpha: Tensor | None
    penalty_due: bool

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
        # 1 where the last update was skipped: [critic, generator]
        self.skipped = torch.zeros(2, device=accelerator.device)

    def set_progress(self, nimg: int) -> None:
        """Set what varies within the phase: alpha, learning rates, whether the penalty is due."""
        alpha = self.phase.alpha(nimg)
        device = self.accelerator.device
        self.alpha = None if alpha is None else torch.full((), alpha, device=device)
        update = (nimg - self.phase.start_nimg) // self.phase.batch_size
        self.penalty_due = update % self.penalty_interval == 0
        for optimizer in (self.G_opt, self.D_opt):
            optimizer.param_groups[0]["lr"] = self.phase.learning_rate(nimg)

    def update_critic(self, batch: Batch, penalty: bool | None = None) -> Means:
        """Update the critic; returns statistics of the global batch. Args: see `D_gradients`."""
        grads, means = self.over_processes(self.D_gradients(batch, penalty))
        self.skipped[0] = apply(self.D_opt, self.D_parameters, grads)
        return means

    def update_generator(self, batch: Latents) -> Means:
        """Update the generator; returns statistics of the global batch."""
        grads, means = self.over_processes(self.G_gradients(batch))
        self.skipped[1] = apply(self.G_opt, self.G_parameters, grads)
        return means

    def average(self) -> None:
        """Let the averaged generator follow."""
        ema.update(self.G_averages, self.G_parameters, self.decay)

    def D_gradients(self, batch: Batch, penalty: bool | None = None) -> Gradients:
        """The critic's gradients and statistics, means over this process's part of the batch.

        Args:
            penalty: whether it takes part; `None`: if it is due.
        """
        due = self.penalty_due if penalty is None else penalty
        loss = self.loss if due else self.without_penalty
        with computing_in(self.precision, self.accelerator.device):
            return accumulate(
                self.critic_gradients(self.G, self.D, self.D_parameters, part, self.alpha, loss)
                for part in split(batch, self.images_per_pass)
            )

    def G_gradients(self, batch: Latents) -> Gradients:
        """The generator's, likewise."""
        G, D, parameters, r = self.G, self.D, self.G_parameters, self.phase.resolution
        with computing_in(self.precision, self.accelerator.device):
            return accumulate(
                self.generator_gradients(G, D, parameters, part, self.alpha, self.loss, r)
                for part in split(batch, self.images_per_pass)
            )

    @property
    def images_per_pass(self) -> int:
        """Images a forward pass on this process."""
        return self.phase.images_per_pass(self.accelerator.num_processes)

    def over_processes(self, found: Gradients) -> Gradients:
        """Means over the processes, by one flat reduction."""
        grads, means = found
        tensors = average(self.accelerator, [*grads, *means.values()])
        return tensors[: len(grads)], dict(zip(means, tensors[len(grads) :], strict=True))

    def begin(self, phase: Phase, restart: bool) -> None:
        """Begin a phase: pick the weights that take part. `restart` Adam at its first image."""
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
        """Compile for the phase now, on noise. If that fails, log why and go on uncompiled."""
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
        """Take the memory that the phase's steps take, with no other effect."""
        pairs = (self.D_opt, self.D_parameters), (self.G_opt, self.G_parameters)
        for optimizer, parameters in pairs:  # room for Adam's state, by a step that is skipped
            apply(optimizer, parameters, [torch.full_like(p, math.nan) for p in parameters])
        self.try_out(self.phase.batch_size // self.accelerator.num_processes)

    def try_out(self, n: int | None = None) -> None:
        """Compute the phase's gradients on `n` images of noise, with no other effect.

        Nothing is reduced over the processes, as one of them may fail here.

        Args:
            n: `None`: those of a forward pass. Of more, two passes are computed and accumulated.
        """
        n, r = n or self.images_per_pass, self.phase.resolution
        batch = noise(self.G, n, r, augmented=bool(self.loss.augment))
        two_passes = split(batch, 2 * self.images_per_pass)[0]
        self.set_progress(self.phase.start_nimg)
        for penalty in (True, False)[: self.penalty_interval]:
            self.D_gradients(two_passes, penalty)
        self.G_gradients(two_passes.of_fakes())

    def checksum(self) -> int:
        """A checksum of all weights, bit by bit."""
        networks = (self.G, self.D, self.G_ema)
        return checksum([p for network in networks for p in network.parameters()])


def checksum(tensors: Sequence[Tensor]) -> int:
    """The sum of float32 tensors' bits as integers, whatever the order of the sum."""
    sums = [t.detach().contiguous().view(torch.int32).sum() for t in tensors]
    factors = torch.arange(1, len(sums) + 1, device=sums[0].device)  # a swap of tensors shows
    return int((torch.stack(sums) * factors).sum())
