"""The phase, alpha, batch size and learning rate at each number of images shown. No torch.

Progress is one integer, `nimg`: the real images shown to the critic so far. A schedule is a
constant; nothing in it is stepped, saved or restored.
"""

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, replace

from progan.config.curves import Pieces, Ramp, Shape, rate_of
from progan.config.optimizers import OPTIONS, Option, momentum_of
from progan.config.phase_list import batch_size_of, cycles_of, optimizer_of, option_of, rounded
from progan.config.resolutions import ByResolution, at_resolution
from progan.config.schedule_settings import OptimConfig, PhaseConfig, ScheduleConfig
from progan.runtime.errors import UserError

NO_WEIGHTS: Mapping[str, float] = {}


@dataclass(frozen=True)
class Curve:
    """A value over images shown: one number, or a shape from one image to another."""

    shape: Shape
    start_nimg: int = 0
    end_nimg: int = 1

    @property
    def varies(self) -> bool:
        return isinstance(self.shape, Ramp | Pieces)

    def at(self, nimg: int) -> float:
        """The value for the update that starts at `nimg`."""
        if not isinstance(self.shape, Ramp | Pieces):
            return self.shape
        return self.shape.at((nimg - self.start_nimg) / (self.end_nimg - self.start_nimg))


@dataclass(frozen=True)
class Phase:
    """A stretch of training at one resolution, fading or stable, with its own settings.

    Covers `start_nimg <= nimg < end_nimg`, a whole number of steps.
    """

    resolution: int
    fading: bool
    start_nimg: int
    end_nimg: int
    batch_size: int  # images an update over all processes
    batch_gpu: int | None  # images a forward pass on one process; None: all of its share
    G_rate: Curve
    D_rate: Curve
    optimizer: str  # of both networks, a name of `optimizers.OPTIONS`
    options: tuple[tuple[str, Curve], ...]  # all that the optimizer has, but its rate
    restart: bool = True  # whether moments are forgotten at the first image
    critic_updates: int = 1  # an update of the generator
    # Of the loss's terms, and the share of images that are augmented, by their names in
    # `training.updates.LossSettings`.
    weights: tuple[tuple[str, Curve], ...] = ()
    half_life: Curve | None = None  # of the average, in kimg; None: it is of another kind
    start_alpha: float = 0.0  # where it fades: alpha at its first image

    @property
    def step_size(self) -> int:
        """Images a step: of its critic updates, over all processes."""
        return self.batch_size * self.critic_updates

    def progress(self, nimg: int) -> float:
        return (nimg - self.start_nimg) / (self.end_nimg - self.start_nimg)

    def alpha(self, nimg: int) -> float | None:
        """Weight of the newest block, linear over the fade; `None` when nothing fades."""
        if not self.fading:
            return None
        return self.start_alpha + (1 - self.start_alpha) * self.progress(nimg)

    def options_at(self, nimg: int) -> dict[str, float]:
        """The optimizer's options for the update that starts at `nimg`, by their names here."""
        return {name: curve.at(nimg) for name, curve in self.options}

    @property
    def varying(self) -> dict[str, Curve]:
        """What changes within the phase by its name here, but alpha."""
        average = {} if self.half_life is None else {"half_life": self.half_life}
        curves = {"G_rate": self.G_rate, "D_rate": self.D_rate, **average}
        curves |= dict(self.options) | dict(self.weights)
        return {name: curve for name, curve in curves.items() if curve.varies}

    def images_per_pass(self, processes: int) -> int:
        """Images a forward pass on one process: `batch_gpu`, at most the process's share."""
        share = self.batch_size // processes
        return min(self.batch_gpu or share, share)

    def __str__(self) -> str:
        return f"{self.resolution}x{self.resolution} {'fading' if self.fading else 'stable'}"


@dataclass(frozen=True)
class Schedule:
    """All phases, in order and without gaps, and the length of the run (see `make_schedule`).

    `total_nimg` may end inside the last phase: a shortened run is the beginning of the long one.
    """

    phases: tuple[Phase, ...]
    total_nimg: int

    def at(self, nimg: int) -> Phase:
        """The phase of the update that starts at `nimg`."""
        return self.phases[bisect_right(self.phases, nimg, key=lambda p: p.start_nimg) - 1]

    def half_life(self, nimg: int) -> float:
        """Of the average in kimg, for the update that starts at `nimg`."""
        curve = self.at(nimg).half_life
        assert curve is not None, "the average is of another kind"
        return curve.at(nimg)

    def ends_step(self, nimg: int) -> bool:
        """Whether a step ends, or the run begins, at `nimg`."""
        phase = self.at(max(nimg - 1, 0))
        return (nimg - phase.start_nimg) % phase.step_size == 0

    def end_of(self, phase: Phase) -> int:
        """The end of a phase in this run, which may cut the last one short."""
        return min(phase.end_nimg, self.total_nimg)

    def ticks_from(self, phase: Phase, nimg: int, tick_kimg: ByResolution[float]) -> int:
        """Ticks that a phase still has at `nimg`; its last image ends one, too."""
        images = self.end_of(phase) - max(phase.start_nimg, nimg)
        return max(0, math.ceil(images / (1000 * at_resolution(tick_kimg, phase.resolution))))

    def ends_tick(self, nimg: int, tick_kimg: ByResolution[float]) -> bool:
        """Whether the step that ended at `nimg` is a tick's last."""
        phase = self.at(nimg - 1)
        interval = at_resolution(tick_kimg, phase.resolution) * 1000
        shown = nimg - phase.start_nimg
        due = shown // interval > (shown - phase.step_size) // interval
        return due or nimg in (phase.end_nimg, self.total_nimg)

    def reached(self, nimg: int) -> tuple[int, float | None]:
        """Resolution and alpha of networks trained up to `nimg`.

        At a boundary, those of the phase that ends there.
        """
        phase = self.at(max(nimg - 1, 0))
        alpha = phase.alpha(nimg)
        return phase.resolution, None if alpha == 1 else alpha


def make_schedule(
    resolution: int,
    settings: ScheduleConfig,
    optim: OptimConfig,
    weights: Mapping[str, ByResolution[float | Ramp]] = NO_WEIGHTS,
    critic_updates: int = 1,
    half_life: ByResolution[float | Ramp] | None = None,
) -> Schedule:
    """The phases of `phase_list.rounded`, up to the run's end.

    That is the whole step nearest to `total_kimg`; phases keep their own ends.

    Args:
        weights: of the loss's terms, see `Phase.weights`.
        critic_updates: in a step.
        half_life: of the average, in kimg, see `Phase.half_life`.
    """
    found = rounded(resolution, settings, critic_updates)
    if not found:
        raise UserError(
            "the schedule has no images to train on: schedule.total_kimg "
            f"({settings.total_kimg}) and schedule.stable_kimg ({settings.stable_kimg}) leave less "
            f"than one batch (schedule.batch_size: {settings.batch_size})"
            + f", or less than {critic_updates} (loss.critic_updates)"
            * (critic_updates > 1)
        )
    total_nimg, total_kimg = found[-1].end, settings.total_kimg
    if total_kimg is not None and (total := round(total_kimg * 1000)) < total_nimg:
        last = next(each for each in found if each.end >= total)
        cut = last.start + round((total - last.start) / last.step) * last.step
        total_nimg = max(cut, found[0].step)
    phases = []
    for phase, start, end, _ in found:
        if start < total_nimg:
            spans = {"phase": (start, end), "run": (0, total_nimg)}
            mine = {name: at_resolution(w, phase.resolution) for name, w in weights.items()}
            made = replace(
                make_phase(phase, spans, settings, optim),
                critic_updates=critic_updates,
                weights=tuple((name, make_curve(w, spans)) for name, w in mine.items()),
            )
            if half_life is not None:
                of_average = make_curve(at_resolution(half_life, phase.resolution), spans)
                made = replace(made, half_life=of_average)
            phases.append(made)
    return Schedule(tuple(phases), total_nimg)


Spans = Mapping[str, tuple[int, int]]  # first image and end, of the phase and of the run


def make_curve(shape: Shape, spans: Spans, over: str = "phase") -> Curve:
    """A value over one of `spans`: a ramp has its own choice, a cycle is over `over`."""
    over = shape.over if isinstance(shape, Ramp) else over
    return Curve(shape, *spans[over]) if isinstance(shape, Ramp | Pieces) else Curve(shape)


def make_phase(
    phase: PhaseConfig, spans: Spans, settings: ScheduleConfig, optim: OptimConfig
) -> Phase:
    """A phase with its rates and the options of its optimizer."""
    r, kind = phase.resolution, optimizer_of(phase, optim)

    def option(name: str, default: Option) -> Curve:
        given = option_of(phase, optim, name)
        return make_curve(default if given is None else given, spans)

    options = {name: option(name, default) for name, default in OPTIONS[kind].items()}
    if cycles := cycles_of(phase, settings):
        over = "phase" if phase.cycles else "run"
        rates = dict.fromkeys("GD", make_curve(cycles.kind.rates(), spans, over))
        momenta, momentum = cycles.kind.momenta(), momentum_of(kind)
        if momenta and momentum and getattr(phase, momentum) is None:
            options[momentum] = make_curve(momenta, spans, over)
    else:
        given = settings.learning_rate if phase.learning_rate is None else phase.learning_rate
        rates = {name: make_curve(rate_of(given, name, r), spans) for name in "GD"}
    return Phase(
        resolution=r,
        fading=phase.fade,
        start_nimg=spans["phase"][0],
        end_nimg=spans["phase"][1],
        batch_size=batch_size_of(phase, settings),
        batch_gpu=phase.batch_gpu or at_resolution(settings.batch_gpu, r),
        G_rate=rates["G"],
        D_rate=rates["D"],
        optimizer=kind,
        options=tuple(options.items()),
        restart=phase.restart,
        start_alpha=(settings.start_alpha or 0.0) if phase.fade and not spans["phase"][0] else 0.0,
    )


def first_change(old: Schedule, new: Schedule) -> float:
    """The first image that the two train differently; infinity if one is the other's beginning.

    How many images a forward pass has does not count, as the updates are the same.
    """
    for a, b in zip(old.phases, new.phases, strict=False):
        a, b = (replace(phase, batch_gpu=None) for phase in (a, b))
        if a == b:
            continue
        # With another end a fade has another slope, and ramps and cycles are other curves.
        if not a.fading and a == replace(b, end_nimg=a.end_nimg):
            first = min(a.end_nimg, b.end_nimg)
        else:
            first = a.start_nimg
        return first if first < min(old.total_nimg, new.total_nimg) else math.inf
    return math.inf
