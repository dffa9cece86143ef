"""Power-function averages: their profiles, and any other one from a few that were kept.

Karras et al. 2024, Analyzing and Improving the Training Dynamics of Diffusion Models
(arXiv:2312.02696), Sec. 3 and App. C. The weights at an image t count in the average at T by the
profile (g + 1) t^g / T^(g + 1): the later, the more, and the window grows with the run. Its
relative length is the standard deviation of t under the profile, as a share of T.

Unlike there, networks grow. Weights that came into use at an image s are averaged from s on only:
their profile is the same one, cut off below s and scaled to an integral of 1.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np


@cache
def exponent(length: float) -> float:
    """The profile's exponent g of a relative length (Sec. 3.1, App. C).

    length^2 = (g + 1) / ((g + 2)^2 (g + 3)) is a cubic in g, and has one positive root.
    """
    square = length**-2
    return float(np.roots([1, 7, 16 - square, 12 - square]).real.max())


def kept_share(length: float, before: int, after: int, start: int = 0) -> float:
    """The share of the average at `before` images in that at `after`.

    This keeps the average exactly the integral of the profile over the images from `start` on.
    """
    power = exponent(length) + 1
    cut = (start / after) ** power
    return ((before / after) ** power - cut) / (1 - cut)


def inner_products(
    ends: np.ndarray, exponents: np.ndarray, end: float, g: float, start: float
) -> np.ndarray:
    """Inner products of many profiles with that of `end` and exponent `g` (Sec. 3.2, App. C).

    Args:
        ends, exponents: of the profiles, broadcast together.
        start: where all of them are cut off, below every end.
    """
    first = np.minimum(ends, end)
    power = exponents + g + 1
    scale = (exponents + 1) * (g + 1) / power
    scale /= (1 - (start / ends) ** (exponents + 1)) * (1 - (start / end) ** (g + 1))
    # The powers as logarithms: images to the 200th would be beyond floats.
    logarithm = power * np.log(first) - (exponents + 1) * np.log(ends) - (g + 1) * np.log(end)
    return scale * np.exp(logarithm) * (1 - (start / first) ** power)


def combination(
    ends: Sequence[float], lengths: Sequence[float], end: float, length: float, start: float = 0
) -> tuple[np.ndarray, float]:
    """How to add up averages to the profile nearest to a wanted one (Sec. 3.2, App. C).

    Args:
        ends: images at which averages were kept, each of all `lengths`.
        end, length: of the wanted profile.
        start: images at which the weights came into use.

    Returns:
        The factors [ends, lengths], which add up to 1, and the distance of the profiles in L2, as a
        share of the wanted one's norm.
    """
    t = np.repeat(np.asarray(ends, float), len(lengths))
    g = np.tile([exponent(each) for each in lengths], len(ends))
    wanted = exponent(length)
    products = np.stack([inner_products(t, g, *one, start) for one in zip(t, g, strict=True)])
    with_wanted = inner_products(t, g, end, wanted, start)
    square = inner_products(np.array(end), np.array(wanted), end, wanted, start)
    norms = np.sqrt(np.diag(products))
    # Scaled to profiles of norm 1. Some are nearly equal, so small singular values are left out.
    found = np.linalg.lstsq(products / np.outer(norms, norms), with_wanted / norms, rcond=1e-12)[0]
    factors = found / norms
    factors /= factors.sum()
    missed = factors @ products @ factors - 2 * factors @ with_wanted + square
    return factors.reshape(len(ends), len(lengths)), float(np.sqrt(max(missed, 0.0) / square))
