"""Kernel Inception distance: unbiased, so it suits small numbers of images, too.

Bińkowski et al., *Demystifying MMD GANs* (2018): 100 subsets of 1000 with a cubic kernel.
"""

from torch import Tensor

from progan.metrics.features import OnFeatures
from progan.metrics.inception import library
from progan.metrics.metric import Bar, Gather, alone, no_bar

SUBSET = 1000


class KID(OnFeatures):
    """Also gives `NAME_deviation` over subsets, if there are enough images for these to differ."""

    def result(self, gather: Gather = alone, bar: Bar = no_bar) -> dict[str, float]:
        mean, deviation = kernel_distance(
            self.features("reals", gather), self.features("fakes", gather)
        )
        more = {} if deviation is None else {f"{self.name}_deviation": deviation}
        return {self.name: mean, **more}


def kernel_distance(reals: Tensor, fakes: Tensor) -> tuple[float, float | None]:
    """Mean and deviation over subsets of features [N, F] and [M, F].

    The deviation is None if each subset would be the whole.
    """
    size = min(SUBSET, len(reals), len(fakes))
    result = library("metric_kid").kid_features_to_metric(
        fakes, reals, kid_subset_size=size, verbose=False
    )
    deviation = result["kernel_inception_distance_std"]
    all_alike = size == len(reals) == len(fakes)
    return result["kernel_inception_distance_mean"], None if all_alike else deviation
