"""Resolutions, powers of two from 4 to 1024, and values that depend on them."""

from collections.abc import Mapping
from typing import TypeAlias, TypeVar, overload

START_RESOLUTION = 4
MAX_RESOLUTION = 1024


def is_resolution(value: int) -> bool:
    return value in resolutions_to(MAX_RESOLUTION)


def resolutions_to(resolution: int) -> list[int]:
    """The powers of two from 4 to `resolution`, as networks, schedules and prepared data use."""
    return [2**k for k in range(2, resolution.bit_length())]


T = TypeVar("T")
ByResolution: TypeAlias = T | Mapping[int, T]
"""One value for all resolutions, or a map `{4: 128, 64: 32}`: each holds from its key upward."""


@overload  # or mypy does not see through a T that is itself a union
def at_resolution(value: Mapping[int, T], resolution: int) -> T: ...
@overload
def at_resolution(value: T, resolution: int) -> T: ...
def at_resolution(value: ByResolution[T], resolution: int) -> T:
    """The value that holds at a resolution. A map must have a key at or below it."""
    if not isinstance(value, Mapping):
        return value
    return value[max(key for key in value if key <= resolution)]


def has(values: Mapping[int, T], resolution: int) -> bool:
    """Whether a map has a value for a resolution."""
    return min(values, default=MAX_RESOLUTION + 1) <= resolution
