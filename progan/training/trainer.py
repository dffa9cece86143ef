"""When things happen: phases, steps, ticks, snapshots."""

import time
from contextlib import closing
from pathlib import Path

from accelerate import Accelerator

from progan.config.config import Config
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
from progan.runtime.energy import EnergyMeter
from progan.runtime.memory import explain_short_memory
from progan.runtime.stopping import StopRequest
from progan.runtime.text import human_time
from progan.training.build import compiles, make_costs, make_feed, make_loss, make_step
from progan.training.costs import CostModel
from progan.training.health import MOST_SKIPPED, diverged
from progan.training.memory_fit import begin_what_fits
from progan.training.outputs import NoOutputs, Outputs, patiently
from progan.training.statistics import RunningMeans, Skipped, spent
from progan.training.transfer import Transfer


class Trainer:
    """Trains a run from its newest checkpoint to its end, or to a requested stop.

    Args:
        data: images, at least of the config's resolution.
        run_dir: written by the main process only.
        stop: asked between steps.
        hold: the main process's lock on the folder, if it is locked.
    """

    costs: CostModel  # measured when training begins
    outputs: Outputs | NoOutputs = NoOutputs()  # the main process's are opened then, too

    def __init__(
        self,
        config: Config,
        data: Dataset,
        run_dir: Path,
        accelerator: Accelerator,
        stop: StopRequest,
        hold: Hold | None = None,
    ):
        self.config, self.run_dir = config, run_dir
        self.accelerator = accelerator
        self.stop, self.hold, self.meter = stop, hold, EnergyMeter(accelerator)
        self.schedule = config.make_schedule()
        self.loss = make_loss(config, data.labels.kind if data.labels else "classes")
        self.feed = make_feed(config, data, accelerator)
        self.stream = self.feed.stream
        self.step = make_step(config, self.feed.c_dim, self.loss, accelerator)
        self.transfer = Transfer(config, self.step.G, self.step.D, self.step.averages.networks)
        self.metrics = MetricsDuringTraining(config, data, self.step.G_ema, accelerator)
        self.progress = Progress()
        self.statistics, self.skipped = RunningMeans(), Skipped()
        self.checkpoint = Checkpoint(
            run_dir,
            config,
            data=self.stream,  # first: other data may be the reason why the rest does not fit
            **self.step.parts(),
            progress=self.progress,
            statistics=self.statistics,
            skipped=self.skipped,
            **self.transfer.parts(),
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
        check_progress(self.run_dir, self.config, nimg)
        check_same_checkpoints(self.accelerator, self.run_dir, nimg)
        check_same_images(self.accelerator, self.stream.data.identity)
        if self.accelerator.is_main_process:
            write_config(self.run_dir, self.config)
            (self.run_dir / COMPLETE).unlink(missing_ok=True)
        if self.hold:
            self.hold.begin()
        self.statistics.to(self.accelerator.device)
        self.skipped.to(self.accelerator.device)
        self.costs = make_costs(self.config, self.loss, self.step.G, self.step.D, self.accelerator)
        if self.accelerator.is_main_process:
            more = self.costs, self.step.G_ema, self.stream, nimg, self.transfer.origin
            self.outputs = Outputs(self.config, self.run_dir, self.accelerator, *more)
        if restored:
            self.outputs.say(f"going on from {restored.name}")
        else:
            self.outputs.fakes(0)
        self.outputs.forecast(nimg)
        if restored and self.schedule.ends_tick(nimg, self.config.run.tick_kimg):
            self.measure()
        self.begin_tick()

    def begin_tick(self) -> None:
        self.tick_start, self.tick_start_nimg = time.perf_counter(), self.progress.nimg
        self.stream.waited = 0.0

    def end(self, complete: bool) -> None:
        """Save what the last tick has not saved."""
        if not complete:
            self.progress.spend(time.perf_counter() - self.tick_start, self.meter.took())
            self.compare_weights()
        self.keep_folder()
        try:
            self.outputs.catch_up()
        finally:  # no later tick tries again, and the training must not be lost, too
            if not complete or "checkpoint" in self.due:
                self.save_checkpoint()
        self.outputs.forget_worse()
        self.outputs.snapshot(self.progress.nimg)
        self.accelerator.wait_for_everyone()
        self.outputs.close(self.progress.nimg)

    def begin_phase(self, phase: Phase) -> None:
        """Begin a phase, after a tick or a start; the tick's clock starts when all is compiled."""
        self.phase = phase
        compile = self.compiles(phase) and self.step.compiler_works
        start = time.perf_counter()
        if compile:
            self.outputs.say(f"compiling for {phase} (about a minute)")
        # First, as a level of the data that is kept on the device takes memory, too.
        self.feed.critic_batch(self.progress.nimg, phase.batch_size, phase.resolution)
        restart = phase.restart and self.progress.nimg == phase.start_nimg
        begun = begin_what_fits(self.step, self.stream, phase, restart, compile)
        self.progress.compiled = self.step.compiled  # false if it failed
        if self.step.compiled:
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
        return compiles(self.config, self.costs.seconds_of(phase), self.accelerator)

    def train_step(self, phase: Phase) -> None:
        """The phase's updates of the critic, one of the generator, one of the average."""
        size, r, end = phase.batch_size, phase.resolution, self.progress.nimg + phase.step_size
        self.step.skipped.zero_()
        for nimg in range(self.progress.nimg, end, size):
            self.step.set_progress(nimg)
            means = self.step.update_critic(self.feed.critic_batch(nimg, size, r))
            if nimg + size < end:
                self.statistics.add(means, size)
        latents = self.feed.generator_batch(nimg, size, r, phase.critic_updates)
        self.statistics.add(means | self.step.update_generator(latents), size)
        self.step.average()
        self.skipped.add(self.step.skipped)
        self.progress.nimg = end

    def maintain(self, phase: Phase) -> None:
        """Make a tick if one is due: a function of `nimg`, so a resumed run keeps the rhythm.

        Ticks count from the phase's first image; its last image ends one.
        """
        nimg = self.progress.nimg
        seconds = time.perf_counter() - self.tick_start
        self.outputs.update(phase, nimg, seconds / (nimg - self.tick_start_nimg))
        if nimg == phase.start_nimg + phase.step_size:
            self.outputs.begin_phase(phase, nimg)
        if self.schedule.ends_tick(nimg, self.config.run.tick_kimg):
            self.tick(phase)

    def tick(self, phase: Phase) -> None:
        """Write statistics and samples, and snapshot, checkpoint and metrics when they are due."""
        nimg = self.progress.nimg
        means = self.statistics.means()  # waits for the device
        skipped, in_a_row = self.skipped.take()
        self.compare_weights()
        seconds = time.perf_counter() - self.tick_start
        self.costs.observe(phase, seconds / (nimg - self.tick_start_nimg))
        self.progress.tick += 1
        self.progress.spend(seconds, self.meter.took())
        more = {
            "Loss/skipped": skipped,
            "Progress/batch_gpu": self.step.images_per_pass,
            "Timing/data_wait": self.stream.waited / seconds,
            **spent(self.progress),
        }
        paused = time.perf_counter()
        self.keep_folder()
        self.outputs.tick(phase, nimg, means, more)
        self.keep(phase)
        self.costs.observe_pause(phase, time.perf_counter() - paused)
        if in_a_row >= MOST_SKIPPED:
            self.save_checkpoint()
            raise diverged(in_a_row, nimg, means, self.checkpoint.newest())
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
        reached, begun = self.schedule.reached(nimg), time.perf_counter()
        results = self.metrics.measure(due, *reached, lambda: self.stop.reason() is not None)
        self.unmeasured = not results
        if results:
            self.costs.observe_metrics(due, time.perf_counter() - begun)
            self.keep_folder()
            self.outputs.measured(results, nimg)

    def metrics_due(self) -> list[str]:
        return self.metrics.due(self.progress.tick, self.progress.nimg == self.schedule.total_nimg)

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
        self.keep_folder()
        if "checkpoint" in self.due:
            with patiently():  # curves that cannot be written keep no checkpoint from being saved
                self.outputs.catch_up()
        if self.config.ema.kind == "power":
            with patiently():
                self.outputs.keep_averages(self.step.averages.networks, phase, nimg)
        with patiently():
            if "checkpoint" in self.due:
                self.save_checkpoint()
                self.due.remove("checkpoint")
                self.outputs.forget_worse()
            if "snapshot" in self.due:  # after it: a run that has snapshots can always go on
                self.outputs.snapshot(nimg)
                self.due.remove("snapshot")

    def keep_folder(self) -> None:
        self.outputs.keep_folder(self.hold, self.due, self.progress.nimg)

    def save_checkpoint(self) -> None:
        if self.accelerator.is_main_process:
            self.checkpoint.save(self.progress.nimg, self.config.run.keep_checkpoints)
