"""Networks of pro_gan_pytorch (akanimax, MIT): `.bin` files of version 3, weights of version 2.

Facts of its code at 6206613 (3.4) and 126a953 (2.0). Its layers compute W x · √2 / √fan_in + b, as
most of ours do; to_rgb and the score's layer have gain 1 here, the first layer √2 / 4. No pixel
norm follows the first layer. Neither version says how far a network has grown.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from progan.config.resolutions import START_RESOLUTION
from progan.interop.imported import Imported, names_among, shown
from progan.interop.layout import (
    Source,
    Table,
    converted,
    layer,
    renamed,
    shape_of,
    width_settings,
    widths_of,
)
from progan.model.layers import SQRT2
from progan.runtime.errors import UserError

KIND = "progan-pth"
WHAT = "this file of pro_gan_pytorch"
TO_RGB = "rgb_converters.{}.weight"


def recognize(content: Any) -> bool:
    """Whether a file's content is that of a network of pro_gan_pytorch."""
    if not isinstance(content, dict):
        return False
    names = {str(name).removeprefix("module.") for name in content}
    parts = [part for part in content.values() if isinstance(part, dict)]
    return any(name.startswith(("initial_block.", "final_block.")) for name in names) or any(
        {"conf", "state_dict"} <= part.keys() for part in parts
    )


def convert(content: dict[str, Any], labels: int | None = None) -> Imported:
    """The networks in a file, in our names and our scale.

    Args:
        labels: that a generator of version 2 takes, which its file does not tell; None: 0.

    Raises:
        UserError: it holds no generator, or a network that we cannot compute.
    """
    if any(isinstance(part, dict) for part in content.values()):
        if labels is not None:
            raise UserError("generators of version 3 take no labels; leave out --labels")
        return convert_3(content)
    return convert_2(plain(content), labels)


def convert_2(weights: dict[str, Any], labels: int | None) -> Imported:
    """The generator in a file of version 2."""
    if any(name.startswith("final_block.") for name in weights):
        raise UserError(
            f"{WHAT} holds a critic alone; import the generator's file beside it: "
            "GAN_GEN_SHADOW_N.pth, or GAN_GEN_N.pth where there is none"
        )
    widths = widths_of(weights, TO_RGB, WHAT)
    inputs = shape_of(weights, "initial_block.conv_1.weight", 4, WHAT)[0]
    names = names_among(inputs, labels or 0)
    equalized = is_equalized(weights)
    G = generator(weights, widths, inputs, 3, equalized, len(names))
    it = imported(
        {"G_ema": G},
        widths,
        inputs - len(names),
        channels=3,
        equalized=equalized,
        notes=[
            "The file does not say whether weights are scaled at run time (use_eql). By their "
            f"size, they are{'' if equalized else ' not'}.",
            "Version 2 keeps the critic in another file, without an activation after from_rgb that "
            "ours has, so it is left out.",
            "Version 2 trains on latents as they are drawn, and its scripts draw images of "
            "normalized ones; progan normalizes them always.",
            *[
                "The file does not say whether latents begin with labels, as in its "
                "ConditionalProGAN. If they do, say how many by --labels; else images are of none."
            ]
            * (labels is None),
        ],
    )
    if not names:
        return it
    it.network["conventions"]["label_norm"] = False
    return replace(it, labels=names, label_kind="classes")


def convert_3(content: dict[str, Any]) -> Imported:
    """The networks in a file of version 3."""
    parts = {"G_ema": "shadow_generator", "G": "generator"}
    parts = {ours: theirs for ours, theirs in parts.items() if theirs in content}
    if not parts:
        raise UserError(f"{WHAT} holds no generator (generator or shadow_generator)")
    if "G_ema" not in parts:
        parts = {"G_ema": "generator"}
    live = part_of(content, parts["G_ema"])
    equalized, state = live["conf"].get("use_eql"), live["state_dict"]
    widths = widths_of(state, TO_RGB, WHAT)
    z_dim = shape_of(state, "layers.0.conv_1.weight", 4, WHAT)[0]
    channels = shape_of(state, TO_RGB.format(0), 4, WHAT)[0]
    if type(equalized) is not bool:
        raise UserError(f"use_eql in {WHAT} is {shown(equalized)}; it must be True or False")
    weights = {
        ours: generator(part_of(content, theirs)["state_dict"], widths, z_dim, channels, equalized)
        for ours, theirs in parts.items()
    }
    notes = []
    if "shadow_generator" not in content:
        notes.append("The file has no average of the generator, so the live one stands for it.")
    hidden = None
    if "discriminator" in content:
        critic = part_of(content, "discriminator")
        if reason := why_not(critic):
            notes.append(f"The critic is left out: {reason}.")
        else:
            state, what = critic["state_dict"], f"the discriminator of {WHAT}"
            hidden = shape_of(state, f"layers.{len(widths) - 1}.conv_2.weight", 4, what)[0]
            weights["D"] = converted(state, critic_table(widths, hidden, channels, equalized), what)
    return imported(weights, widths, z_dim, channels, equalized, notes, hidden)


def imported(
    weights: dict[str, dict[str, Tensor]],
    widths: dict[int, int],
    z_dim: int,
    channels: int,
    equalized: bool,
    notes: list[str],
    hidden: int | None = None,
) -> Imported:
    """What both versions give."""
    settings = width_settings(widths, hidden)
    conventions = settings.pop("conventions", {}) | {"start_norm": False}
    network = {
        "resolution": max(widths),
        "channels": channels,
        "z_dim": z_dim,
        "fused_scale": False,
        "equalized": equalized,
        "conventions": conventions,
    }
    resolution = reached(weights["G_ema"], widths)
    unsaid = (
        f"The file does not say how far the network has grown. {resolution}x{resolution} is the "
        "highest resolution whose layer to RGB has a bias other than 0; it is taken to be stable "
        "there."
    )
    return Imported(
        kind=KIND,
        network=settings | network,
        resolution=resolution,
        alpha=None,
        weights=weights,
        notes=(unsaid, *notes),
    )


def reached(generator: Mapping[str, Tensor], widths: Mapping[int, int]) -> int:
    """The resolution that a generator has grown to: above it, biases are 0 as at the start."""
    used = {r for r in widths if generator[f"image_layers.{r}.bias"].any()}
    return max(used or widths)


def is_equalized(weights: Mapping[str, Any]) -> bool:
    """Whether weights of version 2, which keeps no settings, are scaled at run time.

    Then they are drawn from N(0, 1); else from U(-1, 1) / √fan_in, torch's default. So their root
    mean square times √fan_in is √fan_in or √(1/3); the limit lies between.
    """
    weight = weights.get("initial_block.conv_2.weight")
    if not isinstance(weight, Tensor) or weight.ndim != 4:
        return True  # the table says what is wrong
    fan_in = weight[0].numel()
    return bool(weight.float().square().mean().sqrt() > fan_in**-0.25)


def part_of(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The settings and weights of a network in a file of version 3."""
    part = content.get(name)
    if not isinstance(part, dict) or not all(
        isinstance(part.get(key), dict) for key in ("conf", "state_dict")
    ):
        raise UserError(f"{name} in {WHAT} has no settings (conf) and weights (state_dict)")
    return {"conf": part["conf"], "state_dict": plain(part["state_dict"])}


def why_not(critic: Mapping[str, Any]) -> str:
    """Why a critic of version 3 cannot be ours; nothing if it can."""
    if critic["conf"].get("num_classes") is not None:
        return "it takes labels by projection, which progan's does not have"
    if "from_rgb.0.weight" in critic["state_dict"]:
        return "it is of an early version 3, without the activation after from_rgb"
    return ""


def plain(weights: Mapping[str, Any]) -> dict[str, Any]:
    """A state dictionary without the prefix of several GPUs."""
    return renamed(weights, lambda name: name.removeprefix("module."), WHAT)


def generator(
    weights: Mapping[str, Any],
    widths: Mapping[int, int],
    inputs: int,
    channels: int,
    equalized: bool,
    labels: int = 0,
) -> dict[str, Tensor]:
    """A generator of either version, converted.

    Args:
        inputs: latents and labels together.
        labels: with which its inputs begin; ours come last.
    """
    version_2 = any(name.startswith("initial_block.") for name in weights)
    block = "initial_block" if version_2 else "layers.0"
    first = widths[START_RESOLUTION]
    table: Table = {
        # A transposed convolution of one pixel: [in, out, y, x]; ours is dense, [(out, y, x), in].
        "blocks.4.dense.weight": Source(
            f"{block}.conv_1.weight",
            (inputs, first, START_RESOLUTION, START_RESOLUTION),
            4 if equalized else 1,
            lambda weight: weight.flatten(1).T.roll(-labels, dims=1),
        ),
        "blocks.4.bias": Source(f"{block}.conv_1.bias", (first,)),
        **layer("blocks.4.conv", f"{block}.conv_2", (first, first, 3, 3)),
    }
    for k, (r, width) in enumerate(widths.items()):
        if k:
            theirs = f"layers.{k - version_2}"
            table |= layer(f"blocks.{r}.conv_up", f"{theirs}.conv_1", (width, widths[r // 2], 3, 3))
            table |= layer(f"blocks.{r}.conv", f"{theirs}.conv_2", (width, width, 3, 3))
        factor = SQRT2 if equalized else 1
        shape = (channels, width, 1, 1)
        table |= layer(f"image_layers.{r}", f"rgb_converters.{k}", shape, factor)
    return converted(weights, table, f"the generator of {WHAT}")


def critic_table(widths: Mapping[int, int], hidden: int, channels: int, equalized: bool) -> Table:
    """Where each weight of the critic comes from; their lists begin at the highest resolution."""
    last, first = len(widths) - 1, widths[START_RESOLUTION]
    dense = Source(
        f"layers.{last}.conv_2.weight",
        (hidden, first, START_RESOLUTION, START_RESOLUTION),
        arrange=lambda weight: weight.flatten(1),
    )
    out = Source(
        f"layers.{last}.conv_3.weight",
        (1, hidden, 1, 1),
        SQRT2 if equalized else 1,
        lambda weight: weight.flatten(1),
    )
    table = {
        **layer("blocks.4.conv", f"layers.{last}.conv_1", (first, first + 1, 3, 3)),
        "blocks.4.dense.weight": dense,
        "blocks.4.dense.bias": Source(f"layers.{last}.conv_2.bias", (hidden,)),
        "blocks.4.out.weight": out,
        "blocks.4.out.bias": Source(f"layers.{last}.conv_3.bias", (1,)),
    }
    for k, (r, width) in enumerate(widths.items()):
        if k:
            theirs, shape = f"layers.{last - k}", (widths[r // 2], width, 3, 3)
            table |= layer(f"blocks.{r}.conv", f"{theirs}.conv_1", (width, width, 3, 3))
            table |= layer(f"blocks.{r}.conv_down", f"{theirs}.conv_2", shape)
        shape = (width, channels, 1, 1)
        table |= layer(f"image_layers.{r}", f"from_rgb.{last - k}.0", shape)
    return table
