"""Tables of another project's weights: its name and shape for each of ours, and what it becomes."""

import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from progan.config.resolutions import START_RESOLUTION
from progan.runtime.errors import UserError
from progan.runtime.text import printable

MOST_LISTED = 6  # names in a message
MOST_BLOCKS = 9  # 4x4 to 1024x1024
PAPER_BASE = 16384


@dataclass(frozen=True)
class Source:
    """A tensor in another project's file.

    Args:
        name, shape: in the file.
        factor: what it is multiplied by here, as scales at run time differ.
        arrange: then this puts its axes into our order.
    """

    name: str
    shape: tuple[int, ...]
    factor: float = 1.0
    arrange: Callable[[Tensor], Tensor] | None = None


Table = dict[str, Source]  # by the name of the weight in our networks


def layer(
    ours: str, theirs: str, shape: tuple[int, ...], weight: float = 1.0, bias: float = 1.0
) -> Table:
    """A convolution or a dense layer [out, in, ...], and the factors of its weight and bias."""
    return {
        f"{ours}.weight": Source(f"{theirs}.weight", shape, weight),
        f"{ours}.bias": Source(f"{theirs}.bias", shape[:1], bias),
    }


def converted(weights: Mapping[str, Any], table: Table, what: str) -> dict[str, Tensor]:
    """The state dictionary of one of our networks, float32.

    Args:
        weights: tensors by their names in the file: exactly those of the table.
        what: the network in the file, for messages.

    Raises:
        UserError: a name is missing or unknown, or a tensor has another shape.
    """
    expected = {source.name for source in table.values()}
    wrong = {"it lacks": expected - weights.keys(), "it also has": weights.keys() - expected}
    if any(wrong.values()):
        said = "; ".join(f"{verb} {listed(names)}" for verb, names in wrong.items() if names)
        raise UserError(f"{what} has other weights than a ProGAN of that project: {said}")
    return {name: read(weights[source.name], source, what) for name, source in table.items()}


def read(value: Any, source: Source, what: str) -> Tensor:
    """A tensor of the file as it is here."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        raise UserError(f"{source.name} of {what} is no tensor of floating-point numbers")
    if tuple(value.shape) != source.shape:
        raise UserError(
            f"{source.name} of {what} has the shape {list(value.shape)}; with the widths of its "
            f"other layers it should be {list(source.shape)}"
        )
    tensor = value.detach().double() * source.factor
    return (source.arrange(tensor) if source.arrange else tensor).float().contiguous()


def renamed(weights: Any, rename: Callable[[str], str], what: str) -> dict[str, Any]:
    """Weights by their names without what changes from file to file.

    Raises:
        UserError: there are none, or two of them get the same name.
    """
    if not isinstance(weights, dict):
        raise UserError(f"{what} has no weights where they should be")
    return unique(((rename(str(name)), weight) for name, weight in weights.items()), what)


def unique(pairs: Iterable[tuple[str, Any]], what: str) -> dict[str, Any]:
    """Weights by name. Raises UserError if a name stands for two of them."""
    found: dict[str, Any] = {}
    for name, weight in pairs:
        if name in found:
            raise UserError(f"{what} has two weights that are called {listed([name])}")
        found[name] = weight
    return found


def shape_of(weights: Mapping[str, Any], name: str, axes: int, what: str) -> tuple[int, ...]:
    """The shape of a weight, from which sizes of a network are read: none is 0.

    Raises:
        UserError: it is not there, has another number of axes, or no numbers.
    """
    weight = weights.get(name)
    if not isinstance(weight, Tensor) or weight.ndim != axes or not weight.numel():
        raise UserError(f"{what} lacks {name}, a tensor of {axes} axes")
    return tuple(weight.shape)


def widths_of(weights: Mapping[str, Any], to_rgb: str, what: str) -> dict[int, int]:
    """Channels by resolution, as the layers to RGB take them: [colours, channels, 1, 1].

    Args:
        to_rgb: their names, with {} for the number, 0 at 4x4.

    Raises:
        UserError: one is missing, or they go beyond 1024x1024.
    """
    numbered = re.compile(re.escape(to_rgb.partition("{}")[0]) + r"([0-9]{1,3})\.")
    last = max((int(match[1]) for name in weights if (match := numbered.match(name))), default=0)
    if last >= MOST_BLOCKS:
        raise UserError(f"{what} has {to_rgb.format(last)}; progan goes to 1024x1024")
    return {
        START_RESOLUTION << k: shape_of(weights, to_rgb.format(k), 4, what)[1]
        for k in range(last + 1)
    }


def listed(names: Collection[str]) -> str:
    """The first names in a message, and how many more there are."""
    shown = [printable(str(name))[:100] for name in sorted(names)[:MOST_LISTED]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def width_settings(widths: Mapping[int, int], hidden: int | None = None) -> dict[str, Any]:
    """Settings of `NetworkConfig` for widths by resolution: by the paper's rule, if one fits.

    Args:
        hidden: features of the critic's hidden layer; None: as many as at 4x4.
    """
    most = widths[START_RESOLUTION]
    hidden = hidden or most
    for base in (PAPER_BASE, *(width * r for r, width in widths.items())):
        rule = {r: min(base // r, most) for r in widths}
        if rule == dict(widths) and base <= 2**20:
            own = {} if hidden == min(base // 2, most) else {"conventions": {"hidden": hidden}}
            return {"channel_base": base, "channel_max": most, **own}
    return {"conventions": {"widths": dict(widths), "hidden": hidden}}


def with_map(weight: Tensor, equalized: bool) -> Tensor:
    """A critic's 4x4 convolution that has no map of minibatch stddev: its weights are zero here.

    The layer's scale follows from the number of maps, so the others are corrected for it.
    """
    maps = weight.shape[1]
    scale = math.sqrt((maps + 1) / maps) if equalized else 1.0
    return torch.cat([weight * scale, torch.zeros_like(weight[:, :1])], dim=1)
