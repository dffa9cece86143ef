"""Faults during a run: stops, full disks, bad numbers, short memory, damaged files."""

import errno
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import assert_identical, command, flat, load_checkpoint, options, whole_grids
from safetensors import safe_open
from safetensors.torch import load_file, save, save_file
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from test_train import images, state, statistics, train, wait_for

from progan.cli.main import main
from progan.cli.options import check_target
from progan.config.load import load_config
from progan.data.stream import Stream
from progan.runs.checkpoint import Checkpoint, read
from progan.runs.folder import STOP
from progan.runs.snapshot_file import digest, load_snapshot
from progan.runs.tracking import Tracker
from progan.runtime import stopping
from progan.runtime.disk import DiskError, append, write_json
from progan.runtime.errors import UserError
from progan.runtime.stopping import OutOfTime, StopRequest
from progan.training import outputs as outputs_module
from progan.training import step as step_module
from progan.training import trainer as trainer_module
from progan.training.health import signs, variety
from progan.training.optimizers import Optimizer
from progan.training.outputs import Outputs
from progan.training.statistics import RunningMeans, Skipped
from progan.training.step import Step
from progan.training.trainer import Trainer

LONG = {"schedule__total_kimg": 1000, "schedule__learning_rate": 0.001}


def start(photos: Path, run_dir: Path, *arguments: object, **settings) -> subprocess.Popen:
    """Start a run in a new process."""
    words = ["train", "--data", photos, "--run-dir", run_dir, *options(**settings), *arguments]
    return subprocess.Popen(
        command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def refused(run_dir: Path, *arguments: object) -> str:
    result = CliRunner().invoke(main, ["train", "--resume", str(run_dir), *map(str, arguments)])
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return result.output


@pytest.fixture(scope="module")
def kept(photos, tmp_path_factory) -> Path:
    """A run that cannot know that it is complete, so that its files are looked into."""
    run_dir = tmp_path_factory.mktemp("runs") / "kept"
    train(photos, run_dir)
    (run_dir / "complete").unlink()
    return run_dir


# Stops


def test_a_time_limit_ends_a_run_in_good_order(photos, tmp_path, monkeypatch):
    """Reference: exit code 0, the limit named, and a checkpoint of the update at which an hour has
    passed. If it has before training, as preparing the data takes long: no run, and no error."""
    clock, update = time.monotonic, Outputs.update

    def wait(self, phase, nimg, *more):
        update(self, phase, nimg, *more)
        if nimg == 40:
            monkeypatch.setattr(time, "monotonic", lambda: clock() + 3600)

    monkeypatch.setattr(Outputs, "update", wait)
    words = ["train", "--data", str(photos), "--run-dir", str(tmp_path), "--max-hours", "1"]
    words += options(**LONG | {"run__checkpoint_ticks": 10**6})
    for passed, says in (
        (3600, "stopped (--max-hours 1) before training began; what is prepared is kept"),
        (0, "stopped (--max-hours 1), nothing is lost; go on with: progan train"),
    ):
        monkeypatch.setattr("progan.cli.train.started", lambda p=passed: clock() - p)
        result = CliRunner().invoke(main, words, catch_exceptions=False)
        assert result.exit_code == 0 and says in result.output
        assert (tmp_path / "checkpoints").exists() == (passed == 0)
    assert load_checkpoint(tmp_path)["progress"]["nimg"] == 40


def test_a_time_limit_ends_what_comes_before_training():
    """Reference: the clock: a wait of a minute ends just after the limit, or at once if it has
    passed. Ctrl-C acts as ever, and nothing is left to ring later."""
    now = time.monotonic()
    for begin in (now - 3600 + 0.1, now - 7200):
        stop = StopRequest(None, max_hours=1, start=begin)
        with pytest.raises(OutOfTime, match=r"\(--max-hours 1\)"), stop.ended_in_time():
            time.sleep(60)
    with pytest.raises(KeyboardInterrupt), StopRequest(None, 1, now).ended_in_time():
        signal.raise_signal(signal.SIGINT)
    assert time.monotonic() - now < 60 and signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_a_stop_file_ends_a_run_once(photos, kept, tmp_path, monkeypatch):
    """Reference: exit code 0, the file named; it is gone, so the next start goes on to the end of
    the run in one go, bit for bit."""
    run_dir, real = tmp_path / "run", Outputs.tick

    def tick(self, phase, nimg, means, more):
        if nimg == 32:
            (run_dir / STOP).touch()
        return real(self, phase, nimg, means, more)

    monkeypatch.setattr("progan.runtime.stopping.LOOK", 0.0)
    monkeypatch.setattr(Outputs, "tick", tick)
    output = train(photos, run_dir)
    assert f"stopped (the file {run_dir / STOP}), nothing is lost" in output
    assert not (run_dir / STOP).exists()
    monkeypatch.undo()
    assert load_checkpoint(run_dir)["progress"]["nimg"] in (32, 40)
    assert "done" in train(photos, run_dir)
    assert_identical(state(kept), state(run_dir))


def test_a_stop_file_may_wait_in_a_new_folder(photos, tmp_path, monkeypatch):
    """Reference: the file is looked for at most once a second, and ends the run after that look."""
    monkeypatch.setattr("progan.runtime.stopping.LOOK", 0.0)
    (tmp_path / STOP).touch()
    output = train(photos, tmp_path)
    assert "stopped (the file" in output and not (tmp_path / STOP).exists()
    assert load_checkpoint(tmp_path)["progress"]["nimg"] == 8


def test_looks_for_the_stop_file_are_rare(tmp_path, monkeypatch):
    """Reference: a clock of our own. No look within a second of the last one; the first reason
    counts, and the limit is of hours since the given start. The wall clock may jump by years."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "time", iter([1e9, 0.0, 2e9, 1e8]).__next__)
    stop = StopRequest(tmp_path / STOP, max_hours=1, start=100.0)
    (tmp_path / STOP).touch()
    now[0] += 0.9
    assert stop.reason() is None and (tmp_path / STOP).exists()
    now[0] += 0.2
    assert stop.reason() == f"the file {tmp_path / STOP}" and not (tmp_path / STOP).exists()
    assert stop.reason() is not None, "it holds"
    other = StopRequest(None, max_hours=1, start=now[0] - 1800)
    now[0] += 1799
    assert other.reason() is None
    now[0] += 2
    assert other.reason() == "--max-hours 1"
    far = StopRequest(tmp_path / STOP)
    now[0] += 2
    with monkeypatch.context() as patch:
        patch.setattr(Path, "exists", lambda self: out_of_reach())
        assert far.reason() is None, "a folder that is out of reach for a moment ends no run"
    (tmp_path / STOP).touch()
    now[0] += 2
    assert far.reason() is not None


@pytest.mark.parametrize("number", stopping.ENDINGS)
def test_what_asks_a_process_to_end(number, capsys):
    """Reference: POSIX: each of these ends a process that does not handle it. They stop a run in
    good order; other commands end by 128 + number, also where one is called by another. What is
    ignored (as nohup ignores SIGHUP) stays so, and a caller's own handler stays in force."""
    with stopping.ended_by_signals("outer"), StopRequest() as stop:
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)  # a terminal and torchrun may both send it
    assert stop.reason() == signal.Signals(number).name
    by = stopping.ended_by_signals
    with pytest.raises(SystemExit) as ended, by("outer"), by("inner"):
        os.kill(os.getpid(), number)
        pytest.fail("it goes on")
    assert ended.value.code == 128 + number and capsys.readouterr().err == "\ninner\n"
    os.kill(os.getpid(), number)  # the process is about to end
    signal.signal(number, signal.SIG_DFL)
    for before in (signal.SIG_IGN, lambda *_: None):
        if number != signal.SIGTERM:
            signal.signal(number, before)
            with stopping.ended_by_signals("outer"), StopRequest() as stop:
                os.kill(os.getpid(), number)
            assert stop.reason() is None
            assert signal.signal(number, signal.SIG_DFL) == before
    assert signal.getsignal(number) == signal.SIG_DFL


def test_a_current_folder_that_has_been_deleted(tmp_path, monkeypatch):
    """Reference: exit code 2 and the reason, where the import of torch would end the process."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gone").mkdir()
    os.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    for words in (["sample", "demo"], ["runs"]):
        result = CliRunner().invoke(main, words)
        assert (
            result.exit_code == 2 and "the current folder cannot be used (No such" in result.output
        )


AGAIN = """
import os, subprocess, time
from progan.runtime.stopping import ended_by_signals

class Slow:
    def __del__(self):  # of a module, among the last things that Python does
        end = time.monotonic() + 1
        while time.monotonic() < end:
            pass

slow = Slow()
again = f"while kill -{number} {{os.getpid()}} && {again}; do sleep 0.01; done"
nowhere = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
with ended_by_signals("stopped"):
    subprocess.Popen(["sh", "-c", again], **nowhere)
    exec("while True: pass")
"""


@pytest.mark.parametrize("again", ["true", "false"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_command_that_ends_is_not_disturbed(tmp_path, number, again):
    """Reference: 128 + number, and the line that a command says. Signals come again and again until
    the process is over, also after Python has dropped its handlers; or one comes within `exec`,
    after which Python would end by SIGINT."""
    (tmp_path / "again.py").write_text(AGAIN.format(number=int(number), again=again))
    words, paths = [sys.executable, "-m", "again"], os.pathsep.join([str(tmp_path), *sys.path])
    how = {"capture_output": True, "text": True, "timeout": 300}
    done = subprocess.run(words, env=os.environ | {"PYTHONPATH": paths}, **how)
    assert (done.returncode, done.stderr) == (128 + number, "\nstopped\n")


def test_a_run_ends_at_once_by_a_second_ctrl_c_only(monkeypatch):
    """Reference: GNU timeout, which sends its signal to the process and to its group; `kill` before
    Ctrl-C. Only a Ctrl-C that comes later than the first loses what was not saved."""
    now, ended = [1000.0], list[float]()
    monkeypatch.setattr(stopping, "time", SimpleNamespace(monotonic=lambda: now[0]))
    signal.signal(signal.SIGINT, lambda *_: ended.append(now[0]))
    with StopRequest() as stop:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGINT):
            signal.raise_signal(number)
        now[0] += 2
        signal.raise_signal(signal.SIGINT)
    assert stop.reason() == "SIGTERM" and ended == [1002.0]


def out_of_reach():
    raise OSError(116, "Stale file handle")


@pytest.mark.parametrize("value", ["0", "-1", "nan", "x", "1e9"])
def test_a_time_limit_is_a_number_of_hours(photos, tmp_path, value):
    """Reference: exit code 2 and the option named; nothing is begun."""
    words = ["train", "--data", str(photos), "--run-dir", str(tmp_path / "run"), *options()]
    result = CliRunner().invoke(main, [*words, "--max-hours", value])
    assert result.exit_code == 2 and "--max-hours" in result.output
    assert not (tmp_path / "run").exists()


AT_40 = """
import os, signal, sys
from progan.cli.main import main
from progan.training.trainer import Trainer
step = Trainer.train_step
def train_step(self, phase):
    step(self, phase)
    if self.progress.nimg == 40:
        for name in os.environ["SIGNALS"].split():
            os.kill(os.getpid(), getattr(signal, name))
Trainer.train_step = train_step
main()
"""


def signalled(photos: Path, run_dir: Path, signals: str) -> subprocess.CompletedProcess:
    """A process that trains, and that gets signals after five updates, between two ticks."""
    words = [sys.executable, "-c", AT_40, "train", "--data", photos, "--run-dir", run_dir]
    environment = os.environ | {"SIGNALS": signals}
    return subprocess.run(
        [*words, *options()], env=environment, capture_output=True, text=True, timeout=300
    )


def test_killed_run_goes_on_exactly(photos, tmp_path):
    """Reference: the undisturbed run. The process is killed with SIGKILL, and the same command is
    given again."""
    run_dir = tmp_path / "run"
    assert signalled(photos, run_dir, "SIGKILL").returncode == -signal.SIGKILL
    assert load_checkpoint(run_dir)["progress"]["nimg"] == 32
    with whole_grids():
        assert "going on from checkpoint-" in train(photos, run_dir)
        train(photos, tmp_path / "whole")
    assert_identical(state(tmp_path / "whole"), state(run_dir))
    assert statistics(run_dir) == statistics(tmp_path / "whole")
    assert images(run_dir) == images(tmp_path / "whole")


def test_a_ctrl_c_that_arrives_twice_stops_in_good_order(photos, kept, tmp_path):
    """Reference: the run in one go, to which what had been written goes on."""
    run_dir = tmp_path / "run"
    stopped = signalled(photos, run_dir, "SIGINT SIGINT")
    assert stopped.returncode == 130 and "stopped (SIGINT), nothing is lost" in stopped.stdout
    assert load_checkpoint(run_dir)["progress"]["nimg"] == 40
    assert not list(run_dir.rglob("*.partial*"))
    train(photos, run_dir)
    assert_identical(state(kept), state(run_dir))


# Kills


def curves(run_dir: Path) -> dict[str, list]:
    """TensorBoard's steps and values, without the values of clocks and memory."""
    events = EventAccumulator(str(run_dir), {"tensors": 0}).Reload()
    found: dict[str, list] = {}
    for tag in events.Tags()["tensors"]:
        told = events.Tensors(tag)
        if tag.startswith("Samples"):
            found[tag] = [e.step for e in told]
        elif not tag.startswith(("run/", "custom", "_")):
            exact = not tag.startswith(("Timing", "Resources"))
            found[tag] = [(e.step, e.tensor_proto.float_val[0] if exact else None) for e in told]
    return found


def test_what_a_checkpoint_follows_is_on_the_disk(photos, tmp_path, monkeypatch):
    """Reference: each checkpoint's own nimg: curves, pictures and statistics up to it can be read
    from the files when it is written, so a kill after it leaves no gap. What a killed start left
    half-written is removed."""
    run_dir = tmp_path / "run"
    (run_dir / "checkpoints").mkdir(parents=True)
    settings = [*options(run__tracker="tensorboard")[1::2], f"data.source={photos}"]
    (run_dir / "config.yaml").write_text(load_config(None, settings).to_yaml())
    left = run_dir / "checkpoints" / "checkpoint-000000.017.pt.partial"
    left.write_text("half")
    real, seen = Checkpoint.save, []

    def save(self, nimg, keep):
        found = curves(run_dir)
        fakes = max(steps[-1] for tag, steps in found.items() if tag.endswith("fakes"))
        seen.append([fakes, lines()[-1], nimg])
        assert [step for step, _ in found["Loss/D"]] == lines()
        return real(self, nimg, keep)

    def lines():
        return [line["nimg"] for line in statistics(run_dir)]

    monkeypatch.setattr(Checkpoint, "save", save)
    train(photos, run_dir, run__tracker="tensorboard")
    assert seen == [[nimg] * 3 for nimg in (16, 32, 48, 64, 80, 96)]
    assert not left.exists()


@pytest.mark.slow
def test_killed_thirty_times(photos, tmp_path):
    """Reference: the undisturbed run: weights, statistics, grids and curves. A checkpoint is
    written at every tick, so many kills come while one is."""
    settings = {"schedule__total_kimg": 4, "schedule__learning_rate": 0.001}
    settings |= {"run__tracker": "tensorboard"}
    with whole_grids():
        train(photos, tmp_path / "whole", **settings)
    run_dir, draw = tmp_path / "run", random.Random(0)
    for _ in range(30):
        process = start(photos, run_dir, **settings)
        lines = len(statistics(run_dir)) if (run_dir / "stats.jsonl").exists() else 0
        wait_for(lambda lines=lines: grown(run_dir, lines), process)
        time.sleep(draw.uniform(0, 0.3))
        process.kill()
        process.communicate()
    left = load_checkpoint(run_dir)["progress"]["nimg"]
    assert left < 4000, "the run was over before the last kill"
    process = start(photos, run_dir, **settings)
    assert process.communicate(timeout=300)[0] is not None and process.returncode == 0
    assert_identical(state(tmp_path / "whole"), state(run_dir))
    assert statistics(run_dir) == statistics(tmp_path / "whole")
    assert images(run_dir) == images(tmp_path / "whole")
    assert curves(run_dir) == curves(tmp_path / "whole")
    assert not list(run_dir.rglob("*.partial*"))


def grown(run_dir: Path, lines: int) -> bool:
    file = run_dir / "stats.jsonl"
    return file.exists() and file.read_text().count("\n") > lines


# Disks


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a 3 MB disk, if this user may mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    if os.name != "posix" or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only the superuser of Linux can make a small disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_does_not_end_a_run(photos, small_disk, tmp_path, monkeypatch, caplog):
    """Reference: the run on a disk with room. The disk is full from the second tick to the fifth:
    each tick says so, nothing is half-written, the checkpoint of before stays readable, and once
    there is room the run's end has the same weights and every line of statistics."""
    run_dir, filler = small_disk / "run", small_disk / "filler"
    real, kept = Outputs.tick, []

    def tick(self, phase, nimg, means, more):
        if nimg == 32:
            fill(filler)
        if nimg == 80:
            kept.append([read(path)["progress"]["nimg"] for path in run_dir.glob("checkpoints/*")])
            assert not list(run_dir.rglob("*.partial*"))
            filler.unlink()
        return real(self, phase, nimg, means, more)

    monkeypatch.setattr(Outputs, "tick", tick)
    train(photos, run_dir, run__tracker="tensorboard")
    told = [r.getMessage() for r in caplog.records if "no space is left" in r.getMessage()]
    assert len(told) >= 3 and all("training goes on" in line for line in told)
    assert kept == [[16]]
    monkeypatch.undo()
    train(photos, tmp_path / "whole", run__tracker="tensorboard")
    assert_identical(state(tmp_path / "whole"), state(run_dir))
    assert statistics(run_dir) == statistics(tmp_path / "whole")
    steps = [line["nimg"] for line in statistics(run_dir)]
    assert [step for step, _ in curves(run_dir)["Loss/D"]] == steps


def test_a_disk_that_is_full_at_the_end(photos, small_disk, monkeypatch):
    """Reference: the run on a disk with room, once there is room. Full at the last tick, the run
    does not say that it is done; the same command then goes on from the last good checkpoint."""
    run_dir, real = small_disk / "run", Outputs.tick

    def tick(self, phase, nimg, means, more):
        if nimg == 96:
            fill(small_disk / "filler")
        return real(self, phase, nimg, means, more)

    words = ["train", "--data", str(photos), "--run-dir", str(run_dir), *options()]
    with monkeypatch.context() as patch:
        patch.setattr(Outputs, "tick", tick)
        result = CliRunner().invoke(main, words)
    assert result.exit_code == 2 and "no space is left on the disk" in result.output
    assert "done" not in result.output and not list(run_dir.rglob("*.partial*"))
    assert load_checkpoint(run_dir)["progress"]["nimg"] == 80
    (small_disk / "filler").unlink()
    assert "done" in train(photos, run_dir)
    assert len(statistics(run_dir)) == 6


def test_a_disk_that_is_full_for_tensorboard_only(tmp_path):
    """Reference: by hand. Its writer's errors name no file, so the run is named, and what was
    not written is written by a new writer. Checkpoints are saved anyway, at each tick, too."""

    class Writer:
        log_dir, full, steps = "", True, []

        def __init__(self, log_dir, purge_step):
            self.flush()

        def flush(self):
            if self.full:
                raise OSError(errno.EDQUOT, "Disk quota exceeded")

        def add_summary(self, summary, step):
            Writer.steps.append(step)

        file_writer = property(lambda self: self)
        add_text = add_custom_scalars = lambda *_: None

    board = SimpleNamespace(name="tensorboard", writer=Writer.__new__(Writer))
    trackers = SimpleNamespace(init_trackers=lambda *_, **__: None, trackers=[board])
    tracker = Tracker(trackers, tmp_path, 16, load_config(None, {"run.tracker": "tensorboard"}))
    told = "cannot write to TensorBoard's file in .*: .*quota exceeded"
    with pytest.raises(DiskError, match=told):
        tracker.log({"a": 1.0}, 32)
    with pytest.raises(DiskError, match=told):
        tracker.catch_up()
    Writer.full = False
    Writer.steps.clear()
    tracker.catch_up()
    tracker.catch_up()
    assert Writer.steps == [32] and not tracker.lost
    saved: list[str] = []
    trainer = Trainer.__new__(Trainer)
    trainer.keep_folder, trainer.save_checkpoint = lambda: None, lambda: saved.append("all")
    trainer.due, trainer.outputs, Writer.full = {"checkpoint"}, tracker, True
    tracker.scalars.append((48, {}))
    with pytest.raises(DiskError, match=told):
        trainer.end(True)
    assert saved == ["all"]
    trainer.progress, trainer.config = SimpleNamespace(nimg=48, tick=1), load_config()
    trainer.schedule, trainer.metrics_due = trainer.config.make_schedule(), list
    tracker.forget_worse = lambda: None
    trainer.keep(trainer.schedule.phases[0])
    assert saved == ["all"] * 2 and not trainer.due
    with pytest.raises(DiskError, match="cannot write /dev/full: "):
        write_json(Path("/dev/full"), 1)


def test_a_checkpoint_that_failed_is_written_at_the_next_tick(photos, small_disk, monkeypatch):
    """Reference: by hand. Due at every second tick, it fails at the sixth; at the seventh there is
    room again."""
    real, saved, really = Outputs.tick, [], Checkpoint.save

    def tick(self, phase, nimg, means, more):
        if nimg == 48:
            fill(small_disk / "filler")
        if nimg == 56:
            (small_disk / "filler").unlink()
        return real(self, phase, nimg, means, more)

    def save(self, nimg, keep):
        path = really(self, nimg, keep)
        saved.append(nimg)
        return path

    monkeypatch.setattr(Outputs, "tick", tick)
    monkeypatch.setattr(Checkpoint, "save", save)
    rhythm = {"run__tick_kimg": 0.008, "run__checkpoint_ticks": 2, "run__snapshot_ticks": 100}
    train(photos, small_disk / "run", **rhythm)
    assert saved == [16, 32, 56, 64, 80, 96]


def test_a_line_is_written_whole_or_not(small_disk):
    """Reference: the file as it was, on a disk with room for a part of the line; then all of it."""
    file = small_disk / "lines"
    append(file, "one\n")
    fill(small_disk / "filler")
    with open(small_disk / "filler", "r+b") as filler:
        filler.truncate(filler.seek(0, 2) - 8192)
    with pytest.raises(DiskError, match="cannot write .*lines: no space is left on the disk"):
        append(file, "x" * 100_000)
    assert file.read_text() == "one\n"
    (small_disk / "filler").unlink()
    append(file, "é" * 10_000 + "\n")
    assert file.read_text() == "one\n" + "é" * 10_000 + "\n"


def test_json_is_written_whole_or_not(small_disk):
    """Reference: the file as it was, on a full disk and for a number that JSON cannot hold."""
    file = small_disk / "a.json"
    write_json(file, {"é": [1, None]})
    assert file.read_text() == '{\n  "\\u00e9": [\n    1,\n    null\n  ]\n}\n'
    before = file.read_bytes()
    fill(small_disk / "filler")
    with pytest.raises(DiskError, match=r"cannot write .*a\.json: no space is left on the disk"):
        write_json(file, "x" * 100_000)
    (small_disk / "filler").unlink()
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(file, {"value": math.nan})
    assert file.read_bytes() == before
    assert [path.name for path in small_disk.iterdir()] == ["a.json"]


def test_json_goes_into_links_and_pipes(tmp_path):
    """Reference: what a reader gets, where replacing the path would take the pipe away; the link
    is still one afterwards."""
    link, pipe = tmp_path / "link", tmp_path / "pipe"
    link.symlink_to(tmp_path / "a.json")
    write_json(link, 1)
    assert link.is_symlink() and (tmp_path / "a.json").read_text() == "1\n"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_json(pipe, 2)
    assert os.read(reader, 9) == b"2\n" and pipe.is_fifo()
    os.close(reader)


def test_targets_that_cannot_be_written_are_refused(tmp_path, monkeypatch):
    """Reference: a file is replaced, for which its folder must be writable; a link is not."""
    (tmp_path / "a.json").touch()
    (tmp_path / "link").symlink_to(tmp_path / "a.json")
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    check_target(tmp_path / "link")
    with pytest.raises(UserError, match=r"a\.json"):
        check_target(tmp_path / "a.json")
    monkeypatch.setattr(os, "access", lambda path, mode: path == tmp_path)
    with pytest.raises(UserError, match=r"a\.json"):
        check_target(tmp_path / "a.json")
    check_target(tmp_path / "new.json")


def fill(file: Path) -> None:
    with open(file, "wb", buffering=0) as filler:
        try:
            while filler.write(b"0" * 4096):
                pass
        except OSError:
            pass


def test_a_disk_that_is_full_at_the_start(photos, small_disk):
    """Reference: exit code 2, the file and the reason; no part of a file is left."""
    fill(small_disk / "filler")
    words = ["train", "--data", str(photos), "--run-dir", str(small_disk / "run"), *options()]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2, result.output
    assert "no space is left on the disk" in result.stderr or "No space left" in result.stderr
    assert not list(small_disk.rglob("*.partial*"))
    (small_disk / "filler").unlink()
    train(photos, small_disk / "run")
    assert (small_disk / "run" / "complete").exists()


# Numbers


def poisoned(monkeypatch, network: str, updates: set[int], value: float) -> None:
    """The gradients of some updates, counted from 0, hold one number that is not finite."""
    name = {"D": "critic_gradients", "G": "generator_gradients"}[network]
    real, calls = getattr(step_module, name), iter(range(10**6))
    rehearsing = []

    def gradients(*arguments):
        grads, stats = real(*arguments)
        if not rehearsing and next(calls) in updates:
            grads[-1].view(-1)[-1] = value
            stats = {key: torch.full_like(number, value) for key, number in stats.items()}
        return grads, stats

    def try_out(self, n=None):
        rehearsing.append(True)
        really(self, n)
        rehearsing.pop()

    really = Step.try_out
    monkeypatch.setattr(Step, "try_out", try_out)
    monkeypatch.setattr(step_module, name, gradients)


def without(monkeypatch, network: str, updates: set[int]) -> None:
    """Leaves these updates out."""
    real, calls = Optimizer.apply, {"D": iter(range(10**6)), "G": iter(range(10**6))}
    optimizers = {}

    def rehearse(self):
        optimizers.update({id(self.D_opt): "D", id(self.G_opt): "G"})

    def apply(optimizer, parameters, grads):
        of = optimizers.get(id(optimizer))  # none of a trial's
        if of and next(calls[of]) in updates and of == network:
            return torch.zeros(())
        return real(optimizer, parameters, grads)

    monkeypatch.setattr(Step, "rehearse", rehearse)
    monkeypatch.setattr(Optimizer, "apply", apply)


@pytest.mark.parametrize(
    "network, updates, value",
    [("D", {0, 5}, float("nan")), ("G", {4, 5, 11}, float("inf")), ("D", {7}, float("-inf"))],
)
def test_updates_that_are_not_finite_are_skipped(
    photos, tmp_path, monkeypatch, caplog, network, updates, value
):
    """Reference: a run that plainly leaves these updates out, bit for bit: weights, Adam with its
    count of steps, average. The first update of a phase is among them. Statistics leave them out
    and count them."""
    with monkeypatch.context() as patch:
        poisoned(patch, network, updates, value)
        train(photos, tmp_path / "skipped")
    with monkeypatch.context() as patch:
        without(patch, network, updates)
        train(photos, tmp_path / "without")
    ignore = ("/progress", "/statistics", "/skipped")
    expected = state(tmp_path / "without", ignore)
    left = {k for k in expected if k.startswith(f"/{network}_opt/state")}
    assert left
    assert_identical(expected, state(tmp_path / "skipped", ignore))
    lines = statistics(tmp_path / "skipped")
    counts = [sum(k // 2 == i for k in updates) for i in range(6)]
    assert [line["Loss/skipped"] for line in lines] == counts
    assert all(np.isfinite(v) for line in lines for v in line.values())
    told = [r for r in caplog.records if "not finite" in r.getMessage()]
    assert len(told) == sum(map(bool, counts))


def test_too_many_in_a_row_stop_the_run(photos, tmp_path, monkeypatch, any_end):
    """Reference: the state before the first of them. Single ones, however many, do not stop it."""
    monkeypatch.setattr(trainer_module, "MOST_SKIPPED", 4)
    settings = {"schedule__stable_kimg": 0.16, "schedule__total_kimg": 0.16}
    with monkeypatch.context() as patch:
        poisoned(patch, "D", {2, 4, 6, 8, *range(10, 1000)}, float("nan"))
        words = ["train", "--data", str(photos), "--run-dir", str(tmp_path / "run")]
        result = CliRunner().invoke(main, [*words, *options(**settings)])
    assert result.exit_code == 2, result.output
    assert "the last 4 updates had gradients that are not finite" in result.output
    assert "up to 0.112 kimg" in result.output
    assert "checkpoint-000000.112.pt" in result.output and "learning_rate" in result.output
    with monkeypatch.context() as patch:
        without(patch, "D", {2, 4, 6, 8, *range(10, 1000)})
        train(photos, tmp_path / "without", **settings | {"schedule__total_kimg": 0.112})
    ours, plain = load_checkpoint(tmp_path / "run"), load_checkpoint(tmp_path / "without")
    for part in ("D", "D_opt", "G", "G_ema"):
        assert_identical(flat(plain[part]), flat(ours[part]))
    assert all(torch.isfinite(t).all() for t in ours["D"].values())


def test_statistics_leave_out_what_is_not_finite():
    """Reference: closed form; means over the images of the finite values, in any grouping."""
    statistics = RunningMeans()
    a, b, nan = torch.tensor(1.0), torch.tensor(4.0), torch.tensor(float("nan"))
    statistics.add({"x": a, "y": b}, 8)
    statistics.add({"x": b, "y": nan}, 8)
    statistics.add({"x": b}, 16)
    again = RunningMeans()
    again.load_state_dict(statistics.state_dict())
    assert again.means() == pytest.approx({"x": (8 + 32 + 64) / 32, "y": 4.0})
    assert again.means() == {}
    again.add({"x": nan}, 8)
    assert again.means() == {}, "nothing was finite"


def test_counting_what_is_skipped():
    """Reference: by hand. The row ends with an update that is not skipped, of the same network."""
    skipped = Skipped()
    for flags in ([0, 0], [1, 0], [1, 1], [0, 1]):
        skipped.add(torch.tensor(flags, dtype=torch.float32))
    assert skipped.take() == (4, 2)
    skipped.add(torch.tensor([0.0, 1.0]))
    again = Skipped()
    again.load_state_dict(skipped.state_dict())
    assert again.take() == (1, 3)
    again.add(torch.tensor([0.0, 0.0]))
    assert again.take() == (0, 0)


# Signs of trouble


def test_signs_of_trouble():
    """Reference: the limits, from both sides, in units of the target."""
    fine = {"Loss/scores/real": 900.0, "Loss/scores/fake": -900.0}
    assert signs(fine, 0.5, 1.0) == {}
    assert signs({}, 0.11, 1.0) == {}
    assert set(signs({**fine, "Loss/scores/fake": -1001.0}, 0.5, 1.0)) == {"scores"}
    assert signs({**fine, "Loss/scores/fake": -1001.0}, 0.5, 750.0) == {}
    assert set(signs(fine, 0.09, 1.0)) == {"variety"}
    draw = np.random.default_rng(0).integers(0, 256, (16, 3, 4, 4), np.uint8)
    assert variety(np.repeat(draw[:1], 16, axis=0)) == 0
    assert variety(draw) == pytest.approx(draw.astype(float).std(axis=0).mean())


def test_a_collapse_is_told(photos, tmp_path, caplog, monkeypatch):
    """Reference: a generator whose samples are all the same: one warning in the log and one in
    TensorBoard, from the end of the first phase; a run of every day has none."""
    real = outputs_module.generate

    def alike(*arguments):
        found = real(*arguments)
        return np.repeat(found[:1], len(found), axis=0)

    with monkeypatch.context() as patch:
        patch.setattr(outputs_module, "generate", alike)
        train(photos, tmp_path / "run", run__tracker="tensorboard")
    told = [r.getMessage() for r in caplog.records if "samples look alike" in r.getMessage()]
    assert len(told) == 1 and told[0].startswith("at 0.032 kimg: ")
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    assert [e.step for e in events.Tensors("warnings/text_summary")] == [32]
    assert {line["Progress/variety"] for line in statistics(tmp_path / "run")} == {0.0}


# Memory


def limited(monkeypatch, room: dict[int, int]) -> list[tuple]:
    """Makes memory short for forward passes of more images than `room` has for the resolution."""
    tried, real = [], Step.try_out

    def try_out(self, n=None):
        n = self.phase.images_per_pass(self.accelerator.num_processes)
        tried.append((str(self.phase), n))
        if n > room.get(self.phase.resolution, 10**6):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        real(self)

    monkeypatch.setattr(Step, "try_out", try_out)
    return tried


def test_short_memory_halves_the_pass(photos, tmp_path, monkeypatch):
    """Reference: the run with schedule.batch_gpu set by hand, bit for bit; each phase is tried
    before its first update, the new number is said and recorded."""
    with monkeypatch.context() as patch:
        tried = limited(patch, {8: 5})
        output = train(photos, tmp_path / "run", schedule__batch_size=16)
    assert tried == [
        ("4x4 stable", 16),
        ("8x8 fading", 16),
        ("8x8 fading", 8),
        ("8x8 fading", 4),
        ("8x8 stable", 16),
        ("8x8 stable", 8),
        ("8x8 stable", 4),
    ]
    assert output.count("memory is short at 8x8") == 2 and "4 images a forward pass" in output
    train(
        photos, tmp_path / "by hand", schedule__batch_size=16, schedule__batch_gpu="{4: 16, 8: 4}"
    )
    assert_identical(state(tmp_path / "by hand"), state(tmp_path / "run"))
    passes = [line["Progress/batch_gpu"] for line in statistics(tmp_path / "run")]
    assert passes[0] == 16 and set(passes[2:]) == {4}


def test_not_even_a_group_fits(photos, tmp_path, monkeypatch):
    """Reference: the phase, the number of images and settings that help; what was reached before
    can be gone on from."""
    limited(monkeypatch, {8: 3})
    words = ["train", "--data", str(photos), "--run-dir", str(tmp_path / "run"), *options()]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2
    assert "not even 4 images fit into memory at 8x8 fading" in result.output
    assert "network.channel_base" in result.output
    assert load_checkpoint(tmp_path / "run")["progress"]["nimg"] == 32


def test_check_tries_every_phase_and_writes_nothing(photos, tmp_path, monkeypatch):
    """Reference: the schedule's phases, a line each; the failure of a late phase shows at once."""
    words = ["train", "--data", str(photos), "--run-dir", str(tmp_path / "run"), *options()]
    result = CliRunner().invoke(main, [*words, "--check"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    lines = [line.split(":")[0] for line in result.output.splitlines() if "a forward pass" in line]
    assert lines == ["4x4 stable", "8x8 fading", "8x8 stable"]
    assert "every phase fits" in result.output
    assert not (tmp_path / "run").exists()
    limited(monkeypatch, {8: 3})
    result = CliRunner().invoke(main, [*words, "--check"])
    assert result.exit_code == 2 and "not even 4 images" in result.output
    assert not (tmp_path / "run").exists()


def test_a_kept_level_goes_before_images_do(photos, kept, tmp_path, monkeypatch):
    """Reference: a run without the level, bit for bit, whose passes are whole: memory is short as
    long as the level is kept."""
    real, streams = Step.rehearse, []
    init = Stream.__init__

    def made(self, *arguments, **named):
        init(self, *arguments, **named)
        streams.append(self)

    def rehearse(self):
        if streams[-1]._held[1] is not None:
            raise torch.OutOfMemoryError("CUDA out of memory")
        real(self)

    monkeypatch.setattr(Stream, "__init__", made)
    monkeypatch.setattr(Step, "rehearse", rehearse)
    train(photos, tmp_path / "kept", data__device_cache="true")
    assert {line["Progress/batch_gpu"] for line in statistics(tmp_path / "kept")} == {8}
    ignore = ("/progress", "/statistics")
    assert_identical(state(kept, ignore), state(tmp_path / "kept", ignore))


def test_a_rehearsal_has_no_effect(photos, kept, tmp_path, monkeypatch):
    """Reference: a run without rehearsals, bit for bit, Adam's state included."""
    monkeypatch.setattr(Step, "rehearse", lambda self: None)
    train(photos, tmp_path / "without")
    assert_identical(state(tmp_path / "without"), state(kept))


# Files that are no good


def copied(kept: Path, tmp_path: Path) -> Path:

    return Path(shutil.copytree(kept, tmp_path / "run"))


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_verify_names_what_is_damaged(kept, tmp_path, damage):
    """Reference: all whole, exit code 0; then one checkpoint and one snapshot damaged here, each
    named, exit code 2."""
    run_dir = copied(kept, tmp_path)
    result = CliRunner().invoke(main, ["checkpoint", "verify", str(run_dir)])
    assert result.exit_code == 0, result.output
    assert result.output.count(": whole, ") == 6 and "DAMAGED" not in result.output
    for folder in ("checkpoints", "snapshots"):
        newest = sorted((run_dir / folder).iterdir())[-1]
        data = bytearray(newest.read_bytes())
        if damage == "flipped":
            data[len(data) - 2000 if folder == "snapshots" else len(data) // 2] ^= 1
        newest.write_bytes({"truncated": data[: len(data) // 2], "empty": b""}.get(damage, data))
    result = CliRunner().invoke(main, ["checkpoint", "verify", str(run_dir)])
    assert result.exit_code == 2, result.output
    assert result.output.count("DAMAGED") == 2 and result.output.count(": whole, ") == 4
    assert "2 of 6 files are damaged" in result.output


def test_verify_needs_a_run(tmp_path):
    """Reference: exit code 2 and what to give."""
    result = CliRunner().invoke(main, ["checkpoint", "verify", str(tmp_path)])
    assert result.exit_code == 2 and "has no checkpoints and no snapshots" in result.output


def test_a_snapshot_that_asks_for_a_terabyte(kept, tmp_path):
    """Reference: refused by its header, before memory is taken: one whose config asks for wide
    networks, and one whose tensors claim to be large."""
    newest = sorted(kept.glob("snapshots/*"))[-1]
    wide = tmp_path / "wide.safetensors"

    with safe_open(newest, framework="pt") as file:
        metadata = file.metadata()
    yaml = metadata["config"].replace("channel_base: 64", "channel_base: 1048576")
    yaml = yaml.replace("channel_max: 8", "channel_max: 16384")
    assert yaml != metadata["config"]
    tensors = load_file(newest)
    metadata = metadata | {"config": yaml}
    metadata["sha256"] = digest(tensors, metadata)
    save_file(tensors, wide, metadata)
    with pytest.raises(UserError, match="not those of the network that its config describes"):
        load_snapshot(wide)
    data = newest.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    name = next(key for key in header if key.endswith("weight"))
    header[name]["shape"] = [2**20, 2**18]
    header[name]["data_offsets"] = [0, 2**40]
    text = json.dumps(header).encode()
    large = tmp_path / "large.safetensors"
    large.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])
    with pytest.raises(UserError, match="is not a snapshot of progan"):
        load_snapshot(large)


def test_a_snapshot_with_pages_of_config_is_refused(kept, tmp_path):
    """Reference: 100,000 characters, thirty times what a config takes; at once, not after minutes
    of reading YAML."""
    newest = sorted(kept.glob("snapshots/*"))[-1]
    with safe_open(newest, framework="pt") as file:
        metadata = file.metadata()
    long = tmp_path / "long.safetensors"
    save_file(load_file(newest), long, metadata | {"config": metadata["config"] + "#" * 10**7})
    with pytest.raises(UserError, match="its config has 10,00.,... characters"):
        load_snapshot(long)


@pytest.mark.parametrize(
    ("version", "told"),
    [
        ("9.0.1", "was written by progan 9.0.1, and progan .* cannot read it .*install the newer"),
        ("0.0.9", "is not a snapshot of progan"),
        ("none", "is not a snapshot of progan"),
    ],
)
def test_a_snapshot_of_a_newer_progan(kept, tmp_path, version, told):
    """Reference: a setting that is not known here, and the version that the file names."""
    newest = sorted(kept.glob("snapshots/*"))[-1]
    with safe_open(newest, framework="pt") as file:
        metadata = file.metadata()
    yaml = metadata["config"].replace("network:\n", "network:\n  of_tomorrow: 1\n", 1)
    save_file(
        load_file(newest),
        tmp_path / "new.safetensors",
        metadata | {"config": yaml, "progan": version},
    )
    with pytest.raises(UserError, match=told) as error:
        load_snapshot(tmp_path / "new.safetensors")
    assert "of_tomorrow" in str(error.value)


def test_a_snapshot_with_another_weight_is_noticed(kept, tmp_path):
    """Reference: the checksum in the file. One bit of a weight, or one word of its config."""
    newest = sorted(kept.glob("snapshots/*"))[-1]
    data = bytearray(newest.read_bytes())
    data[-5] ^= 1
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(data)
    with pytest.raises(UserError, match="its checksum is wrong"):
        load_snapshot(bad)
    bad.write_bytes(newest.read_bytes().replace(b"drift: 0.001", b"drift: 0.002"))
    with pytest.raises(UserError, match="its checksum is wrong"):
        load_snapshot(bad)


def test_nothing_loaded_is_executed(kept, tmp_path):
    """Reference: a payload that would make a file, fed to each reader: as a checkpoint, as a
    snapshot, in a config of a run, in a config given, in an override. None is made."""
    made = tmp_path / "made"

    class Payload:
        def __reduce__(self):
            return (Path.touch, (made,))

    run_dir = copied(kept, tmp_path)
    for path in (run_dir / "checkpoints").iterdir():
        torch.save({"G": Payload()}, path)
    assert "none of the 2 checkpoints" in refused(run_dir)
    pickled = tmp_path / "pickle.safetensors"
    torch.save(Payload(), pickled)
    yaml = f"!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path [{made}]]"
    (run_dir / "config.yaml").write_text(yaml)
    (tmp_path / "given.yaml").write_text(f"run:\n  seed: {yaml}\n")
    for words in (
        ["sample", pickled],
        ["checkpoint", "verify", run_dir],
        ["train", "--resume", run_dir],
        ["train", "--data", "demo", "--config", tmp_path / "given.yaml", "--dry-run"],
        ["train", "--data", "demo", "-o", f"run.seed={yaml}", "--dry-run"],
    ):
        result = CliRunner().invoke(main, list(map(str, words)))
        assert result.exit_code == 2, result.output
    newest = sorted(kept.glob("snapshots/*"))[-1]
    tensors = load_file(newest)
    bad = tmp_path / "yaml.safetensors"
    bad.write_bytes(save(tensors, {"config": yaml, "progress": "[1, 8, null]", "classes": "[]"}))
    with pytest.raises(UserError):
        load_snapshot(bad)
    assert not made.exists()


def test_a_packed_checkpoint_is_refused(kept, tmp_path, caplog):
    """Reference: a checkpoint repacked with compression, which could unfold to any size."""
    run_dir = copied(kept, tmp_path)
    for path in (run_dir / "checkpoints").iterdir():
        with zipfile.ZipFile(path) as old:
            parts = {info.filename: old.read(info) for info in old.infolist()}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
            for name, content in parts.items():
                new.writestr(name, content)
    assert "none of the 2 checkpoints" in refused(run_dir)
    assert "it is compressed" in caplog.text


# What was started, and where


def test_starts_are_recorded_and_compared(kept, tmp_path, monkeypatch):
    """Reference: the machine's own description; a line a start, and what changed is said."""
    run_dir = copied(kept, tmp_path)
    first = [json.loads(line) for line in (run_dir / "starts.jsonl").read_text().splitlines()]
    assert len(first) == 1 and first[0]["processes"] == 1 and first[0]["precision"] == "fp32"
    assert first[0]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert {"time", "command", "commit", "device", "python"} <= first[0].keys()
    more = ["train", "--resume", str(run_dir), "-o", "schedule.total_kimg=0.096"]
    result = CliRunner().invoke(main, more, catch_exceptions=False)
    assert "not as at the last start" not in result.output
    (run_dir / "complete").unlink()
    monkeypatch.setattr("progan.runtime.machine.commit", lambda: "abc")
    result = CliRunner().invoke(main, more, catch_exceptions=False)
    assert f"not as at the last start: commit: {first[0]['commit']} -> abc" in result.output
    assert len((run_dir / "starts.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize("torn", ['{"torch": "1', "\0\0\0", "[1]", "\udcff"])
def test_a_torn_record_of_starts_is_passed_over(kept, tmp_path, torn):
    """Reference: the line before it. A power cut may leave anything at the end of a file."""
    run_dir = copied(kept, tmp_path)
    with open(run_dir / "starts.jsonl", "ab") as file:
        file.write(b"\n" + torn.encode(errors="surrogateescape"))
    result = CliRunner().invoke(main, ["train", "--resume", str(run_dir)], catch_exceptions=False)
    assert result.exit_code == 0 and "not as at the last start" not in result.output
    assert json.loads((run_dir / "starts.jsonl").read_bytes().splitlines()[-1])["processes"] == 1


def test_moments_of_another_shape_are_refused(kept, tmp_path):
    """Reference: the parameters' shapes. A fused kernel would write beyond a tensor that is too
    small; strides and settings of the file are not taken over."""
    run_dir = copied(kept, tmp_path)
    files = sorted((run_dir / "checkpoints").iterdir())
    whole = torch.load(files[-1], weights_only=True)

    def refused_with(change) -> str:
        state = torch.load(files[-1], weights_only=True)
        change(state["D_opt"])
        bad = Path(shutil.copytree(kept, tmp_path / "bad", dirs_exist_ok=True))
        for path in (bad / "checkpoints").iterdir():
            path.unlink()
        torch.save(state, bad / "checkpoints" / files[-1].name)
        return refused(bad)

    i = next(iter(whole["D_opt"]["state"]))
    for name, value in (
        ("exp_avg", torch.zeros(1)),
        ("exp_avg_sq", whole["D_opt"]["state"][i]["exp_avg_sq"].double()),
        ("step", torch.zeros(3)),
    ):
        message = refused_with(lambda opt, n=name, v=value: opt["state"][i].update({n: v}))
        assert f"{name} of parameter {i} is not of its shape" in message
    more = whole["D_opt"]["state"][i]
    assert "does not fit" in refused_with(lambda opt: opt["state"].update({10**6: more}))
    parameter = torch.nn.Parameter(torch.ones(2, 3, 4, 5))
    adam = Optimizer({"weight": parameter})
    adam.set(0.5, {})
    moments = torch.rand(4, 2, 5, 3).permute(1, 3, 0, 2)  # another layout of the same shape
    state = {"exp_avg": moments, "exp_avg_sq": moments, "step": torch.tensor(3.0)}
    adam.load_state_dict({"state": {0: state}, "param_groups": [{"lr": 99.0, "maximize": True}]})
    loaded = adam.inner.state[parameter]
    assert loaded["exp_avg"].is_contiguous() and torch.equal(loaded["exp_avg"], moments)
    assert not adam.inner.param_groups[0]["maximize"]


def test_deterministic_runs_are_bit_equal(photos, kept, tmp_path, monkeypatch):
    """Reference: the run without the setting, bit for bit, and a second one with it. Inside, torch
    refuses what is not deterministic; afterwards it is as before."""
    real, inside = Outputs.tick, set()

    def tick(*arguments):
        inside.add(torch.are_deterministic_algorithms_enabled())
        return real(*arguments)

    monkeypatch.setattr(Outputs, "tick", tick)
    train(photos, tmp_path / "one", run__deterministic="true")
    train(photos, tmp_path / "two", run__deterministic="true")
    assert inside == {True}
    assert not torch.are_deterministic_algorithms_enabled()
    assert_identical(state(tmp_path / "one"), state(tmp_path / "two"))
    assert_identical(state(kept), state(tmp_path / "one"))
