"""Sliced Wasserstein distance: how the patches of fakes differ from those of reals, by level.

Sec. 5 of Karras et al. (ICLR 2018), with the numbers of the official code. Memory: an image keeps,
for each level, its Laplacian or its patches, whichever is smaller, as half floats: 16384 colour
images take 0.03 GB at 16x16, 0.1 at 32x32, 0.4 at 64x64 and 0.6 at each level above, on each side;
2.3 GB together at 128x128, 6 GB at 1024x1024, and 1.1 GB of projections while they are compared.
Half floats are enough: their errors, of one part in four thousand, as often up as down, move no
quantile of millions.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from progan.config.metric_names import SMALLEST
from progan.metrics.metric import Bar, Gather, Metric, alone, no_bar
from progan.runtime.errors import UserError
from progan.runtime.randomness import make_rng

PATCH = 7
PATCHES = 128  # of an image at each level
DIRECTIONS = 4 * 128
FLAT = 1e-3  # a channel with a smaller deviation, in grey levels, counts as constant
AT_ONCE = 64  # directions whose projections are in memory together
AT_ONCE_OF_MANY = 24  # the same with several processes, whose exchange takes copies
SORTED_AT_ONCE = 8  # of these on a GPU, where sorting also makes indices of 8 bytes
READ_AT_ONCE = 64  # images
KEPT_AS = torch.half
GREY = 128.0  # subtracted, as half floats are most exact near 0


class SWD(Metric):
    """Compares `count` fakes with as many reals of at least 16x16; times 1000, as in the paper.

    The places of an image's patches depend on its number alone, so batches may be of any size.
    Results: the mean over levels under the metric's name, and `NAME_at_R` for each level.
    """

    proportional = True

    def __init__(self, name: str, count: int):
        super().__init__(name, reals=count, fakes=count)
        self.sides: dict[str, list[Patches]] = {"reals": [], "fakes": []}

    def add(self, side: str, images: Tensor, first: int) -> None:
        levels = self.sides[side]
        pyramid = laplacian_pyramid(images.float())
        levels.extend(Patches(self.fakes) for _ in pyramid[len(levels) :])
        sizes = [level.shape[-1] for level in pyramid]
        places = np.stack([corners(first + i, sizes) for i in range(len(images))], axis=1)
        for patches, level, some in zip(levels, pyramid, places, strict=True):
            patches.add(level, torch.from_numpy(some))

    def of(self, count: int) -> "SWD":
        return SWD(self.name, count)

    def floor(self, count: int) -> "SWD":
        return SWD(f"{self.name}_floor", count)

    def result(self, gather: Gather = alone, bar: Bar = no_bar) -> dict[str, float]:
        distances = {}
        with bar(len(self.sides["reals"]) * DIRECTIONS, "directions") as advance:
            for reals, fakes in zip(*self.sides.values(), strict=True):
                name = f"{self.name}_at_{reals.size}"
                distances[name] = 1000 * sliced_distance(reals, fakes, gather, advance)
        return {self.name: float(np.mean(list(distances.values()))), **distances}


def corners(index: int, sizes: Sequence[int]) -> np.ndarray:
    """Upper left corners of an image's patches at levels of these sizes: [levels, PATCHES, 2]."""
    places = np.array(sizes)[:, None, None] - PATCH + 1
    return make_rng(0, "patches", index).integers(places, size=(len(sizes), PATCHES, 2))


@cache
def filters(size: int) -> tuple[Tensor, Tensor]:
    """Matrices that resample one axis, down [size / 2, size] and up [size, size / 2].

    Binomial, 1 4 6 4 1, with mirrored borders; upwards every other value is 0, hence the factor 2.
    """
    binomial = torch.tensor([1, 4, 6, 4, 1], dtype=torch.float64) / 16
    units = F.pad(torch.eye(size, dtype=torch.float64), (2, 2), mode="reflect")
    blur = F.conv1d(units[:, None], binomial.view(1, 1, 5))[:, 0].T
    return blur[::2], 2 * blur[:, ::2]


def laplacian_pyramid(images: Tensor) -> list[Tensor]:
    """[N, C, r, r] -> the details of each level, down to 16x16; finest first, the last is whole."""
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
    """One side's patches of one level, kept in the host's memory, and their moments.

    Memory for all images is allocated at once: allocated batch by batch, between blocks that are
    freed again, they would take several times as much.

    Args:
        most: number of images, at most.
    """

    def __init__(self, most: int):
        self.most = most
        self.count = 0  # images
        self.kept = self.corners = torch.zeros(0)  # levels and corners, or patches and nothing
        self.sums = torch.zeros(())  # [3, C]: number of values, their sum, the sum of squares
        self.channels = self.size = 0
        self.device = torch.device("cpu")

    def add(self, level: Tensor, corners: Tensor) -> None:
        """Add the patches at `corners` of [N, C, r, r]."""
        patches = cut(level, corners).unflatten(0, (-1, PATCHES))  # [N, PATCHES, C * 49]
        whole = level[0].numel() < patches[0].numel()
        kept = level if whole else patches
        if not self.count:
            _, self.channels, self.size, _ = level.shape
            self.device = level.device
            self.kept = room((self.most, *kept.shape[1:]), KEPT_AS)
            self.corners = room((self.most if whole else 0, PATCHES, 2), torch.int16)
        part = slice(self.count, self.count + len(level))
        self.kept[part] = kept
        if whole:
            self.corners[part] = corners
        self.count += len(level)
        values = patches.unflatten(2, (self.channels, -1))
        values = (values.cpu() if values.device.type == "mps" else values).double()  # MPS has none
        sums = [torch.ones_like(values), values, values.square()]
        self.sums = self.sums + torch.stack([v.sum(dim=(0, 1, 3)) for v in sums]).cpu()

    def normalizing(self, directions: Tensor, gather: Gather) -> tuple[Tensor, Tensor]:
        """Factors [D, C * 49] and offsets [D] that normalize patches and project on `directions`.

        Each channel is normalized to mean 0 and deviation 1 over all patches of this side.
        """
        count, total, squares = gather(self.sums[None]).sum(dim=0)
        mean = (total / count)[:, None]
        deviation = (squares / count - (total / count).square()).clamp(min=0).sqrt()[:, None]
        # A constant channel, which a generator may have, becomes 0.
        scale = torch.where(deviation > FLAT, 1 / deviation, 0.0)
        factors = directions.unflatten(1, (self.channels, -1)) * scale
        offsets = -(factors * mean).sum(dim=(1, 2))
        return factors.flatten(1).float().to(self.device), offsets.float().to(self.device)

    def project(self, factors: Tensor, offsets: Tensor) -> Tensor:
        """[D, C * 49] and [D] -> [D, patches]."""
        projected = torch.empty(len(factors), self.count, PATCHES, device=self.device)
        for start in range(0, self.count, READ_AT_ONCE):
            part = slice(start, min(start + READ_AT_ONCE, self.count))
            values = self.kept[part].to(self.device).float()
            corners = self.corners[part]
            patches = cut(values, corners.long()) if len(corners) else values.flatten(0, 1)
            found = torch.addmm(offsets[:, None], factors, patches.T)
            projected[:, part] = found.unflatten(1, (-1, PATCHES))
        return projected.flatten(1)


def room(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Memory that is taken only when it is written: each process has its share of the images.

    NumPy's, as torch fills its own with run.deterministic.
    """
    return torch.from_numpy(np.empty(shape, torch.empty(0, dtype=dtype).numpy().dtype))


def sliced_distance(
    reals: Patches, fakes: Patches, gather: Gather, advance: Callable[[int], None]
) -> float:
    """The mean over random directions of the Wasserstein distance between projections.

    On a line that is the mean difference of sorted values.

    Args:
        advance: called with the number of directions just done.
    """
    draw = make_rng(0, "directions", reals.size)
    columns = draw.standard_normal((DIRECTIONS, reals.channels * PATCH**2))
    directions = torch.from_numpy(columns / np.linalg.norm(columns, axis=1, keepdims=True))
    factors = [side.normalizing(directions, gather) for side in (reals, fakes)]
    total, count = 0.0, AT_ONCE if gather is alone else AT_ONCE_OF_MANY
    for start in range(0, DIRECTIONS, count):
        some = [[part[start : start + count] for part in of_side] for of_side in factors]
        total += sum_of_distances(
            *(gather(side.project(*f).T).T for side, f in zip((reals, fakes), some, strict=True))
        )
        advance(len(some[0][0]))
    return total / DIRECTIONS


def sum_of_distances(a: Tensor, b: Tensor) -> float:
    """The sum over D directions of the distances of projections [D, n], which it sorts in place.

    Raises:
        UserError: one side has fewer.
    """
    if a.shape != b.shape:
        raise UserError("swd compares as many reals as fakes; one side had fewer images")
    sides = sort_rows(a.contiguous()), sort_rows(b.contiguous())
    return sum(float(x.sub_(y).abs_().mean()) for x, y in zip(*sides, strict=True))


def sort_rows(values: Tensor) -> Tensor:
    """Sort each row of [D, n] in place; on a CPU by NumPy, which is several times as fast."""
    if values.device.type != "cpu":
        for some in values.split(SORTED_AT_ONCE):
            some.copy_(some.sort(dim=1).values)
        return values
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        list(threads.map(np.ndarray.sort, values.numpy()))
    return values
