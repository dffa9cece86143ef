"""Generators of mmgeneration's PGGAN (open-mmlab, Apache-2.0): checkpoints of mmcv.

Facts of its code at ccd1f56. Gains are ours. Where upsampling is fused, the kernel is that of a
transposed convolution, [in, out, y, x] and turned round, and its scale counts the channels that go
out. mmcv (1.7.2) gives the pixel norm of features an epsilon of 1e-5; that of latents is 1e-6.
Images are BGR. Its critic has no convolution at 4x4, so it cannot be ours.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from progan.config.resolutions import START_RESOLUTION, resolutions_to
from progan.interop.imported import Imported, names_among
from progan.interop.layout import (
    Source,
    Table,
    converted,
    listed,
    renamed,
    shape_of,
    width_settings,
    widths_of,
)
from progan.runtime.errors import UserError

KIND = "mmgen"
WHAT = "this file of mmgeneration"
TO_RGB = "torgb_layers.{}.conv.weight_orig"
FIRST = "noise2feat.linear.weight_orig"
LOGITS = "discriminator.decision.linear1.weight_orig"  # the score, and one for each label
NETWORKS = {"G_ema": "generator_ema.", "G": "generator."}
# What a checkpoint keeps beside the generators: the critic, losses, progress.
OTHERS = r"(discriminator|disc_auxiliary_losses|gen_auxiliary_losses|gan_loss)\..+"
PROGRESS = {"shown_nkimg", "_curr_transition_weight", "_next_scale_int", "_curr_scale_int"}
COLOURS = 3
OWN_LAYERS = r"\b(conv_module_cfg|fused_upconv_cfg|upsample_cfg)\s*="  # in a config


def recognize(content: Any) -> bool:
    """Whether a file's content is that of a generator of mmgeneration."""
    weights = content.get("state_dict") if isinstance(content, dict) else None
    starts = tuple(NETWORKS.values())
    return isinstance(weights, dict) and any(str(name).startswith(starts) for name in weights)


def convert(content: dict[str, Any], labels: int | None = None) -> Imported:
    """The generators in a file, in our names and our scale.

    Args:
        labels: that it takes, if the file has no critic, whose logits tell; None: 0.

    Raises:
        UserError: it holds another network than a PGGAN, or unknown weights.
    """
    weights = renamed(content["state_dict"], str, WHAT)
    live = {ours: parts for ours, start in NETWORKS.items() if (parts := part(weights, start))}
    if "G_ema" not in live:
        live = {"G_ema": live["G"]}
    generator = live["G_ema"]
    if not any(name.startswith("noise2feat.") for name in generator):
        raise UserError(f"{WHAT} holds another network than a PGGAN; progan reads its PGGANs")
    check_rest(weights)
    widths = widths_of(generator, TO_RGB, WHAT)
    inputs = shape_of(generator, FIRST, 2, WHAT)[1]
    names = names_among(inputs, count_of_labels(weights, labels))
    config = config_of(content)
    fused, notes = is_fused(generator, widths, config)
    table = table_of(widths, inputs, fused)
    resolution, alpha = progress(weights, max(widths))
    settings = width_settings(widths)
    conventions = settings.pop("conventions", {}) | {"norm": "rms"}
    if "G" not in live:
        notes += ["The file has one generator only, which stands for the average."]
    return Imported(
        kind=KIND,
        network=settings
        | {
            "resolution": max(widths),
            "channels": COLOURS,
            "z_dim": inputs - len(names),
            "fused_scale": fused,
            "conventions": conventions,
        },
        resolution=resolution,
        alpha=alpha,
        weights={
            ours: converted(parts, table, f"{NETWORKS[ours]}* in {WHAT}")
            for ours, parts in live.items()
        },
        labels=names,
        label_kind="classes" if names else None,
        notes=(*notes_of(names, labels, config, weights), *notes),
    )


def notes_of(
    names: tuple[str, ...], given: int | None, config: str, weights: Mapping[str, Any]
) -> list[str]:
    """What is left out, and what the file does not tell or progan does not read."""
    notes = [
        "The critic is left out: it has no convolution at 4x4, where progan's and the paper's have "
        "one."
    ]
    if names:
        notes += ["The file does not name its classes, so they have numbers."]
    if given is None and LOGITS not in weights:
        notes += [
            "The file has no critic, which would tell how many labels the generator takes. If it "
            "takes any, say how many by --labels."
        ]
    if layers := sorted(set(re.findall(OWN_LAYERS, config))):
        notes += [
            f"Its config has layers of its own ({', '.join(layers)}), which progan does not read: "
            "compare a few images with those of its code."
        ]
    return notes


def part(weights: Mapping[str, Any], start: str) -> dict[str, Any]:
    """The weights whose names begin so, without that beginning."""
    return {n.removeprefix(start): weight for n, weight in weights.items() if n.startswith(start)}


def check_rest(weights: Mapping[str, Any]) -> None:
    """Raises UserError if a weight belongs to nothing that a checkpoint of a PGGAN has."""
    starts = tuple(NETWORKS.values())
    rest = [name for name in weights if not name.startswith(starts) and name not in PROGRESS]
    if unknown := [name for name in rest if not re.fullmatch(OTHERS, name)]:
        raise UserError(f"{WHAT} has weights that no PGGAN has: {listed(unknown)}")


def count_of_labels(weights: Mapping[str, Any], given: int | None) -> int:
    """Labels that the generator takes with its latents: as many as the critic's logits of them.

    Raises:
        UserError: others were given.
    """
    if LOGITS not in weights:
        return given or 0
    found = shape_of(weights, LOGITS, 2, WHAT)[0] - 1
    if given not in (None, found):
        raise UserError(f"its critic knows {found} labels, not {given}; leave out --labels")
    return found


def config_of(content: Mapping[str, Any]) -> str:
    """The config that a checkpoint keeps as text; empty if there is none."""
    meta = content.get("meta")
    text = meta.get("config") if isinstance(meta, dict) else None
    return text if type(text) is str else ""


def is_fused(
    generator: Mapping[str, Any], widths: Mapping[int, int], config: str
) -> tuple[bool, list[str]]:
    """Whether upsampling is fused with the convolution after it, and what to say of that.

    A kernel's shape shows it if the widths in and out differ; else the config that a checkpoint
    keeps as text, if it names it; else it is as by default.
    """
    for k, (r, width) in enumerate(widths.items()):
        if k and width != widths[r // 2]:
            shape = shape_of(generator, f"conv_blocks.{2 * k - 1}.conv.weight_orig", 4, WHAT)
            return shape[0] == widths[r // 2], []
    said = re.search(r"\bfused_upconv\s*=\s*(True|False)\b", config)
    if said or max(widths) == START_RESOLUTION:
        return not said or said[1] == "True", []
    return True, [
        "The file does not say whether upsampling is fused with convolutions (fused_upconv); it is "
        "taken to be, as by default. If images look wrong, it is not."
    ]


def progress(weights: Mapping[str, Any], largest: int) -> tuple[int, float | None]:
    """The resolution reached, and alpha."""
    resolution = number(weights.get("_curr_scale_int"), largest)
    alpha = number(weights.get("_curr_transition_weight"), 1.0)
    if resolution not in resolutions_to(largest) or not 0 <= alpha <= 1:
        raise UserError(
            f"{WHAT} is at resolution {resolution:g} with a transition weight of {alpha:g}; its "
            f"network goes from {START_RESOLUTION} to {largest}, the weight from 0 to 1"
        )
    return int(resolution), None if alpha == 1 or resolution == START_RESOLUTION else alpha


def number(value: Any, default: float) -> float:
    """What a buffer holds; the default if it is not there."""
    if value is None:
        return default
    if not isinstance(value, Tensor) or value.numel() != 1:
        raise UserError(f"a number of the progress in {WHAT} is none")
    return float(value)


def table_of(widths: Mapping[int, int], inputs: int, fused: bool) -> Table:
    """Where each weight of the generator comes from."""
    first = widths[START_RESOLUTION]
    table = {
        "blocks.4.dense.weight": Source(FIRST, (16 * first, inputs)),
        "blocks.4.bias": Source("noise2feat.bias", (1, first, 1, 1), arrange=Tensor.flatten),
        **conv("blocks.4.conv", "conv_blocks.0", (first, first, 3, 3)),
    }
    for k, (r, width) in enumerate(widths.items()):
        if k:
            below = widths[r // 2]
            up = conv(f"blocks.{r}.conv_up", f"conv_blocks.{2 * k - 1}", (width, below, 3, 3))
            if fused:
                name = f"conv_blocks.{2 * k - 1}.conv.weight_orig"
                up[f"blocks.{r}.conv_up.weight"] = Source(
                    name, (below, width, 3, 3), math.sqrt(below / width), turned
                )
            table |= up
            table |= conv(f"blocks.{r}.conv", f"conv_blocks.{2 * k}", (width, width, 3, 3))
        for each, source in conv(
            f"image_layers.{r}", f"torgb_layers.{k}", (COLOURS, width, 1, 1)
        ).items():
            table[each] = Source(source.name, source.shape, arrange=reversed_colours)
    return table


def conv(ours: str, theirs: str, shape: tuple[int, ...]) -> Table:
    """A convolution of the same gain as here."""
    return {
        f"{ours}.weight": Source(f"{theirs}.conv.weight_orig", shape),
        f"{ours}.bias": Source(f"{theirs}.conv.bias", shape[:1]),
    }


def turned(kernel: Tensor) -> Tensor:
    """The kernel of a transposed convolution [in, out, y, x] as a convolution's."""
    return kernel.transpose(0, 1).flip(2, 3)


def reversed_colours(tensor: Tensor) -> Tensor:
    """BGR, as OpenCV reads images, to RGB."""
    return tensor.flip(0)
