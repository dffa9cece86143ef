"""Shapes of values over training: ramps, and the cycles of rates and momenta that are made of them.

A shape is a function of the share of images shown, of a phase or of the run, in [0, 1].
"""

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Discriminator, Field, Tag, WithJsonSchema, model_validator

from progan.config.resolutions import at_resolution
from progan.config.value_types import (
    LIMIT,
    Count,
    Map,
    NotNegative,
    Positive,
    Section,
    Share,
    kind_of,
)


class Ramp(Section):
    """A value that goes from `start` to `end`."""

    start: NotNegative = Field(description="value at the first image")
    end: NotNegative = Field(0.0, description="value at the last image")
    decay: Literal["linear", "cosine", "exponential", "polynomial"] = Field(
        "linear", description="shape of the ramp"
    )
    power: Positive = Field(2.0, description="power of the polynomial")
    over: Literal["phase", "run"] = Field(
        "phase", description="what its first and last image are those of"
    )

    @model_validator(mode="after")
    def exponentials_are_positive(self) -> "Ramp":
        if self.decay == "exponential" and not min(self.start, self.end) > 0:
            raise ValueError("an exponential ramp needs a start and an end above 0")
        return self

    def at(self, progress: float) -> float:
        """The value at a share in [0, 1] of its images."""
        return DECAYS[self.decay](self, progress)


DECAYS: dict[str, Callable[[Ramp, float], float]] = {
    "linear": lambda r, p: r.start + (r.end - r.start) * p,
    "cosine": lambda r, p: r.end + (r.start - r.end) * (1 + math.cos(math.pi * p)) / 2,
    "exponential": lambda r, p: r.start * (r.end / r.start) ** p,
    "polynomial": lambda r, p: r.end + (r.start - r.end) * (1 - p) ** r.power,
}


@dataclass(frozen=True)
class Pieces:
    """Ramps that follow each other; `ends` are where each ends, the last at 1."""

    ramps: tuple[Ramp, ...]
    ends: tuple[float, ...]

    def at(self, progress: float) -> float:
        """The value at a share in [0, 1] of all images; at a boundary, that of the next ramp."""
        i = bisect_right(self.ends[:-1], progress)
        begin = self.ends[i - 1] if i else 0.0
        return self.ramps[i].at((progress - begin) / (self.ends[i] - begin))


Shape = float | Ramp | Pieces


def pieces(*parts: tuple[float, float, float, str]) -> Pieces:
    """Pieces of (length, start, end, decay), of any total length; those of no length left out."""
    kept = [part for part in parts if part[0] > 0]
    total = math.fsum(length for length, *_ in kept)
    ends = [end / total for end in accumulate(length for length, *_ in kept)]
    ramps = tuple(Ramp(start=a, end=b, decay=decay) for _, a, b, decay in kept)  # type: ignore[arg-type]
    return Pieces(ramps, (*ends[:-1], 1.0))


class Sgdr(Section):
    """Warm restarts: rates that fall to 0 by a cosine again and again (Loshchilov & Hutter 2017).

    As in the fast.ai course the first twentieth of the first cycle has a hundredth of the rate.
    """

    rate: Positive = Field(description="learning rate at the beginning of each cycle")
    cycles: Count = Field(1, le=1000, description="number of cycles")
    length: Positive | None = Field(
        None, description="kimg of the first cycle; null: such that the cycles fill their images"
    )
    mult: Positive = Field(1.0, le=100, description="how many times as long each next cycle is")

    @model_validator(mode="after")
    def cycles_are_comparable(self) -> "Sgdr":
        if abs(math.log(self.mult)) * (self.cycles - 1) > math.log(LIMIT):
            raise ValueError(
                f"the longest cycle would be more than {LIMIT:,} times the shortest: give fewer "
                "cycles, or a mult nearer to 1"
            )
        return self

    def rates(self) -> Pieces:
        cosines = [(self.mult**i, self.rate, 0.0, "cosine") for i in range(1, self.cycles)]
        return pieces(
            (1 / 20, self.rate / 100, self.rate / 100, "linear"),
            (19 / 20, self.rate, 0.0, "cosine"),
            *cosines,
        )

    def momenta(self) -> None:
        """It has none of its own."""

    def kimg(self) -> float | None:
        """Length of all cycles, if it is given."""
        if self.length is None:
            return None
        return self.length * math.fsum(self.mult**i for i in range(self.cycles))


class OneCycle(Section):
    """One cycle: the rate rises, falls, and falls on to nearly nothing (Smith 2018).

    Momentum, which is beta1 of Adam, falls while the rate rises, and the reverse.
    """

    rate: Positive = Field(description="highest learning rate")
    div: float = Field(10.0, ge=1, le=LIMIT, description="highest rate over the first one")
    pct: float = Field(
        10.0, ge=0, lt=100, description="percent of the images in which the rate falls on at last"
    )
    momentum_max: Share | None = Field(
        None, description="momentum at the first, at the last and at low rates; null: unchanged"
    )
    momentum_min: Share | None = Field(None, description="momentum at the highest rate")

    @model_validator(mode="after")
    def momenta_come_in_pairs(self) -> "OneCycle":
        if (self.momentum_max is None) != (self.momentum_min is None):
            raise ValueError("momentum_max and momentum_min come together")
        return self

    def rates(self) -> Pieces:
        half, low = (100 - self.pct) / 2, self.rate / self.div
        return pieces(
            (half, low, self.rate, "linear"),
            (half, self.rate, low, "linear"),
            (self.pct, low, low / 100, "linear"),
        )

    def momenta(self) -> Pieces | None:
        high, low = self.momentum_max, self.momentum_min
        if high is None or low is None:
            return None
        half = (100 - self.pct) / 2
        return pieces(
            (half, high, low, "linear"),
            (half, low, high, "linear"),
            (self.pct, high, high, "linear"),
        )

    def kimg(self) -> None:
        """It fills its images."""


INNER = WithJsonSchema({"format": "{rate: …, …}"})


class Cycles(Section):
    """Cycles of the learning rate, in place of learning_rate: one kind of them."""

    sgdr: Annotated[Sgdr, INNER] | None = Field(None, description="warm restarts")
    one_cycle: Annotated[OneCycle, INNER] | None = Field(
        None, description="one cycle, from low rates to high ones and back"
    )

    @model_validator(mode="after")
    def are_of_one_kind(self) -> "Cycles":
        if (self.sgdr is None) == (self.one_cycle is None):
            raise ValueError("give sgdr: {rate: …} or one_cycle: {rate: …}")
        return self

    @property
    def kind(self) -> Sgdr | OneCycle:
        return self.sgdr or self.one_cycle  # type: ignore[return-value]


# Types of settings' values: one for all images, a ramp, or one of these by resolution.

T = TypeVar("T")
RAMP = WithJsonSchema({"format": "a ramp"})
RampOf = Annotated[Ramp, Tag("ramp"), RAMP]
Varying = Annotated[Annotated[T, Tag("value")] | RampOf, Discriminator(kind_of)]
VaryingByResolution = Annotated[
    Annotated[T, Tag("value")] | Map[Varying[T]] | RampOf, Discriminator(kind_of)
]


def check_shares(value: Any) -> Any:
    """The ramps of a value that must stay below 1, as moments do."""
    ramps = value.values() if isinstance(value, dict) else [value]
    if any(isinstance(ramp, Ramp) and max(ramp.start, ramp.end) >= 1 for ramp in ramps):
        raise ValueError("start and end must be below 1")
    return value


Shares = Annotated[VaryingByResolution[Share], AfterValidator(check_shares)]
ShareInPhase = Annotated[Varying[Share], AfterValidator(check_shares)]


def check_up_to_one(value: Any) -> Any:
    """The ramps of a value that may be 1, as probabilities may."""
    ramps = value.values() if isinstance(value, dict) else [value]
    if any(isinstance(ramp, Ramp) and max(ramp.start, ramp.end) > 1 for ramp in ramps):
        raise ValueError("start and end must be at most 1")
    return value


UpToOne = Annotated[
    VaryingByResolution[Annotated[float, Field(ge=0, le=1)]], AfterValidator(check_up_to_one)
]


class Pair(Section):
    """Learning rates of generator and critic."""

    G: VaryingByResolution[Positive] = Field(description="learning rate of the generator")
    D: VaryingByResolution[Positive] = Field(description="learning rate of the critic")


PAIR = WithJsonSchema({"format": "{G: …, D: …} of these"})
Rates = Annotated[
    Annotated[Positive, Tag("value")]
    | Map[Varying[Positive]]
    | RampOf
    | Annotated[Pair, Tag("pair"), PAIR],
    Discriminator(kind_of),
]


def maps_in(value: Any) -> list[dict[int, Any]]:
    """The maps by resolution in a setting's value."""
    values = [value.G, value.D] if isinstance(value, Pair) else [value]
    return [each for each in values if isinstance(each, dict)]


def rate_of(rates: Rates, network: str, resolution: int) -> float | Ramp:
    """The learning rate of a network, G or D, at a resolution."""
    if isinstance(rates, Pair):
        rates = rates.G if network == "G" else rates.D
    return at_resolution(rates, resolution)
