"""The types of settings' values: numbers with limits, maps by resolution, ramps."""

import re
from typing import Annotated, Any, Literal, Union

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
)

from progan.config.metric_names import named, parse
from progan.config.resolutions import MAX_RESOLUTION, START_RESOLUTION

LIMIT = 10**9  # beyond any use, and sums and products of such numbers stay finite
Positive = Annotated[float, Field(gt=0, le=LIMIT)]
NotNegative = Annotated[float, Field(ge=0, le=LIMIT)]
Share = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1, le=LIMIT)]


def check_power_of_two(value: int) -> int:
    if value & (value - 1):
        below = 2 ** (value.bit_length() - 1)
        raise ValueError(f"must be a power of two, for example {below} or {min(2 * below, 1024)}")
    return value


def null_is_auto(value: Any) -> Any:
    """Runs begun before `auto` had a name have null."""
    return "auto" if value is None else value


def check_distinct(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise ValueError("must name each kind once")
    return names


def check_device(name: str) -> str:
    """That it can be one's name; whether it is there only torch can tell."""
    if not re.fullmatch(r"auto|cpu|mps|(cuda|xpu)(:\d{1,3})?", name):
        raise ValueError("must be auto, cpu, cuda, cuda:1 (any number), mps or xpu")
    return name


def check_box(value: list[int]) -> list[int]:
    if len(value) != 3 or min(value) < 0 or value[2] < START_RESOLUTION:
        raise ValueError("must be crop, pad or [x, y, size] in pixels")
    return value


def ticks(value: Any) -> Any:
    """`"every 10 ticks"` -> 10; what is no such text stays what it is."""
    if type(value) is not str:
        return value
    match = re.fullmatch(r"every (?:(\d{1,9}) ticks?|tick)", value)
    if not match:
        raise ValueError("must be such as every 10 ticks, or 10")
    return int(match[1] or 1)


def to_metrics(value: Any) -> Any:
    """Raises ValueError where somebody gives names alone."""
    if not isinstance(value, dict):
        raise ValueError("must say how often: {swd16k: every 10 ticks, msssim10k: every 50 ticks}")
    return value


def check_metrics(metrics: dict[str, int]) -> dict[str, int]:
    """By the names under which they are told."""
    told = {named(*parse(name)): every for name, every in metrics.items()}
    if len(told) < len(metrics):
        raise ValueError("must name each metric once")
    return told


Metrics = Annotated[
    dict[str, Annotated[Count, BeforeValidator(ticks)]],
    BeforeValidator(to_metrics),
    AfterValidator(check_metrics),
]
Device = Annotated[str, AfterValidator(check_device)]
Width = Annotated[int, Field(ge=1, le=2**14)]
Resolution = Annotated[
    int, Field(ge=START_RESOLUTION, le=MAX_RESOLUTION), AfterValidator(check_power_of_two)
]


class Section(BaseModel):
    """A part of a config: nothing unknown, nothing converted, nothing changed."""

    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False
    )


class RampConfig(Section):
    """A learning rate over one phase."""

    start: Positive = Field(description="rate at the phase's first image")
    end: Positive = Field(description="rate at its last image")
    decay: Literal["linear", "cosine", "exponential", "polynomial"] = Field(
        "linear", description="linear, cosine, exponential or polynomial"
    )
    power: Positive = Field(2.0, description="power of the polynomial")


def kind_of(value: Any) -> str:
    """Which alternative of `by_resolution` is meant, so that an error speaks of that one only."""
    if isinstance(value, RampConfig):
        return "ramp"
    if not isinstance(value, dict):
        return "value"
    return "ramp" if any(isinstance(key, str) for key in value) else "map"


Ramped = Annotated[RampConfig, Tag("ramp")]
Rate = Annotated[Annotated[Positive, Tag("value")] | Ramped, Discriminator(kind_of)]


def by_resolution(kind: Any, *also: Any) -> Any:
    """One value, or a map from resolutions to values, each holding from its key upward."""
    value = Annotated[kind, Tag("value")]
    by_map = Annotated[dict[Resolution, Rate if also else kind], Tag("map")]
    return Annotated[Union[(value, by_map, *also)], Discriminator(kind_of)]


Fit = Annotated[
    Annotated[Literal["crop", "pad"], Tag("value")]
    | Annotated[list[int], AfterValidator(check_box), Tag("list")],
    Discriminator(lambda value: "list" if isinstance(value, list) else "value"),
]
