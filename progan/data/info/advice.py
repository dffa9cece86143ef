"""The commands that fit some images and this machine, to copy."""

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from progan.config.load import load_config, presets
from progan.config.yaml_io import dump_inline
from progan.data.sources.find import NAMED

FEW = 7000  # images; the paper's networks would be shown each of them a thousand times
FOR_FEW, FOR_CPU = "few-images", "demo"  # presets


def train_command(
    data: Path | str, preset: str | None, settings: Mapping[str, Any], more: str = ""
) -> str:
    """The command that trains on images.

    Args:
        settings: those that differ from the preset's, by `section.key`.
        more: other options, as they are typed.
    """
    words = ["progan", "train", "--data", str(data)]
    words += ["--config", preset] if preset else []
    for key, value in settings.items():
        words += ["-o", f"{key}={dump_inline(value)}"]
    return f"{shlex.join(words)} {more}".rstrip()


def commands(
    data: Path | str, count: int, resolution: int, channels: int, labels: str, gpu: bool
) -> Iterator[str]:
    """Commands, each after the line that it is for.

    Args:
        count: of the images.
        resolution: the largest to train at.
        labels: options that train on the labels, and others to be added; empty: without.
        gpu: whether this machine has one.
    """
    if data in NAMED:
        yield train_command(data, None, {}, labels)
        return
    grey = {"network.channels": 1} if channels == 1 else {}
    if not gpu:
        small = load_config(FOR_CPU).network.resolution
        size = min(small, resolution)
        yield f"small networks at {size}x{size}, for this machine, which has no GPU:"
        smaller = {"network.resolution": size} if size < small else {}
        yield train_command(data, FOR_CPU, smaller | grey, labels)
    preset = FOR_FEW if count < FEW and FOR_FEW in presets() else None
    few = ", for few images" if preset else ""
    yield f"{'at' if gpu else 'on a GPU, at'} {resolution}x{resolution}{few}:"
    yield train_command(data, preset, {"network.resolution": resolution} | grey, labels)
