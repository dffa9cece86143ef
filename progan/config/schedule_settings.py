"""The settings that a schedule follows from: phases, rates, optimizers."""

from typing import Annotated

from pydantic import Field, WithJsonSchema

from progan.config.curves import (
    Cycles,
    Ramp,
    Rates,
    ShareInPhase,
    Shares,
    Varying,
    VaryingByResolution,
)
from progan.config.optimizers import OptimizerName
from progan.config.value_types import (
    Count,
    NotNegative,
    PerResolution,
    Positive,
    Resolution,
    Section,
    Share,
)

RATES: dict[int, float | Ramp] = {4: 0.001, 1024: 0.0015}  # the official ones for one GPU
PHASES = WithJsonSchema({"format": "a list of phases"})
CYCLES = WithJsonSchema({"format": "cycles"})


class PhaseConfig(Section):
    """One entry of schedule.phases. What is null is as schedule and optim have it there."""

    resolution: Resolution = Field(description="resolution of the phase")
    fade: bool = Field(False, description="fade the resolution in")
    kimg: Positive | None = Field(
        None, description="length in thousands of images; null: that of its cycles"
    )
    batch_size: Count | None = Field(None, description="images in an update, over all processes")
    batch_gpu: Count | None = Field(
        None, description="most images in a forward pass of one process"
    )
    optimizer: OptimizerName | None = Field(None, description="optimizer of both networks")
    learning_rate: Rates | None = Field(
        None, description="learning rate: a number, a ramp, or {G: …, D: …} of these"
    )
    beta1: ShareInPhase | None = Field(None, description="decay of the mean of gradients")
    beta2: ShareInPhase | None = Field(None, description="decay of the mean of their squares")
    eps: Varying[Positive] | None = Field(None, description="epsilon of a division")
    momentum: ShareInPhase | None = Field(None, description="momentum of sgd, rmsprop and lars")
    nesterov: bool | None = Field(None, description="Nesterov's momentum, of sgd and lars")
    weight_decay: Varying[NotNegative] | None = Field(None, description="weight decay")
    restart: bool = Field(True, description="forget the optimizer's moments at the first image")
    cycles: Annotated[Cycles, CYCLES] | None = Field(
        None, description="cycles of the learning rate over the phase, in its place"
    )


class ScheduleConfig(Section):
    """Resolutions, batch sizes and learning rates over time (see progan schedule)."""

    start_resolution: Resolution = Field(4, description="resolution at which training starts")
    start_alpha: Share | None = Field(
        None,
        description="weight of the newest block at the first image, for networks that were taken "
        "in the middle of a fade: what is left of fade_kimg comes first; null: nothing fades there",
    )
    stable_kimg: PerResolution[NotNegative] = Field(
        600, description="thousands of images for which a resolution trains after its fade"
    )
    fade_kimg: PerResolution[NotNegative] = Field(
        600, description="thousands of images over which a resolution fades in"
    )
    total_kimg: Positive | None = Field(
        None,
        description="length of the run in thousands of images; null: until the last resolution "
        "has trained for its stable_kimg",
    )
    batch_size: PerResolution[Count] = Field(
        {4: 128, 32: 64, 64: 32, 128: 16, 256: 8, 512: 4},
        description="images in an update, over all processes",
    )
    batch_gpu: PerResolution[Count] | None = Field(
        None,
        description="most images in a forward pass of one process, for less memory; null: its "
        "whole share of the batch",
    )
    learning_rate: Rates = Field(RATES, description="learning rate of both networks, or of each")
    cycles: Annotated[Cycles, CYCLES] | None = Field(
        None, description="cycles of the learning rate over the whole run, in its place"
    )
    phases: Annotated[list[PhaseConfig], PHASES] | None = Field(
        None,
        min_length=1,
        description="all phases in order, in place of start_resolution, start_alpha, stable_kimg "
        "and fade_kimg",
    )


class OptimConfig(Section):
    """The optimizer of each network, and its options; null: the optimizer's own default."""

    optimizer: PerResolution[OptimizerName] = Field(
        "adam", description="optimizer of both networks"
    )
    beta1: Shares | None = Field(
        None, description="decay of the mean of gradients (adam, adamw, lamb); null: 0"
    )
    beta2: Shares | None = Field(
        None,
        description="decay of the mean of squared gradients (adam, adamw, lamb, rmsprop); null: "
        "0.99",
    )
    eps: VaryingByResolution[Positive] | None = Field(
        None, description="epsilon of a division; null: 1e-8 (adagrad: 1e-10, lamb: 1e-6)"
    )
    momentum: Shares | None = Field(None, description="momentum of sgd, rmsprop and lars; null: 0")
    nesterov: bool | None = Field(
        None, description="Nesterov's momentum, of sgd and lars; null: false"
    )
    weight_decay: VaryingByResolution[NotNegative] | None = Field(
        None, description="weight decay; null: 0 (adamw: 0.01)"
    )
    block_rates: PerResolution[NotNegative] = Field(
        1.0, description="factor of the learning rate of each resolution's blocks"
    )
