"""Fréchet Inception distance between fakes and the whole training set.

Heusel et al., *GANs trained by a two time-scale update rule* (2017).
"""

import numpy as np
import torch
from torch import Tensor

from progan.metrics.inception import Inception, library
from progan.metrics.metric import Bar, Gather, Metric, alone, no_bar


class FID(Metric):
    """Compares `count` fakes with all reals; only moments are in memory."""

    repeats = False

    def __init__(self, name: str, count: int, inception: Inception):
        super().__init__(name, reals=None, fakes=count)
        self.inception = inception
        self.kept_as = f"moments-{inception.version}"
        self.moments = {"reals": Moments(), "fakes": Moments()}
        self.whole: Moments | None = None  # moments of all reals

    def of(self, count: int) -> "FID":
        return FID(self.name, count, self.inception)

    def add(self, side: str, images: Tensor, first: int) -> None:
        self.moments[side].add(self.inception(images)[0])

    def result(self, gather: Gather = alone, bar: Bar = no_bar) -> dict[str, float]:
        reals = self.whole or self.moments["reals"].gathered(gather)
        return {self.name: frechet_distance(reals, self.moments["fakes"].gathered(gather))}

    def keep_reals(self, gather: Gather = alone) -> dict[str, np.ndarray]:
        return self.moments["reals"].gathered(gather).sums

    def use_reals(self, kept: dict[str, np.ndarray]) -> None:
        self.whole = Moments(kept)


class Moments:
    """The number of features, their sum and the sum of their products, in float64."""

    def __init__(self, sums: dict[str, np.ndarray] | None = None):
        self.sums = sums or {"count": np.zeros(1), "sum": np.zeros(1), "products": np.zeros(1)}

    def add(self, features: Tensor) -> None:
        """Add features [n, F]."""
        f = features.double().numpy()
        new = {"count": np.array([len(f)]), "sum": f.sum(axis=0), "products": f.T @ f}
        self.sums = {key: self.sums[key] + value for key, value in new.items()}

    def gathered(self, gather: Gather) -> "Moments":
        """The moments over all processes."""
        sums = {key: gather(torch.as_tensor(value)[None]) for key, value in self.sums.items()}
        return Moments({key: value.sum(dim=0).numpy() for key, value in sums.items()})

    def statistics(self) -> dict[str, np.ndarray]:
        """Mean [F] and unbiased covariance [F, F], under torch-fidelity's names."""
        count, total, products = self.sums.values()
        mean = total / count
        return {"mu": mean, "sigma": (products - count * np.outer(mean, mean)) / (count - 1)}


def frechet_distance(reals: Moments, fakes: Moments) -> float:
    """|m1 - m2|² + tr(C1 + C2 - 2 (C1 C2)^½): distance of two Gaussians with these moments."""
    both = [fakes.statistics(), reals.statistics()]
    result = library("metric_fid").fid_statistics_to_metric(*both, verbose=False)
    return result["frechet_inception_distance"]
