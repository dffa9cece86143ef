"""All settings of a run as one constant: sections that fit together, and their schedule."""

from collections.abc import Mapping
from typing import Any

from pydantic import model_validator

from progan.config.metric_names import SMALLEST
from progan.config.resolutions import MAX_RESOLUTION
from progan.config.schedule import Schedule, make_schedule, shortfall
from progan.config.settings import (
    PATHS,
    DataConfig,
    EmaConfig,
    LossConfig,
    NetworkConfig,
    OptimConfig,
    RunConfig,
    ScheduleConfig,
)
from progan.config.value_types import Section
from progan.config.yaml_io import dump_yaml
from progan.runtime.errors import UserError
from progan.runtime.secrets import redacted


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
        return self

    @model_validator(mode="after")
    def maps_have_the_start(self) -> "Config":
        start = self.schedule.start_resolution
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
        """The schedule that these settings describe."""
        return make_schedule(self.network.resolution, self.schedule, self.optim)

    def shortfall(self) -> str:
        """Why this schedule ends before the resolution has faded in; empty if it does not."""
        return shortfall(self.network.resolution, self.schedule, self.optim)

    def check_reach(self) -> None:
        """Raises UserError for a schedule that ends before the resolution has faded in."""
        if why := self.shortfall():
            raise UserError(why)

    def places(self) -> dict[str, str | None]:
        """The settings that are paths, by `section.key`."""
        return {key: value for key, value in flatten(self.model_dump()).items() if key in PATHS}

    def with_places(self, places: Mapping[str, str | None]) -> "Config":
        """The same settings with these of `places`."""
        changed: dict[str, Any] = {}
        for key, value in places.items():
            name, field = key.split(".")
            section = changed.get(name, getattr(self, name))
            changed[name] = section.model_copy(update={field: value})
        return self.model_copy(update=changed)

    def shared(self) -> dict[str, Any]:
        """Plain values for all that is written or printed: the secrets of URLs stay out."""
        return redacted(self.model_dump())

    def to_yaml(self) -> str:
        return dump_yaml(self.shared())


def flatten(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings as `{section.key: value}`; maps by resolution stay whole."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, dict) and value and all(isinstance(k, str) for k in value):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
