"""Predicts the time of a run from what was measured: of phases, of pauses, of all together."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from progan.config.resolutions import ByResolution
from progan.config.schedule import Phase, Schedule
from progan.runs.records import HOURS_LEFT
from progan.runtime.text import human_time
from progan.training.work import Work

MARGIN = 1.15  # a phase that was measured takes up to this factor more or less
WIDE = 1.5  # bounds further apart than this factor are shown in place of the likely time
# Seconds of a tick before one was measured: for statistics, and for a pixel of its grid, which is
# compressed for a file and for TensorBoard.
WRITING, PICTURE = 0.05, 4e-7
DISK = 300e6  # bytes/s to a disk, synced, before a checkpoint was measured


class Range(NamedTuple):
    """Seconds: the likely ones, and between which bounds."""

    low: float
    likely: float
    high: float

    def __str__(self) -> str:
        if self.wide:
            return f"{human_time(self.low)} to {human_time(self.high)}"
        return human_time(self.likely)

    @property
    def wide(self) -> bool:
        """Whether the likely one alone would say too much."""
        return self.high > WIDE * self.low

    def times(self, factor: float) -> "Range":
        return Range(*(factor * seconds for seconds in self))


@dataclass(frozen=True)
class Pauses:
    """When updates pause, and for what.

    Args:
        tick_kimg: between ticks, each of which makes a grid of samples.
        checkpoint_ticks, checkpoint_bytes: between checkpoints, and of each.
        samples, pixels: images in a grid, and its pixels, by resolution.
        metrics: ticks between measurements of each metric.
    """

    tick_kimg: ByResolution[float]
    checkpoint_ticks: int
    checkpoint_bytes: float
    samples: Mapping[int, int]
    pixels: Mapping[int, int]
    metrics: Mapping[str, int] = field(default_factory=dict)


class CostModel:
    """Seconds an image for each phase, and of the whole run.

    Args:
        work: what an image costs in each phase.
        pauses: None: there are none.
    """

    def __init__(
        self, schedule: Schedule, work: dict[Phase, Work], pauses: Pauses | None = None
    ) -> None:
        self.schedule = schedule
        self.work = work
        self.pauses = pauses
        # Seconds an image of both networks' gradients, smaller phases first.
        self.trials: dict[Phase, float] = {}
        self.per_parameter = 0.0  # seconds an update, of the optimizers and the average
        self.per_sample = 0.0  # of a sample, as a share of an image's trial
        self.seconds: dict[Phase, float] = {}  # an image in training, as last observed
        self.correction = 1.0  # seconds observed in training, over those expected
        self.paused = self.pauses_expected = 0.0  # seconds, in all
        self.metric_seconds: dict[str, float] = {}

    def observe(self, phase: Phase, seconds_per_image: float) -> None:
        """Learn what an image took in training."""
        self.seconds[phase] = seconds_per_image
        if expected := self.expected(phase):
            self.correction = seconds_per_image / expected.likely

    def observe_pause(self, phase: Phase, seconds: float) -> None:
        """Learn what a tick took between updates, without metrics."""
        self.paused += seconds
        self.pauses_expected += self.pause(phase)

    def observe_metrics(self, names: list[str], seconds: float) -> None:
        """Learn what measuring took."""
        self.metric_seconds |= {name: seconds / len(names) for name in names}

    def per_image(self, phase: Phase) -> float | None:
        """Likely seconds an image; `None` while nothing has been measured."""
        found = self.range_of(phase)
        return None if found is None else found.likely

    def range_of(self, phase: Phase) -> Range | None:
        """Seconds an image: as observed in training, else as expected; `None`: nothing is known."""
        if (seconds := self.seconds.get(phase)) is not None:
            return Range(seconds / MARGIN, seconds, seconds * MARGIN)
        found = self.expected(phase)
        return None if found is None else found.times(self.correction)

    def expected(self, phase: Phase) -> Range | None:
        """Seconds an image, from trials alone."""
        gradients = self.gradients(phase)
        if gradients is None:
            return None
        update = self.per_parameter * self.work[phase].parameters / phase.batch_size
        low, likely, high = (seconds + update for seconds in gradients)
        return Range(low / MARGIN, likely, high * MARGIN)

    def gradients(self, phase: Phase) -> Range | None:
        """Seconds an image for both gradients: of a trial, else from the nearest trials.

        By the work of FLOPs and by that of memory, which are the bounds where nothing larger was
        tried.
        """
        if (seconds := self.trials.get(phase)) is not None:
            return Range(seconds, seconds, seconds)
        if not self.trials:
            return None
        at = {p: i for i, p in enumerate(self.schedule.phases)}
        smaller = [p for p in self.trials if at[p] < at[phase]]
        larger = [p for p in self.trials if at[p] > at[phase]]
        if not smaller or not larger:
            return spread(self.scaled(smaller[-1] if smaller else larger[0], phase))
        a, b = smaller[-1], larger[0]
        share = (at[phase] - at[a]) / (at[b] - at[a])
        pairs = zip(self.scaled(a, phase), self.scaled(b, phase), strict=True)
        return spread([one ** (1 - share) * other**share for one, other in pairs])

    def scaled(self, near: Phase, phase: Phase) -> list[float]:
        """The trial of `near`, scaled by FLOPs and by memory to what `phase` would take."""
        a, b = self.work[near], self.work[phase]
        return [self.trials[near] * ratio for ratio in (b.gflops / a.gflops, b.values / a.values)]

    def pause(self, phase: Phase) -> float:
        """Seconds of one tick between updates, as expected: samples, files, its part of a
        checkpoint."""
        if self.pauses is None:
            return 0.0
        found = self.expected(phase)
        samples = self.pauses.samples[phase.resolution] * self.per_sample
        saving = self.pauses.checkpoint_bytes / DISK / self.pauses.checkpoint_ticks
        writing = WRITING + PICTURE * self.pauses.pixels[phase.resolution]
        return samples * (found.likely if found else 0.0) + writing + saving

    def pauses_from(self, nimg: int) -> Range:
        """Seconds of all pauses from `nimg` to the end."""
        if self.pauses is None:
            return Range(0, 0, 0)
        ticks = {
            phase: self.schedule.ticks_from(phase, nimg, self.pauses.tick_kimg)
            for phase in self.schedule.phases
        }
        seconds = sum(n * self.pause(phase) for phase, n in ticks.items())
        if self.pauses_expected:
            seconds *= self.paused / self.pauses_expected
        for name, every in self.pauses.metrics.items():
            seconds += self.metric_seconds.get(name, 0.0) * math.ceil(sum(ticks.values()) / every)
        return Range(seconds / MARGIN, seconds, seconds * MARGIN)

    def seconds_of(self, phase: Phase) -> float | None:
        """Seconds of a whole phase's updates; `None` while nothing has been measured."""
        each = self.per_image(phase)
        images = self.schedule.end_of(phase) - phase.start_nimg
        return None if each is None else each * images

    def left(self, nimg: int) -> Range | None:
        """Seconds from `nimg` to the end of the run; `None` while nothing has been measured."""
        parts = [self.pauses_from(nimg)]
        for phase in self.schedule.phases:
            images = self.schedule.end_of(phase) - max(phase.start_nimg, nimg)
            each = self.range_of(phase)
            if each is None:
                return None
            # A phase that has not begun is rehearsed with one update that changes nothing.
            rehearsed = phase.batch_size if nimg <= phase.start_nimg else 0
            parts.append(each.times(images + rehearsed if images > 0 else 0))
        # Bounds add up, as what makes one phase slow makes all slow.
        return Range(*map(sum, zip(*parts, strict=True)))

    def timing(self, phase: Phase, nimg: int) -> dict[str, float]:
        """What a tick that has been observed reports."""
        seconds, left = self.seconds[phase], self.left(nimg)
        found = {"Timing/sec_per_kimg": 1000 * seconds, "Timing/images_per_sec": 1 / seconds}
        return found | ({HOURS_LEFT: left.likely / 3600} if left else {})


def spread(seconds: list[float]) -> Range:
    """Between two guesses, their geometric mean being the likely one."""
    return Range(min(seconds), math.prod(seconds) ** (1 / len(seconds)), max(seconds))
