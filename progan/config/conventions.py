"""What networks of other projects compute otherwise than the paper's."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from progan.config.resolutions import START_RESOLUTION
from progan.config.value_types import Map, Section, Width


def check_start(widths: dict[int, int]) -> dict[int, int]:
    if START_RESOLUTION not in widths:
        raise ValueError(f"must have the width at {START_RESOLUTION}")
    return widths


class Conventions(Section):
    """What a network from another project computes otherwise than the paper's, which each default
    is. An import sets them, and the network keeps them."""

    widths: Annotated[Map[Width], AfterValidator(check_start)] | None = Field(
        None,
        description="channels by resolution; null: by network.channel_base and network.channel_max",
    )
    hidden: Width | None = Field(
        None,
        description="features of the critic's hidden layer; null: the width that channel_base and "
        "channel_max give at 2x2",
    )
    start_bias: Literal["channel", "position"] = Field(
        "channel",
        description="bias of the generator's first layer: one number a channel, or one a channel "
        "and position",
    )
    start_norm: bool = Field(True, description="pixel norm after the generator's first layer")
    norm: Literal["mean-square", "rms"] = Field(
        "mean-square",
        description="where pixel norm adds its epsilon: 1e-8 to the mean square, or to its root "
        "(1e-6 for latents, 1e-5 for features)",
    )
    label_norm: bool = Field(
        True, description="append labels to a latent before it is normalized, and not after"
    )
    output: Literal["linear", "tanh"] = Field(
        "linear", description="function of the generator's images"
    )
    stddev_variance: Literal["biased", "unbiased"] = Field(
        "biased", description="variance in minibatch stddev: over n images, or n - 1"
    )
    first_fade: bool = Field(
        True, description="whether the critic fades when it grows from 4x4 to 8x8"
    )


OF_CRITIC = {"widths", "hidden", "stddev_variance", "first_fade"}
OF_GENERATOR = {"widths"} | Conventions.model_fields.keys() - OF_CRITIC
