"""MS-SSIM between fakes: how alike two random samples are; lower means more variety.

Sec. 5 of Karras et al. (ICLR 2018) after Odena et al. (2017); the measure itself is by Wang et al.,
*Multi-scale structural similarity* (2003), with the numbers of the official code.
"""

from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from progan.metrics.metric import Bar, Gather, Metric, alone, no_bar

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales, finest first
WINDOW, SIGMA = 11, 1.5
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


class MSSSIM(Metric):
    """The mean over `count` pairs of fakes, and over as many pairs of reals to compare with.

    A pair is two consecutive images. Results: the fakes' under the metric's name, the reals' as
    `NAME_reals`.
    """

    proportional = True

    def __init__(self, name: str, count: int):
        super().__init__(name, reals=2 * count, fakes=2 * count)
        self.kept_as = f"msssim{count}"
        self.values: dict[str, list[Tensor]] = {"reals": [], "fakes": []}
        self.single: dict[str, list[Tensor]] = {"reals": [], "fakes": []}  # waits for its second

    def of(self, count: int) -> "MSSSIM":
        return MSSSIM(self.name, count // 2)

    def add(self, side: str, images: Tensor, first: int) -> None:
        images = torch.cat([*self.single[side], images])
        whole = len(images) // 2 * 2
        self.single[side] = [images[whole:]]
        if whole:
            pairs = images[:whole].float()
            self.values[side].append(ms_ssim(pairs[::2], pairs[1::2]))

    def mean(self, side: str, gather: Gather) -> float:
        return float(gather(torch.cat(self.values[side])).cpu().double().mean())

    def result(self, gather: Gather = alone, bar: Bar = no_bar) -> dict[str, float]:
        sides = {"": "fakes", "_reals": "reals"}
        return {f"{self.name}{ending}": self.mean(side, gather) for ending, side in sides.items()}

    def keep_reals(self, gather: Gather = alone) -> dict[str, np.ndarray]:
        return {"mean": np.array([self.mean("reals", gather)])}

    def use_reals(self, kept: dict[str, np.ndarray]) -> None:
        self.values["reals"] = [torch.from_numpy(kept["mean"])]


def ms_ssim(a: Tensor, b: Tensor) -> Tensor:
    """MS-SSIM of N pairs of images, values 0 … 255: [N, C, r, r] twice -> [N].

    A negative similarity, which has no fractional power, counts as 0.
    """
    product = torch.ones(len(a), device=a.device)
    for scale, weight in enumerate(WEIGHTS):
        if scale:
            a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
        whole, contrast = similarity(a, b)
        last = scale == len(WEIGHTS) - 1
        product *= (whole if last else contrast).clamp(min=0) ** weight
    return product


def similarity(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """SSIM, and its part without brightness, over windows wholly inside the image: [N] and [N]."""
    window = gaussian(a.shape[-1]).to(a)
    of_both = torch.stack([a, b, a * a, b * b, a * b])
    mean_a, mean_b, square_a, square_b, product = window @ of_both @ window.T
    variances = square_a - mean_a.square() + square_b - mean_b.square()
    contrast = (2 * (product - mean_a * mean_b) + C2) / (variances + C2)
    brightness = (2 * mean_a * mean_b + C1) / (mean_a.square() + mean_b.square() + C1)
    return (brightness * contrast).mean(dim=(1, 2, 3)), contrast.mean(dim=(1, 2, 3))


@cache
def gaussian(size: int) -> Tensor:
    """The matrix that blurs one axis: [size - window + 1, size]; a window is at most `size`."""
    window = min(WINDOW, size)
    places = torch.arange(window, dtype=torch.float64) - (window - 1) / 2
    weights = torch.exp(-0.5 * (places * WINDOW / (SIGMA * window)).square())
    weights /= weights.sum()
    rows = [F.pad(weights, (i, size - window - i)) for i in range(size - window + 1)]
    return torch.stack(rows)
