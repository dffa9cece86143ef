"""Sliced Wasserstein distance: have fakes the reals' patches, level by level?

Sec. 5 of Karras et al. (ICLR 2018), with the numbers of the official code. Memory: an image keeps,
for each level, its Laplacian or its patches, whichever is smaller, as half floats: 16384 colour
images hold 0.03 GB at 16x16, 0.1 at 32x32, 0.4 at 64x64 and 0.6 at each level above, on each side;
2.3 GB together at 128x128, 6 GB at 1024x1024, and 1.1 GB of projections while they are compared.
Half floats are enough: their errors, of one part in four thousand, as often up as down, move no
quantile of millions.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from progan.distributed import random
from progan.errors import UserError
from progan.metrics.metric import Gather, Metric, alone
from progan.metrics.protocols import SMALLEST

PATCH = 7
PATCHES = 128  # an image and level
DIRECTIONS = 4 * 128
FLAT = 1e-3  # a deviation, in grey levels
AT_ONCE = 64  # directions whose projections are in memory together
SORTED_AT_ONCE = 8  # of these on a GPU, where sorting also makes indices of 8 bytes
GREY = 128.0  # taken off, for the sake of half floats


class SWD(Metric):
    """Of `count` fakes against as many reals of at least 16x16, times 1000 as in the paper.

    Where an image is cut depends on its number alone, so batches may be of any size. Results: the
    mean over levels under the metric's name, and `NAME_at_R` for each level.
    """

    has_floor = True

    def __init__(self, name: str, count: int):
        super().__init__(name, reals=count, fakes=count)
        self.sides: dict[str, list[Patches]] = {"reals": [], "fakes": []}

    def add(self, side: str, images: Tensor, first: int) -> None:
        levels = self.sides[side]
        pyramid = laplacian_pyramid(images.float())
        levels.extend(Patches() for _ in pyramid[len(levels) :])
        sizes = [level.shape[-1] for level in pyramid]
        places = np.stack([corners(first + i, sizes) for i in range(len(images))], axis=1)
        for patches, level, some in zip(levels, pyramid, places, strict=True):
            patches.add(level, torch.from_numpy(some))

    def result(self, gather: Gather = alone) -> dict[str, float]:
        distances = {}
        for reals, fakes in zip(*self.sides.values(), strict=True):
            name = f"{self.name}_at_{reals.size}"
            distances[name] = 1000 * sliced_distance(reals, fakes, gather)
        return {self.name: float(np.mean(list(distances.values()))), **distances}


def corners(index: int, sizes: Sequence[int]) -> np.ndarray:
    """Upper left corners of an image's patches in levels of these sizes: [levels, PATCHES, 2]."""
    places = np.array(sizes)[:, None, None] - PATCH + 1
    return random(0, "patches", index).integers(places, size=(len(sizes), PATCHES, 2))


@cache
def filters(size: int) -> tuple[Tensor, Tensor]:
    """Down [size / 2, size] and up [size, size / 2] along one axis, with mirrored borders.

    Binomial, 1 4 6 4 1; upwards it meets a zero at every other place, hence twice as strong.
    """
    binomial = torch.tensor([1, 4, 6, 4, 1], dtype=torch.float64) / 16
    units = F.pad(torch.eye(size, dtype=torch.float64), (2, 2), mode="reflect")
    blur = F.conv1d(units[:, None], binomial.view(1, 1, 5))[:, 0].T
    return blur[::2], 2 * blur[:, ::2]


def laplacian_pyramid(images: Tensor) -> list[Tensor]:
    """[N, C, r, r] -> what each level, down to 16x16, adds to the one below; finest first."""
    levels = [images - GREY]
    while levels[-1].shape[-1] > SMALLEST:
        down, up = (matrix.to(images) for matrix in filters(levels[-1].shape[-1]))
        coarser = down @ levels[-1] @ down.T
        levels[-1] = levels[-1] - up @ coarser @ up.T
        levels.append(coarser)
    return levels


def cut(level: Tensor, corners: Tensor) -> Tensor:
    """Patches [N * P, C * 49] of [N, C, r, r], from upper left corners [N, P, 2]."""
    windows = level.unfold(2, PATCH, 1).unfold(3, PATCH, 1)  # [N, C, r - 6, r - 6, 7, 7]
    image = torch.arange(len(level), device=level.device)[:, None]
    y, x = corners.to(level.device).unbind(2)
    return windows[image, :, y, x].flatten(2).flatten(0, 1)


class Patches:
    """One side's patches of one level, kept in the host's memory, and their moments."""

    def __init__(self) -> None:
        self.batches: list[tuple[Tensor, Tensor | None]] = []  # levels and corners, or patches
        self.count = 0
        self.sums = torch.zeros(())  # [3, C]: how many values, their sum, that of their squares
        self.channels = self.size = 0
        self.device = torch.device("cpu")

    def add(self, level: Tensor, corners: Tensor) -> None:
        """Take the patches at `corners` of [N, C, r, r]."""
        _, self.channels, self.size, _ = level.shape
        self.device = level.device
        patches = cut(level, corners)
        self.count += len(patches)
        values = patches.unflatten(1, (self.channels, -1))
        values = (values.cpu() if values.device.type == "mps" else values).double()  # it has none
        sums = [torch.ones_like(values), values, values.square()]
        self.sums = self.sums + torch.stack([v.sum(dim=(0, 2)) for v in sums]).cpu()
        whole = level[0].numel() < patches[0].numel() * PATCHES
        kept = level if whole else patches
        self.batches.append((kept.half().cpu(), corners if whole else None))

    def normalizing(self, directions: Tensor, gather: Gather) -> tuple[Tensor, Tensor]:
        """Factors [D, C * 49] and offsets [D] that project patches as `directions` normalized ones.

        Normalized is each channel: mean 0 and deviation 1 over all patches of this side.
        """
        count, total, squares = gather(self.sums[None]).sum(dim=0)
        mean = (total / count)[:, None]
        deviation = (squares / count - (total / count).square()).clamp(min=0).sqrt()[:, None]
        # Of a channel that is the same everywhere, as a generator's may be, nothing is left.
        scale = torch.where(deviation > FLAT, 1 / deviation, 0.0)
        factors = directions.unflatten(1, (self.channels, -1)) * scale
        offsets = -(factors * mean).sum(dim=(1, 2))
        return factors.flatten(1).float().to(self.device), offsets.float().to(self.device)

    def project(self, factors: Tensor, offsets: Tensor) -> Tensor:
        """[D, C * 49] and [D] -> [D, patches]."""
        projected = torch.empty(len(factors), self.count, device=self.device)
        start = 0
        for kept, corners in self.batches:
            values = kept.to(self.device).float()
            patches = values if corners is None else cut(values, corners)
            end = start + len(patches)
            projected[:, start:end] = torch.addmm(offsets[:, None], factors, patches.T)
            start = end
        return projected


def sliced_distance(reals: Patches, fakes: Patches, gather: Gather) -> float:
    """The mean over random directions of the Wasserstein distance between projections.

    On a line that is the mean difference of sorted values.
    """
    draw = random(0, "directions", reals.size)
    columns = draw.standard_normal((DIRECTIONS, reals.channels * PATCH**2))
    directions = torch.from_numpy(columns / np.linalg.norm(columns, axis=1, keepdims=True))
    factors = [side.normalizing(directions, gather) for side in (reals, fakes)]
    total = 0.0
    for start in range(0, DIRECTIONS, AT_ONCE):
        ordered = []
        for side, of_side in zip((reals, fakes), factors, strict=True):
            projected = side.project(*(part[start : start + AT_ONCE] for part in of_side))
            ordered.append(sort_rows(gather(projected.T).T.contiguous()))
        if ordered[0].shape != ordered[1].shape:
            raise UserError("swd compares as many reals as fakes; one side had fewer images")
        differences = (a.sub_(b).abs_().mean() for a, b in zip(*ordered, strict=True))
        total += sum(float(difference) for difference in differences)
    return total / DIRECTIONS


def sort_rows(values: Tensor) -> Tensor:
    """[D, n], each row sorted, in place; on a CPU by NumPy, which is several times as fast."""
    if values.device.type != "cpu":
        for some in values.split(SORTED_AT_ONCE):
            some.copy_(some.sort(dim=1).values)
        return values
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        list(threads.map(np.ndarray.sort, values.numpy()))
    return values
