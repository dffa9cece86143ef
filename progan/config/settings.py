"""Every setting, by section: typed, strict, documented.

A description is a phrase that begins in lower case: error messages quote it, `progan config` and
docs/settings.md make it a sentence.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from progan.config.value_types import (
    Colour,
    Count,
    Device,
    Fit,
    Metrics,
    NotNegative,
    PerResolution,
    Positive,
    Ramp,
    Rates,
    Resolution,
    Section,
    Share,
    Width,
    check_distinct,
    none_is_null,
    null_is_auto,
)

RATES: dict[int, float | Ramp] = {4: 0.001, 1024: 0.0015}  # the official ones for one GPU


# Settings that are paths; data.source may also be a name or a URL. A run keeps them absolute.
PATHS = ("data.source", "data.root", "data.cache", "run.inception")


class DataConfig(Section):
    """The training images, and how they are prepared."""

    source: str | None = Field(
        None,
        description="name of a known data set (see progan data list), or path of the images: a "
        "folder, zip, tar, array, shards, or prepared data; --data sets it",
    )
    root: str | None = Field(
        None, description="folder of the known data sets; null: $PROGAN_DATA, else ./data"
    )
    cache: str | None = Field(
        None, description="folder for prepared data; null: $PROGAN_CACHE, else ~/.cache/progan"
    )
    labels: bool = Field(False, description="train on the data's classes or attributes")
    label_level: Count | None = Field(
        None,
        description="level of folders that classes come from, 1 for the first, where no table has "
        "them; null: the first that is neither parts of the data (train, val) nor numbered pieces",
    )
    mirror: bool = Field(False, description="flip half of the reals left to right")
    augment: Annotated[
        list[Literal["color", "translation", "cutout"]], AfterValidator(check_distinct)
    ] = Field(
        [],
        description="any of [color, translation, cutout]: random changes to all that the critic "
        "sees, for few images",
    )
    fit: Fit = Field(
        "crop",
        description="how an image becomes square: crop its centre, pad it with black bars, or take "
        "the square [x, y, size]",
    )
    allow_upscale: bool = Field(False, description="enlarge images smaller than the resolution")
    background: Colour = Field("white", description="colour that transparent images are laid over")
    max_images: Count | None = Field(
        None, description="number of images to use, the first ones; null: all"
    )
    max_bad: int = Field(
        100,
        ge=0,
        description="how many images may be left out because they are unreadable or too small",
    )
    drop_copies: bool = Field(
        False,
        description="leave out all but the first of images that are exactly equal once prepared, "
        "and have the same labels",
    )
    storage: Literal["auto", "raw", "png"] = Field(
        "auto",
        description="format of prepared images from 256x256 up: raw arrays or PNG; auto: by free "
        "disk space",
    )
    device_cache: bool | None = Field(
        None,
        description="keep the images of the current resolution on the GPU; null: if they take at "
        "most a quarter of its free memory",
    )
    workers: Annotated[int, Field(ge=0, le=1024)] | None = Field(
        None, description="processes that decode images; null: one per core"
    )


class NetworkConfig(Section):
    """The generator and the critic."""

    resolution: Resolution = Field(
        128,
        description="resolution of the final images; if none is given, progan train takes the "
        "largest that nearly all images of a path have",
    )
    channels: Literal[1, 3] = Field(3, description="3: colour, 1: grey")
    z_dim: Width = Field(512, description="size of a latent")
    channel_base: Annotated[int, Field(ge=1, le=2**20)] = Field(
        16384, description="channels at resolution r are min(channel_base // r, channel_max)"
    )
    channel_max: Width = Field(512, description="most channels at a resolution; see channel_base")
    fused_scale: bool = Field(
        True,
        description="fuse up- and downsampling with the convolutions, as the official code does; "
        "the fused critic is a slightly different function",
    )
    stddev_group: Width = Field(
        4,
        description="images in a group of the minibatch standard deviation; the paper has 16; 1: "
        "none",
    )
    equalized: bool = Field(
        True,
        description="equalized learning rates: scale weights at every use; false: once, at the "
        "start (an ablation)",
    )
    pixel_norm: bool = Field(
        True, description="normalize the generator's features; false is an ablation"
    )

    def generator_settings(self) -> dict[str, Any]:
        """Arguments of `networks.Generator`."""
        return self.model_dump(exclude={"stddev_group"})

    def critic_settings(self) -> dict[str, Any]:
        """Arguments of `networks.Critic`."""
        return self.model_dump(exclude={"z_dim", "pixel_norm"})


class ScheduleConfig(Section):
    """Resolutions, batch sizes and learning rates over time (see progan schedule)."""

    start_resolution: Resolution = Field(4, description="resolution at which training starts")
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
    learning_rate: Rates = Field(RATES, description="learning rate of Adam, for both networks")


class WeightsConfig(Section):
    """Weights of the terms of the loss."""

    penalty: NotNegative = Field(
        10.0, description="weight of the gradient penalty: lambda of wgan_gp, gamma of r1"
    )
    target: Positive = Field(
        1.0, description="gradient norm that wgan_gp aims at; 750 for CIFAR-10"
    )
    drift: NotNegative = Field(
        0.001, description="weight of the squared scores of the reals, which keeps them near zero"
    )
    label: NotNegative = Field(
        1.0, description="weight of AC-GAN's cross-entropy, where data.labels is true"
    )


class LossConfig(Section):
    """The losses of generator and critic."""

    adversarial: Literal["wgan", "logistic"] = Field(
        "wgan", description="loss on the critic's scores: Wasserstein, or non-saturating logistic"
    )
    penalty: Literal["wgan_gp", "r1"] = Field(
        "wgan_gp", description="gradient penalty of the critic"
    )
    penalty_interval: Annotated[int, Field(ge=1, le=1000)] = Field(
        1, description="r1 in every n-th critic update only, with n times the weight; usual: 16"
    )
    weights: WeightsConfig = Field(WeightsConfig(), description="weights of the terms of the loss")


class OptimConfig(Section):
    """The optimizer, Adam."""

    beta1: PerResolution[Share] = Field(0.0, description="decay of Adam's mean of gradients")
    beta2: PerResolution[Share] = Field(
        0.99, description="decay of Adam's mean of squared gradients"
    )
    eps: PerResolution[Positive] = Field(1e-8, description="epsilon of Adam")


class EmaConfig(Section):
    """The averaged generator, which makes all samples."""

    half_life_kimg: PerResolution[Positive] = Field(
        {4: 88.7, 32: 44.4, 64: 22.2, 128: 11.1, 256: 5.5, 512: 2.8},
        description="half-life of the average in thousands of images; the default is a decay of "
        "0.999 at each update of the default batch sizes",
    )


class RunConfig(Section):
    """Where and how a run computes, and what it writes."""

    seed: int = Field(
        0,
        ge=0,
        lt=2**63,
        description="seed of all that is random: first weights, order of the data, latents",
    )
    device: Device = Field(
        "auto",
        description="device that computes; auto: a GPU if there is one; several processes take a "
        "GPU each",
    )
    precision: Literal["auto", "fp32", "tf32", "bf16"] = Field(
        "auto",
        description="precision of convolutions and dense layers, all else is float32; auto: bf16 "
        "on GPUs that support it and on CPUs that are faster with it (measured once), else fp32",
    )
    compile: Annotated[Literal["auto", True, False], BeforeValidator(null_is_auto)] = Field(
        "auto",
        description="compile the updates of each phase, which takes about a minute each; auto: "
        "where trial updates show that it pays, and nowhere if run.deterministic; null: auto",
    )
    tick_kimg: PerResolution[Positive] = Field(
        {4: 160.0, 8: 140, 16: 120, 32: 100, 64: 80, 128: 60, 256: 40, 512: 20, 1024: 10},
        description="length of a tick in thousands of images; each ends with statistics and a grid "
        "of samples",
    )
    snapshot_ticks: Count = Field(
        10, description="ticks between snapshots of the averaged generator"
    )
    checkpoint_ticks: Count = Field(
        5, description="ticks between checkpoints, from which a run can go on"
    )
    keep_checkpoints: Count = Field(2, description="newest checkpoints that are kept")
    timeout: Positive = Field(
        10, description="minutes that processes wait for each other before they give up"
    )
    deterministic: bool = Field(
        False, description="the same bits at every start, on GPUs too, where it costs speed"
    )
    metrics: Metrics = Field(
        {},
        description="metrics to measure while training, and how often, such as {swd16k: every 10 "
        "ticks}, or {swd2000: 5} with fewer images; the best snapshot by each is kept; null: none",
    )
    inception: str | None = Field(
        None, description="weights for fid, kid, is and pr; null: torch-fidelity downloads them"
    )
    tracker: Annotated[str | None, BeforeValidator(none_is_null)] = Field(
        "tensorboard",
        description="what shows curves: tensorboard, or another Accelerate tracker; null: none",
    )
