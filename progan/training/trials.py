"""Trial updates: what gradients, optimizers and samples take on this machine."""

from functools import partial

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from progan.config.schedule import Phase
from progan.model.networks import Critic, Generator
from progan.model.sampling import BATCH, images_of
from progan.runtime import memory
from progan.runtime.device import timed
from progan.training import ema
from progan.training.costs import CostModel
from progan.training.optimizers import Optimizer
from progan.training.updates import LossSettings
from progan.training.work import random_update, variants, whole_groups


class Trials:
    """Trial updates of networks, on this machine and in the precision that is set around them."""

    def __init__(
        self,
        G: Generator,
        D: Critic,
        loss: LossSettings,
        accelerator: Accelerator,
        interval: int = 1,
    ):
        self.G, self.D = G, D
        self.loss, self.interval = loss, interval
        self.device, self.processes = accelerator.device, accelerator.num_processes

    def update(self, phase: Phase, n: int) -> float:
        """Seconds of both networks' gradients for `n` images, penalties in their share."""
        seconds = 0.0
        for loss, more, share in variants(self.loss, self.interval, phase.critic_updates):
            work = partial(random_update, self.G, self.D, loss, phase, n, **more)
            seconds += share * timed(work, self.device)
        return seconds

    def updates_that_fit(self, phase: Phase, n: int, repeats: int) -> tuple[int, list[float]]:
        """`update` of as many images as memory has room for, at most `n`: their number, and each
        time; none if not even a group of minibatch stddev fits."""
        while True:
            try:
                return n, [self.update(phase, n) for _ in range(repeats)]
            except Exception as error:
                if not memory.is_short(error):
                    raise
            memory.release(self.device)
            smaller = whole_groups(self.D, n // 2)
            if smaller >= n:
                return n, []
            n = smaller

    def measure(self, costs: CostModel, budget: float) -> None:
        """Time updates of each phase, smallest first, until about `budget` seconds are spent.

        Then once more for the largest resolution that one image of takes at most as long again, as
        extrapolating to it is what errs most. If a whole forward pass would take long, four images
        are timed; if memory is short, half as many as before, and larger phases are left out.
        """
        left, phases = budget, list(costs.schedule.phases)
        for phase in costs.schedule.phases:
            n = phase.images_per_pass(self.processes)
            expected = costs.gradients(phase)
            likely = 0.0 if expected is None else expected.likely * self.processes
            if likely * n > budget / 4:
                n = min(n, whole_groups(self.D, 4))
            if 3 * n * likely > left:
                break
            # Of three, the first finds memory and kernels.
            n, times = self.updates_that_fit(phase, n, 3)
            if not times:
                return
            left -= sum(times)
            costs.trials[phase] = min(times) / n / self.processes
            phases.remove(phase)
        for phase in reversed(phases):
            expected = costs.gradients(phase)
            if expected is not None and 2 * expected.high * self.processes <= budget:
                n, times = self.updates_that_fit(phase, 1, 2)
                if times:
                    costs.trials[phase] = min(times) / n / self.processes
                return

    def optimizer(self, phase: Phase) -> float:
        """Seconds a parameter in use that both optimizers and the average take in an update.

        Works on copies; 0 if memory has no room for them.
        """
        active = [
            list(network.active_parameters(phase.resolution, phase.fading).values())
            for network in (self.G, self.D)
        ]
        count = sum(parameter.numel() for parameters in active for parameter in parameters)
        try:
            copies = [[torch.zeros_like(p) for p in parameters] for parameters in active]
            grads = [[torch.zeros_like(p) for p in parameters] for parameters in active]
            optimizers = [
                Optimizer({str(i): nn.Parameter(p) for i, p in enumerate(parameters)})
                for parameters in copies
            ]
            for optimizer, rate in zip(optimizers, (phase.G_rate, phase.D_rate), strict=True):
                optimizer.restart(phase.optimizer)
                optimizer.set(rate.at(phase.start_nimg), phase.options_at(phase.start_nimg))

            def step() -> None:
                for optimizer, some in zip(optimizers, grads, strict=True):
                    optimizer.apply(optimizer.parameters, some)
                ema.update(copies[0], active[0], [0.5] * len(active[0]))

            return min(timed(step, self.device) for _ in range(3)) / count
        except Exception as error:
            if not memory.is_short(error):
                raise
            memory.release(self.device)
            return 0.0

    def sample(self, phase: Phase) -> float:
        """Seconds of one sample, made as those of the grids are (see `sampling.generate`)."""
        n = 1 if self.device.type == "cpu" else BATCH
        z = torch.zeros(n, self.G.z_dim, device=self.device)
        labels = np.zeros(n, np.int64) if self.G.c_dim else None
        alpha = 0.5 if phase.fading else None
        make = partial(images_of, self.G, z, labels, phase.resolution, alpha)
        return min(timed(make, self.device) for _ in range(2)) / n
