"""A small network that learns the labels of reals, and says which of them it sees in images."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from progan.data.dataset import Dataset
from progan.runtime.errors import UserError
from progan.runtime.numerics import float32_as
from progan.runtime.progress import progress_bar
from progan.runtime.randomness import make_rng

FINEST = 64  # resolution: what labels name is seen there, and a classifier is quick
FEWEST = 50  # labelled images; ten of them test the classifier
SHOWN = 40_000  # images while learning, at most: a minute on two cores at 32x32
EPOCHS = 40  # at most, as few images are soon known by heart
HELD_OUT = 5  # one image in five is for testing only,
MOST_HELD_OUT = 10_000  # which are more than enough
BATCH = 64
AT_ONCE = 256  # images that are only looked at
RATE = 2e-3
HEAVIEST = 10  # a rare label counts up to so many times as much as its images would


@dataclass(frozen=True)
class Trial:
    """How a classifier did on held-out reals: arrays of counts, int64 [K], by label.

    having: images that have the label; found: those of them in which it was seen. lacking: images
    without it; spared: those of them in which it was not seen. confusion: of classes, images of
    the row's that were taken for the column's, int64 [K, K]; None of attributes.
    """

    having: np.ndarray
    found: np.ndarray
    lacking: np.ndarray
    spared: np.ndarray
    confusion: np.ndarray | None = None

    @classmethod
    def of(cls, true: np.ndarray, seen: np.ndarray, exclusive: bool) -> "Trial":
        """From bool [n, K] each."""
        counts = (true, true & seen, ~true, ~true & ~seen)
        confusion = None
        if exclusive:
            confusion = np.zeros((true.shape[1],) * 2, np.int64)
            np.add.at(confusion, (true.argmax(1), seen.argmax(1)), 1)
        return cls(*(array.sum(0, dtype=np.int64) for array in counts), confusion)


@dataclass(frozen=True)
class Classifier:
    """Sees labels in images, and knows what the data's labels are and how often it errs.

    names: of K classes or attributes. exclusive: an image has exactly one. shares: of all the
    data's images, float64 [K]. shown: how many images it learned from, repeats included.
    """

    network: nn.Module
    resolution: int
    names: tuple[str, ...]
    exclusive: bool
    shares: np.ndarray
    trial: Trial
    shown: int

    def see(self, images: Tensor) -> np.ndarray:
        """Which labels images have, as far as the network can tell.

        Args:
            images: uint8 [n, C, r, r] with r the classifier's resolution times a power of two.

        Returns:
            bool [n, K].
        """
        return seen_by(self.network, images, self.resolution, self.exclusive)


def make_network(channels: int, resolution: int, outputs: int, seed: int) -> nn.Module:
    """Convolutions down to 4x4, then a dense layer: [n, channels, r, r] -> logits [n, outputs].

    Weights are He's, from a counted draw; torch's own generators are left alone.
    """
    layers: list[nn.Module] = []
    with torch.device("meta"):  # where torch's own initialization costs and draws nothing
        width, r = channels, resolution
        while True:
            wider = min(1024 // r, 128)
            layers += [nn.Conv2d(width, wider, 3, padding=1), nn.GroupNorm(min(8, wider), wider)]
            layers += [nn.LeakyReLU(0.2)]
            width = wider
            if r == 4:
                break
            layers += [nn.AvgPool2d(2)]
            r //= 2
        layers += [nn.Flatten(), nn.Linear(width * 16, outputs)]
    network = nn.Sequential(*layers).to_empty(device="cpu")
    draw = make_rng(seed, "balance", 0)
    for layer in network:
        if hasattr(layer, "weight"):
            nn.init.zeros_(layer.bias)
            nn.init.ones_(layer.weight)
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            values = draw.standard_normal(tuple(layer.weight.shape), dtype=np.float32)
            values *= math.sqrt(2 / values[0].size)
            layer.weight.data.copy_(torch.from_numpy(values))
    return network


def seen_by(network: nn.Module, images: Tensor, resolution: int, exclusive: bool) -> np.ndarray:
    """`Classifier.see` of a network by itself."""
    size = images.shape[-1]
    assert size >= resolution and size % resolution == 0, (size, resolution)
    device = next(network.parameters()).device
    with torch.no_grad(), float32_as("ieee"):
        pixels = images.to(device).float()
        if size > resolution:  # as the data's own levels are made
            pixels = F.avg_pool2d(pixels, size // resolution).round()
        logits = network(scaled(pixels))
    if exclusive:
        return F.one_hot(logits.argmax(1), logits.shape[1]).bool().cpu().numpy()
    return (logits > 0).cpu().numpy()


def scaled(pixels: Tensor) -> Tensor:
    """0 … 255 -> [-1, 1]."""
    return pixels.float() / 127.5 - 1


def train(
    data: Dataset,
    resolution: int,
    *,
    mirror: bool = False,
    seed: int = 0,
    shown: int = SHOWN,
    device: torch.device | str = "cpu",
    say: Callable[[str], None] | None = None,
) -> Classifier:
    """A classifier of the data's labels, trained on four fifths of the images, tested on the rest.

    The same on every start, on CPUs; chance is counted, and no global generator is used.

    Args:
        resolution: a level of the data.
        mirror: flip half of the images left to right while training.
        shown: how many images are shown in all, at most; fewer where there are few.
        say: shows progress; None: silence.

    Raises:
        UserError: the data has too few images.
    """
    labels = data.labels
    assert labels is not None
    if data.count < FEWEST:
        raise UserError(
            f"balance trains and tests a classifier on images with labels, {FEWEST} or more; "
            f"{data.title} has {data.count}"
        )
    exclusive = labels.kind == "classes"
    shares = labels.shares
    held_out, rest = split(data.count, seed)
    network = make_network(data.channels, resolution, len(labels.names), seed).to(device)
    steps = max(1, min(shown, EPOCHS * len(rest)) // BATCH)
    reals = partial(read, data, resolution)
    with progress_bar("learning the labels", steps * BATCH, 0, say) as done:
        order = batches(rest, steps, mirror, seed)
        learn(network, reals, labels.matrix, shares, exclusive, order, steps, done)
    parts = np.array_split(held_out, -(-len(held_out) // AT_ONCE))
    seen = [seen_by(network, reals(part), resolution, exclusive) for part in parts]
    trial = Trial.of(labels.matrix(held_out), np.concatenate(seen), exclusive)
    return Classifier(
        network, resolution, labels.names, exclusive, shares, trial, shown=steps * BATCH
    )


def split(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the images that test, in order, and of those that teach."""
    order = make_rng(seed, "balance", 1).permutation(count)
    held_out, rest = np.split(order, [count // HELD_OUT])
    return np.sort(held_out[:MOST_HELD_OUT]), rest


def read(
    data: Dataset, resolution: int, indices: np.ndarray, flips: np.ndarray | None = None
) -> Tensor:
    """uint8 [n, C, r, r], those of `flips` mirrored."""
    images = data.read(indices, resolution)
    if flips is not None:
        images[flips] = images[flips][..., ::-1]
    return torch.from_numpy(images)


def batches(
    images: np.ndarray, steps: int, mirror: bool, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Indices and flips [BATCH] of so many batches: all images in a new order, again and again."""
    epochs = -(-steps * BATCH // len(images))
    draws = [make_rng(seed, "balance", 2 + epoch) for epoch in range(epochs)]
    order = np.concatenate([images[draw.permutation(len(images))] for draw in draws])
    flips = np.concatenate([draw.random(len(images)) < (0.5 if mirror else 0) for draw in draws])
    for k in range(0, steps * BATCH, BATCH):
        yield order[k : k + BATCH], flips[k : k + BATCH]


def learn(
    network: nn.Module,
    reals: Callable[[np.ndarray, np.ndarray], Tensor],
    labels_of: Callable[[np.ndarray], np.ndarray],
    shares: np.ndarray,
    exclusive: bool,
    order: Iterator[tuple[np.ndarray, np.ndarray]],
    steps: int,
    done: Callable[[int], None],
) -> None:
    """Adam, with a rate that falls to 0; rare labels count more, or they would not be learned.

    Args:
        reals: indices and flips to uint8 [n, C, r, r].
        labels_of: indices to bool [n, K].
        shares: of all images, float64 [K].
        done: told of images just shown.
    """
    device = next(network.parameters()).device
    share = torch.from_numpy(shares).to(device, torch.float32).clamp(1e-6, 1 - 1e-6)
    weight = ((1 - share) / share).clamp(1 / HEAVIEST, HEAVIEST)
    optimizer = torch.optim.Adam(network.parameters(), RATE)
    for step, (indices, flips) in enumerate(order):
        optimizer.param_groups[0]["lr"] = RATE * (1 - step / steps)
        wanted = torch.from_numpy(labels_of(indices)).to(device, torch.float32)
        with float32_as("ieee"):
            logits = network(scaled(reals(indices, flips).to(device)))
            if exclusive:
                loss = F.cross_entropy(logits, wanted.argmax(1), weight)
            else:
                loss = F.binary_cross_entropy_with_logits(logits, wanted, pos_weight=weight)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
        optimizer.step()
        done(len(indices))
