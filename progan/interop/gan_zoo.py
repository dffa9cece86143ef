"""Networks of pytorch_GAN_zoo (facebookresearch, BSD-3): files of its `PGAN`.

Facts of its code at b75dee4. A layer computes (W x + b) · c with c = √(2 / fan_in), the bias
included; ours W x · gain / √fan_in + b. So W becomes W · √2 / gain, and b becomes c · b. In its
first layer that is one bias for each channel and position.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from progan.config.resolutions import START_RESOLUTION
from progan.config.value_types import MOST_WIDTH
from progan.interop.imported import Imported, shown
from progan.interop.layout import (
    Table,
    converted,
    layer,
    renamed,
    width_settings,
    with_map,
)
from progan.interop.pickles import Stub
from progan.model.layers import LEAKY_SLOPE, SQRT2
from progan.runtime.errors import UserError

KIND = "zoo"
WHAT = "this file of pytorch_GAN_zoo"
MOST_SCALES = 8  # above 4x4: 1024x1024
TANH = {"WGANGP": "linear", "Logistic": "linear", "MSE": "tanh", "DCGAN": "tanh"}  # by its loss


def recognize(content: Any) -> bool:
    """Whether a file's content is that of a network of pytorch_GAN_zoo, a ProGAN or another."""
    return isinstance(content, dict) and {"config", "netG"} <= content.keys()


def convert(content: dict[str, Any]) -> Imported:
    """The networks in a file, in our names and our scale.

    Raises:
        UserError: it holds another network than a ProGAN, or one that we cannot compute.
    """
    generator = plain(content["netG"])
    if not any(name.startswith("formatLayer.") for name in generator):
        raise UserError(f"{WHAT} holds a StyleGAN or a DCGAN; progan reads its ProGANs (PGAN)")
    config = fields_of(content["config"])
    widths = widths_of(config)
    labels, kind = labels_of(config)
    network = settings_of(config, widths)
    channels, equalized = network["channels"], network["equalized"]
    stddev = network["stddev_group"] > 1
    table = generator_table(widths, network["z_dim"] + len(labels), channels, equalized)
    names = {"G_ema": "avgG", "G": "netG"} if "avgG" in content else {"G_ema": "netG"}
    weights = {
        ours: converted(plain(content[theirs]), table, f"{theirs} of {WHAT}")
        for ours, theirs in names.items()
    }
    if "netD" in content:
        table = critic_table(widths, len(labels), channels, equalized, stddev)
        critic = converted(plain(content["netD"]), table, f"netD of {WHAT}")
        weights["D"] = completed(critic, bool(labels), stddev, equalized)
    return Imported(
        kind=KIND,
        network=network,
        resolution=network["resolution"],
        alpha=alpha_of(config),
        weights=weights,
        labels=labels,
        label_kind=kind,
        notes=tuple(notes_on(content, labels, kind)),
    )


def settings_of(config: Mapping[str, Any], widths: Mapping[int, int]) -> dict[str, Any]:
    """Settings of `NetworkConfig`."""
    settings = width_settings(widths)
    return settings | {
        "resolution": max(widths),
        "channels": count(config, "dimOutput"),
        "z_dim": count(config, "noiseVectorDim"),
        "fused_scale": False,
        "equalized": config.get("equalizedlR", True) is True,
        "stddev_group": 4 if config.get("miniBatchStdDev", True) is True else 1,
        "conventions": settings.get("conventions", {})
        | {
            "start_bias": "position",
            "stddev_variance": "unbiased",
            "first_fade": False,
            "output": output_of(config),
        },
    }


def alpha_of(config: Mapping[str, Any]) -> float | None:
    """Of the new path; in the file stands the weight of the old one."""
    old = config.get("alpha", 0)
    if type(old) not in (int, float) or not 0 <= old <= 1:
        raise UserError(f"alpha in the config of {WHAT} is {shown(old)}; it must be from 0 to 1")
    return 1 - old if old else None


def fields_of(config: Any) -> dict[str, Any]:
    """The settings in a file, if they are a ProGAN's."""
    fields = config.state if isinstance(config, Stub) else config
    if not isinstance(fields, dict):
        raise UserError(f"the config of {WHAT} holds no settings")
    if fields.get("perChannelNormalization") is False:
        raise UserError(
            f"{WHAT} has perChannelNormalization=False; its code cannot run that either"
        )
    slope = fields.get("leakyReluLeak", LEAKY_SLOPE)
    if slope != LEAKY_SLOPE:
        raise UserError(f"{WHAT} has leakyReluLeak={shown(slope)}; progan has {LEAKY_SLOPE} only")
    return fields


def count(fields: Mapping[str, Any], name: str) -> int:
    """A size in the settings of a file."""
    value = fields.get(name)
    if type(value) is not int or not 1 <= value <= MOST_WIDTH:
        raise UserError(
            f"{name} in the config of {WHAT} is {shown(value)}; it must be from 1 to {MOST_WIDTH:,}"
        )
    return value


def widths_of(fields: Mapping[str, Any]) -> dict[int, int]:
    """Channels by resolution, of the resolutions that the networks have reached."""
    others = fields.get("depthOtherScales")
    if not isinstance(others, list) or len(others) > MOST_SCALES:
        raise UserError(
            f"depthOtherScales in the config of {WHAT} is no list of widths to 1024x1024"
        )
    named = {"depthScale0": fields.get("depthScale0")} | {
        f"depthOtherScales[{k}]": width for k, width in enumerate(others)
    }
    return {START_RESOLUTION << k: count(named, name) for k, name in enumerate(named)}


def output_of(fields: Mapping[str, Any]) -> str:
    """The function at the end of the generator, which their loss decides."""
    loss = fields.get("lossCriterion", "WGANGP")
    if loss not in TANH:
        raise UserError(
            f"lossCriterion in the config of {WHAT} is {shown(loss)}; progan knows "
            + ", ".join(TANH)
        )
    return TANH[loss]


def labels_of(
    fields: Mapping[str, Any],
) -> tuple[tuple[str, ...], Literal["classes", "attributes"] | None]:
    """Names of classes, or of all values of several attributes, and which of both they are."""
    order = fields.get("attribKeysOrder")
    if not order:
        return (), None
    try:
        groups = sorted(((each["order"], key, list(each["values"])) for key, each in order.items()))
    except (AttributeError, KeyError, TypeError):
        raise UserError(f"attribKeysOrder in the config of {WHAT} has another form") from None
    several = len(groups) > 1
    names = [
        (f"{shown(key)}=" if several else "") + shown(value)
        for _, key, values in groups
        for value in values
    ]
    if len(set(names)) < len(names):
        raise UserError(f"attribKeysOrder in the config of {WHAT} has a value twice")
    return tuple(names), "attributes" if several else "classes"


def plain(weights: Any) -> dict[str, Any]:
    """A state dictionary with the names of the oldest files, without `module`."""
    return renamed(
        weights, lambda name: name.removeprefix("module.").replace(".module.", "."), WHAT
    )


def generator_table(
    widths: Mapping[int, int], inputs: int, channels: int, equalized: bool
) -> Table:
    """Where each weight of the generator comes from."""
    first, dense = widths[START_RESOLUTION], 16 * widths[START_RESOLUTION]
    of_dense = scales((dense, inputs), SQRT2 / 4, equalized)
    start = layer("blocks.4.dense", "formatLayer", (dense, inputs), *of_dense)
    table = {
        "blocks.4.bias": start.pop("blocks.4.dense.bias"),
        **start,
        **scaled("blocks.4.conv", "groupScale0.0", (first, first, 3, 3), equalized),
    }
    for k, (r, width) in enumerate(widths.items()):
        if k:
            theirs, shape = f"scaleLayers.{k - 1}", (width, widths[r // 2], 3, 3)
            table |= scaled(f"blocks.{r}.conv_up", f"{theirs}.0", shape, equalized)
            table |= scaled(f"blocks.{r}.conv", f"{theirs}.1", (width, width, 3, 3), equalized)
        shape = (channels, width, 1, 1)
        table |= scaled(f"image_layers.{r}", f"toRGBLayers.{k}", shape, equalized, gain=1)
    return table


def critic_table(
    widths: Mapping[int, int], labels: int, channels: int, equalized: bool, stddev: bool
) -> Table:
    """Where each weight of the critic comes from."""
    first = widths[START_RESOLUTION]
    zero = "groupScaleZero"
    table = {
        **scaled("blocks.4.conv", f"{zero}.0", (first, first + stddev, 3, 3), equalized),
        **scaled("blocks.4.dense", f"{zero}.1", (first, 16 * first), equalized),
        **scaled("blocks.4.out", "decisionLayer", (1 + labels, first), equalized, gain=1),
    }
    for k, (r, width) in enumerate(widths.items()):
        if k:
            theirs, shape = f"scaleLayers.{k - 1}", (widths[r // 2], width, 3, 3)
            table |= scaled(f"blocks.{r}.conv", f"{theirs}.0", (width, width, 3, 3), equalized)
            table |= scaled(f"blocks.{r}.conv_down", f"{theirs}.1", shape, equalized)
        shape = (width, channels, 1, 1)
        table |= scaled(f"image_layers.{r}", f"fromRGBLayers.{k}", shape, equalized)
    return table


def scaled(
    ours: str, theirs: str, shape: tuple[int, ...], equalized: bool, gain: float = SQRT2
) -> Table:
    """A layer whose gain here is `gain`."""
    return layer(ours, theirs, shape, *scales(shape, gain, equalized))


def scales(shape: tuple[int, ...], gain: float, equalized: bool) -> tuple[float, float]:
    """Factors of a layer's weight and bias; see the top of this file."""
    if not equalized:
        return 1.0, 1.0
    return SQRT2 / gain, math.sqrt(2 / math.prod(shape[1:]))


def completed(
    critic: dict[str, Tensor], labels: bool, stddev: bool, equalized: bool
) -> dict[str, Tensor]:
    """The critic with what theirs has in another form or lacks."""
    if labels:  # theirs begin in the column of the score, which serves twice; its last is unused
        for name in ("blocks.4.out.weight", "blocks.4.out.bias"):
            critic[name] = torch.cat([critic[name][:1], critic[name][:-1]])
    if not stddev:
        name = "blocks.4.conv.weight"
        critic[name] = with_map(critic[name], equalized)
    return critic


def notes_on(content: Mapping[str, Any], labels: tuple[str, ...], kind: str | None) -> list[str]:
    """What is different here, or left out."""
    notes = []
    if "avgG" not in content:
        notes.append("The file has no average of the generator, so the live one stands for it.")
    if labels and "netD" in content:
        notes.append(
            "In their critic the score is also the first label's logit. Here that logit is a copy, "
            "which trains apart from the score."
        )
    if kind == "attributes":
        notes.append(
            "Their critic is trained by one softmax for each attribute; here each of the "
            f"{len(labels)} values has a logit of its own. Give the generator one value of each."
        )
    return notes
