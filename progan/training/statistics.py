"""Means of statistics and counts of skipped updates, kept on the device between ticks."""

from itertools import chain
from typing import Any

import torch
from torch import Tensor


class RunningMeans:
    """Means since the last tick, accumulated on the device: adding waits for nothing.

    What is not finite is left out, so that a skipped update spoils no mean.
    """

    def __init__(self) -> None:
        self.sums: dict[tuple[str, ...], Tensor] = {}  # of values, of images: [2, names]

    def add(self, values: dict[str, Tensor], images: int) -> None:
        """Batch means, each of `images` images."""
        names = tuple(values)
        flat = torch.stack(list(values.values())).float()
        finite = flat.isfinite()
        both = torch.stack([flat.where(finite, 0.0), finite.float()]) * images
        self.sums[names] = self.sums[names] + both if names in self.sums else both

    def means(self) -> dict[str, float]:
        """The means, copied to the host in one go, and a new beginning."""
        sums = self.sums
        self.__init__()
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
        self.sums = dict(state["sums"])

    def to(self, device: torch.device) -> None:
        self.sums = {names: value.to(device) for names, value in self.sums.items()}


class Skipped:
    """Updates left out since the last tick and, up to now, in a row; counted on the device."""

    def __init__(self) -> None:
        self.counts = torch.zeros(2, 2)  # [since the last tick, in a row] of [critic, generator]

    def add(self, flags: Tensor) -> None:
        """Of one step: [critic, generator], 1 if its update was skipped."""
        self.counts = (self.counts + flags) * torch.stack([torch.ones_like(flags), flags])

    def take(self) -> tuple[int, int]:
        """How many since the last tick, and how many in a row, by the network that has more."""
        since, in_a_row = self.counts.tolist()
        self.counts = self.counts * torch.tensor([[0.0], [1.0]], device=self.counts.device)
        return int(sum(since)), int(max(in_a_row))

    def state_dict(self) -> dict[str, Any]:
        return {"counts": self.counts.cpu()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.counts = state["counts"]

    def to(self, device: torch.device) -> None:
        self.counts = self.counts.to(device)
