"""What a run shows of itself: statistics, grids of samples and reals, snapshots."""

from pathlib import Path

from accelerate import Accelerator

from progan.checkpoint import MOST_EXAMPLES, Snapshot, save_snapshot, snapshot_path, stamp
from progan.config import Config
from progan.costs import CostModel
from progan.data.stream import Stream
from progan.networks import Generator
from progan.sampling import generate, grid, grid_layout, save_png
from progan.schedule import Phase, Schedule
from progan.tracking import Console, Tracker, memory_in_use
from progan.words import human_time


class Outputs:
    """The main process's pen; on the other processes every method does nothing.

    Args:
        G_ema: samples and snapshots come from it, always in float32.
        nimg: where this start begins; what an earlier one wrote beyond is removed.
    """

    def __init__(
        self,
        config: Config,
        run_dir: Path,
        accelerator: Accelerator,
        schedule: Schedule,
        costs: CostModel,
        G_ema: Generator,
        stream: Stream,
        nimg: int,
    ):
        self.config = config
        self.run_dir = run_dir
        self.active = accelerator.is_main_process
        self.device = accelerator.device
        self.schedule = schedule
        self.costs = costs
        self.G_ema = G_ema
        self.classes = stream.data.classes if G_ema.c_dim else ()
        labels = stream.data.labels if self.classes else None
        of_attributes = labels is not None and labels.ndim == 2
        self.examples = labels[:MOST_EXAMPLES] if of_attributes else None
        self.stream = stream
        if self.active:
            for pattern in ("snapshots/snapshot-*", "images/fakes-*"):
                remove_after(run_dir, pattern, nimg)
        self.tracker = Tracker(accelerator, run_dir, nimg, config)
        self.console = Console(self.active, schedule.total_nimg, nimg)
        self.means: dict[str, float] = {}  # of the last tick, for the progress bar

    def update(self, phase: Phase, nimg: int) -> None:
        """After every update: moves the progress bar."""
        if self.active:
            self.console.show(nimg, lambda: self.describe(phase, nimg))

    def tick(
        self, phase: Phase, nimg: int, means: dict[str, float], more: dict[str, float]
    ) -> None:
        """A line of statistics and a grid of samples."""
        if not self.active:
            return
        self.means = means
        resolution, alpha = self.schedule.reached(nimg)
        seconds_per_image = self.costs.per_image(phase)
        statistics = {
            **means,
            **more,
            "Progress/kimg": nimg / 1000,
            "Progress/resolution": resolution,
            "Progress/alpha": 1.0 if alpha is None else alpha,
            "Progress/batch_size": phase.batch_size,
            "Progress/learning_rate": phase.learning_rate(nimg - phase.batch_size),
            "Timing/sec_per_kimg": 1000 * seconds_per_image,
            "Timing/images_per_sec": 1 / seconds_per_image,
            **memory_in_use(self.device),
        }
        self.tracker.log(statistics, nimg)
        self.console.tick(nimg, self.describe(phase, nimg))
        self.fakes(nimg)

    def describe(self, phase: Phase, nimg: int) -> str:
        """Where training stands, in one line."""
        alpha = phase.alpha(nimg)
        fading = "" if alpha is None else f" alpha {alpha:.2f}"
        losses = "".join(
            f"  {name} {self.means[key]:.2f}"
            for name, key in (("D", "Loss/D"), ("G", "Loss/G"))
            if key in self.means
        )
        seconds = self.costs.per_image(phase)
        rate = f"{1 / seconds:.0f} img/s" if seconds else ""
        left = human_time(self.costs.seconds_left(nimg))
        return f"{phase.resolution}x{phase.resolution}{fading}{losses}  {rate}  {left} left"

    def fakes(self, nimg: int) -> None:
        """The same seeds at every tick, at the resolution and alpha that have been reached."""
        if not self.active:
            return
        resolution, alpha = self.schedule.reached(nimg)
        seeds, labels, columns = grid_layout(resolution, self.G_ema.c_dim, self.examples)
        picture = grid(generate(self.G_ema, seeds, labels, resolution, alpha), columns)
        save_png(picture, self.run_dir / "images" / f"fakes-{stamp(nimg)}.png")
        self.tracker.log_image("fakes", picture, nimg)

    def begin_phase(self, phase: Phase, nimg: int) -> None:
        """After a phase's first update: if its resolution is new, show the reals."""
        first = next(p for p in self.schedule.phases if p.resolution == phase.resolution)
        if phase == first:
            self.reals(phase.resolution, nimg)

    def reals(self, resolution: int, nimg: int) -> None:
        """Images of the data to compare with, laid out as the fakes.

        With attributes, each fake has those of the real in its place.
        """
        if not self.active:
            return
        seeds, labels, columns = grid_layout(resolution, self.G_ema.c_dim, self.examples)
        classes = labels if self.examples is None else None
        picture = grid(self.stream.examples(len(seeds), classes, resolution), columns)
        save_png(picture, self.run_dir / "images" / f"reals-{resolution:04d}.png")
        self.tracker.log_image("reals", picture, nimg)

    def snapshot(self, nimg: int) -> None:
        """The averaged generator, to sample from; once for an `nimg`."""
        path = snapshot_path(self.run_dir, nimg)
        if self.active and not path.exists():
            reached = self.schedule.reached(nimg)
            labels = self.classes, self.examples
            save_snapshot(path, Snapshot(self.G_ema, self.config, nimg, *reached, *labels))

    def say(self, text: str) -> None:
        self.console.say(text)

    def close(self, nimg: int) -> None:
        self.console.close(nimg)


def remove_after(run_dir: Path, pattern: str, nimg: int) -> None:
    """Files of images that will be shown again, by the stamp at the end of their names."""
    for path in run_dir.glob(pattern):
        if path.name.partition("-")[2][: len(stamp(nimg))] > stamp(nimg):
            path.unlink()
