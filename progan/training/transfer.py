"""Starting from another run's networks: which are read, whether they fit, what is taken."""

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from progan.config.config import Config
from progan.config.resolutions import START_RESOLUTION, resolutions_to
from progan.config.settings import NetworkConfig
from progan.config.yaml_io import dump_inline
from progan.model.growing import channels_at, resolution_of
from progan.model.networks import Critic, Generator
from progan.runs.checkpoint import checkpoints_of
from progan.runs.init_file import Other, forget_other, read_other
from progan.runs.origin import Origin
from progan.runtime.errors import UserError
from progan.runtime.text import printable

# Settings in which the networks may differ: of other resolutions, blocks are left out or new.
MAY_DIFFER = {"resolution", "stddev_group", "init", "freeze_d"}
WIDTHS = ("channel_base", "channel_max")


class Transfer:
    """What a run has taken from another one, as a part of its checkpoints.

    Args:
        G, D: the run's networks.
        averages: of G, which all begin as the other run's average.
    """

    origin: Origin | None = None

    def __init__(self, config: Config, G: Generator, D: Critic, averages: Sequence[Generator]):
        self.config = config
        self.G, self.D, self.averages = G, D, averages

    def parts(self) -> "dict[str, Transfer]":
        """What its checkpoints have for it: nothing in a run with weights of its own."""
        return {"origin": self} if self.config.network.init else {}

    def state_dict(self) -> dict[str, Any]:
        assert self.origin is not None, "a run that is to take networks has begun without"
        return self.origin.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.origin = Origin.of(state)
        self.freeze(self.origin)

    def begin(self, run_dir: Path) -> list[str]:
        """Take the other networks, unless the run has a checkpoint; returns lines about it.

        Raises:
            UserError: they cannot be read, or do not fit.
        """
        if not is_due(self.config, run_dir):
            return []
        other = read_other(place(self.config))
        check_fits(other, self.config, self.G.c_dim)
        shared = min(self.config.network.resolution, other.origin.resolution)
        networks: dict[str, Sequence[Generator | Critic]]
        networks = {"G": [self.G], "D": [self.D], "G_ema": self.averages}
        for name, weights in other.weights.items():
            for network in networks[name]:
                take(network, weights, shared, printable(other.origin.name))
        forget_other()
        self.origin = other.origin
        self.freeze(other.origin)
        return list(about(other, self.config))

    def freeze(self, origin: Origin) -> None:
        """Freeze the critic's blocks that the settings name, also after a resume."""
        self.D.frozen = frozen_blocks(self.config.network, origin)
        for name, parameter in self.D.named_parameters():
            parameter.requires_grad_(resolution_of(name) not in self.D.frozen)


def is_due(config: Config, run_dir: Path) -> bool:
    """Whether a start takes another run's networks: not if it goes on from a checkpoint."""
    return config.network.init is not None and not checkpoints_of(run_dir)


def place(config: Config) -> Path:
    return Path(str(config.network.init))


def check_init(config: Config, run_dir: Path) -> None:
    """Check what a start will take, as far as that is known before the data is.

    Raises:
        UserError: see `Transfer.begin`.
    """
    if config.network.freeze_d and config.network.init is None:
        raise UserError(
            f"network.freeze_d ({config.network.freeze_d}) keeps blocks of another run's critic as "
            "they are: give that run by --init, or leave it at 0"
        )
    if is_due(config, run_dir):
        check_fits(read_other(place(config)), config, None if config.data.labels else 0)


def about_init(config: Config, run_dir: Path, c_dim: int | None) -> list[str]:
    """Lines about what a start in `run_dir` will take. Args: see `check_fits`.

    Raises:
        UserError: see `Transfer.begin`.
    """
    if not is_due(config, run_dir):
        return []
    other = read_other(place(config))
    check_fits(other, config, c_dim)
    return list(about(other, config))


def check_fits(other: Other, config: Config, c_dim: int | None) -> None:
    """Raises UserError unless its networks and these, as far as both grow, are of one kind.

    Args:
        c_dim: labels of the data; None: not known yet.
    """
    ours, theirs, name = config.network, other.network, printable(other.origin.name)
    shared = resolutions_to(min(ours.resolution, other.origin.resolution))
    widths = {
        r: [channels_at(r, each.channel_base, each.channel_max) for each in (theirs, ours)]
        for r in (START_RESOLUTION // 2, *shared)  # the first is the critic's dense layer
    }
    equal = {*MAY_DIFFER} | ({*WIDTHS} if all(a == b for a, b in widths.values()) else set())
    here = ours.model_dump()
    wrong = [
        (f"network.{key}", dump_inline(value), dump_inline(here[key]))
        for key, value in theirs.model_dump().items()
        if key not in equal and value != here[key]
    ]
    if wrong:
        lines = "".join(f"\n  {key}: {there} there, {here} here" for key, there, here in wrong)
        remedy = " ".join(f"-o {shlex.quote(f'{key}={there}')}" for key, there, _ in wrong)
        raise UserError(
            f"--init: the networks in {name} do not fit this run:{lines}\n"
            f"give this run the same: {remedy}"
        )
    if c_dim is not None and c_dim != other.c_dim:
        raise UserError(
            f"--init: the networks in {name} were trained with {labels_of(other.c_dim)}, these are "
            f"to be trained with {labels_of(c_dim)}. Both must have as many: "
            + (
                "train on data with as many classes or attributes and data.labels=true, or start "
                "from another run"
                if other.c_dim
                else "set data.labels=false, or start from another run"
            )
        )
    check_freezing(other, ours)


def labels_of(c_dim: int) -> str:
    return f"{c_dim} label{'s' * (c_dim != 1)}" if c_dim else "no labels"


def check_freezing(other: Other, network: NetworkConfig) -> None:
    """Raises UserError if there are not so many blocks to freeze."""
    n, name = network.freeze_d, printable(other.origin.name)
    if n and "D" not in other.weights:
        raise UserError(
            f"--freeze-d {n} needs a critic that has been trained, and a snapshot has none; give "
            "--init the run, or a file in its checkpoints/"
        )
    blocks = resolutions_to(min(network.resolution, other.origin.resolution))[1:]
    if n > len(blocks):
        raise UserError(
            f"--freeze-d {n} is too much for the critic in {name}: {len(blocks)} of its blocks can "
            "be frozen"
            + f" ({', '.join(f'{r}x{r}' for r in reversed(blocks))})" * bool(blocks)
            + "; the one of 4x4 is always trained"
        )


def frozen_blocks(network: NetworkConfig, origin: Origin) -> frozenset[int]:
    """Resolutions of the critic's blocks that stay as they were taken: the largest of them.

    FreezeD (Mo et al. 2020, Sec. 3): the layers that images meet first, which see details that
    all images have in common.
    """
    taken = resolutions_to(min(network.resolution, origin.resolution))[1:]
    return frozenset(taken[len(taken) - network.freeze_d :])


@torch.no_grad()
def take(
    network: Generator | Critic, weights: dict[str, Tensor], resolution: int, name: str
) -> None:
    """Copy the blocks and image layers up to `resolution`.

    Raises:
        UserError: weights are missing, or of other shapes; then nothing has been copied.
    """
    own = {k: w for k, w in network.state_dict().items() if resolution_of(k) <= resolution}
    for key, weight in own.items():
        given = weights.get(key)
        if given is None or given.shape != weight.shape or given.dtype != weight.dtype:
            found = "missing" if given is None else f"of {tuple(given.shape)}, {given.dtype}"
            raise UserError(
                f"--init: {name} does not fit these networks: {key} must be of "
                f"{tuple(weight.shape)}, {weight.dtype}, and is {found}"
            )
    for key, weight in own.items():
        weight.copy_(weights[key])


def about(other: Other, config: Config) -> Iterator[str]:
    """What is taken, and what is new."""
    origin, network = other.origin, config.network
    shared = min(network.resolution, origin.resolution)
    what = "both networks and the average"
    if "D" not in other.weights:
        what = "the averaged generator (a snapshot has no critic: the critic is new)"
    yield f"starts from {printable(origin.name)}, {origin.nimg / 1000:,.10g} kimg: {what}"
    new = [f"{r}x{r}" for r in resolutions_to(network.resolution) if r > shared]
    taken = f"4x4 to {shared}x{shared}" if shared > START_RESOLUTION else "4x4"
    yield f"taken: blocks of {taken}" + f"; new: {', '.join(new)}" * bool(new)
    if frozen := sorted(frozen_blocks(network, origin), reverse=True):
        sizes = ", ".join(f"{r}x{r}" for r in frozen)
        yield f"frozen: the critic's blocks of {sizes}"
    if other.c_dim:
        names = f" ({', '.join(map(printable, other.labels[:10]))})" if other.labels else ""
        yield f"labels are taken by their place: the first is the first there{names}"
    if config.schedule.phases is None and config.start_resolution < shared:
        start = config.start_resolution
        yield (
            f"training starts at {start}x{start}; -o schedule.start_resolution={shared} starts "
            "where the taken networks are"
        )
