"""When things happen: phases, steps, ticks, snapshots."""

import time
from contextlib import closing
from pathlib import Path

from accelerate import Accelerator

from progan.config.config import Config
from progan.config.resolutions import at_resolution
from progan.config.schedule import Phase
from progan.data.dataset import Dataset
from progan.metrics.while_training import MetricsDuringTraining
from progan.runs.checkpoint import Checkpoint, Progress
from progan.runs.folder import COMPLETE, check_progress, write_config
from progan.runs.hold import Hold
from progan.runtime.accelerator import explain_lost_processes
from progan.runtime.distributed import (
    check_same_checkpoints,
    check_same_images,
    check_same_weights,
    on_any,
)
from progan.runtime.errors import UserError
from progan.runtime.memory import explain_short_memory
from progan.runtime.stopping import StopRequest
from progan.runtime.text import human_time
from progan.training.build import compiles, make_costs, make_feed, make_loss, make_step
from progan.training.costs import CostModel
from progan.training.memory_fit import begin_what_fits
from progan.training.outputs import NoOutputs, Outputs, patiently
from progan.training.statistics import RunningMeans, Skipped

MOST_SKIPPED = 50  # updates in a row; trouble that lasts longer will not pass


class Trainer:
    """Trains a run from its newest checkpoint to its end, or to a requested stop.

    Args:
        data: images, at least of the config's resolution.
        run_dir: written by the main process only.
        stop: asked between steps.
        hold: the main process's lock on the folder, if it is locked.
    """

    costs: CostModel  # measured when training begins
    outputs: Outputs | NoOutputs

    def __init__(
        self,
        config: Config,
        data: Dataset,
        run_dir: Path,
        accelerator: Accelerator,
        stop: StopRequest,
        hold: Hold | None = None,
    ):
        self.config = config
        self.run_dir = run_dir
        self.accelerator = accelerator
        self.stop = stop
        self.hold = hold
        self.schedule = config.make_schedule()
        self.loss = make_loss(config, data.labels.kind if data.labels else "classes")
        self.feed = make_feed(config, data, accelerator)
        self.stream = self.feed.stream
        self.step = make_step(config, self.feed.c_dim, self.loss, accelerator)
        self.metrics = MetricsDuringTraining(config, data, self.step.G_ema, accelerator)
        self.progress = Progress()
        self.statistics = RunningMeans()
        self.skipped = Skipped()
        self.checkpoint = Checkpoint(
            run_dir,
            config,
            data=self.stream,  # first: other data may be the reason why the rest does not fit
            G=self.step.G,
            D=self.step.D,
            G_ema=self.step.G_ema,
            G_opt=self.step.G_opt,
            D_opt=self.step.D_opt,
            progress=self.progress,
            statistics=self.statistics,
            skipped=self.skipped,
        )
        self.phase: Phase | None = None
        self.due: set[str] = set()  # files that a tick could not write
        self.unmeasured = False  # whether a stop ended the measuring

    def run(self) -> bool:
        """Train; returns whether the run is complete (otherwise it was asked to stop).

        Raises:
            UserError: out of memory, diverged, or no usable checkpoint.
        """
        newest, timeout = self.checkpoint.newest, self.config.run.timeout
        short_memory = explain_short_memory(
            lambda: f"in {self.phase or 'the start'}",
            "set schedule.batch_gpu to a part of the batch, which leaves the update the same, or "
            "close other programs that use this device",
        )
        lost_processes = explain_lost_processes(self.accelerator, timeout, newest)
        with closing(self.stream), lost_processes, short_memory:
            return self.train()

    def train(self) -> bool:
        self.begin()
        while self.progress.nimg < self.schedule.total_nimg:
            phase = self.schedule.at(self.progress.nimg)
            if phase != self.phase:
                self.begin_phase(phase)
            self.train_step(phase)
            self.maintain(phase)
            if on_any(self.accelerator, self.stop.reason() is not None):
                break
        complete = self.progress.nimg >= self.schedule.total_nimg and not self.unmeasured
        self.end(complete)
        return complete

    def begin(self) -> None:
        """Restore, measure what an update costs here, open the outputs."""
        restored = self.checkpoint.load_newest()
        nimg = self.progress.nimg
        check_progress(self.run_dir, self.config, nimg, restored is not None)
        check_same_checkpoints(self.accelerator, self.run_dir, nimg)
        check_same_images(self.accelerator, self.stream.data.identity)
        if self.accelerator.is_main_process:
            write_config(self.run_dir, self.config)
            (self.run_dir / COMPLETE).unlink(missing_ok=True)
        self.statistics.to(self.accelerator.device)
        self.skipped.to(self.accelerator.device)
        self.costs = make_costs(
            self.config, self.loss, self.schedule, self.step.G, self.step.D, self.accelerator
        )
        self.outputs = NoOutputs()
        if self.accelerator.is_main_process:
            more = self.costs, self.step.G_ema, self.stream, nimg
            self.outputs = Outputs(self.config, self.run_dir, self.accelerator, *more)
        if restored:
            self.outputs.say(f"going on from {restored.name}")
        else:
            self.outputs.fakes(0)
        self.outputs.forecast(nimg)
        if restored and self.ends_tick(self.schedule.at(nimg - 1), nimg):
            self.measure()
        self.begin_tick()

    def begin_tick(self) -> None:
        self.tick_start, self.tick_start_nimg = time.perf_counter(), self.progress.nimg
        self.stream.waited = 0.0

    def end(self, complete: bool) -> None:
        """Save what the last tick has not saved."""
        if not complete:
            self.progress.seconds += time.perf_counter() - self.tick_start
            self.compare_weights()
        self.outputs.keep_folder(self.hold, self.due)
        self.outputs.catch_up()
        if not complete or "checkpoint" in self.due:
            self.save_checkpoint()
        self.outputs.forget_worse()
        self.outputs.snapshot(self.progress.nimg)
        self.accelerator.wait_for_everyone()
        self.outputs.close(self.progress.nimg)

    def begin_phase(self, phase: Phase) -> None:
        """Begin a phase, after a tick or a start; the tick's clock starts when all is compiled."""
        self.phase = phase
        self.step.compile = self.compiles(phase) and self.step.compiler_works
        start = time.perf_counter()
        if self.step.compile:
            self.outputs.say(f"compiling for {phase} (about a minute)")
        # First, as a level of the data that is kept on the device takes memory, too.
        self.feed.critic_batch(self.progress.nimg, phase.batch_size, phase.resolution)
        restart = self.progress.nimg == phase.start_nimg
        begun = begin_what_fits(self.step, self.stream, phase, restart)
        self.progress.compiled = self.step.compile  # false if it failed
        if self.step.compile:
            self.outputs.say(f"compiled in {human_time(time.perf_counter() - start)}")
        if begun != phase:
            self.outputs.say(
                f"memory is short at {phase}: {begun.batch_gpu} images a forward pass, and "
                "gradients accumulated; the update stays the same"
            )
        self.begin_tick()

    def compiles(self, phase: Phase) -> bool:
        """Whether to compile the phase. What `auto` chose at its first image holds after a resume,
        as compiled updates round differently."""
        begun, chosen = self.progress.nimg > phase.start_nimg, self.progress.compiled
        if begun and chosen is not None and self.config.run.compile == "auto":
            return chosen
        return compiles(self.config, self.costs, phase, self.accelerator)

    def train_step(self, phase: Phase) -> None:
        """One update of the critic, one of the generator, one of the average."""
        nimg, batch_size = self.progress.nimg, phase.batch_size
        self.step.set_progress(nimg)
        means = self.step.update_critic(self.feed.critic_batch(nimg, batch_size, phase.resolution))
        means |= self.step.update_generator(self.feed.generator_batch(nimg, batch_size))
        self.step.average()
        self.statistics.add(means, batch_size)
        self.skipped.add(self.step.skipped)
        self.progress.nimg += batch_size

    def maintain(self, phase: Phase) -> None:
        """Make a tick if one is due: a function of `nimg`, so a resumed run keeps the rhythm.

        Ticks count from the phase's first image; its last image ends one.
        """
        nimg = self.progress.nimg
        seconds = time.perf_counter() - self.tick_start
        self.outputs.update(phase, nimg, seconds / (nimg - self.tick_start_nimg))
        if nimg == phase.start_nimg + phase.batch_size:
            self.outputs.begin_phase(phase, nimg)
        if self.ends_tick(phase, nimg):
            self.tick(phase)

    def ends_tick(self, phase: Phase, nimg: int) -> bool:
        """Whether the step that ended at `nimg` is a tick's last."""
        interval = at_resolution(self.config.run.tick_kimg, phase.resolution) * 1000
        shown = nimg - phase.start_nimg
        due = shown // interval > (shown - phase.batch_size) // interval
        return due or nimg in (phase.end_nimg, self.schedule.total_nimg)

    def tick(self, phase: Phase) -> None:
        """Write statistics and samples, and snapshot, checkpoint and metrics when they are due."""
        nimg = self.progress.nimg
        means = self.statistics.means()  # waits for the device
        skipped, in_a_row = self.skipped.take()
        self.compare_weights()
        seconds = time.perf_counter() - self.tick_start
        self.costs.observe(phase, seconds / (nimg - self.tick_start_nimg))
        self.progress.tick += 1
        self.progress.seconds += seconds
        more = {
            "Loss/skipped": skipped,
            "Progress/tick": self.progress.tick,
            "Progress/batch_gpu": self.step.images_per_pass,
            "Timing/total_hours": self.progress.seconds / 3600,
            "Timing/data_wait": self.stream.waited / seconds,
        }
        paused = time.perf_counter()
        self.outputs.keep_folder(self.hold, self.due)
        self.outputs.tick(phase, nimg, means, more)
        self.keep(phase)
        self.costs.observe_pause(phase, time.perf_counter() - paused)
        if in_a_row >= MOST_SKIPPED:
            self.save_checkpoint()
            raise UserError(
                f"the last {in_a_row} updates had gradients that are not finite and were skipped, "
                f"up to {nimg / 1000} kimg; finite in this tick: {means}. What had been reached "
                f"is in {self.checkpoint.newest()}. A lower schedule.learning_rate in a new "
                "--run-dir may help, or run.precision=fp32"
            )
        self.measure()
        self.begin_tick()

    def measure(self) -> None:
        """Measure the metrics that are due at this tick, unless that has been done.

        This may take minutes, so a checkpoint comes first. A requested stop ends it; a run that
        goes on from there measures first.
        """
        nimg, due = self.progress.nimg, self.metrics_due()
        if not due or not on_any(self.accelerator, bool(self.outputs.lacks(due, nimg))):
            return
        self.outputs.say(f"measuring {', '.join(due)}")
        reached = self.schedule.reached(nimg)
        begun = time.perf_counter()
        results = self.metrics.measure(due, *reached, lambda: self.stop.reason() is not None)
        self.unmeasured = not results
        if results:
            self.costs.observe_metrics(due, time.perf_counter() - begun)
            self.outputs.measured(results, nimg)

    def metrics_due(self) -> list[str]:
        last = self.progress.nimg == self.schedule.total_nimg
        return self.metrics.due(self.progress.tick, last)

    def compare_weights(self) -> None:
        """Check that they are equal on all processes, before they are saved."""
        newest = self.checkpoint.newest
        check_same_weights(self.accelerator, self.step.checksum, self.progress.nimg, newest)

    def keep(self, phase: Phase) -> None:
        """Save a checkpoint and a snapshot if due; if the disk is full, at the next tick."""
        nimg, tick, run = self.progress.nimg, self.progress.tick, self.config.run
        if tick % run.checkpoint_ticks == 0 or self.metrics_due():
            self.due.add("checkpoint")
        if tick % run.snapshot_ticks == 0 or nimg in (phase.end_nimg, self.schedule.total_nimg):
            self.due |= {"checkpoint", "snapshot"}
        with patiently():
            if "checkpoint" in self.due:
                self.outputs.catch_up()  # statistics up to a checkpoint must not be missing
                self.save_checkpoint()
                self.due.remove("checkpoint")
                self.outputs.forget_worse()
            if "snapshot" in self.due:  # after it: a run that has snapshots can always go on
                self.outputs.snapshot(nimg)
                self.due.remove("snapshot")

    def save_checkpoint(self) -> None:
        if self.accelerator.is_main_process:
            self.checkpoint.save(self.progress.nimg, self.config.run.keep_checkpoints)
