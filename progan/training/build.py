"""From a config to the feed, the loss, the networks and their costs."""

import numpy as np
import torch
from accelerate import Accelerator

from progan.config.config import Config
from progan.config.metric_names import SMALLEST, parse
from progan.config.resolutions import resolutions_to
from progan.config.schedule import Phase
from progan.data.dataset import Dataset
from progan.data.stream import Stream
from progan.metrics.pace import TRIED, pace
from progan.metrics.registry import PLAIN
from progan.model.grid import cell_of
from progan.model.layers import EqualizedConv2d, EqualizedLinear
from progan.model.networks import Critic, Generator
from progan.model.sampling import grid_layout
from progan.runtime import memory
from progan.runtime.distributed import on_any
from progan.runtime.numerics import computing_in
from progan.runtime.randomness import make_rng
from progan.runtime.speeds import resolve_precision
from progan.training.adaptive import AdaptiveStrength
from progan.training.compile import pays
from progan.training.costs import CostModel, Pauses
from progan.training.ema import Average, EqualWeights, HalfLife, Kind, Power
from progan.training.feed import Feed
from progan.training.losses import ADVERSARIAL
from progan.training.step import Step
from progan.training.trials import Trials
from progan.training.updates import LossSettings
from progan.training.work import count_work


def make_feed(config: Config, data: Dataset, accelerator: Accelerator) -> Feed:
    """What this process's updates consume."""
    stream = Stream(
        data,
        seed=config.run.seed,
        mirror=config.data.mirror,
        device=accelerator.device,
        rank=accelerator.process_index,
        processes=accelerator.num_processes,
        device_cache=config.data.device_cache,
    )
    return Feed(
        stream,
        seed=config.run.seed,
        z_dim=config.network.z_dim,
        c_dim=len(data.labels.names) if data.labels else 0,
        augmented=bool(config.data.augment),
        relativistic=ADVERSARIAL[config.loss.adversarial].relativistic,
    )


def make_loss(config: Config, labels: str = "classes") -> LossSettings:
    """The loss; the schedule's phases have the weights of its terms.

    labels: whether those of the data are classes or attributes.
    """
    return LossSettings(
        adversarial=config.loss.adversarial,
        penalty=None if config.loss.penalty == "none" else config.loss.penalty,
        target=config.loss.weights.target,
        augment=tuple(config.data.augment),
        labels="projection" if config.loss.labels == "projection" else labels,
        adaptive=config.data.augment_target is not None,
    )


def make_networks(
    config: Config, c_dim: int, device: torch.device | str
) -> tuple[Generator, Critic]:
    """Both networks with weights drawn from the seed, the same on every machine."""
    G = Generator(**config.network.generator_settings(), c_dim=c_dim)
    D = Critic(**config.network.critic_settings(), c_dim=c_dim)
    for i, network in enumerate((G, D)):
        draw = make_rng(config.run.seed, "weights", i)
        for layer in network.modules():
            if isinstance(layer, EqualizedConv2d | EqualizedLinear):
                values = draw.standard_normal(tuple(layer.weight.shape), dtype=np.float32)
                layer.weight.data.copy_(torch.from_numpy(values) * layer.initial)
    return G.to(device), D.to(device)


def make_step(config: Config, c_dim: int, loss: LossSettings, accelerator: Accelerator) -> Step:
    """The networks and the step that trains them."""
    G, D = make_networks(config, c_dim, accelerator.device)
    data, adaptive = config.data, None
    if data.augment_target is not None:
        given = data.augment_target, data.augment_kimg
        adaptive = AdaptiveStrength(*given, accelerator.device)
    return Step(
        G,
        D,
        loss,
        accelerator,
        config.run.precision,
        make_average(config, G),
        config.loss.penalty_interval,
        block_rates=config.optim.block_rates,
        adaptive=adaptive,
    )


def make_average(config: Config, G: Generator) -> Average:
    """The averages of a generator, as `ema` has them."""
    ema, schedule = config.ema, config.make_schedule()
    kinds: list[Kind] = [Power(length) for length in ema.lengths or ()]
    if ema.half_life_kimg is not None:
        kinds = [HalfLife(schedule.half_life, ema.rampup)]
    if ema.swa_start_kimg is not None and ema.swa_every_kimg is not None:
        kinds = [EqualWeights(ema.swa_start_kimg, ema.swa_every_kimg)]
    return Average(G, kinds, schedule)


def compiles(config: Config, seconds: float | None, accelerator: Accelerator) -> bool:
    """Whether to compile a phase that takes `seconds` without; the same on all processes."""
    if config.run.compile != "auto":
        return config.run.compile
    return not config.run.deterministic and on_any(accelerator, pays(seconds, accelerator.device))


def make_costs(
    config: Config, loss: LossSettings, G: Generator, D: Critic, accelerator: Accelerator
) -> CostModel:
    """The cost of each phase and of the run on this machine, from some seconds of trial updates."""
    schedule, interval = config.make_schedule(), config.loss.penalty_interval
    costs = CostModel(schedule, count_work(G, D, loss, schedule, interval), pauses_of(config, G, D))
    precision = resolve_precision(config.run.precision, accelerator)
    trials = Trials(G, D, loss, accelerator, interval)
    with computing_in(precision, accelerator.device):
        trials.measure(costs, budget=5)
        if costs.trials:
            last = max(costs.trials, key=lambda phase: phase.start_nimg)
            costs.per_parameter = trials.optimizer(last)
    if costs.trials:
        costs.per_sample = trials.sample(last) / (costs.trials[last] * accelerator.num_processes)
        costs.metric_seconds = seconds_of_metrics(config, costs, last, accelerator)
    if accelerator.device.type == "cuda":  # the trial's memory does not count as the run's
        memory.release(accelerator.device)
        memory.reset_peak(accelerator.device)
    return costs


def seconds_of_metrics(
    config: Config, costs: CostModel, phase: Phase, accelerator: Accelerator
) -> dict[str, float]:
    """Seconds of measuring each of `run.metrics` that needs no Inception, and whose reals are kept.

    phase: one with a trial.
    """
    found, network = {}, config.network
    shape = TRIED, network.channels, network.resolution, network.resolution
    images = torch.randint(0, 256, shape, dtype=torch.uint8, device=accelerator.device)
    update = costs.per_image(costs.schedule.phases[-1])
    sample = costs.per_sample * update if update else 0.0
    for name in config.run.metrics:
        kind, count = parse(name)
        if kind in PLAIN and network.resolution >= SMALLEST:
            metric = PLAIN[kind](name, count)
            each = pace(metric, images)
            seconds = metric.fakes * (each.add + sample) + each.comparing(metric.fakes)
            found[name] = seconds / accelerator.num_processes
    return found


def pauses_of(config: Config, G: Generator, D: Critic) -> Pauses:
    """When the run's updates pause, and for what."""
    size_G, size_D = (sum(p.numel() for p in network.parameters()) for network in (G, D))
    sizes = resolutions_to(config.network.resolution)
    run = config.run
    samples = {r: len(grid_layout(r, None)[0]) for r in sizes}
    return Pauses(
        run.tick_kimg,
        run.checkpoint_ticks,
        # each with two moments, and the generator's averages
        4.0 * ((3 + len(config.ema.lengths or [1])) * size_G + 3 * size_D),
        samples,
        {r: count * cell_of(r) ** 2 for r, count in samples.items()},
        run.metrics,
    )
