"""Whether a generator memorizes: its samples' nearest training images, by pixels or features."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from progan.data.dataset import Dataset
from progan.data.decode import box_levels
from progan.data.epoch_order import EpochOrder
from progan.metrics.evaluate import batch_size
from progan.metrics.inception import Inception
from progan.metrics.reference_cache import ReferenceCache
from progan.runtime.errors import UserError
from progan.runtime.progress import Say, progress_bar

K = 5  # neighbours of a sample
YARDSTICK = 256  # training images whose own nearest others are searched
SAME = 3.0  # grey levels between pixels that nobody sees
MEMORIZED = 0.5  # of the yardstick: nearer than that is not by chance
PIXEL_BATCH = 1024  # images searched at a time: 25 MB of float64 at 32x32
MOST_KEPT = 2e9  # bytes of features; those of more images are computed again each time


@dataclass(frozen=True)
class TrainingImages:
    """The training images, by index.

    Args:
        mirror: whether they were also shown flipped left to right.
        device: where to search.
        say: shows progress; None: silence.

    Raises:
        UserError: there are fewer than two, so that none has a neighbour.
    """

    data: Dataset
    mirror: bool
    device: torch.device | str = "cpu"
    say: Say = None

    def __post_init__(self) -> None:
        if self.data.count < 2:
            raise UserError(
                f"{self.data.title} has {self.data.count} image; neighbours need two or more: "
                "give --data"
            )

    @property
    def chosen(self) -> np.ndarray:
        """Indices [M] of the images that give the yardstick: the first that metrics see."""
        count = self.data.count
        return EpochOrder(count, seed=0).at(0, min(count, YARDSTICK))[0]

    def batches(self, title: str, resolution: int, size: int) -> Iterator[np.ndarray]:
        """All of them in order, `size` at a time: uint8 [n, C, r, r]."""
        count = self.data.count
        with progress_bar(title, count, 0, self.say) as done:
            for first in range(0, count, size):
                indices = np.arange(first, min(first + size, count))
                yield self.data.read(indices, resolution)
                done(len(indices))

    def views(self, images: np.ndarray) -> list[np.ndarray]:
        """Images [n, C, r, r] and, if training mirrors, the same flipped.

        Samples are flipped, not the whole data: a sample is as near to a flipped image as the
        flipped sample is to the image.
        """
        return [images, np.ascontiguousarray(images[..., ::-1])] if self.mirror else [images]


@dataclass(frozen=True)
class Nearest:
    """The K training images nearest to each of Q images, the nearest first; none is listed twice.

    Args:
        indices: int64 [Q, K]; fewer columns if there are fewer images.
        flipped: bool [Q, K], whether the image's mirror image is the nearer one.
        distances: float64 [Q, K].
    """

    indices: np.ndarray
    flipped: np.ndarray
    distances: np.ndarray


@dataclass(frozen=True)
class Comparison:
    """Distances of samples to training images, and of training images to each other.

    Args:
        samples: the training images nearest to each sample.
        reals: float64 [M], distances of training images to their nearest other. A twin at another
            index is another image; the image's own mirror image is not, as it would make symmetric
            images their own neighbours.
    """

    samples: Nearest
    reals: np.ndarray

    @property
    def yardstick(self) -> float:
        """The median distance of a training image to its nearest other."""
        return float(np.median(self.reals))

    @property
    def median(self) -> float:
        """The median distance of a sample to its nearest training image."""
        return float(np.median(self.samples.distances[:, 0]))

    @property
    def memorizes(self) -> bool:
        """Whether half of the samples or more are much nearer than training images are."""
        return self.median < MEMORIZED * self.yardstick

    @property
    def near(self) -> np.ndarray:
        """Whether a neighbour is so near that the sample may be a copy: bool [Q, K]."""
        return self.samples.distances < MEMORIZED * self.yardstick


def pixel_resolution(resolution: int, alpha: float | None) -> int:
    """The resolution to compare pixels at: at most 32, as finer detail hides similarity.

    While a block fades in, the one below: at full resolution samples are smoother than reals.
    """
    return min(32, resolution if alpha is None else resolution // 2)


def by_pixels(samples: np.ndarray, originals: TrainingImages, resolution: int) -> Comparison:
    """Compare by the root mean squared difference in grey levels, 0 to 255.

    Args:
        samples: uint8 [S, C, r, r].
        resolution: at most r; both sides are box averages of this size.
    """
    small = box_levels(samples, resolution)[resolution]

    def rows(images: np.ndarray) -> Tensor:
        return torch.from_numpy(images.reshape(len(images), -1))

    reals = map(rows, originals.batches("pixels", resolution, PIXEL_BATCH))
    found = compare(small, originals, rows, PIXEL_BATCH, reals)
    scale = np.sqrt(small[0].size)
    nearest = replace(found.samples, distances=found.samples.distances / scale)
    return Comparison(nearest, found.reals / scale)


def by_features(
    samples: np.ndarray, originals: TrainingImages, inception: Inception, kept: ReferenceCache
) -> Comparison:
    """Compare by the Euclidean distance of Inception's features: the space of FID.

    Args:
        samples: uint8 [S, C, r, r], compared with the training images at r.
        kept: for these data at r. Has the features of the training images, unless they take more
            than 2 GB, and the yardstick; computed and written if they are not there.
    """
    size = batch_size(samples.shape[-1])
    name = f"neighbours-{inception.version}"
    known = kept.load(name) or {}
    computed: list[Tensor] = []

    def rows(images: np.ndarray) -> Tensor:
        return inception(torch.from_numpy(images).to(originals.device))[0]

    def compute() -> Iterator[Tensor]:
        for batch in map(rows, originals.batches("Inception features", samples.shape[-1], size)):
            if originals.data.count * batch[0].nbytes <= MOST_KEPT:
                computed.append(batch.cpu())
            yield batch

    every = known.get("features")
    reals = compute() if every is None else torch.from_numpy(every).split(PIXEL_BATCH)
    found = compare(samples, originals, rows, size, reals, known.get("yardstick"), originals.say)
    if not known:
        features = {"features": torch.cat(computed).numpy()} if computed else {}
        kept.save(name, {"yardstick": found.reals} | features)
    return found


def compare(
    samples: np.ndarray,
    originals: TrainingImages,
    rows: Callable[[np.ndarray], Tensor],
    size: int,
    reals: Iterable[Tensor],
    yardstick: np.ndarray | None = None,
    say: Say = None,
) -> Comparison:
    """Compare by the Euclidean distance of rows, in one pass over the training images.

    Args:
        rows: uint8 [n, C, r, r] -> [n, F].
        size: images that `rows` takes at a time.
        reals: the rows of all training images, [n, F] each.
        yardstick: the `reals` of the comparison, if they are known.
        say: shows progress in making the rows of the samples and for the yardstick.
    """
    resolution = samples.shape[-1]
    chosen = originals.chosen if yardstick is None else originals.chosen[:0]
    own = np.concatenate([np.full(len(samples), -1), chosen])
    views = []
    with progress_bar("images to compare", len(own), 0, say) as done:
        for start in range(0, len(own), size):
            part = own[start : start + size]
            images = [
                samples[start : start + size],
                originals.data.read(part[part >= 0], resolution),
            ]
            views.append(torch.stack([rows(v) for v in originals.views(np.concatenate(images))]))
            done(len(part))
    found = search(torch.cat(views, dim=1), reals, K, own, originals.device)
    of_samples = (a[: len(samples)] for a in (found.indices, found.flipped, found.distances))
    others = found.distances[len(samples) :, 0] if yardstick is None else yardstick
    return Comparison(Nearest(*of_samples), others)


def search(
    queries: Tensor,
    batches: Iterable[Tensor],
    k: int,
    own: np.ndarray,
    device: torch.device | str = "cpu",
) -> Nearest:
    """The k nearest of many rows, of which one batch is in memory at a time.

    In float64, where |a|² + |b|² - 2ab is exact for pixels: copies are found at distance 0 and
    equals in their order, with no second look. CUDA and CPUs have it, other devices use the CPU.

    Args:
        queries: [V, Q, F] in V = 1 or 2 views, unflipped and flipped; the nearer view counts.
        batches: [n, F] each, one after another.
        own: int64 [Q], the row that is the query itself, not its neighbour; -1: none.
    """
    device = torch.device(device) if torch.device(device).type == "cuda" else torch.device("cpu")
    queries = queries.to(device, torch.float64)
    squares = queries.square().sum(2, keepdim=True)
    itself = torch.from_numpy(own)[:, None].to(device)
    count = queries.shape[1]
    distances = torch.empty(count, 0, dtype=torch.float64, device=device)
    indices = torch.empty(count, 0, dtype=torch.int64, device=device)
    flipped = torch.empty(count, 0, dtype=torch.bool, device=device)
    first = 0
    for batch in batches:
        rows = batch.to(device, torch.float64)
        both = squares + rows.square().sum(1) - 2 * (queries @ rows.T)  # [V, Q, n]
        places = torch.arange(first, first + len(rows), device=device)
        now = both.amin(0).masked_fill_(itself == places, torch.inf)
        # Sorted stably, as `topk` would take any of several equals.
        distances, order = torch.cat([distances, now], 1).sort(dim=1, stable=True)
        distances, order = distances[:, :k], order[:, :k]
        indices = torch.cat([indices, places.expand(count, -1)], 1).gather(1, order)
        flipped = torch.cat([flipped, both[-1] < both[0]], 1).gather(1, order)
        first += len(rows)
    distances = distances.clamp(min=0).sqrt()  # features' may be a rounding below
    return Nearest(*(a.cpu().numpy() for a in (indices, flipped, distances)))


def verdict(
    found: Comparison, seeds: list[int], kind: str, unit: str, same: float = 0.0
) -> list[str]:
    """The figures of a comparison in words, and what they mean.

    Args:
        seeds: of the samples.
        kind: what was compared, such as "pixels at 32x32".
        unit: follows distances, such as " grey levels".
        same: images that are no farther from each other look the same.
    """
    own, yardstick = found.samples.distances[:, 0], found.yardstick
    line = (
        f"nearest training image by {kind}: median {found.median:.3g}{unit} (samples), "
        f"{yardstick:.3g} (training images to each other)"
    )
    if yardstick <= same:
        twins = "most training images have a twin that looks the same: distances mean nothing; "
        return [line, twins + "remove copies (data.drop_copies=true leaves out the exact ones)"]
    line += f"; smallest ratio {own.min() / yardstick:.2f} (seed {seeds[own.argmin()]})"
    near = [str(seed) for seed, near in zip(seeds, found.near[:, 0], strict=True) if near]
    if found.memorizes:
        sense = "samples are clearly nearer to training images than those are to each other: "
        sense += "the generator seems to memorize"
    elif near:
        sense = "most samples show no sign of memorizing, but some do"
    else:
        sense = f"no sign of memorizing in {kind}; that is no proof that there is none"
    if near:
        sense += f"; less than half as far: seeds {', '.join(near)}"
    return [line, sense]
