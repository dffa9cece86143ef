"""From a config to the data, the loss, the networks and their costs."""

import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator

from progan.config.config import Config, DataConfig
from progan.config.schedule import Phase, Schedule
from progan.data.decode import Square
from progan.data.live import Live
from progan.data.pyramid.format import Pyramid, is_pyramid
from progan.data.pyramid.prepare import cached
from progan.data.sources.bit_depth import warn_of_darkness
from progan.data.sources.find import NAMED, find, first
from progan.data.sources.shards import from_shards, is_shards
from progan.data.stream import Images, Stream
from progan.model.networks import Critic, Generator
from progan.runtime import memory
from progan.runtime.cache import lock
from progan.runtime.distributed import on_any, random
from progan.runtime.errors import LabelError, UserError
from progan.runtime.numerics import computing_in
from progan.runtime.speeds import chosen
from progan.training.compile import pays
from progan.training.costs import CostModel, count_gflops, measure
from progan.training.feed import Feed
from progan.training.step import Step
from progan.training.updates import Loss


def open_data(config: Config, download: bool, say: Callable[[str], None]) -> Images:
    """The images that `data.source` names, prepared now unless that has been done.

    Raises:
        UserError: there are none, or they do not fit the config.
    """
    data, network = config.data, config.network
    path = Path(os.path.expanduser(data.source))
    cache = data.cache and Path(data.cache)
    fit = data.fit if isinstance(data.fit, str) else tuple(data.fit)
    square = Square(network.resolution, network.channels, fit, data.allow_upscale)
    if data.source not in NAMED and is_pyramid(path):
        return open_prepared(path, config)
    if is_shards(data.source):
        return open_shards(config, square, say)
    with lock("download", cache) if download else nullcontext():
        source = find(
            data.source,
            root=data.root and Path(data.root),
            labels=data.labels,
            download=download,
            limit=data.max_images,
        )
    warn_of_darkness(source)
    return cached(
        source,
        square,
        cache=cache,
        storage=data.storage,
        max_bad=data.max_bad,
        workers=data.workers,
        say=say,
    )


def open_prepared(path: Path, config: Config) -> Pyramid:
    """A folder that `progan data prepare` has made."""
    pyramid = Pyramid.open(path, labels=config.data.labels, workers=config.data.workers)
    refuse(config, ["fit", "allow_upscale", "max_images", "storage"], f"{path} is prepared already")
    if config.network.channels != pyramid.channels:
        raise UserError(
            f"network.channels is {config.network.channels}, and {path} has {pyramid.channels}; "
            f"set -o network.channels={pyramid.channels}, or prepare it again"
        )
    if config.network.resolution > pyramid.resolution:
        raise UserError(
            f"network.resolution is {config.network.resolution}, and {path} ends at "
            f"{pyramid.resolution}; set -o network.resolution={pyramid.resolution}, or prepare "
            "it again with a larger --max-resolution"
        )
    if config.data.labels and not pyramid.classes:
        raise LabelError(
            f"data.labels is true, and {path} was prepared without labels; prepare it again with "
            "--labels, or set -o data.labels=false"
        )
    return pyramid


def open_shards(config: Config, square: Square, say: Callable[[str], None]) -> Live:
    """WebDataset shards, indexed now unless that has been done."""
    data = config.data
    refuse(config, ["storage", "device_cache"], "images of shards are not kept")
    source = from_shards(
        data.source, labels=data.labels, cache=data.cache and Path(data.cache), say=say
    )
    if data.max_images is not None:
        source = first(source, data.max_images)
    return Live(source, square, max_bad=data.max_bad, workers=data.workers)


def refuse(config: Config, keys: list[str], why: str) -> None:
    """No setting is ignored in silence."""
    for key in keys:
        if getattr(config.data, key) != getattr(DataConfig(), key):
            raise UserError(f"data.{key} has no effect, as {why}; leave it out")


def make_feed(config: Config, data: Images, accelerator: Accelerator) -> Feed:
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
        c_dim=len(data.classes) if config.data.labels else 0,
        augmented=bool(config.data.augment),
    )


def make_loss(config: Config, labels: str = "classes") -> Loss:
    """`labels`: what those of the data are, classes or attributes."""
    weights = config.loss.weights
    return Loss(
        adversarial=config.loss.adversarial,
        penalty=config.loss.penalty,
        penalty_weight=weights.penalty,
        target=weights.target,
        drift=weights.drift,
        label=weights.label,
        augment=tuple(config.data.augment),
        labels=labels,
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
                layer = network.get_submodule(name.rpartition(".")[0])
                parameter.data.copy_(torch.from_numpy(values) * layer.initial)
    return G.to(device), D.to(device)


def make_step(config: Config, c_dim: int, loss: Loss, accelerator: Accelerator) -> Step:
    """The networks, and what trains them."""
    return Step(
        *make_networks(config, c_dim, accelerator.device),
        loss,
        accelerator,
        config.run.precision,
        config.ema.half_life_kimg,
        config.loss.penalty_interval,
        compile=config.run.compile is True,
    )


def compiles(
    config: Config, costs: CostModel | None, phase: Phase, accelerator: Accelerator
) -> bool:
    """`run.compile` for a phase that begins; the same answer on all processes.

    costs: for `auto` only.
    """
    if config.run.compile != "auto":
        return config.run.compile
    if config.run.deterministic:
        return False
    return on_any(accelerator, pays(costs.seconds_of(phase), accelerator.device))


def make_costs(
    config: Config,
    loss: Loss,
    schedule: Schedule,
    G: Generator,
    D: Critic,
    accelerator: Accelerator,
) -> CostModel:
    """What each phase costs on this machine, from a few seconds of trial updates."""
    costs = CostModel(schedule, count_gflops(G, D, loss, schedule))
    precision = chosen(config.run.precision, accelerator)
    with computing_in(precision, accelerator.device):
        measure(costs, G, D, loss, accelerator, budget=5)
    if accelerator.device.type == "cuda":  # the trial's memory is not the run's
        memory.release(accelerator.device)
        memory.reset_peak(accelerator.device)
    return costs
