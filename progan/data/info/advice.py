"""The commands that fit some images and this machine, to copy."""

import shlex
from collections.abc import Iterator
from pathlib import Path

from progan.config.load import load_config, presets
from progan.data.sources.find import NAMED

FEW = 7000  # images; the paper's networks would be shown each of them a thousand times
FOR_FEW, FOR_CPU = "few-images", "demo"  # presets


def train_command(
    data: Path | str,
    resolution: int | None,
    channels: int = 3,
    labels: str = "",
    preset: str | None = None,
) -> str:
    """The command that trains on images.

    Args:
        resolution: None: that of the preset.
        labels: options that train on the labels, and others to be added; empty: without.
    """
    words = ["progan train --data", shlex.quote(str(data))]
    words += [f"--config {preset}"] if preset else []
    words += [f"-o network.resolution={resolution}"] if resolution else []
    words += ["-o network.channels=1"] if channels == 1 else []
    return " ".join([*words, labels] if labels else words)


def commands(
    data: Path | str, count: int, resolution: int, channels: int, labels: str, gpu: bool
) -> Iterator[str]:
    """Commands, each after the line that it is for.

    Args:
        count: of the images.
        resolution: the largest to train at.
        labels: see `train_command`.
        gpu: whether this machine has one.
    """
    if data in NAMED:
        yield train_command(data, None, labels=labels)
        return
    if not gpu:
        small = load_config(FOR_CPU).network.resolution
        size = min(small, resolution)
        yield f"small networks at {size}x{size}, for this machine, which has no GPU:"
        yield train_command(data, size if size < small else None, channels, labels, FOR_CPU)
    preset = FOR_FEW if count < FEW and FOR_FEW in presets() else None
    few = ", for few images" if preset else ""
    yield f"{'at' if gpu else 'on a GPU, at'} {resolution}x{resolution}{few}:"
    yield train_command(data, resolution, channels, labels, preset)
