"""What a run shows: statistics, grids of samples and reals, snapshots."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from accelerate import Accelerator

from progan.config.config import Config
from progan.config.resolutions import at_resolution
from progan.config.schedule import Phase
from progan.data.stream import Stream
from progan.model.grid import grid, save_picture
from progan.model.networks import Generator
from progan.model.sampling import MOST_ROWS, generate, grid_layout
from progan.runs import averages
from progan.runs.best import best_path, forget_worse, improved
from progan.runs.folder import folders_of
from progan.runs.hold import Hold
from progan.runs.origin import Origin
from progan.runs.records import METRICS, SECTION, has, remove_after
from progan.runs.snapshot import Snapshot
from progan.runs.snapshot_file import MOST_EXAMPLES, save_snapshot, snapshot_path
from progan.runs.tracking import Tracker
from progan.runtime.disk import DiskError, half_written
from progan.runtime.memory import memory_in_use
from progan.runtime.pictures import captions
from progan.runtime.provenance import Provenance
from progan.runtime.text import human_time, short, stamp
from progan.training.console import Console
from progan.training.costs import CostModel
from progan.training.forecast import forecast
from progan.training.health import signs, variety
from progan.training.statistics import progress

log = logging.getLogger("progan")

WRITTEN_AGAIN = (  # by a run that goes on from earlier
    *("snapshots/snapshot-*", "snapshots/best-*", "snapshots/average-*"),
    *("averages/averages-*", "images/fakes-*"),
)


class NoOutputs:
    """In place of `Outputs` on all processes but the main one: every method does nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments: None


class Outputs:
    """What the main process writes and prints.

    Args:
        G_ema: samples and snapshots come from it, always in float32.
        nimg: where this start begins; later outputs of an earlier start are removed.
        origin: of the run's first weights, for snapshots.
    """

    def __init__(
        self,
        config: Config,
        run_dir: Path,
        accelerator: Accelerator,
        costs: CostModel,
        G_ema: Generator,
        stream: Stream,
        nimg: int,
        origin: Origin | None = None,
    ):
        self.config = config
        self.origin = origin
        self.run_dir = run_dir
        self.device = accelerator.device
        self.schedule = costs.schedule
        self.costs = costs
        self.G_ema = G_ema
        labels = stream.data.labels if G_ema.c_dim else None
        self.labels = labels and labels.examples(MOST_EXAMPLES)
        classes = self.labels and self.labels.kind == "classes"
        self.row_names = captions(self.labels.names[:MOST_ROWS] if self.labels and classes else ())
        self.stream = stream
        for pattern in WRITTEN_AGAIN:
            remove_after(run_dir, pattern, nimg)
        for path in half_written(folders_of(run_dir)):
            path.unlink()
        self.tracker = Tracker(accelerator, run_dir, nimg, config)
        self.console = Console(self.schedule.total_nimg, nimg)
        self.means: dict[str, float] = {}  # of the last tick, for the progress bar
        self.signs: set[str] = set()  # of trouble, at the last tick
        self.varieties: dict[int, float] = {}  # of the reals, at the current resolution

    def forecast(self, nimg: int) -> None:
        """Say what is to come, from `nimg` on."""
        more = nimg, self.stream.data.count, self.device.type
        for line in forecast(self.config, self.run_dir, self.costs, *more):
            self.say(line)
        for line in averages.about_disk(self.config, self.run_dir, self.G_ema):
            self.say(line)

    def update(self, phase: Phase, nimg: int, seconds: float) -> None:
        """Show progress, after every step.

        Args:
            seconds: that an image takes, in this tick.
        """

        def line() -> str:
            shown = nimg - phase.start_nimg
            interval = at_resolution(self.config.run.tick_kimg, phase.resolution) * 1000
            to_tick = min(interval - shown % interval, self.schedule.end_of(phase) - nimg)
            left = human_time(seconds * to_tick)
            return f"{self.describe(phase, nimg, seconds)}  next tick in {left}"

        self.console.show(nimg, lambda: self.describe(phase, nimg), line)

    def tick(
        self, phase: Phase, nimg: int, means: dict[str, float], more: dict[str, float]
    ) -> None:
        """Write a line of statistics and a grid of samples."""
        if skipped := more["Loss/skipped"]:
            log.warning("updates skipped in this tick, as gradients were not finite: %d", skipped)
        self.means = means
        statistics = {
            **means,
            **more,
            **progress(self.schedule, phase, nimg),
            **self.costs.timing(phase, nimg),
            **memory_in_use(self.device),
        }
        self.console.tick(nimg, self.describe(phase, nimg))
        images = self.fakes(nimg)
        statistics["Progress/variety"] = share = self.share_of_variety(images)
        with patiently():
            self.tracker.log(statistics, nimg)
        with patiently():
            if not self.path_of_reals(images.shape[-1]).exists():  # the disk was full, perhaps
                self.reals(images.shape[-1], nimg)
        # Before the end of the first phase no network can be expected to vary.
        if nimg >= self.schedule.phases[0].end_nimg:
            with patiently():
                self.warn(signs(means, share, self.config.loss.weights.target), nimg)

    def keep_folder(self, hold: Hold | None, due: set[str], nimg: int) -> None:
        """Take the run's folder again if it was deleted or moved, and make a checkpoint due.

        Raises:
            UserError: see `Hold.keep`.
        """
        with patiently():
            if hold and hold.keep(self.config, nimg):
                self.tracker.lost = True
                due |= {"checkpoint", "snapshot"}

    def catch_up(self) -> None:
        """Write the statistics that could not be written before.

        Raises:
            DiskError, OSError: they still cannot.
        """
        self.tracker.catch_up()

    def warn(self, found: dict[str, str], nimg: int) -> None:
        """Warn in the log and in TensorBoard, once for each time that a sign appears."""
        new = [text for name, text in found.items() if name not in self.signs]
        for text in new:
            log.warning("at %s kimg: %s", nimg / 1000, text)
            self.tracker.log_text("warnings", text, nimg)
        self.signs = set(found)

    def share_of_variety(self, images: np.ndarray) -> float:
        """Variety of fakes, relative to that of as many reals."""
        resolution = images.shape[-1]
        if resolution not in self.varieties:
            self.varieties = {resolution: variety(self.examples_of(resolution)[0])}
        return variety(images) / max(self.varieties[resolution], 1e-6)

    def describe(self, phase: Phase, nimg: int, seconds: float | None = None) -> str:
        """The state of training, in one line.

        Args:
            seconds: an image; None: as at the last tick, else as predicted.
        """
        alpha = phase.alpha(nimg)
        fading = "" if alpha is None else f" alpha {alpha:.2f}"
        losses = "".join(
            f"  {name} {self.means[key]:.2f}"
            for name, key in (("D", "Loss/D"), ("G", "Loss/G"))
            if key in self.means
        )
        seconds = seconds or self.costs.per_image(phase)
        rate = f"{short(1 / seconds)} img/s" if seconds else ""
        left = self.costs.left(nimg) or "-"
        return f"{phase.resolution}x{phase.resolution}{fading}{losses}  {rate}  {left} left"

    def fakes(self, nimg: int) -> np.ndarray:
        """Write a grid of samples: the same seeds at every tick, at the resolution and alpha
        reached. Returns its images, uint8 [N, C, r, r]."""
        resolution, alpha = self.schedule.reached(nimg)
        seeds, labels, columns = self.layout(resolution)
        images = generate(self.G_ema, seeds, labels, resolution, alpha)
        with patiently():
            picture = grid(images, columns, self.row_names)
            path = self.run_dir / "images" / f"fakes-{stamp(nimg)}.png"
            save_picture(picture, path, Provenance({"kimg": f"{nimg / 1000:g}"}))
            self.tracker.log_image("fakes", resolution, picture, nimg)
        return images

    def begin_phase(self, phase: Phase, nimg: int) -> None:
        """Write a grid of reals after a phase's first step, if its resolution is new."""
        first = next(p for p in self.schedule.phases if p.resolution == phase.resolution)
        if phase == first:
            with patiently():
                self.reals(phase.resolution, nimg)

    def reals(self, resolution: int, nimg: int) -> None:
        """Write images of the data to compare with, laid out as the fakes.

        With attributes, each fake has those of the real in its place.
        """
        picture = grid(*self.examples_of(resolution), self.row_names)
        save_picture(picture, self.path_of_reals(resolution))
        self.tracker.log_image("reals", resolution, picture, nimg)

    def path_of_reals(self, resolution: int) -> Path:
        return self.run_dir / "images" / f"reals-{resolution:04d}.png"

    def examples_of(self, resolution: int) -> tuple[np.ndarray, int]:
        """Reals to compare with, uint8 [N, C, r, r], and the columns of their grid."""
        seeds, labels, columns = self.layout(resolution)
        return self.stream.examples(len(seeds), labels, resolution), columns

    def layout(self, resolution: int) -> tuple[list[int], np.ndarray | None, int]:
        """Seeds, labels and columns of the grid."""
        return grid_layout(resolution, None if self.labels is None else self.labels.values)

    def snapshot(self, nimg: int) -> None:
        """Save the averaged generator, to sample from; once for an `nimg`."""
        self.save(snapshot_path(self.run_dir, nimg), nimg)

    def save(self, path: Path, nimg: int) -> None:
        if not path.exists():
            save_snapshot(self.snapshot_at(path, nimg))

    def snapshot_at(self, path: Path, nimg: int) -> Snapshot:
        G, data, origin = self.G_ema, self.stream.data.identity, self.origin
        resolution, alpha = self.schedule.reached(nimg)
        licence = origin.licence if origin else None
        return Snapshot(
            path, G, self.config, nimg, resolution, alpha, self.labels, data, None, origin, licence
        )

    def keep_averages(self, networks: Sequence[Generator], phase: Phase, nimg: int) -> None:
        """Keep both averages for `progan average`, at ends of phases and every so often."""
        ends = nimg == self.schedule.end_of(phase)
        if ends or averages.is_due(self.run_dir, nimg):
            path = averages.averages_path(self.run_dir, nimg)
            averages.save_averages(self.snapshot_at(path, nimg), networks)

    def lacks(self, metrics: list[str], nimg: int) -> bool:
        """Whether one of them has not been recorded yet."""
        return not has(self.run_dir, nimg, metrics)

    def measured(self, results: dict[str, float], nimg: int) -> None:
        """Write results of metrics; keep the snapshot if one of them is the best so far."""
        best, (r, _) = improved(self.run_dir, results), self.schedule.reached(nimg)
        for name in best:
            with patiently():
                self.save(best_path(self.run_dir, name, r, nimg), nimg)
        with patiently():
            self.tracker.log({SECTION + name: v for name, v in results.items()}, nimg, METRICS)
        shown = {name: value for name, value in results.items() if "_at_" not in name}
        text = ", ".join(f"{name} {value:.4g}" for name, value in shown.items())
        self.say(f"  {text}" + f"; the best so far by {', '.join(best)}, of {r}x{r}" * bool(best))

    def forget_worse(self) -> None:
        """Keep only the best snapshot of each metric, and the newest averages.

        Once a checkpoint follows: a run that goes on from an earlier one would miss its best.
        """
        forget_worse(self.run_dir)
        averages.forget_old(self.run_dir)

    def say(self, text: str) -> None:
        self.console.say(text)

    def close(self, nimg: int) -> None:
        self.console.close(nimg)


@contextmanager
def patiently() -> Iterator[None]:
    """Warns if the disk cannot be written, which does not end the run."""
    try:
        yield
    except (DiskError, OSError) as error:
        log.warning("%s; training goes on, and tries again at the next tick", error)
