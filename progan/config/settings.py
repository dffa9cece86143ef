"""Every setting, by section: typed, strict, documented.

A description is a phrase that begins in lower case: error messages quote it, `progan config` and
docs/settings.md make it a sentence.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from progan.config.conventions import OF_CRITIC, OF_GENERATOR, Conventions
from progan.config.curves import UpToOne, VaryingByResolution
from progan.config.ema import EmaConfig
from progan.config.schedule_settings import OptimConfig, ScheduleConfig
from progan.config.value_types import (
    Colour,
    Count,
    Device,
    Fit,
    Metrics,
    NotNegative,
    PerResolution,
    Positive,
    Resolution,
    Section,
    Width,
    check_distinct,
    none_is_null,
    null_is_auto,
)

# Settings that are paths; data.source may also be a name or a URL. A run keeps them absolute.
PATHS = ("data.source", "data.root", "data.cache", "run.inception", "network.init")

PAPER = Conventions()
CONVENTIONS = WithJsonSchema({"format": "a map of conventions, see below"})


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
    augment_strength: UpToOne = Field(
        1.0, description="probability that data.augment changes an image"
    )
    augment_target: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None,
        description="adaptive augmentation: mean sign of the reals' scores above which the "
        "probability rises, from 0; usual: 0.6; null: it is data.augment_strength",
    )
    augment_kimg: Positive = Field(
        500, description="thousands of images in which adaptive augmentation can go from 0 to 1"
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
    conventions: Annotated[Conventions, CONVENTIONS] | None = Field(
        None,
        description="what an imported network computes otherwise than the paper's; null: nothing",
    )
    init: str | None = Field(
        None,
        description="another run, a checkpoint or a snapshot whose networks this run starts from; "
        "--init sets it; null: random weights",
    )
    freeze_d: int = Field(
        0,
        ge=0,
        le=8,
        description="how many blocks of the critic from init stay as they are, those that images "
        "meet first (FreezeD); --freeze-d sets it",
    )

    def generator_settings(self) -> dict[str, Any]:
        """Arguments of `networks.Generator`."""
        own = self.model_dump(exclude={"stddev_group", "conventions", "init", "freeze_d"})
        return own | (self.conventions or PAPER).model_dump(include=OF_GENERATOR)

    def critic_settings(self) -> dict[str, Any]:
        """Arguments of `networks.Critic`."""
        own = self.model_dump(exclude={"z_dim", "pixel_norm", "conventions", "init", "freeze_d"})
        return own | (self.conventions or PAPER).model_dump(include=OF_CRITIC)


class WeightsConfig(Section):
    """Weights of the terms of the loss."""

    penalty: VaryingByResolution[NotNegative] = Field(
        10.0, description="weight of the gradient penalty: lambda of wgan_gp, gamma of r1 and r2"
    )
    target: Positive = Field(
        1.0, description="gradient norm that wgan_gp and wgan_lp aim at; 750 for CIFAR-10"
    )
    drift: VaryingByResolution[NotNegative] = Field(
        0.001, description="weight of the squared scores of the reals, which keeps them near zero"
    )
    label: VaryingByResolution[NotNegative] = Field(
        1.0, description="weight of AC-GAN's cross-entropy, where data.labels is true"
    )


class LossConfig(Section):
    """The losses of generator and critic."""

    adversarial: Literal[
        "wgan", "logistic", "hinge", "lsgan", "relativistic", "relativistic-average"
    ] = Field(
        "wgan",
        description="loss on the critic's scores: Wasserstein, non-saturating logistic, hinge, "
        "least squares, or logistic on differences: of each fake to a real, or to their mean",
    )
    labels: Literal["acgan", "projection"] = Field(
        "acgan",
        description="what the critic does with labels: learn them (AC-GAN), or score images given "
        "theirs (projection)",
    )
    penalty: Literal["wgan_gp", "wgan_lp", "r1", "r2", "r1_r2", "none"] = Field(
        "wgan_gp",
        description="gradient penalty of the critic: between reals and fakes, on both sides of the "
        "target or above it only (wgan_lp), at reals (r1), at fakes (r2) or at both",
    )
    penalty_interval: Annotated[int, Field(ge=1, le=1000)] = Field(
        1,
        description="r1, r2 or r1_r2 in every n-th critic update only, with n times the weight; "
        "usual: 16",
    )
    critic_updates: Annotated[int, Field(ge=1, le=100)] = Field(
        1, description="updates of the critic in each one of the generator; 5 in WGAN-GP's paper"
    )
    weights: WeightsConfig = Field(WeightsConfig(), description="weights of the terms of the loss")

    @property
    def whole(self) -> bool:
        """Whether one forward pass must have the whole batch, as means over it take part."""
        return self.adversarial == "relativistic-average"


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


class Settings(Section):
    """All of them. Sections as in the YAML files of `configs/`."""

    data: DataConfig = DataConfig()
    network: NetworkConfig = NetworkConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()
    ema: EmaConfig = EmaConfig()
    run: RunConfig = RunConfig()
