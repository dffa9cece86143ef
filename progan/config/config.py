"""Every knob: frozen, typed, strict; YAML in, YAML out."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from progan.config.metric_names import SMALLEST
from progan.config.resolutions import MAX_RESOLUTION
from progan.config.schedule import Ramp, Schedule, make_schedule
from progan.config.value_types import (
    Count,
    Device,
    Fit,
    Metrics,
    NotNegative,
    Positive,
    RampConfig,
    Ramped,
    Resolution,
    Section,
    Share,
    Width,
    by_resolution,
    check_distinct,
    null_is_auto,
)
from progan.config.yaml_io import dump_yaml


class DataConfig(Section):
    source: str | None = Field(
        None,
        description="a known data set (progan data list), or the path of images: a folder, zip, "
        "tar, array, shards, or prepared data",
    )
    root: str | None = Field(
        None, description="folder of the named data sets; null: $PROGAN_DATA, else ./data"
    )
    cache: str | None = Field(
        None, description="folder of prepared data; null: $PROGAN_CACHE, else ~/.cache/progan"
    )
    labels: bool = Field(False, description="train on the data's classes or attributes")
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
        description="how an image becomes square: crop (the centre), pad (black bars) or "
        "[x, y, size]",
    )
    allow_upscale: bool = Field(False, description="enlarge images smaller than the resolution")
    max_images: Count | None = Field(None, description="only the first ones; null: all")
    max_bad: int = Field(
        100, ge=0, description="images that may be unreadable or too small and are left out"
    )
    storage: Literal["auto", "raw", "png"] = Field(
        "auto", description="prepared levels from 256: raw arrays, png records, or by free space"
    )
    device_cache: bool | None = Field(
        None, description="keep a level on the GPU; null: if it takes a quarter of free memory"
    )
    workers: Annotated[int, Field(ge=0, le=1024)] | None = Field(
        None, description="processes that decode images; null: one a core"
    )


class NetworkConfig(Section):
    resolution: Resolution = Field(
        128, description="of the images at the end, a power of two 4…1024"
    )
    channels: Literal[1, 3] = Field(3, description="3 for colour, 1 for grey")
    z_dim: Width = Field(512, description="size of a latent")
    channel_base: Annotated[int, Field(ge=1, le=2**20)] = Field(
        16384, description="channels at resolution r are min(channel_base // r, channel_max)"
    )
    channel_max: Width = Field(512, description="see channel_base")
    fused_scale: bool = Field(
        True, description="fuse 2x resampling with convolutions (in the critic, the official form)"
    )
    stddev_group: Width = Field(
        4, description="images a group of minibatch stddev; the paper 16; 1 turns it off"
    )
    equalized: bool = Field(
        True, description="scale weights at every use; false: once, at the start (an ablation)"
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
    start_resolution: Resolution = Field(4, description="where training starts, a power of two")
    stable_kimg: by_resolution(NotNegative) = Field(
        600, description="thousand images at a resolution once it has faded in"
    )
    fade_kimg: by_resolution(NotNegative) = Field(
        600, description="thousand images over which a resolution fades in"
    )
    total_kimg: Positive | None = Field(
        None, description="length of the run; null: the last resolution's own stable_kimg"
    )
    batch_size: by_resolution(Count) = Field(
        {4: 128, 32: 64, 64: 32, 128: 16, 256: 8, 512: 4},
        description="images an update over all processes",
    )
    batch_gpu: by_resolution(Count) | None = Field(
        None, description="images a forward pass on one process; null: all of its share"
    )
    learning_rate: by_resolution(Positive, Ramped) = Field(
        {4: 0.001, 1024: 0.0015},
        description="Adam's, for both networks; a number or {start, end, decay} over a phase",
    )


class WeightsConfig(Section):
    penalty: NotNegative = Field(10.0, description="gradient penalty (lambda; R1: gamma)")
    target: Positive = Field(1.0, description="gradient norm wanted by wgan_gp; 750 for CIFAR-10")
    drift: NotNegative = Field(0.001, description="squared score of the reals, keeps it near zero")
    label: NotNegative = Field(1.0, description="AC-GAN's cross-entropy, with data.labels")


class LossConfig(Section):
    adversarial: Literal["wgan", "logistic"] = Field("wgan", description="wgan or logistic")
    penalty: Literal["wgan_gp", "r1"] = Field("wgan_gp", description="wgan_gp or r1")
    penalty_interval: Annotated[int, Field(ge=1, le=1000)] = Field(
        1, description="r1 in one of so many critic updates, weighted by as much; usual: 16"
    )
    weights: WeightsConfig = Field(WeightsConfig(), description="of the terms of the loss")


class OptimConfig(Section):
    beta1: by_resolution(Share) = Field(0.0, description="Adam's first decay")
    beta2: by_resolution(Share) = Field(0.99, description="Adam's second decay")
    eps: by_resolution(Positive) = Field(1e-8, description="Adam's epsilon")


class EmaConfig(Section):
    half_life_kimg: by_resolution(Positive) = Field(
        {4: 88.7, 32: 44.4, 64: 22.2, 128: 11.1, 256: 5.5, 512: 2.8},
        description="half-life of the averaged generator; these are 0.999 an update",
    )


class RunConfig(Section):
    seed: int = Field(
        0, ge=0, lt=2**63, description="of weights, data order, latents: of everything"
    )
    device: Device = Field(
        "auto",
        description="auto (a GPU if there is one), cpu, cuda, cuda:1, mps or xpu; of several "
        "processes each takes a GPU of its own",
    )
    precision: Literal["auto", "fp32", "tf32", "bf16"] = Field(
        "auto",
        description="of convolutions and dense layers (all else is float32); auto: bf16 on GPUs "
        "that multiply it and on CPUs that are faster by it, as measured here, else fp32",
    )
    compile: Annotated[Literal["auto", True, False], BeforeValidator(null_is_auto)] = Field(
        "auto",
        description="compile each phase's updates, about a minute each; auto: where the phase is "
        "so long that this pays, by trial updates (run.deterministic: nowhere, as times vary); "
        "null: auto",
    )
    tick_kimg: by_resolution(Positive) = Field(
        {4: 160, 8: 140, 16: 120, 32: 100, 64: 80, 128: 60, 256: 40, 512: 20, 1024: 10},
        description="thousand images between statistics and sample grids",
    )
    snapshot_ticks: Count = Field(
        10, description="ticks between snapshots of the averaged generator"
    )
    checkpoint_ticks: Count = Field(5, description="ticks between checkpoints to resume from")
    keep_checkpoints: Count = Field(2, description="newest checkpoints kept")
    timeout: Positive = Field(
        10, description="minutes that processes wait for each other before they give up"
    )
    deterministic: bool = Field(
        False, description="the same bits on every start, on GPUs too, which costs speed there"
    )
    metrics: Metrics = Field(
        {},
        description="while training, and the best snapshot kept: {swd16k: every 10 ticks}, or with "
        "fewer images {swd2000: 5}",
    )
    inception: str | None = Field(
        None, description="weights for fid, kid, is, pr; null: torch-fidelity downloads them"
    )
    tracker: str | None = Field(
        "tensorboard", description="tensorboard, or another Accelerate tracker; null: none"
    )


class Config(Section):
    """All settings of a run. Sections as in the YAML files of `configs/`."""

    data: DataConfig = DataConfig()
    network: NetworkConfig = NetworkConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()
    ema: EmaConfig = EmaConfig()
    run: RunConfig = RunConfig()

    @model_validator(mode="after")
    def resolutions_fit(self) -> "Config":
        start = self.schedule.start_resolution
        if self.network.channel_base < self.network.resolution:
            raise ValueError(
                f"network.channel_base ({self.network.channel_base}) must be at least "
                f"network.resolution ({self.network.resolution}), or no channel is left there"
            )
        if start > self.network.resolution:
            raise ValueError(
                f"schedule.start_resolution ({start}) must not exceed network.resolution "
                f"({self.network.resolution})"
            )
        if self.run.metrics and self.network.resolution < SMALLEST:
            raise ValueError(
                f"run.metrics look at images of {SMALLEST}x{SMALLEST} or more; network.resolution "
                f"is {self.network.resolution}"
            )
        for section in ("schedule", "optim", "ema", "run"):
            for key, value in getattr(self, section):
                if (
                    key != "metrics"
                    and isinstance(value, dict)
                    and min(value, default=MAX_RESOLUTION + 1) > start
                ):
                    raise ValueError(
                        f"{section}.{key} ({value}) must have a value for {start}x{start}, where "
                        f"training starts; begin it with '{start}:'"
                    )
        return self

    @model_validator(mode="after")
    def penalty_fits(self) -> "Config":
        loss = self.loss
        if loss.penalty_interval > 1 and loss.penalty != "r1":
            raise ValueError(
                f"loss.penalty_interval ({loss.penalty_interval}) is for the penalty r1; "
                f"{loss.penalty} must be in every update: leave it at 1, or set loss.penalty=r1"
            )
        return self

    def make_schedule(self) -> Schedule:
        """The schedule these settings describe (see `progan.config.schedule.make_schedule`)."""
        settings = {key: value for key, value in self.schedule}
        rate = settings.pop("learning_rate")

        def to_ramp(v: Any) -> Any:
            return Ramp(**v.model_dump()) if isinstance(v, RampConfig) else v

        rate = {r: to_ramp(v) for r, v in rate.items()} if isinstance(rate, dict) else to_ramp(rate)
        return make_schedule(
            resolution=self.network.resolution,
            learning_rate=rate,
            **settings,
            **{key: value for key, value in self.optim},
        )

    def to_yaml(self) -> str:
        return dump_yaml(self.model_dump())


def flatten(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{section.key: value}`; maps by resolution stay whole."""
    flat = {}
    for key, value in content.items():
        if isinstance(value, dict) and value and all(isinstance(k, str) for k in value):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
