"""Types of settings' values: numbers with limits, maps by resolution.

A type whose limits its JSON schema cannot express says them in `format`, for `reference.py`.
"""

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
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
    """Older runs have null for `auto`."""
    return "auto" if value is None else value


def none_is_null(value: Any) -> Any:
    return None if value == "none" else value


def check_distinct(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise ValueError("must name each kind once")
    return names


DEVICES = "auto, cpu, cuda, cuda:1 (any number), mps or xpu"


def check_device(name: str) -> str:
    """The name in lower case, if it can be a device's. Only torch knows whether it is there."""
    name = name.lower()
    if not re.fullmatch(r"auto|cpu|mps|(cuda|xpu)(:[0-9]{1,3})?", name):
        raise ValueError(f"must be {DEVICES}")
    return name


COLOURS = "white, black or '#rrggbb'"


def check_colour(name: str) -> str:
    """`white`, `black` or `#rrggbb`, one spelling for each colour."""
    name = name.lower()
    name = {"#ffffff": "white", "#000000": "black"}.get(name, name)
    if name not in ("white", "black") and not re.fullmatch("#[0-9a-f]{6}", name):
        raise ValueError(f"must be {COLOURS}")
    return name


def check_box(value: list[int]) -> list[int]:
    if len(value) != 3 or min(value) < 0 or value[2] < START_RESOLUTION:
        raise ValueError("must be crop, pad or [x, y, size] in pixels")
    return value


def ticks(value: Any) -> Any:
    """`"every 10 ticks"` -> 10. Values that are no text are returned unchanged."""
    if type(value) is not str:
        return value
    match = re.fullmatch(r"every (?:(\d{1,9}) ticks?|tick)", value)
    if not match:
        raise ValueError("must be a number of ticks, such as 10 or every 10 ticks")
    return int(match[1] or 1)


def to_metrics(value: Any) -> Any:
    """Refuses metrics' names without intervals; an empty list, null and none are no metrics."""
    if value in (None, [], "none"):
        return {}
    if not isinstance(value, dict):
        raise ValueError("must say how often: {swd16k: every 10 ticks, msssim10k: every 50 ticks}")
    return value


def check_metrics(metrics: dict[str, int]) -> dict[str, int]:
    """Metrics by their canonical names."""
    canonical = {named(*parse(name)): every for name, every in metrics.items()}
    if len(canonical) < len(metrics):
        raise ValueError("must name each metric once")
    return canonical


Metrics = Annotated[
    dict[str, Annotated[Count, BeforeValidator(ticks)]],
    BeforeValidator(to_metrics),
    AfterValidator(check_metrics),
    WithJsonSchema({"format": "a map from metrics to ticks, or null"}),
]
Colour = Annotated[str, AfterValidator(check_colour), WithJsonSchema({"format": COLOURS})]
Device = Annotated[
    str,
    BeforeValidator(lambda value: str(value) if type(value) is int else value),  # for its message
    AfterValidator(check_device),
    WithJsonSchema({"format": DEVICES}),
]
MOST_WIDTH = 2**14  # of a layer and a latent
Width = Annotated[int, Field(ge=1, le=MOST_WIDTH)]
Resolution = Annotated[
    int,
    Field(ge=START_RESOLUTION, le=MAX_RESOLUTION),
    AfterValidator(check_power_of_two),
    WithJsonSchema({"format": f"a power of two from {START_RESOLUTION} to {MAX_RESOLUTION}"}),
]


class Section(BaseModel):
    """A part of a config: refuses unknown keys, converts nothing, cannot be changed."""

    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False
    )


def fields_in(model: type[Section], prefix: str = "") -> Iterator[tuple[str, type[Section], str]]:
    """`section.key`, the section and the field's name of each setting, sections within included."""
    for name, field in model.model_fields.items():
        if isinstance(field.default, Section):
            yield from fields_in(type(field.default), f"{prefix}{name}.")
        else:
            yield prefix + name, model, name


def kind_of(value: Any) -> str:
    """The tag of the alternative that is meant, so that an error is about that one only."""
    if isinstance(value, Section):
        return type(value).__name__.lower()
    if not isinstance(value, dict):
        return "value"
    if value and value.keys() <= {"G", "D"}:
        return "pair"
    texts = sum(isinstance(key, str) for key in value)
    return "map" if not texts else "ramp" if texts == len(value) else "mixed"


T = TypeVar("T")
Map = Annotated[dict[Resolution, T], Tag("map"), WithJsonSchema({"format": "a map by resolution"})]
PerResolution = Annotated[Annotated[T, Tag("value")] | Map[T], Discriminator(kind_of)]
"""One value, or a map from resolutions to values, each holding from its key upward."""

Fit = Annotated[
    Annotated[Literal["crop", "pad"], Tag("value")]
    | Annotated[
        list[int],
        AfterValidator(check_box),
        Tag("list"),
        WithJsonSchema({"format": "[x, y, size] in pixels"}),
    ],
    Discriminator(lambda value: "list" if isinstance(value, list) else "value"),
]
