"""The settings of the averaged generator: a section of its own, as each kind has its own ones."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from progan.config.curves import Ramp, VaryingByResolution
from progan.config.value_types import NotNegative, Positive, Section

# In kimg: a decay of 0.999 at each update of the default batch sizes, as in the official code.
HALF_LIVES: dict[int, float | Ramp] = {4: 88.7, 32: 44.4, 64: 22.2, 128: 11.1, 256: 5.5, 512: 2.8}
RAMPUP = 0.03  # measured: docs/averages.md
SHORTEST, LONGEST = 0.01, 0.25  # relative lengths of power averages; equal weights have 0.289
FIRST: Literal["half_life"] = "half_life"  # the kind of runs that name none
# The settings of each kind, and their defaults; ... for those that must be given.
OWN: dict[str, dict[str, Any]] = {
    "half_life": {"half_life_kimg": ..., "rampup": RAMPUP},
    "power": {"lengths": [0.05, 0.1]},
    "swa": {"swa_start_kimg": ..., "swa_every_kimg": 1.0},
}


def check_two(lengths: list[float]) -> list[float]:
    if len(lengths) != 2 or lengths[0] >= lengths[1]:
        raise ValueError("must be two lengths, the shorter one first, such as [0.05, 0.1]")
    return lengths


class EmaConfig(Section):
    """The averaged generator, which makes all samples. Each setting is of one kind of average."""

    kind: Literal["half_life", "power", "swa"] = Field(
        FIRST,
        description="how much older weights count: half_life: half as much after each half-life; "
        "power: by a power of the images shown, and progan average makes other lengths after "
        "training; swa: as much as new ones, from one moment on",
    )
    half_life_kimg: VaryingByResolution[Positive] | None = Field(
        HALF_LIVES,
        description="half-life of the average in thousands of images; the default is a decay of "
        "0.999 at each update of the default batch sizes; null: ema.kind is another",
    )
    rampup: Annotated[float, Field(gt=0, le=1)] | None = Field(
        RAMPUP,
        description="the half-life is at most this share of the images shown; null: no such limit, "
        "as in the official schedule",
    )
    lengths: (
        Annotated[list[Annotated[float, Field(ge=SHORTEST, le=LONGEST)]], AfterValidator(check_two)]
        | None
    ) = Field(
        None,
        description="lengths of the two averages of kind power, as shares of the images shown (the "
        "standard deviation of their profiles); samples come from the first; null: [0.05, 0.1], or "
        "ema.kind is another",
    )
    swa_start_kimg: NotNegative | None = Field(
        None,
        description="thousands of images at which swa begins to average; null: ema.kind is another",
    )
    swa_every_kimg: Positive | None = Field(
        None,
        description="thousands of images after which swa adds the newest weights; null: 1, or "
        "ema.kind is another",
    )

    @model_validator(mode="before")
    @classmethod
    def fill_in(cls, given: Any) -> Any:
        """The kind's own defaults for what is not given or null, and null for the other kinds'."""
        kind = given.get("kind", FIRST) if isinstance(given, dict) else None
        if (
            not isinstance(kind, str) or kind not in OWN or kind == FIRST
        ):  # whose defaults are those of the fields
            return given
        filled = {"half_life_kimg": None, "rampup": None} | given
        return filled | {
            k: v for k, v in OWN[kind].items() if filled.get(k) is None and v is not ...
        }

    def misfit(self) -> str | None:
        """What is wrong with these settings together; None: nothing."""
        for kind, keys in OWN.items():
            for key, default in keys.items():
                value = getattr(self, key)
                if kind == self.kind and value is None and default is ...:
                    return f"ema.{key} must be given, as ema.kind is {kind}"
                if kind != self.kind and value is not None:
                    return (
                        f"ema.{key} ({value}) is of the kind {kind}, and ema.kind is {self.kind}: "
                        f"leave it out, or set ema.kind={kind}"
                    )
        return None
