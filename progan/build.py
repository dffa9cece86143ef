"""From a config to the loss, the networks and their costs."""

import numpy as np
import torch
from accelerate import Accelerator

from progan.config import Config
from progan.costs import CostModel, count_gflops, measure
from progan.distributed import computing_in, random
from progan.networks import Critic, Generator
from progan.schedule import Schedule
from progan.updates import Loss


def make_loss(config: Config) -> Loss:
    weights = config.loss.weights
    return Loss(
        adversarial=config.loss.adversarial,
        penalty=config.loss.penalty,
        penalty_weight=weights.penalty,
        target=weights.target,
        drift=weights.drift,
        label=weights.label,
    )


def make_networks(
    config: Config, c_dim: int, device: torch.device | str
) -> tuple[Generator, Critic]:
    """Both networks with the weights that the seed gives, the same on every machine."""
    G = Generator(**config.network.generator_settings(), c_dim=c_dim)
    D = Critic(**config.network.critic_settings(), c_dim=c_dim)
    for i, network in enumerate((G, D)):
        draw = random(config.run.seed, "weights", i)
        for name, parameter in network.named_parameters():
            if name.endswith("weight"):
                values = draw.standard_normal(tuple(parameter.shape), dtype=np.float32)
                parameter.data.copy_(torch.from_numpy(values))
    return G.to(device), D.to(device)


def make_costs(
    config: Config, schedule: Schedule, G: Generator, D: Critic, accelerator: Accelerator
) -> CostModel:
    """What each phase costs on this machine, from a few seconds of trial updates."""
    loss = make_loss(config)
    costs = CostModel(schedule, count_gflops(G, D, loss, schedule))
    with computing_in(config.run.precision, accelerator.device):
        measure(costs, G, D, loss, accelerator, budget=5)
    if accelerator.device.type == "cuda":  # the trial's memory is not the run's
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    return costs
