"""Signs of failing training while all numbers are still finite, and its end when they are not."""

from pathlib import Path

import numpy as np

from progan.runtime.errors import UserError
from progan.runtime.text import percent

RUNAWAY = 1000.0  # scores in units of the penalty's target; the paper's stay below some tens
MOST_SKIPPED = 50  # updates in a row; trouble that lasts longer will not pass
TOO_ALIKE = 0.1  # share of the reals' variety


def variety(images: np.ndarray) -> float:
    """How much images differ from each other: the mean over pixels of the standard deviation.

    uint8 [N, C, H, W] -> grey levels.
    """
    return float(images.std(axis=0, dtype=np.float64).mean())


def signs(means: dict[str, float], share: float, target: float) -> dict[str, str]:
    """Warnings by a short name; none if all looks well.

    Args:
        means: a tick's statistics.
        share: the samples' variety, relative to the reals'.
        target: of the gradient norm, which sets the scale of scores.
    """
    found = {}
    scores = {name: means.get(f"Loss/scores/{name}", 0.0) for name in ("real", "fake")}
    if max(map(abs, scores.values())) > RUNAWAY * target:
        values = ", ".join(f"{name} {value:.4g}" for name, value in scores.items())
        found["scores"] = (
            f"scores run away ({values}): training may be about to diverge; a lower "
            "schedule.learning_rate may help, in a new --run-dir"
        )
    if share < TOO_ALIKE:
        found["variety"] = (
            f"samples look alike (they vary {percent(share, 0)} as much as the reals): the "
            "generator may have collapsed; snapshots of before are kept"
        )
    return found


def diverged(
    in_a_row: int, nimg: int, means: dict[str, float], checkpoint: Path | str
) -> UserError:
    """The error that ends a run of which too many updates in a row were skipped."""
    return UserError(
        f"the last {in_a_row} updates had gradients that are not finite and were skipped, up to "
        f"{nimg / 1000:,.10g} kimg; finite in this tick: {means}. What had been reached is in "
        f"{checkpoint}. A lower schedule.learning_rate in a new --run-dir may help, or "
        "run.precision=fp32"
    )
