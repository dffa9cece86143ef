"""From the data section of a config to a data set."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from progan.config.config import Config
from progan.config.settings import DataConfig
from progan.data.dataset import Dataset
from progan.data.decode import Box, Square
from progan.data.info.resolution import choose_resolution
from progan.data.live import OnDemandDataset
from progan.data.pyramid.format import Pyramid, is_pyramid
from progan.data.pyramid.prepare import cached
from progan.data.sources.bit_depth import warn_of_darkness, with_values
from progan.data.sources.find import find, first, is_local
from progan.data.sources.shards import Shards, from_shards, is_shards
from progan.data.sources.source import Source, warn_of_left_out
from progan.runtime.cache import lock, pyramids_folder
from progan.runtime.errors import LabelError, UserError
from progan.runtime.launch import is_main
from progan.runtime.paths import to_path
from progan.runtime.secrets import is_redacted, redact
from progan.runtime.text import printable

Found = Source | Pyramid


def open_data(
    config: Config,
    download: bool = False,
    say: Callable[[str], None] = print,
) -> Dataset:
    """The images that `data.source` names, prepared if that has not been done yet.

    Raises:
        UserError: there are none, or they do not fit the config.
    """
    return dataset_of(find_data(config.data, download, say), config, say)


def dataset_of(found: Found, config: Config, say: Callable[[str], None] = print) -> Dataset:
    """`open_data` for images that `find_data` has opened."""
    data, network = config.data, config.network
    if isinstance(found, Pyramid):
        check_prepared(found, config)
        for line in found.meta.repeats.lines(found.count):
            say(line)
        return found
    square = square_of(data, network.resolution, network.channels)
    warn_of_darkness(found)
    if isinstance(found, Shards):
        if is_main() and str(found.values):
            say(f"{found.name}: {found.values}")
        return OnDemandDataset(found, square, max_bad=data.max_bad, workers=data.workers)
    say_what_is_read(found, data, say)
    return cached(found, square, cache=cache_of(data), say=say, **preparation(data))


def find_data(
    data: DataConfig,
    download: bool = False,
    say: Callable[[str], None] = print,
    known: bool = False,
) -> Found:
    """The images that `data.source` names, before anything is done to them.

    Args:
        known: the user has just named them, so that they need not be named again.

    Raises:
        UserError: there are none.
    """
    if data.source is None:
        raise UserError(
            "data.source is not set; give -o data.source=demo, or the path of a folder of images"
        )
    if is_redacted(data.source):
        raise UserError(
            f"data.source is kept without its secrets, {data.source}: give it in full, as --data "
            "'…' or, to go on with a run, as -o data.source='…'; or without what is REDACTED if "
            "the environment has it (docs/shards.md)"
        )
    # A run or a config may come from anybody, so this is said before anything is opened.
    if is_main() and not known:
        say(f"data: {described(data)}")
    if is_local(data.source) and is_pyramid(to_path(data.source, "data.source")):
        return Pyramid.open(data.source, labels=data.labels, workers=data.workers)
    if is_shards(data.source):
        refuse(data, ["storage", "device_cache", "drop_copies"], "images of shards are not kept")
        shards = from_shards(data.source, labels=data.labels, cache=cache_of(data), say=say)
        return with_values(shards if data.max_images is None else first(shards, data.max_images))
    with lock("download", cache_of(data)) if download else nullcontext():
        return find(
            data.source,
            root=Path(data.root) if data.root else None,
            labels=data.labels,
            label_level=data.label_level,
            download=download,
            limit=data.max_images,
        )


def described(data: DataConfig) -> str:
    """Where images come from, and where files are kept that are made of them."""
    known = f" in {data.root}" if data.root and not is_local(str(data.source)) else ""
    cache = f"; cache: {data.cache}" if data.cache else ""
    return printable(redact(f"{data.source}{known}{cache}"))


def say_what_is_read(source: Source, data: DataConfig, say: Callable[[str], None]) -> None:
    """Says which files are left out, and where labels come from."""
    warn_of_left_out(source, str(data.source))
    for line in source.labels.provenance if source.labels else ():
        say(line)


def resolution_of(found: Found, data: DataConfig) -> int:
    """The resolution to train at if none is given: the largest that nearly all images have.

    Raises:
        UserError: they are smaller than 4x4, or none can be read.
    """
    if isinstance(found, Pyramid):
        return found.resolution
    return choose_resolution(found, fit_of(data), data.max_bad)[0]


def fit_of(data: DataConfig) -> str | Box:
    fit = data.fit
    return fit if isinstance(fit, str) else (fit[0], fit[1], fit[2])


def square_of(data: DataConfig, resolution: int, channels: int) -> Square:
    """What the images are made into."""
    return Square(resolution, channels, fit_of(data), data.allow_upscale, data.background)


def preparation(data: DataConfig) -> dict[str, Any]:
    """The settings that `prepare` and `cached` take."""
    return data.model_dump(include={"storage", "max_bad", "drop_copies", "workers"})


def cache_of(data: DataConfig) -> Path | None:
    return Path(data.cache) if data.cache else None


def check_prepared(pyramid: Pyramid, config: Config) -> None:
    """Raises UserError if a run with this config cannot be trained on a prepared folder."""
    path = pyramid.path
    keys = ["fit", "allow_upscale", "background", "max_images", "storage", "drop_copies"]
    # Where a run goes on with what the cache still has of its images, its settings made them so.
    if path.resolve().parent != pyramids_folder(cache_of(config.data)).resolve():
        refuse(config.data, keys, f"{path} is prepared already")
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


def refuse(data: DataConfig, keys: list[str], why: str) -> None:
    """Raises UserError if one of the settings is not its default, as it would be ignored."""
    for key in keys:
        if getattr(data, key) != getattr(DataConfig(), key):
            raise UserError(f"data.{key} has no effect, as {why}; leave it out")
