"""A small network that learns the labels of reals and recognizes them in images."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from progan.data.dataset import Dataset
from progan.data.labels import Labels
from progan.runtime.errors import UserError
from progan.runtime.numerics import float32_as
from progan.runtime.progress import progress_bar
from progan.runtime.randomness import make_rng

FINEST = 64  # resolution: enough to see what labels name, and quick
FEWEST = 50  # labelled images; ten of them test the classifier
SHOWN = 40_000  # images while learning, at most: a minute on two cores at 32x32
EPOCHS = 40  # at most, as a few images are soon overfitted
HELD_OUT = 5  # one image in five is for testing only,
MOST_HELD_OUT = 10_000  # which are more than enough
BATCH = 64
AT_ONCE = 256  # images in a batch when testing
RATE = 2e-3
HEAVIEST = 10  # the largest weight of a rare label


@dataclass(frozen=True)
class Trial:
    """Results of a classifier on held-out reals: counts of images by label, int64 [K].

    Args:
        having: images with the label.
        found: those of them in which it was seen.
        lacking: images without the label.
        spared: those of them in which it was not seen.
        confusion: images of the row's class that were taken for the column's, int64 [K, K]; None
            for attributes.
    """

    having: np.ndarray
    found: np.ndarray
    lacking: np.ndarray
    spared: np.ndarray
    confusion: np.ndarray | None = None

    @classmethod
    def of(cls, true: np.ndarray, seen: np.ndarray, exclusive: bool) -> "Trial":
        """Count true labels and seen ones, bool [n, K] each."""
        confusion = None
        if exclusive:
            confusion = np.zeros((true.shape[1],) * 2, np.int64)
            np.add.at(confusion, (true.argmax(1), seen.argmax(1)), 1)
        having, found, lacking, spared = (
            array.sum(0, dtype=np.int64) for array in (true, true & seen, ~true, ~true & ~seen)
        )
        return cls(having, found, lacking, spared, confusion)


@dataclass(frozen=True)
class Classifier:
    """Recognizes labels in images; has the labels of the data and its own errors.

    Args:
        shown: number of images it learned from, repeats included.
    """

    network: nn.Module
    resolution: int
    labels: Labels
    trial: Trial
    shown: int

    def see(self, images: Tensor) -> np.ndarray:
        """The labels that the network recognizes in images: bool [n, K].

        Args:
            images: uint8 [n, C, r, r] with r the classifier's resolution times a power of two.
        """
        return seen_by(self.network, images, self.resolution, self.labels)


def make_network(channels: int, resolution: int, outputs: int, seed: int) -> nn.Module:
    """Convolutions down to 4x4, then a dense layer: [n, channels, r, r] -> logits [n, outputs].

    Weights are He's, from a counted draw; torch's own generators are left alone.
    """
    layers: list[nn.Module] = []
    with torch.device("meta"):  # here torch's own initialization costs and draws nothing
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
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1:
            values = draw.standard_normal(tuple(parameter.shape), dtype=np.float32)
            values *= math.sqrt(2 / values[0].size)
            parameter.data.copy_(torch.from_numpy(values))
        else:  # norms scale by 1; biases are 0
            parameter.data.fill_(1.0 if name.endswith("weight") else 0.0)
    return network


def seen_by(network: nn.Module, images: Tensor, resolution: int, labels: Labels) -> np.ndarray:
    """`Classifier.see` for a bare network."""
    size = images.shape[-1]
    assert size >= resolution and size % resolution == 0, (size, resolution)
    device = next(network.parameters()).device
    with torch.no_grad(), float32_as("ieee"):
        pixels = images.to(device).float()
        if size > resolution:  # the same filter as in the data's levels
            pixels = F.avg_pool2d(pixels, size // resolution).round()
        logits = network(scaled(pixels))
    if labels.kind == "classes":
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

    On CPUs every call gives the same one. No global generator is used.

    Args:
        resolution: a level of the data.
        mirror: flip half of the images left to right while training.
        shown: the number of images shown in all, at most; fewer if the data is small.
        say: shows progress; None: silence.

    Raises:
        UserError: the data has too few images.
    """
    labels = data.labels
    assert labels is not None
    if data.count < FEWEST:
        raise UserError(
            f"balance trains and tests a classifier on images with labels, {FEWEST} or more; "
            f"this data has {data.count}"
        )
    held_out, rest = split(data.count, seed)
    network = make_network(data.channels, resolution, len(labels.names), seed).to(device)
    steps = max(1, min(shown, EPOCHS * len(rest)) // BATCH)
    reals = partial(read, data, resolution)
    with progress_bar("learning the labels", steps * BATCH, 0, say) as done:
        order = batches(rest, steps, mirror, seed)
        learn(network, reals, labels, order, steps, done)
    parts = np.array_split(held_out, -(-len(held_out) // AT_ONCE))
    seen = [seen_by(network, reals(part), resolution, labels) for part in parts]
    exclusive = labels.kind == "classes"
    trial = Trial.of(labels.matrix(held_out), np.concatenate(seen), exclusive)
    return Classifier(network, resolution, labels, trial, shown=steps * BATCH)


def split(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the images for testing, in order, and of those for training."""
    order = make_rng(seed, "balance", 1).permutation(count)
    held_out, rest = np.split(order, [count // HELD_OUT])
    return np.sort(held_out[:MOST_HELD_OUT]), rest


def read(
    data: Dataset, resolution: int, indices: np.ndarray, flips: np.ndarray | None = None
) -> Tensor:
    """Images of the data, mirrored where `flips` says: uint8 [n, C, r, r]."""
    images = data.read(indices, resolution)
    if flips is not None:
        images[flips] = images[flips][..., ::-1]
    return torch.from_numpy(images)


def batches(
    images: np.ndarray, steps: int, mirror: bool, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Indices and flips [BATCH] of each batch: all images in a new order, again and again."""
    epochs = -(-steps * BATCH // len(images))
    draws = [make_rng(seed, "balance", 2 + epoch) for epoch in range(epochs)]
    order = np.concatenate([images[draw.permutation(len(images))] for draw in draws])
    flips = np.concatenate([draw.random(len(images)) < (0.5 if mirror else 0) for draw in draws])
    for k in range(0, steps * BATCH, BATCH):
        yield order[k : k + BATCH], flips[k : k + BATCH]


def learn(
    network: nn.Module,
    reals: Callable[[np.ndarray, np.ndarray], Tensor],
    labels: Labels,
    order: Iterator[tuple[np.ndarray, np.ndarray]],
    steps: int,
    done: Callable[[int], object],
) -> None:
    """Train with Adam, at a rate that falls to 0; rare labels weigh more, or none is learned.

    Args:
        reals: indices and flips to uint8 [n, C, r, r].
        done: called with the number of images just shown.
    """
    device = next(network.parameters()).device
    share = torch.from_numpy(labels.shares).to(device, torch.float32).clamp(1e-6, 1 - 1e-6)
    weight = ((1 - share) / share).clamp(1 / HEAVIEST, HEAVIEST)
    optimizer = torch.optim.Adam(network.parameters(), RATE)
    for step, (indices, flips) in enumerate(order):
        optimizer.param_groups[0]["lr"] = RATE * (1 - step / steps)
        wanted = torch.from_numpy(labels.matrix(indices)).to(device, torch.float32)
        with float32_as("ieee"):
            logits = network(scaled(reals(indices, flips).to(device)))
            if labels.kind == "classes":
                loss = F.cross_entropy(logits, wanted.argmax(1), weight)
            else:
                loss = F.binary_cross_entropy_with_logits(logits, wanted, pos_weight=weight)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
        optimizer.step()
        done(len(indices))
