"""The layers of the official networks: their names and shapes, and their weights in our layout."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from progan.config.resolutions import START_RESOLUTION, resolutions_to
from progan.interop.layout import MOST_LISTED, listed, with_map
from progan.runtime.errors import UserError


class Network(NamedTuple):
    """One network of a pickle.

    Args:
        role: "G" or "D".
        options: all of `DEFAULTS`.
        variables: by the official names; `lod` among them.
        refused: options that progan's networks do not have, as texts.
        unknown: options that the official code ignores.
    """

    role: str
    options: dict[str, Any]
    variables: dict[str, np.ndarray]
    refused: list[str]
    unknown: list[str]

    @property
    def inputs(self) -> int:
        """Numbers that a generator takes: a latent, and labels."""
        latent = self.options["latent_size"] or width(self.options, START_RESOLUTION // 2)
        return latent + self.options["label_size"]


class Layer(NamedTuple):
    """A layer with weight and bias: its official name and ours, and the official weight's shape."""

    theirs: str
    ours: str
    shape: tuple[int, ...]


def width(options: dict[str, Any], resolution: int) -> int:
    """Feature maps at a resolution, as networks.py counts them; at 2 of the latent, too."""
    stage = resolution.bit_length() - 2
    maps = int(options["fmap_base"] / 2.0 ** (stage * options["fmap_decay"]))
    return min(maps, int(options["fmap_max"]))


def layers(network: Network) -> list[Layer]:
    """All layers of a network."""
    options, of_g = network.options, network.role == "G"
    full, channels = options["resolution"], options["num_channels"]
    fused = options["fused_scale"]
    found = []
    for r in resolutions_to(full):
        wide, lod = width(options, r), (full // r).bit_length() - 1
        size, block = f"{r}x{r}", f"blocks.{r}"
        rgb, image = f"{'To' if of_g else 'From'}RGB_lod{lod}", f"image_layers.{r}"
        found.append(Layer(rgb, image, (1, 1, *((wide, channels) if of_g else (channels, wide)))))
        if r == START_RESOLUTION:
            found += first_layers(network) if of_g else last_layers(options)
        elif of_g:
            ends = (wide, width(options, r // 2)) if fused else (width(options, r // 2), wide)
            name = f"{size}/Conv0_up" if fused else f"{size}/Conv0"
            found.append(Layer(name, f"{block}.conv_up", (3, 3, *ends)))
            found.append(Layer(f"{size}/Conv1", f"{block}.conv", (3, 3, wide, wide)))
        else:
            name = f"{size}/Conv1_down" if fused else f"{size}/Conv1"
            found.append(Layer(f"{size}/Conv0", f"{block}.conv", (3, 3, wide, wide)))
            found.append(Layer(name, f"{block}.conv_down", (3, 3, wide, width(options, r // 2))))
    return found


def first_layers(network: Network) -> Iterator[Layer]:
    """The generator's at 4x4."""
    wide = width(network.options, START_RESOLUTION)
    yield Layer("4x4/Dense", "blocks.4.dense", (network.inputs, 16 * wide))
    yield Layer("4x4/Conv", "blocks.4.conv", (3, 3, wide, wide))


def last_layers(options: dict[str, Any]) -> Iterator[Layer]:
    """The critic's at 4x4."""
    hidden, wide = width(options, START_RESOLUTION // 2), width(options, START_RESOLUTION)
    maps = wide + (options["mbstd_group_size"] > 1)
    yield Layer("4x4/Conv", "blocks.4.conv", (3, 3, maps, wide))
    yield Layer("4x4/Dense0", "blocks.4.dense", (16 * wide, hidden))
    yield Layer("4x4/Dense1", "blocks.4.out", (hidden, 1 + options["label_size"]))


def converted(network: Network) -> dict[str, Tensor]:
    """All variables, in our names and layouts.

    Raises:
        UserError: one is missing, unknown, or of another shape.
    """
    wanted: dict[str, tuple[int, ...]] = {"lod": ()}
    for layer in layers(network):
        wanted[f"{layer.theirs}/weight"] = layer.shape
        maps = layer.shape[2] if layer.theirs.endswith("_up") else layer.shape[-1]
        wanted[f"{layer.theirs}/bias"] = (maps // 16 if layer.theirs == "4x4/Dense" else maps,)
    check_keys(wanted, network)
    weights = {}
    for theirs, ours, _ in layers(network):
        weight, bias = (network.variables[f"{theirs}/{kind}"] for kind in ("weight", "bias"))
        dense_bias = theirs == "4x4/Dense"
        weights["blocks.4.bias" if dense_bias else f"{ours}.bias"] = tensor(bias)
        weights[f"{ours}.weight"] = tensor(turned(theirs, weight))
    if network.role == "D" and network.options["mbstd_group_size"] <= 1:
        weights["blocks.4.conv.weight"] = with_map(
            weights["blocks.4.conv.weight"], bool(network.options["use_wscale"])
        )
    return weights


def check_keys(wanted: dict[str, tuple[int, ...]], network: Network) -> None:
    """Raises UserError unless the variables are those, of those shapes."""
    found, what = network.variables, "generator" if network.role == "G" else "critic"
    missing, unknown = wanted.keys() - found.keys(), found.keys() - wanted.keys()
    shapes = [
        f"{key} is of {found[key].shape}, not {shape}"
        for key, shape in wanted.items()
        if key in found and found[key].shape != shape
    ]
    lines = [f"missing: {listed(missing)}"] if missing else []
    lines += [f"unknown: {listed(unknown)}"] if unknown else []
    lines += shapes[:MOST_LISTED]
    if (more := len(shapes) - MOST_LISTED) > 0:
        lines += [f"and {more} more of another shape"]
    if lines:
        raise UserError(
            f"the variables of its {what} are not those of its options:\n  " + "\n  ".join(lines)
        )


def turned(name: str, weight: np.ndarray) -> np.ndarray:
    """A weight in PyTorch's layout.

    Convolutions are [height, width, in, out] there. `Conv0_up` is one that the official code gives
    to a transposed convolution: [.., out, in], and turned round as a convolution after upsampling.
    """
    if weight.ndim == 2:
        return weight.T
    if name.endswith("_up"):
        return weight[::-1, ::-1].transpose(2, 3, 0, 1)
    return weight.transpose(3, 2, 0, 1)


def tensor(array: np.ndarray) -> Tensor:
    """Of its own memory: a file's arrays cannot be written to."""
    return torch.from_numpy(np.array(array, np.float32, order="C"))
