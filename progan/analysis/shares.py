"""Shares of labels among images, estimated from what an imperfect classifier sees in them.

Its errors are known from held-out images. Attributes are estimated one by one, classes all
together, as the class an image is taken for depends on the other classes.
"""

import math

import numpy as np

Z = 1.96  # of a 95 % interval


def corrected(seen: int, count: int, found: int, having: int, spared: int, lacking: int) -> float:
    """The share of samples that have a label (Rogan & Gladen 1978); 0 if the classifier guesses.

    Args:
        seen, count: samples in which the label was seen, and all samples.
        found, having: held-out images with the label in which it was seen, and all of them.
        spared, lacking: held-out images without it in which it was not seen, and all of them.
    """
    sens, spec = found / max(having, 1), spared / max(lacking, 1)
    slope = sens + spec - 1
    return clipped((seen / count + spec - 1) / slope) if slope > 0 else 0.0


def clipped(share: float) -> float:
    return min(1.0, max(0.0, share))


def interval(
    seen: int, count: int, found: int, having: int, spared: int, lacking: int
) -> tuple[float, float]:
    """95 % interval of the share that `corrected` estimates, within 0 … 1.

    By Lang & Reiczigel 2014 (https://doi.org/10.1016/j.prevetmed.2013.09.015): normal, with images
    added as by Agresti and Coull. It includes the chance in the draw of the samples and in the
    choice of the held-out images.
    """
    p, n = (seen + Z**2 / 2) / (count + Z**2), count + Z**2
    sens, n_sens = (found + 1) / (having + 2), having + 2
    spec, n_spec = (spared + 1) / (lacking + 2), lacking + 2
    slope = sens + spec - 1
    if slope <= 0:
        return 0.0, 1.0
    share = clipped((p + spec - 1) / slope)
    of_sens, of_spec = sens * (1 - sens) / n_sens, spec * (1 - spec) / n_spec
    shift = 2 * Z**2 * (share * of_sens - (1 - share) * of_spec)
    variance = p * (1 - p) / n + share**2 * of_sens + (1 - share) ** 2 * of_spec
    reach = Z * math.sqrt(variance) / slope
    return clipped(share + shift - reach), clipped(share + shift + reach)


def class_shares(seen: np.ndarray, confusion: np.ndarray) -> np.ndarray:
    """The shares of K classes among images, from how many are taken for each: `seen`, int64 [K].

    Solves the K equations that hold if images of a class are confused with others as held-out ones
    are (Lipton et al. 2018, https://arxiv.org/abs/1802.03916). For two classes: `corrected`.

    Args:
        confusion: held-out images of the row's class taken for the column's, int64 [K, K].
    """
    blank = confusion.sum(1, keepdims=True) == 0  # nothing is known about this class
    counts = confusion + blank
    taken_for = counts / counts.sum(1, keepdims=True)
    return np.clip(np.linalg.pinv(taken_for.T) @ (seen / seen.sum()), 0, 1)


def class_intervals(seen: np.ndarray, confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """95 % intervals of what `class_shares` estimates: lower and upper ends [K], within 0 … 1.

    The form of `interval` for several classes, without the shift: normal, by the linear part of
    the solution's dependence on all counts, with as many images added.
    """
    classes = len(seen)
    n, n_of = seen.sum() + Z**2, confusion.sum(1) + 2
    p = (seen + Z**2 / classes) / n
    taken_for = (confusion + 2 / classes) / n_of[:, None]
    u, strengths, v = np.linalg.svd(taken_for.T)
    # Classes that the classifier cannot distinguish have no solution: their shares may be anything.
    solve = (v.T / strengths.clip(min=1e-6)) @ u.T
    share = np.clip(solve @ p, 0, 1)
    weights = share**2 / n_of  # a class weighs by its share; few held-out images are uncertain
    spread = (np.diag(p) - np.outer(p, p)) / n
    spread += np.diag(weights @ taken_for) - (taken_for.T * weights) @ taken_for
    reach = Z * np.sqrt(((solve @ spread) * solve).sum(1).clip(min=0))
    return np.clip(share - reach, 0, 1), np.clip(share + reach, 0, 1)
