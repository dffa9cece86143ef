"""What a run will take and what will not go well, in words, before it trains. No torch."""

import os
import shlex
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from progan.config.config import Config, flatten
from progan.config.load import load_config, presets
from progan.config.resolutions import START_RESOLUTION
from progan.config.schedule import Schedule
from progan.data.dataset import Dataset
from progan.data.info.advice import train_command
from progan.data.labels import Labels
from progan.data.sources.find import NAMED
from progan.runtime.secrets import redact
from progan.runtime.text import human_time, printable

if TYPE_CHECKING:  # it imports torch
    from progan.training.costs import CostModel, Range

TRYING = "trying some updates of each size, to predict the time that the run takes"
HOUR, DAY = 3600, 86400
# Seconds from which people want to know of something shorter.
LONG_ON_CPU, LONG = 8 * HOUR, 4 * DAY
SMALL = 32  # the smallest resolution that is worth a run
# The official runs on CelebA-HQ and CIFAR-10 show each image 400 times.
OFTEN = 1000
# Settings that work only with another one: which, and whether it is as they need it.
LABELS = "data.labels is true"
NEEDS: dict[str, tuple[str, Callable[[Config], Any]]] = {
    "data.augment_strength": ("data.augment is not empty", lambda config: config.data.augment),
    "data.augment_kimg": ("data.augment_target is set", lambda config: config.data.augment_target),
    "data.label_level": (LABELS, lambda config: config.data.labels),
    "loss.labels": (LABELS, lambda config: config.data.labels),
    "loss.weights.label": (
        f"{LABELS} and loss.labels is acgan",
        lambda config: config.data.labels and config.loss.labels == "acgan",
    ),
    "loss.weights.penalty": (
        "loss.penalty is not none",
        lambda config: config.loss.penalty != "none",
    ),
    "loss.weights.target": (
        "loss.penalty is wgan_gp or wgan_lp",
        lambda config: config.loss.penalty in ("wgan_gp", "wgan_lp"),
    ),
}


def about_data(config: Config, count: int, labels: Labels | None) -> Iterator[str]:
    """What is trained on."""
    yield f"{count:,} images of {printable(redact(str(config.data.source)))}"
    if labels:
        yield f"{len(labels.names)} {labels.kind}: {', '.join(labels.shown)}"


def is_grey(data: Dataset) -> bool:
    """Whether all images have three equal channels; False if that takes long to know."""
    level = data.level(START_RESOLUTION) if data.channels == 3 else None
    return level is not None and all((level[:, 0] == level[:, k]).all() for k in (1, 2))


def grey_hint(config: Config, grey: bool) -> list[str]:
    """What to do with images that are all grey, unless the user has chosen the channels."""
    if not grey or "channels" in config.network.model_fields_set:
        return []
    return ["all images are grey: -o network.channels=1 trains on one channel in place of three"]


def forecast(
    config: Config, run_dir: Path, costs: "CostModel", nimg: int, count: int | None, device: str
) -> Iterator[str]:
    """Lines on a run that goes on from `nimg`: its phases and time, and warnings.

    Args:
        count: images in the data; None: not known yet.
        device: the kind that computes, such as cpu.
    """
    if nimg >= costs.schedule.total_nimg:
        return
    left = costs.left(nimg)
    yield phases_and_time(costs.schedule, nimg, left)
    limit = LONG_ON_CPU if device == "cpu" else LONG
    if left and left.likely > limit:
        yield from shorter_runs(config, run_dir, costs, limit, device)
    if count is not None:
        yield times_shown(config, costs.schedule, count)
    yield from without_effect(config, costs.schedule, count)


def phases_and_time(schedule: Schedule, nimg: int, left: "Range | None") -> str:
    """`9 phases from 4x4 to 128x128, 6,600 kimg: about 3d 4h, until Wed 2 Dec 14:00`."""
    to_come = [phase for phase in schedule.phases if schedule.end_of(phase) > nimg]
    first, last = (f"{phase.resolution}x{phase.resolution}" for phase in (to_come[0], to_come[-1]))
    phases = "1 phase" if len(to_come) == 1 else f"{len(to_come)} phases"
    sizes = f"at {first}" if first == last else f"from {first} to {last}"
    images = kimg(schedule.total_nimg - nimg)
    line = f"{phases}{' left' if nimg else ''} {sizes}, {images}"
    if nimg:
        line += f" of {kimg(schedule.total_nimg)}"
    if left is None:
        return f"{line} kimg"
    end = until(left.likely)
    if left.wide:
        end = f"{until(left.low)} at best, {until(left.high)} at worst"
    return f"{line} kimg: about {left}, until {end}"


def until(seconds: float) -> str:
    """The time of day after so many seconds from now: `Wed 2 Dec 14:00`."""
    now = datetime.now()
    if seconds > 3000 * 365 * DAY:
        return "later than anyone will see"
    end = now + timedelta(seconds=seconds)
    year = "" if end - now < timedelta(days=300) else f" {end.year}"
    return f"{end:%a} {end.day} {end:%b}{year} {end:%H:%M}"


def kimg(nimg: int) -> str:
    return f"{nimg / 1000:,.10g}"


def shorter_runs(
    config: Config, run_dir: Path, costs: "CostModel", limit: float, device: str
) -> Iterator[str]:
    """A warning, and the commands of runs that take less."""
    demo = load_config("demo")
    times, seconds = dict[int, float](), 0.0  # until a resolution has been trained
    for phase in costs.schedule.phases:
        times[phase.resolution] = seconds = seconds + (costs.seconds_of(phase) or 0)
    smaller = [r for r in times if SMALL <= r < config.network.resolution and times[r] < limit]
    wide = device == "cpu" and config.network.channel_max > demo.network.channel_max
    helps = "What takes less:" if wide or smaller else "A smaller schedule.stable_kimg takes less"
    yield f"warning: that is long for {'a CPU' if device == 'cpu' else 'one run'}. {helps}"
    if wide:
        r = min(config.network.resolution, demo.network.resolution)
        same = {"network.channels": config.network.channels, "run.device": config.run.device}
        small = load_config("demo", {"network.resolution": r, **same})
        small = small.model_copy(update={"data": config.data})
        yield f"  small networks at {r}x{r}: {command(small, f'{run_dir}-small')}"
    if smaller:
        r = max(smaller)
        network = config.network.model_copy(update={"resolution": r})
        schedule = config.schedule.model_copy(update={"total_kimg": None})
        less = config.model_copy(update={"network": network, "schedule": schedule})
        yield f"  {r}x{r}, in about {human_time(times[r])}: {command(less, f'{run_dir}-{r}')}"


def command(config: Config, run_dir: str) -> str:
    """The shortest command that trains with these settings: from a preset, or from the defaults."""
    source = str(config.data.source)
    own = NAMED[source].preset if source in NAMED else None  # the one that --data chooses
    mine = flatten(config.shared())
    ways: list[tuple[str | None, dict[str, Any]]] = []
    for preset in dict.fromkeys([own, *presets()]):
        begin = load_config(preset)
        plain = flatten(begin.model_dump())
        if preset is None or "resolution" not in begin.network.model_fields_set:
            del plain["network.resolution"]  # the data would choose it
        plain["data.source"] = mine["data.source"]
        other = {key: v for key, v in mine.items() if key not in plain or v != plain[key]}
        ways.append((None if preset == own else preset, other))
    preset, settings = min(ways, key=lambda way: len(way[1]) + bool(way[0]))
    return train_command(
        from_here(source), preset, settings, f"--run-dir {shlex.quote(from_here(run_dir))}"
    )


def from_here(source: str) -> str:
    """A source of data or a run's folder as a user would type it in the current folder."""
    inside = os.path.isabs(source) and Path(source).is_relative_to(Path.cwd())
    return os.path.relpath(source) if inside else redact(source)


def times_shown(config: Config, schedule: Schedule, count: int) -> str:
    """How often the run shows each image; with what helps if that is very often."""
    times = schedule.total_nimg / count
    digits = max(len(str(int(times))) - 2, 0)
    often = f"about {round(times, -digits):,.0f} times" if times >= 1.5 else "about once"
    if times < 1:
        often = "less than once"
    images = f"{count:,} images" if count > 1 else "1 image"
    line = f"{images} for {kimg(schedule.total_nimg)} kimg: each is shown {often}"
    if times <= OFTEN:
        return line
    helps = ["more images", "a shorter run (schedule.stable_kimg and schedule.fade_kimg)"]
    if not config.data.mirror:
        helps += ["-o data.mirror=true (not for text, or where left and right differ)"]
    if not config.data.augment:
        helps += [
            "-o 'data.augment=[color,translation,cutout]'",
            "--config few-images for all this",
        ]
    return (
        f"warning: {line}, and the critic may learn them by heart. What helps: {'; '.join(helps)}. "
        "progan neighbours shows what is copied"
    )


def without_effect(config: Config, schedule: Schedule, count: int | None) -> Iterator[str]:
    """Settings that do nothing, or not what they say, in a run of this length and data."""
    run, usual = config.run, Config()
    for key, (what, holds) in NEEDS.items():
        value_of = attrgetter(key)
        if value_of(config) != value_of(usual) and not holds(config):
            yield f"{key} has an effect only where {what}"
    ticks = sum(schedule.ticks_from(phase, 0, run.tick_kimg) for phase in schedule.phases)
    ends = "come at the ends of phases only"
    intervals = [
        ("run.snapshot_ticks", run.snapshot_ticks, f"snapshots {ends}"),
        ("run.checkpoint_ticks", run.checkpoint_ticks, f"checkpoints {ends}"),
    ]
    for name, every in run.metrics.items():
        intervals.append((f"run.metrics[{name}]", every, "it is measured at the end only"))
    for key, every, so in intervals:
        if every > ticks:
            yield f"{key} is {every:,}, and the run has {ticks:,} ticks (run.tick_kimg): {so}"
    large = (phase for phase in schedule.phases if count is not None and phase.batch_size > count)
    if phase := next(large, None):
        yield (
            f"schedule.batch_size is {phase.batch_size} at {phase}, and there are {count:,} "
            "images: each update shows some of them more than once"
        )
