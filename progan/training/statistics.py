"""What a tick reports: means, skipped updates (both kept on the device), the schedule's state."""

from itertools import chain
from typing import Any

import torch
from torch import Tensor

from progan.config.schedule import Phase, Schedule
from progan.runs.checkpoint import Progress
from progan.runs.records import ENERGY, HOURS


class RunningMeans:
    """Means since the last tick, summed on the device, so that adding waits for nothing.

    Values that are not finite are left out: a skipped update spoils no mean.
    """

    def __init__(self) -> None:
        self.sums: dict[tuple[str, ...], Tensor] = {}  # [2, names]: of values, of images

    def add(self, values: dict[str, Tensor], images: int) -> None:
        """Add means over a batch of `images` images."""
        names = tuple(values)
        flat = torch.stack(list(values.values())).float()
        finite = flat.isfinite()
        both = torch.stack([flat.where(finite, 0.0), finite.float()]) * images
        self.sums[names] = self.sums[names] + both if names in self.sums else both

    def means(self) -> dict[str, float]:
        """The means, copied to the host in one go; what is added later counts from zero."""
        sums, self.sums = self.sums, {}
        flat = torch.cat(list(sums.values()), dim=1).tolist() if sums else ([], [])
        totals: dict[str, list[float]] = {}
        for name, value, images in zip(chain(*sums), *flat, strict=True):
            total = totals.setdefault(name, [0.0, 0.0])
            total[0] += value
            total[1] += images
        return {name: value / images for name, (value, images) in totals.items() if images}

    def state_dict(self) -> dict[str, Any]:
        return {"sums": {names: value.cpu() for names, value in self.sums.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises ValueError if they are not sums of these names."""
        for names, sums in state["sums"].items():
            if sums.shape != (2, len(names)):
                raise ValueError(f"sums of {len(names)} statistics have the shape {sums.shape}")
        self.sums = dict(state["sums"])

    def to(self, device: torch.device) -> None:
        self.sums = {names: value.to(device) for names, value in self.sums.items()}


class Skipped:
    """Counts on the device of skipped updates: since the last tick, and in a row up to now."""

    def __init__(self) -> None:
        self.counts = torch.zeros(2, 2)  # [since the last tick, in a row] of [critic, generator]

    def add(self, skipped: Tensor) -> None:
        """Count one step. skipped: how many updates of [critic, generator] were."""
        self.counts = (self.counts + skipped) * torch.stack([torch.ones_like(skipped), skipped > 0])

    def take(self) -> tuple[int, int]:
        """The number since the last tick, and the larger of the two networks' numbers in a row."""
        since, in_a_row = self.counts.tolist()
        self.counts = self.counts * torch.tensor([[0.0], [1.0]], device=self.counts.device)
        return int(sum(since)), int(max(in_a_row))

    def state_dict(self) -> dict[str, Any]:
        return {"counts": self.counts.cpu()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises ValueError if they are no counts."""
        counts = state["counts"]
        if counts.shape != (2, 2) or not bool((counts >= 0).all() and counts.isfinite().all()):
            raise ValueError(f"{counts} are no counts of skipped updates")
        self.counts = counts

    def to(self, device: torch.device) -> None:
        self.counts = self.counts.to(device)


def spent(run: Progress) -> dict[str, float]:
    """What a run has taken so far."""
    energy = {} if run.joules is None else {ENERGY: run.joules / 3.6e6}
    return {"Progress/tick": run.tick, HOURS: run.seconds / 3600, **energy}


def progress(schedule: Schedule, phase: Phase, nimg: int) -> dict[str, float]:
    """What the schedule says after `nimg` images, of which `phase` has shown the last."""
    resolution, alpha = schedule.reached(nimg)
    last = nimg - phase.batch_size  # where the last update began
    found = {
        "Progress/kimg": nimg / 1000,
        "Progress/resolution": resolution,
        "Progress/alpha": 1.0 if alpha is None else alpha,
        "Progress/batch_size": phase.batch_size,
        "Progress/learning_rate": phase.G_rate.at(last),
    }
    if phase.D_rate != phase.G_rate:
        found["Progress/learning_rate_D"] = phase.D_rate.at(last)
    more = {k: curve for k, curve in phase.varying.items() if k not in ("G_rate", "D_rate")}
    return found | {f"Progress/{name}": curve.at(last) for name, curve in more.items()}
