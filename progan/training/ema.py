"""Averages of the generator: what an update counts in them is a function of images shown."""

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from progan.config.schedule import Schedule
from progan.model.networks import Generator
from progan.runs.averages import uses
from progan.runs.profiles import kept_share


class Kind(Protocol):
    """A kind of average (see `ema.kind`)."""

    def kept(self, before: int, after: int, start: int) -> float:
        """The share of the average that an update keeps.

        Args:
            before, after: images shown before the update, and with it.
            start: images shown when the weights came into use.
        """


@dataclass(frozen=True)
class HalfLife:
    """An exponential: what is `half_life` old counts half.

    Args:
        half_life: in kimg, by the images shown before an update.
        rampup: it is at most this share of the images shown; None: no such limit.
    """

    half_life: Callable[[int], float]
    rampup: float | None = None

    def kept(self, before: int, after: int, start: int) -> float:
        half_life = self.half_life(before)
        if self.rampup is not None:  # as StyleGAN2-ADA's ema_rampup
            half_life = min(half_life, self.rampup * before / 1000)
        return decay(after - before, half_life)


@dataclass(frozen=True)
class EqualWeights:
    """The weights at `start_kimg` and after each `every_kimg`, equally (Izmailov et al. 2018).

    Until then the average is the newest weights.
    """

    start_kimg: float
    every_kimg: float

    def kept(self, before: int, after: int, start: int) -> float:
        taken = self.taken(after) - self.taken(start)
        return (self.taken(before) - self.taken(start)) / taken if taken else 0.0

    def taken(self, nimg: int) -> int:
        """How often weights have been taken into the average."""
        since = nimg - round(self.start_kimg * 1000)
        return since // max(round(self.every_kimg * 1000), 1) + 1 if since >= 0 else 0


@dataclass(frozen=True)
class Power:
    """A power of the images shown, of a relative length (see `runs.profiles`)."""

    length: float

    def kept(self, before: int, after: int, start: int) -> float:
        return kept_share(self.length, before, after, start)


class Average:
    """Averaged copies of a generator, of a kind each. All samples come from the first one.

    Weights count from the image on at which they came into use: until then, and when they are no
    longer in use, their average is as it is. (The official code averages all weights always.)
    """

    def __init__(self, G: Generator, kinds: Sequence[Kind], schedule: Schedule | None = None):
        self.kinds = kinds
        self.networks = [copy.deepcopy(G).requires_grad_(False) for _ in kinds]
        self.uses = uses(G, schedule) if schedule else {}  # else all of them from the beginning

    def further(self) -> dict[str, Generator]:
        """All but the first, by their names in checkpoints: G_ema_2."""
        return {f"G_ema_{i}": network for i, network in enumerate(self.networks[1:], 2)}

    def begin(self, parameters: dict[str, nn.Parameter]) -> None:
        """Begin a phase, in which these `parameters` of the generator are in use."""
        self.parameters = list(parameters.values())
        self.starts = [self.uses.get(name, (0, 0))[0] for name in parameters]
        every = [dict(network.named_parameters()) for network in self.networks]
        self.averages = [[averages[name] for name in parameters] for averages in every]

    def update(self, before: int, after: int) -> None:
        """Follow an update of the generator. Args: images shown before it, and with it."""
        for kind, averages in zip(self.kinds, self.averages, strict=True):
            kept = {start: kind.kept(before, after, start) for start in dict.fromkeys(self.starts)}
            update(averages, self.parameters, [kept[start] for start in self.starts])


def decay(batch_size: int, half_life_kimg: float) -> float:
    """The share of the average that an update of `batch_size` images keeps.

    The official 0.999 an update is a half-life of 11.1 kimg at a batch size of 16.
    """
    return 0.5 ** (batch_size / (half_life_kimg * 1000)) if half_life_kimg else 0.0


@torch.no_grad()
def update(averages: Iterable[Tensor], parameters: Iterable[Tensor], kept: Sequence[float]) -> None:
    """`average = kept * average + (1 - kept) * parameter`, in place, all in one call."""
    torch._foreach_lerp_(list(averages), list(parameters), [1 - share for share in kept])
