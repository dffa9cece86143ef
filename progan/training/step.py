"""One training step: an update of the critic, one of the generator, one of the average."""

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from progan.config.batch_rules import fits
from progan.config.resolutions import ByResolution
from progan.config.schedule import Phase
from progan.model.networks import Critic, Generator
from progan.runtime import memory
from progan.runtime.distributed import average
from progan.runtime.numerics import computing_in
from progan.runtime.speeds import resolve_precision
from progan.training.adaptive import AdaptiveStrength
from progan.training.compile import compiled, why_compile_failed
from progan.training.ema import Average
from progan.training.feed import Batch, Latents, noise, split
from progan.training.losses import ADVERSARIAL
from progan.training.optimizers import Optimizer
from progan.training.updates import (
    Gradients,
    LossSettings,
    Means,
    accumulate,
    critic_gradients,
    generator_gradients,
)

log = logging.getLogger("progan")


class Step:
    """The networks, their optimizers and the average, and how one step changes them.

    Call `begin` at the start and whenever the phase changes; then for each step `set_progress` and
    `update_critic` as often as the phase has it, `update_generator` and `average`. An update whose
    gradients are not finite is skipped.

    Args:
        precision: of convolutions and products, see `runtime.numerics` and `runtime.speeds`.
        averages: of `G`; the first one is `G_ema`.
        penalty_interval: one in this many updates has the penalty, weighted by as much.
        block_rates: factor of the learning rates, by the resolution of a block.
        adaptive: steers the strength of augmentation, in place of the phases.
    """

    # Set by `begin` for its phase, and by `set_progress` for each step.
    phase: Phase
    compiled: bool
    D_parameters: list[nn.Parameter]
    G_parameters: list[nn.Parameter]
    nimg: int
    alpha: Tensor | None
    penalty_due: bool

    def __init__(
        self,
        G: Generator,
        D: Critic,
        loss: LossSettings,
        accelerator: Accelerator,
        precision: str,
        averages: Average,
        penalty_interval: int = 1,
        block_rates: ByResolution[float] = 1.0,
        adaptive: AdaptiveStrength | None = None,
    ):
        self.G, self.D = G, D
        self.averages, self.G_ema = averages, averages.networks[0]
        self.G_opt, self.D_opt = (
            Optimizer(dict(network.named_parameters()), block_rates) for network in (G, D)
        )
        self.given = self.loss = loss  # `loss` has the weights of the current place
        self.penalty_interval = penalty_interval
        self.adaptive = adaptive
        self.accelerator = accelerator
        self.precision = resolve_precision(precision, accelerator)
        self.compiler_works = True  # until it fails
        # Updates skipped since this was last set to 0: [critic, generator]
        self.skipped = torch.zeros(2, device=accelerator.device)

    def parts(self) -> dict[str, Any]:
        """What a checkpoint holds of it."""
        averages = {"G_ema": self.G_ema, **self.averages.further()}
        steered = {"augmentation": self.adaptive} if self.adaptive else {}
        optimizers = {"G_opt": self.G_opt, "D_opt": self.D_opt}
        return {"G": self.G, "D": self.D, **averages, **optimizers, **steered}

    def set_progress(self, nimg: int) -> None:
        """Set what varies within the phase: alpha, learning rates, whether the penalty is due."""
        self.nimg, alpha = nimg, self.phase.alpha(nimg)
        device = self.accelerator.device
        self.alpha = None if alpha is None else torch.full((), alpha, device=device)
        update = (nimg - self.phase.start_nimg) // self.phase.batch_size
        self.penalty_due = update % self.penalty_interval == 0
        self.loss = self.loss_at(nimg)
        options = self.phase.options_at(nimg)
        self.G_opt.set(self.phase.G_rate.at(nimg), options)
        self.D_opt.set(self.phase.D_rate.at(nimg), options)

    def loss_at(self, nimg: int) -> LossSettings:
        """The loss with its weights for the update at `nimg`; those that vary are tensors, as a new
        number would be compiled anew."""
        curves = dict(self.phase.weights)
        values: dict[str, Any] = {name: curve.at(nimg) for name, curve in curves.items()}
        penalty = values.get("penalty_weight", self.given.penalty_weight)
        values["penalty_weight"] = penalty * self.penalty_interval
        for name, curve in curves.items():
            if curve.varies:
                values[name] = torch.full((), values[name], device=self.accelerator.device)
        if self.adaptive:
            values["augment_strength"] = self.adaptive.strength
        return replace(self.given, **values)

    def update_critic(self, batch: Batch, penalty: bool | None = None) -> Means:
        """Update the critic; returns statistics of the global batch. Args: see `D_gradients`."""
        grads, means = self.over_processes(self.D_gradients(batch, penalty))
        self.skipped[0] += self.D_opt.apply(self.D_parameters, grads)
        if self.adaptive:
            means["Progress/augment_strength"] = self.adaptive.strength
            self.adaptive.add(means["Loss/signs/real"], self.phase.batch_size)
        return means

    def update_generator(self, batch: Latents) -> Means:
        """Update the generator; returns statistics of the global batch."""
        grads, means = self.over_processes(self.G_gradients(batch))
        self.skipped[1] += self.G_opt.apply(self.G_parameters, grads)
        return means

    def average(self) -> None:
        """Let the averaged generator follow."""
        end = self.nimg + self.phase.batch_size
        self.averages.update(end - self.phase.step_size, end)

    def D_gradients(self, batch: Batch, penalty: bool | None = None) -> Gradients:
        """The critic's gradients and statistics, means over this process's part of the batch.

        Args:
            penalty: whether it takes part; `None`: if it is due.
        """
        due = self.penalty_due if penalty is None else penalty
        loss = self.loss if due else replace(self.loss, penalty=None)
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

    def fits(self, phase: Phase) -> bool:
        """Whether the batch divides into forward passes as critic and loss need them."""
        whole = ADVERSARIAL[self.loss.adversarial].whole
        return fits(phase, self.accelerator.num_processes, self.D.stddev_group, whole)

    @property
    def images_per_pass(self) -> int:
        """Images a forward pass on this process."""
        return self.phase.images_per_pass(self.accelerator.num_processes)

    def over_processes(self, found: Gradients) -> Gradients:
        """Means over the processes, by one flat reduction."""
        grads, means = found
        tensors = average(self.accelerator, [*grads, *means.values()])
        return tensors[: len(grads)], dict(zip(means, tensors[len(grads) :], strict=True))

    def begin(self, phase: Phase, restart: bool, compile: bool = False) -> None:
        """Begin a phase: pick the weights that take part.

        Args:
            restart: forget the optimizers' moments, as at the phase's first image.
            compile: its gradients (see `progan.training.compile`), unless that has failed before.
        """
        self.phase = phase
        r = phase.resolution
        active = [network.active_parameters(r, phase.fading) for network in (self.G, self.D)]
        self.G_parameters, self.D_parameters = (list(named.values()) for named in active)
        self.averages.begin(active[0])
        for optimizer in (self.G_opt, self.D_opt):
            if restart or optimizer.kind != phase.optimizer:
                optimizer.restart(phase.optimizer)
        self.critic_gradients, self.generator_gradients = critic_gradients, generator_gradients
        self.compiled = compile and self.compiler_works
        if self.compiled:
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
            self.compiled = self.compiler_works = False
            if self.accelerator.is_local_main_process:
                log.warning(
                    "the training step is not compiled, as that failed: %s",
                    why_compile_failed(error),
                )

    def rehearse(self) -> None:
        """Take the memory that the phase's steps take, with no other effect."""
        pairs = (self.D_opt, self.D_parameters), (self.G_opt, self.G_parameters)
        for optimizer, parameters in pairs:  # room for moments, by a step that is skipped
            optimizer.apply(parameters, [torch.full_like(p, math.nan) for p in parameters])
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
        self.G_gradients(two_passes.for_generator(self.loss.relativistic))

    def checksum(self) -> int:
        """A checksum of all weights, bit by bit."""
        networks = (self.G, self.D, *self.averages.networks)
        return checksum([p for network in networks for p in network.parameters()])


def checksum(tensors: Sequence[Tensor]) -> int:
    """The sum of float32 tensors' bits as integers, whatever the order of the sum."""
    sums = [t.detach().contiguous().view(torch.int32).sum() for t in tensors]
    factors = torch.arange(1, len(sums) + 1, device=sums[0].device)  # a swap of tensors shows
    return int((torch.stack(sums) * factors).sum())
