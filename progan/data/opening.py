"""From the data section of a config to a data set."""

import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from progan.config.config import Config
from progan.config.settings import DataConfig
from progan.data.dataset import Dataset
from progan.data.decode import Square
from progan.data.live import OnDemandDataset
from progan.data.pyramid.format import Pyramid, is_pyramid
from progan.data.pyramid.prepare import cached
from progan.data.sources.bit_depth import warn_of_darkness
from progan.data.sources.find import NAMED, find, first
from progan.data.sources.shards import from_shards, is_shards
from progan.data.sources.source import Source
from progan.runtime.cache import lock
from progan.runtime.errors import LabelError, UserError


def open_data(
    config: Config, download: bool = False, say: Callable[[str], None] = print
) -> Dataset:
    """The images that `data.source` names, prepared if that has not been done yet.

    Raises:
        UserError: there are none, or they do not fit the config.
    """
    data, network = config.data, config.network
    if data.source is None:
        raise UserError("data.source is not set; give demo, or the path of a folder of images")
    path = Path(os.path.expanduser(data.source))
    cache = Path(data.cache) if data.cache else None
    fit = data.fit if isinstance(data.fit, str) else (data.fit[0], data.fit[1], data.fit[2])
    square = Square(network.resolution, network.channels, fit, data.allow_upscale)
    if data.source not in NAMED and is_pyramid(path):
        return open_prepared(path, config)
    if is_shards(data.source):
        refuse(config, ["storage", "device_cache"], "images of shards are not kept")
        source: Source = from_shards(data.source, labels=data.labels, cache=cache, say=say)
        source = source if data.max_images is None else first(source, data.max_images)
        return OnDemandDataset(source, square, max_bad=data.max_bad, workers=data.workers)
    with lock("download", cache) if download else nullcontext():
        source = find(
            data.source,
            root=Path(data.root) if data.root else None,
            labels=data.labels,
            download=download,
            limit=data.max_images,
        )
    warn_of_darkness(source)
    return cached(
        source,
        square,
        cache=cache,
        storage=data.storage,
        max_bad=data.max_bad,
        workers=data.workers,
        say=say,
    )


def open_prepared(path: Path, config: Config) -> Pyramid:
    """A folder that `progan data prepare` has made."""
    pyramid = Pyramid.open(path, labels=config.data.labels, workers=config.data.workers)
    refuse(config, ["fit", "allow_upscale", "max_images", "storage"], f"{path} is prepared already")
    if config.network.channels != pyramid.channels:
        raise UserError(
            f"network.channels is {config.network.channels}, and {path} has {pyramid.channels}; "
            f"set -o network.channels={pyramid.channels}, or prepare it again"
        )
    if config.network.resolution > pyramid.resolution:
        raise UserError(
            f"network.resolution is {config.network.resolution}, and {path} ends at "
            f"{pyramid.resolution}; set -o network.resolution={pyramid.resolution}, or prepare "
            "it again with a larger --max-resolution"
        )
    if config.data.labels and not pyramid.labels:
        raise LabelError(
            f"data.labels is true, and {path} was prepared without labels; prepare it again with "
            "--labels, or set -o data.labels=false"
        )
    return pyramid


def refuse(config: Config, keys: list[str], why: str) -> None:
    """Raises UserError if one of the settings is not its default, as it would be ignored."""
    for key in keys:
        if getattr(config.data, key) != getattr(DataConfig(), key):
            raise UserError(f"data.{key} has no effect, as {why}; leave it out")
