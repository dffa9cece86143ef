"""Shares of labels among images, from what a classifier that errs has seen in them.

How it errs is known from held-out images. Attributes are each taken by themselves, classes all
together: which class an image is taken for depends on which other ones there are.
"""

import math

import numpy as np

Z = 1.96  # of a 95 % interval


def corrected(seen: int, count: int, found: int, having: int, spared: int, lacking: int) -> float:
    """The share of images with a label that is seen in so many (Rogan & Gladen 1978).

    Args:
        seen, count: samples in which it was seen, of so many; found, having: held-out images with
            the label; spared, lacking: those without it. A classifier that guesses tells nothing;
            then 0.
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

    That of Lang & Reiczigel 2014 (https://doi.org/10.1016/j.prevetmed.2013.09.015): normal, with
    images added as by Agresti and Coull; it counts the chance in which samples were drawn and in
    which held-out images the classifier was tried on.
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
    """The shares of K classes among images that a classifier takes for `seen`, int64 [K].

    The K equations that hold where images of a class are taken for the others as held-out ones are
    (Lipton et al. 2018, https://arxiv.org/abs/1802.03916); of two classes, `corrected`.

    Args:
        confusion: held-out images, int64 [K, K]: of the row's class, taken for the column's.
    """
    blank = confusion.sum(1, keepdims=True) == 0  # of such a class nothing is known
    counts = confusion + blank
    taken_for = counts / counts.sum(1, keepdims=True)
    return np.clip(np.linalg.pinv(taken_for.T) @ (seen / seen.sum()), 0, 1)


def class_intervals(seen: np.ndarray, confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """95 % intervals of what `class_shares` estimates: lower and upper ends [K], within 0 … 1.

    As `interval`, of which it is the form for several classes, but for the shift: normal, by the
    linear part of the solution's dependence on all counts, with as many images added.
    """
    classes = len(seen)
    n, n_of = seen.sum() + Z**2, confusion.sum(1) + 2
    p = (seen + Z**2 / classes) / n
    taken_for = (confusion + 2 / classes) / n_of[:, None]
    u, strengths, v = np.linalg.svd(taken_for.T)
    # Classes that are all the same to the classifier have no solution; theirs may be anything.
    solve = (v.T / strengths.clip(min=1e-6)) @ u.T
    share = np.clip(solve @ p, 0, 1)
    weights = share**2 / n_of  # a class counts by its images; few held-out ones are uncertain
    spread = (np.diag(p) - np.outer(p, p)) / n
    spread += np.diag(weights @ taken_for) - (taken_for.T * weights) @ taken_for
    reach = Z * np.sqrt(((solve @ spread) * solve).sum(1).clip(min=0))
    return np.clip(share - reach, 0, 1), np.clip(share + reach, 0, 1)
