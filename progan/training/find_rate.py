"""The rate finder: losses while the learning rate rises from update to update.

The range test of Smith 2017 (Sec. 3.3), smoothed and ended as in the fast.ai course. The rates are
a ramp over a phase, so its updates are those of training.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import NamedTuple

from progan.config.curves import Ramp
from progan.config.schedule import Curve, Phase, Schedule
from progan.runtime.errors import UserError
from progan.training.memory_fit import begin_what_fits
from progan.training.trainer import Trainer

STILL = Curve(0.0)  # the rate of a network that is not tried
BEGIN = 10  # updates that tell where losses begin, and how much they vary
SHARE = 1 / 20  # of all updates, over which losses are averaged
CLEAR = 3.0  # deviations by which a loss must fall
PART = 0.1  # of the rate at the lowest loss
UPDATES = 200  # of a search that says nothing else
FEWEST = 20  # that tell something


@dataclass(frozen=True)
class Search:
    """Rates to try, one an update.

    Args:
        networks: G, D or both; another one stays as it is.
        linear: the rates rise by equal steps, in place of equal factors.
        stop_div: see `Found.limit`.
    """

    networks: tuple[str, ...] = ("G", "D")
    start: float = 1e-6
    end: float = 1.0
    updates: int = UPDATES
    linear: bool = False
    stop_div: float = 4.0

    def __post_init__(self) -> None:
        if not self.start < self.end:
            raise UserError(f"--start ({self.start:g}) must be below --end ({self.end:g})")

    @property
    def watched(self) -> str:
        """The network whose loss decides.

        Of both the critic: it falls as the critic learns to tell reals from fakes. The generator's
        then rises at all rates, as the scores of its fakes fall.
        """
        return "D" if "D" in self.networks else "G"

    def phase(self, phase: Phase, first: int, images: int) -> Phase:
        """The phase, with rates that rise from its image `first` on by a step each `images`."""
        decay = "linear" if self.linear else "exponential"
        ramp = Ramp(start=self.start, end=self.end, decay=decay)  # type: ignore[arg-type]
        rising = Curve(ramp, first, first + (self.updates - 1) * images)
        G_rate, D_rate = (rising if name in self.networks else STILL for name in "GD")
        return replace(phase, G_rate=G_rate, D_rate=D_rate)


class Losses:
    """A network's losses by rate: `raw`, and `smoothed` by an exponential average.

    Args:
        weight: of the newest in the average.
    """

    def __init__(self, weight: float) -> None:
        self.weight = weight
        self.raw: list[float] = []
        self.smoothed: list[float] = []

    def add(self, value: float) -> None:
        """Add one; the average has no bias towards 0 at its beginning."""
        self.raw.append(value)
        keep, n = 1 - self.weight, len(self.raw)
        before = self.smoothed[-1] * (1 - keep ** (n - 1)) if self.smoothed else 0.0
        self.smoothed.append((keep * before + self.weight * value) / (1 - keep**n))

    @property
    def begin(self) -> float:
        return fmean(self.raw[:BEGIN])

    def lowest(self) -> int:
        """The update with the lowest average."""
        return min(range(len(self.smoothed)), key=self.smoothed.__getitem__)

    @property
    def best(self) -> float:
        return self.smoothed[self.lowest()]

    @property
    def unit(self) -> float:
        """The size of the lowest average, or its distance from the beginning if that is larger."""
        return max(abs(self.best), self.begin - self.best)

    def fell(self) -> bool:
        """Whether the average has fallen by more than chance explains."""
        if self.lowest() < BEGIN:
            return False
        variance = stdev(self.raw[:BEGIN]) ** 2  # of one; those of both means are added
        noise = math.sqrt(variance * (self.weight / (2 - self.weight) + 1 / BEGIN))
        return self.begin - self.best > CLEAR * noise


class Found:
    """What a search has found up to now: rates, and each network's losses."""

    def __init__(self, search: Search, penalty_interval: int = 1) -> None:
        self.search = search
        # A penalty that is rare makes a loss high in every n-th update.
        weight = 1 / max(1.0, search.updates * SHARE, 2 * penalty_interval * (penalty_interval > 1))
        self.rates: list[float] = []
        self.losses = {name: Losses(weight) for name in "GD"}

    def add(self, rate: float, losses: dict[str, float]) -> None:
        self.rates.append(rate)
        for name, value in losses.items():
            self.losses[name].add(value)

    @property
    def watched(self) -> Losses:
        return self.losses[self.search.watched]

    def limit(self, name: str) -> float:
        """The average from which on a network's loss is bad.

        The course stops at `stop_div` times the lowest. Losses of GANs may be negative or near 0,
        so this counts from the lowest, in units of its size or of how far it has fallen; of both
        networks, as both losses are made of the critic's scores.
        """
        unit = max(self.losses[each].unit for each in self.search.networks)
        return self.losses[name].best + (self.search.stop_div - 1) * unit

    def bad(self) -> str | None:
        """The network whose newest average is not finite, or beyond its limit."""
        for name in self.search.networks:
            now = self.losses[name].smoothed[-1]
            beyond = len(self.rates) > BEGIN and now > self.limit(name)
            if beyond or not math.isfinite(now):
                return name
        return None

    def suggestion(self) -> float | None:
        """A tenth of the rate at which the loss that decides was lowest; None if it did not fall.

        Steepest descent, the other usual rule, needs a loss that falls evenly: those of GANs vary
        too much from batch to batch.
        """
        losses = self.watched
        return PART * self.rates[losses.lowest()] if losses.fell() else None


class Start(NamedTuple):
    """Where a search starts: the phase, its image, and whether moments are forgotten first."""

    phase: Phase
    nimg: int
    restart: bool


def start_of(schedule: Schedule, nimg: int, resolution: int | None) -> Start:
    """Where the run is; at another resolution, where that begins to be trained without a fade.

    Raises:
        UserError: the schedule does not have the resolution.
    """
    now = schedule.at(nimg)
    if resolution in (None, now.resolution):
        return Start(now, nimg, now.restart and nimg == now.start_nimg)
    there = [phase for phase in schedule.phases if phase.resolution == resolution]
    if not there:
        known = dict.fromkeys(str(phase.resolution) for phase in schedule.phases)
        raise UserError(
            f"--resolution {resolution} is not in the schedule, which has {', '.join(known)}"
        )
    phase = next((phase for phase in there if not phase.fading), there[0])
    return Start(phase, phase.start_nimg, True)


def updates_for(schedule: Schedule, phase: Phase, asked: int | None) -> int:
    """How many updates a search makes in a phase.

    Args:
        asked: by the user. None: 200, or all that a shorter phase has.

    Raises:
        UserError: the phase has fewer than asked, or too few to tell anything.
    """
    most = (schedule.end_of(phase) - phase.start_nimg) // phase.step_size
    if most < FEWEST:
        raise UserError(
            f"the phase {phase} has {most:,} updates, and find-rate needs {FEWEST}; choose another "
            "--resolution, or a longer schedule"
        )
    if asked is not None and asked > most:
        raise UserError(
            f"find-rate is to make {asked:,} updates, and the phase {phase} has {most:,} updates; "
            "give at most as many by --updates, or choose another --resolution"
        )
    return min(UPDATES, most) if asked is None else asked


def try_rates(trainer: Trainer, start: Start, search: Search) -> Iterator[tuple[float, dict]]:
    """Train with rising rates; yields the rate and both losses of each update.

    The updates are those that come next in the run, or the last of the phase if it has fewer left.
    Nothing is written.

    Raises:
        UserError: memory is short.
    """
    phase, images = start.phase, start.phase.step_size
    first = min(start.nimg, trainer.schedule.end_of(phase) - search.updates * images)
    rising = search.phase(phase, first, images)
    begin_what_fits(trainer.step, trainer.stream, rising, start.restart)
    trainer.progress.nimg = first
    trainer.statistics.means()  # forgets those of the run's last tick
    trainer.skipped.to(trainer.accelerator.device)
    for _ in range(search.updates):
        curve = rising.D_rate if search.watched == "D" else rising.G_rate
        rate = curve.at(trainer.progress.nimg)
        trainer.train_step(rising)
        means = trainer.statistics.means()  # without those that are not finite
        yield rate, {name: means.get(f"Loss/{name}", math.inf) for name in "GD"}
