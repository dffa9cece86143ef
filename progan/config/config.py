"""All settings of a run as one constant that fits together, and their schedule."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError, model_validator

from progan.config.curves import Ramp, maps_in
from progan.config.metric_names import SMALLEST
from progan.config.mistakes import SettingsError
from progan.config.phase_rules import check_phases
from progan.config.resolutions import has
from progan.config.schedule import Schedule, make_schedule
from progan.config.settings import PATHS, Settings
from progan.config.shortfall import shortfall
from progan.config.yaml_io import dump_yaml
from progan.runtime.errors import UserError
from progan.runtime.secrets import redacted


class Config(Settings):
    """All settings of a run, such as `Config(network={"resolution": 64})`.

    Raises:
        SettingsError: one does not fit, or some do not fit together.
    """

    def __init__(self, /, **sections: Any) -> None:
        try:
            super().__init__(**sections)
        except ValidationError as error:
            raise SettingsError(error) from None

    @model_validator(mode="after")
    def resolutions_fit(self) -> "Config":
        start = self.start_resolution
        widths = self.network.conventions and self.network.conventions.widths
        if not widths and self.network.channel_base < self.network.resolution:
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
        start = self.start_resolution
        names = ("data", "schedule", "optim", "ema", "run")
        sections = {name: getattr(self, name) for name in names}
        for section, content in (sections | {"loss.weights": self.loss.weights}).items():
            for key, value in content:
                # Metrics are no map by resolution.
                missing = [m for m in maps_in(value) if key != "metrics" and not has(m, start)]
                if missing:
                    raise ValueError(
                        f"{section}.{key} ({missing[0]}) must have a value for {start}x{start}, "
                        f"where training starts; begin it with '{start}:'"
                    )
        return self

    @model_validator(mode="after")
    def phases_fit(self) -> "Config":
        check_phases(self.network.resolution, self.schedule, self.optim)
        return self

    @model_validator(mode="after")
    def penalty_fits(self) -> "Config":
        loss = self.loss
        if loss.penalty_interval > 1 and loss.penalty not in ("r1", "r2", "r1_r2"):
            raise ValueError(
                f"loss.penalty_interval ({loss.penalty_interval}) is for the penalties r1, r2 and "
                f"r1_r2; with {loss.penalty} leave it at 1, or set loss.penalty=r1"
            )
        return self

    @model_validator(mode="after")
    def average_fits(self) -> "Config":
        if wrong := self.ema.misfit():
            raise ValueError(wrong)
        start = self.ema.swa_start_kimg
        if start is not None and start >= (kimg := self.make_schedule().total_nimg / 1000):
            raise ValueError(
                f"ema.swa_start_kimg ({start:g}) must be less than the length of the run "
                f"({kimg:,.10g} kimg), or nothing is averaged"
            )
        return self

    @model_validator(mode="after")
    def adaptive_augmentation_fits(self) -> "Config":
        data, adversarial = self.data, self.loss.adversarial
        if data.augment_target is None:
            return self
        if not data.augment:
            raise ValueError(
                f"data.augment_target ({data.augment_target}) steers data.augment, which is empty; "
                "set data.augment=[color,translation,cutout]"
            )
        if data.augment_strength != 1:
            raise ValueError("data.augment_target replaces data.augment_strength: give one of them")
        if adversarial not in ("logistic", "hinge"):
            raise ValueError(
                "data.augment_target needs scores whose sign says real or fake, which those of "
                f"loss.adversarial={adversarial} need not; set it to logistic or hinge"
            )
        return self

    @property
    def start_resolution(self) -> int:
        """Where training starts."""
        phases = self.schedule.phases
        return phases[0].resolution if phases else self.schedule.start_resolution

    def make_schedule(self) -> Schedule:
        """The schedule that these settings describe."""
        weights = {
            "penalty_weight": self.loss.weights.penalty,
            "drift": self.loss.weights.drift,
            "label": self.loss.weights.label,
            "augment_strength": self.data.augment_strength,
        }
        given = self.network.resolution, self.schedule, self.optim
        updates, half_life = self.loss.critic_updates, self.ema.half_life_kimg
        return make_schedule(*given, weights, updates, half_life)

    def shortfall(self) -> str:
        """Why this schedule ends before the resolution has faded in; empty if it does not."""
        updates = self.loss.critic_updates
        return shortfall(self.network.resolution, self.schedule, self.optim, updates)

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
    """Settings as `{section.key: value}`; ramps and maps by resolution stay whole."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        whole = not isinstance(value, dict) or not value or value.keys() == Ramp.model_fields.keys()
        if not whole and all(isinstance(k, str) for k in value):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
