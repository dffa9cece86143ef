"""`progan bench`: its table and JSON, what is timed, batches that fit, the machine."""

import json
import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from functools import partial
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from click.testing import CliRunner
from conftest import free_port, launched, options
from phases import a_phase

from progan import __version__
from progan.cli.bench import chosen_phases, closing_lines
from progan.cli.main import main
from progan.config.batch_rules import check_batches, fits
from progan.config.load import load_config
from progan.config.schedule import Phase, Schedule
from progan.model.networks import Critic, Generator
from progan.runtime import device, machine, memory, speeds
from progan.runtime.errors import UserError
from progan.runtime.text import human_time
from progan.training import bench, memory_fit
from progan.training.build import make_loss, make_step
from progan.training.feed import Batch
from progan.training.step import Step
from progan.training.work import count_work

PARTS = ["data", "critic", "penalty", "generator", "optimizer"]
COLUMNS = ["phase", "batch_size", "images/s", "sec/kimg", *PARTS, "memory", "TFLOP/s", "of peak"]
CPU = torch.device("cpu")
UNTIL_FADED = {"schedule__total_kimg": 0.064}  # 4x4 stable, 8x8 fading, and no more
PHASE = a_phase(8, True, 64, 192, 16, None, 0.001)


def run(*arguments: object):
    return CliRunner().invoke(main, ["bench", *map(str, arguments)], catch_exceptions=False)


def measured(here: Path, *arguments: object, **settings) -> tuple[list[str], dict]:
    """Lines and JSON of a command that must succeed, on the tiny config with changes."""
    result = run(*options(**settings), "--json", "figures.json", *arguments)
    assert result.exit_code == 0, result.output
    return result.output.splitlines(), json.loads(Path("figures.json").read_text())


def refused(*arguments: object) -> str:
    """The message of a command that must end with exit code 2."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return result.output


def rows(lines: list[str]) -> list[list[str]]:
    """The table's cells, which are two or more blanks apart or have a fixed width."""
    return [re.split(r"\s{2,}", line.strip()) for line in lines if re.match(r"\d+x\d+ ", line)]


def overrides(**settings) -> list[str]:
    return [part for part in options(**settings) if part != "-o"]


# The command, end to end


def test_the_command(here, quick):
    """Reference: the config's schedule (4x4, then 8x8 fading in), a row each; the JSON's own
    figures, in the units of the table; the settings given; nothing is written but the JSON."""
    arguments = [*options(**UNTIL_FADED), "--find-batch", "--json", "f.json"]
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    assert [path.name for path in here.iterdir()] == ["f.json"]
    device, header, *table, total, fit, where = result.stdout.splitlines()
    content = json.loads(Path("f.json").read_text())
    peak = content["peak_tflops"]
    assert device == f"{machine.device_name(CPU)}, fp32; peak {peak:.3g} TFLOP/s (measured)"
    assert header.split() == " ".join(COLUMNS).split()
    assert where == "all figures in f.json"
    assert fit == "what fits into a forward pass: -o 'schedule.batch_gpu={4: 8, 8: 8}'"
    assert [cells[0] for cells in rows(table)] == ["4x4 stable", "8x8 fading"]
    assert len(table) == 2
    for line, figures in zip(table, content["phases"], strict=True):
        assert len(line) <= len(header)
        rate, shares = figures["images_per_sec"], figures["shares"]
        assert rows([line])[0][1:] == [
            "8",
            f"{rate:.4g}",
            f"{1000 / rate:.4g}",
            *(f"{100 * shares[part]:.1f} %" for part in PARTS),
            f"{figures['peak_memory_gb']:.2f} GiB",
            f"{figures['tflops']:.3g}",
            f"{100 * figures['share_of_peak']:.1f} %",
        ]
    check_content(content)
    config = load_config(None, overrides(**UNTIL_FADED))
    seconds = [
        (p.end_nimg - p.start_nimg) / figures["images_per_sec"]
        for p, figures in zip(config.make_schedule().phases, content["phases"], strict=True)
    ]
    assert total == f"the whole run of 0.1 kimg: about {human_time(sum(seconds))}"
    assert content["commit"] == machine.commit() and content["versions"] == machine.versions()
    assert content["machine"] == machine.describe(CPU) | {"threads": 1}
    assert content["config"] == config.model_dump(mode="json")
    assert content["processes"] == 1 and content["precision"] == "fp32"
    assert content["peak_is"] == "measured" and 0 < peak < 100


def check_content(content: dict) -> None:
    """Check the relations between each phase's figures that follow from their definitions."""
    names = ["machine", "versions", "commit", "processes", "precision", "peak_tflops", "peak_is"]
    assert list(content) == [*names, "config", "phases"]
    for figures in content["phases"]:
        assert list(figures) == [field.name for field in fields(bench.Figures)]
        rate, tflops = figures["images_per_sec"], figures["tflops"]
        assert rate > 0 and figures["compiled"] is False
        assert figures["sec_per_kimg"] == pytest.approx(1000 / rate)
        a_process = rate / content["processes"]
        assert tflops == pytest.approx(figures["gflop_per_image"] * a_process / 1000) and tflops > 0
        peak = content["peak_tflops"]
        assert figures["share_of_peak"] == (None if peak is None else pytest.approx(tflops / peak))
        assert list(figures["shares"]) == PARTS
        assert sum(figures["shares"].values()) == pytest.approx(1)
        assert min(figures["shares"].values()) >= 0
        assert 0.01 < figures["peak_memory_gb"] < 16  # of a process that has imported torch


@pytest.mark.slow
def test_two_processes_measure_together(tmp_path):
    """Reference: one process's output: one table, the batch once; a process's part of the rate by
    its definition (rates are of all processes, FLOP/s of one)."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    launch += [
        "--master_port",
        str(free_port()),
        "-m",
        "progan",
        "bench",
        *options(network__resolution=4),
    ]
    result = subprocess.run(
        [*launch, "--json", "f.json"], capture_output=True, text=True, timeout=240, cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    device, header, row, total, where = result.stdout.splitlines()
    assert device.startswith(f"{machine.device_name(CPU)}, 2 processes, fp32; peak ")
    assert header.split() == " ".join(COLUMNS).split()
    assert rows([row])[0][:2] == ["4x4 stable", "8"]
    content = json.loads((tmp_path / "f.json").read_text())
    check_content(content)
    assert content["processes"] == 2
    assert content["phases"][0]["batch_gpu"] == 4
    assert [path.name for path in tmp_path.iterdir()] == ["f.json"]


def test_chosen_resolutions(here, quick):
    """Reference: the schedule's phases at 8x8, fading and stable; the time of the whole run is
    missing, as a part of it was not measured. Without --json nothing is written."""
    result = run(*options(), "--resolutions", "8")
    assert result.exit_code == 0, result.output
    table = rows(result.output.splitlines())
    assert [cells[0] for cells in table] == ["8x8 fading", "8x8 stable"]
    assert "whole run" not in result.output and len(result.output.splitlines()) == 4
    assert not list(here.iterdir())


@pytest.mark.parametrize(
    "given, of", [("4", [4]), ("16,4", [4, 16]), ("8", [8]), (None, [4, 8, 16])]
)
def test_phases_of_resolutions(given, of):
    """Reference: the schedule itself, 4x4 to 16x16 in five phases."""
    schedule = load_config(None, ["network.resolution=16"]).make_schedule()
    assert len(schedule.phases) == 5
    assert chosen_phases(schedule, given) == [p for p in schedule.phases if p.resolution in of]


def test_all_resolutions_named_are_the_whole_run(here, quick):
    """Reference: no --resolutions at all; the schedule's order, whatever the order given."""
    lines, content = measured(here, "--resolutions", "8,4,8")
    assert [figures["resolution"] for figures in content["phases"]] == [4, 8, 8]
    assert [figures["fading"] for figures in content["phases"]] == [False, True, False]
    assert sum("the whole run" in line for line in lines) == 1


def test_share_of_peak(here, quick, monkeypatch):
    """Reference: the peak given, a number of TFLOP/s; the column is in per cent. Nothing is
    measured for it."""
    monkeypatch.delattr(speeds, "measured")
    lines, content = measured(here, "--peak-tflops", "0.01", "--resolutions", "4")
    check_content(content)
    assert content["peak_tflops"] == 0.01 and content["peak_is"] == "given"
    assert lines[0].endswith(", fp32; peak 0.01 TFLOP/s (given)")
    share = content["phases"][0]["share_of_peak"]
    assert rows(lines)[0][-1] == f"{100 * share:.1f} %"


def test_time_of_the_whole_run():
    """Reference: closed form. 1000 images at 10/s, 1000 at 5/s, and 500 of the last phase's 1000
    at 2.5/s, as the run is cut short there: 100 + 200 + 200 s."""
    phases = [
        replace(PHASE, resolution=r, fading=fading, start_nimg=start, end_nimg=start + 1000)
        for r, fading, start in [(4, False, 0), (8, True, 1000), (8, False, 2000)]
    ]
    figures = [{"images_per_sec": rate} for rate in (10, 5, 2.5)]
    schedule = Schedule(tuple(phases), 2500)
    line = "the whole run of 2.5 kimg: about 8m 20s"
    assert closing_lines(schedule, {"phases": figures}, False) == [line]
    assert closing_lines(schedule, {"phases": figures[1:]}, False) == []


# What is measured: the config's networks and loss


@pytest.mark.parametrize(
    "settings",
    [
        {"data__labels": "true"},
        {"network__channels": 1, "data__mirror": "false"},
        {"data__augment": "[color, translation, cutout]"},
        {"loss__adversarial": "logistic", "loss__penalty": "r1", "schedule__batch_gpu": 4},
        {"run__precision": "bf16", "network__fused_scale": "false"},
    ],
    ids=["labels", "grey", "augment", "r1", "bf16"],
)
def test_kinds_of_training(settings, here, quick):
    """Reference: FLOPs counted on networks built here; ten classes, as those of noise."""
    settings = settings | UNTIL_FADED
    _, content = measured(here, "--resolutions", "8", **settings)
    check_content(content)
    config = load_config(None, overrides(**settings))
    c_dim = 10 if config.data.labels else 0
    assert config.model_dump(mode="json") == content["config"]
    assert content["precision"] == config.run.precision
    G = Generator(**config.network.generator_settings(), c_dim=c_dim)
    D = Critic(**config.network.critic_settings(), c_dim=c_dim)
    work = list(count_work(G, D, make_loss(config), config.make_schedule()).values())[1:]
    expected = [each.gflops for each in work]
    assert [f["gflop_per_image"] for f in content["phases"]] == pytest.approx(expected)
    assert {f["batch_gpu"] for f in content["phases"]} == {config.schedule.batch_gpu or 8}


@pytest.mark.parametrize("wanted", [True, False])
def test_algorithms_are_those_of_training(wanted, here, quick, monkeypatch):
    """Reference: `run.deterministic`; cuDNN searches for its fastest algorithms only without it."""
    real, inside = bench.measure_phase, []

    def measure_phase(*arguments):
        deterministic = torch.are_deterministic_algorithms_enabled()
        inside.append((deterministic, torch.backends.cudnn.benchmark))
        return real(*arguments)

    monkeypatch.setattr(bench, "measure_phase", measure_phase)
    measured(here, network__resolution=4, run__deterministic=str(wanted).lower())
    assert inside == [(wanted, not wanted)]


def test_lazy_penalty_counts_in_part(here, quick):
    """Reference: closed form. With an interval of k the penalty's FLOPs are a k-th, so those of
    2 and of 4 lie at a half and a quarter of the way to the whole penalty."""

    def gflops(interval: int) -> float:
        lazy = {"loss__penalty": "r1", "loss__penalty_interval": interval}
        _, content = measured(here, network__resolution=4, **lazy)
        return content["phases"][0]["gflop_per_image"]

    each, half, quarter = map(gflops, (1, 2, 4))
    assert each > half > quarter
    without = 2 * half - each
    assert quarter == pytest.approx(without + (each - without) / 4)
    assert without > each / 4


def test_noise_is_images_of_the_config(here):
    """Reference: `data.dataset.Dataset`: uint8 [n, C, r, r], labels in the classes; the same noise
    however it is read, and neither black nor constant."""
    config = load_config(None, ["network.channels=1", "data.labels=true", "network.resolution=32"])
    data = bench.Noise(config)
    for r in (4, 32, 4):
        images = data.read(np.array([0, 5, 69]), r)
        assert images.shape == (3, 1, r, r) and images.dtype == np.uint8
        assert images.std() > 50
        np.testing.assert_array_equal(images[1], images[2])  # 69 is 5 again, of 64 kept
    assert data.level(8) is None
    assert len(data.labels.values) == data.count
    assert set(data.labels.values) == set(range(len(data.labels.names)))
    assert bench.Noise(load_config(None, [])).labels is None


# What counts as time


class Clock:
    """Time that passes when something says that it does."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(device, "time", SimpleNamespace(perf_counter=lambda: self.now))

    def spend(self, seconds: float) -> None:
        self.now += seconds


class Timed:
    """A step and a feed whose parts take the seconds that they are given.

    `slow` makes the first updates slower, each by its factor, in all parts or in those named.
    """

    def __init__(
        self, clock: Clock, seconds: dict[str, float], slow=(), interval: int = 1, of=None
    ):
        self.clock, self.seconds, self.slow = clock, seconds, list(slow)
        self.accelerator = SimpleNamespace(device=CPU, num_processes=1)
        self.penalty_interval = interval
        self.factor, self.slow_parts = 1.0, of or seconds
        self.calls: list[tuple] = []
        self.D_opt, self.G_opt = (SimpleNamespace(apply=partial(self.apply, n)) for n in "DG")
        self.D_parameters, self.G_parameters = ["d"], ["g"]

    def spend(self, part: str) -> None:
        factor = self.factor if part in self.slow_parts else 1.0
        self.clock.spend(self.seconds[part] * factor)

    def set_progress(self, nimg: int) -> None:
        self.calls.append(("at", nimg))

    def D_gradients(self, batch: str, penalty: bool) -> tuple[list[str], dict]:
        assert batch == "reals"
        self.calls.append(("critic", penalty))
        self.spend("with penalty" if penalty else "critic")
        return ["grad of D"], {}

    def G_gradients(self, batch: str) -> tuple[list[str], dict]:
        assert batch == "latents"
        self.spend("generator")
        return ["grad of G"], {}

    def apply(self, optimizer: str, parameters: list[str], grads: list[str]) -> None:
        assert (optimizer, parameters, grads) in [
            ("D", ["d"], ["grad of D"]),
            ("G", ["g"], ["grad of G"]),
        ]
        self.spend("apply")

    def over_processes(self, found: tuple) -> tuple:
        return found

    def update_critic(self, batch: str, penalty: bool) -> None:
        self.apply("D", ["d"], self.D_gradients(batch, penalty)[0])

    def update_generator(self, batch: str) -> None:
        self.apply("G", ["g"], self.G_gradients(batch)[0])

    def average(self) -> None:
        self.spend("average")

    @property
    def feed(self) -> SimpleNamespace:
        def reals(nimg: int, batch_size: int, resolution: int) -> str:
            assert (batch_size, resolution) == (PHASE.batch_size, PHASE.resolution)
            self.factor = self.slow.pop(0) if self.slow else 1.0
            self.calls.append(("reals", nimg))
            self.spend("reals")
            return "reals"

        def latents(nimg: int, batch_size: int, resolution: int, updates: int = 1) -> str:
            assert batch_size == PHASE.batch_size and nimg == self.of("reals")[-1]
            self.spend("latents")
            return "latents"

        return SimpleNamespace(critic_batch=reals, generator_batch=latents)

    def of(self, kind: str) -> list:
        return [value for name, value in self.calls if name == kind]


SECONDS = {
    "reals": 0.07,
    "latents": 0.03,
    "critic": 0.2,
    "with penalty": 0.5,
    "generator": 0.2,
    "apply": 0.04,
    "average": 0.02,
}
WHOLE = 0.07 + 0.03 + 0.5 + 0.2 + 2 * 0.04 + 0.02  # 0.9 s
LAZY = WHOLE - 0.5 + 0.2  # an update without the penalty


@pytest.mark.parametrize("scale, repeats", [(1.5, 3), (0.5, 10), (0.05, 50)])
def test_a_whole_step_is_the_median_after_warm_up(scale, repeats, monkeypatch):
    """Reference: closed form, with a simulated clock. Slow in the warm-up, in the first half of the
    repeats, and in less than half of those that count; the slower a step, the fewer repeats."""
    outliers = (repeats - 1) // 2
    slow = [scale * 1000, scale * 100, scale] + [scale * 9] * repeats + [scale * 7] * outliers
    slow += [scale] * (repeats - outliers)
    step = Timed(Clock(monkeypatch), SECONDS, slow)
    assert bench.time_whole(step, step.feed, PHASE) == pytest.approx(scale * WHOLE)
    positions = step.of("reals")
    assert len(positions) == bench.WARM_UP + 2 * repeats and step.slow == []
    assert step.of("critic") == [True] * len(positions)
    # Data go on from the middle of the phase as in training, and alpha stays half way.
    assert positions == [128 + 16 * i for i in range(len(positions))]
    assert set(step.of("at")) == {128}


def test_a_lazy_penalty_takes_part_of_the_time(monkeypatch):
    """Reference: closed form: 0.9 s with the penalty in one of 4 updates, 0.6 s without in the
    others; each kind warms up by itself."""
    step = Timed(Clock(monkeypatch), SECONDS, interval=4)
    whole = bench.time_whole(step, step.feed, PHASE)
    assert whole == pytest.approx((WHOLE + 3 * LAZY) / 4)
    due = step.of("critic")
    each = bench.WARM_UP + 2 * 10
    assert due == [True] * each + [False] * each

    slow = ([1000.0] * 2 + [1.0] + [9.0] * 10 + [1.0] * 10) * 2
    step = Timed(Clock(monkeypatch), SECONDS, slow, interval=4)
    assert bench.time_whole(step, step.feed, PHASE) == pytest.approx(whole)


@pytest.mark.parametrize("interval, penalty", [(1, 0.3), (3, 0.1)])
def test_shares_of_the_parts(interval, penalty, monkeypatch):
    """Reference: closed form. The penalty's part is the critic's extra time with it, as often as it
    is due; data's part is both batches of the feed; the optimizer's is both Adams and the average.
    The first round does not count; of the others the median does."""
    parts = {"data": 0.1, "critic": 0.2, "penalty": penalty, "generator": 0.2, "optimizer": 0.1}
    slow_rounds = [[1000.0, 1.0, 1.0, 50.0], [1000.0, 50.0, 1.0, 0.1], [0.001]]
    for slow, part in product(slow_rounds, SECONDS):
        step = Timed(Clock(monkeypatch), SECONDS, slow, interval, of=[part])
        shares = bench.time_shares(step, step.feed, PHASE)
        expected = {name: seconds / sum(parts.values()) for name, seconds in parts.items()}
        assert shares == pytest.approx(expected) and list(shares) == PARTS
        assert step.of("critic") == [False, True] * 4


def test_a_part_that_takes_longer(monkeypatch):
    """Reference: shares of the same times with the feed ten times slower: 1 of 1.8 s."""
    slow_feed = SECONDS | {"reals": 0.7, "latents": 0.3}
    step = Timed(Clock(monkeypatch), slow_feed)
    assert bench.time_shares(step, step.feed, PHASE)["data"] == pytest.approx(1 / 1.8)


def test_a_penalty_lost_in_noise_has_no_share(monkeypatch):
    """Reference: a share is never negative, and all of them are still the whole."""
    step = Timed(Clock(monkeypatch), SECONDS | {"with penalty": 0.1})
    shares = bench.time_shares(step, step.feed, PHASE)
    assert shares["penalty"] == 0 and sum(shares.values()) == pytest.approx(1)


def test_the_device_is_waited_for(monkeypatch):
    """Reference: a device that works through a queue: work queued before is not counted, and what
    is timed counts until it is done, not until it is queued."""
    clock, queue = Clock(monkeypatch), [1000.0]

    def drain() -> None:
        clock.spend(sum(queue))
        queue.clear()

    monkeypatch.setattr(torch.accelerator, "synchronize", drain)
    assert device.timed(lambda: queue.append(3.0), torch.device("cuda")) == 3.0
    queue.append(5.0)
    assert device.timed(lambda: clock.spend(2.0), CPU) == 2.0 and queue == [5.0]


def test_repeats_are_the_same_on_all_processes():
    """Reference: the slowest process decides, so that none waits for a reduction that does not
    come."""

    def together(*seconds: float) -> list[int]:
        def of(mine: float) -> int:
            def reduce(flag: torch.Tensor, reduction: str) -> torch.Tensor:
                limit = limits.pop(0)
                assert reduction == "sum" and bool(flag) == (mine > limit)
                return torch.tensor(float(sum(other > limit for other in seconds)))

            limits = [1.0, 0.1, 0.0]
            return bench.repeats_for(SimpleNamespace(num_processes=2, reduce=reduce), mine)

        return [of(mine) for mine in seconds]

    assert together(0.01, 5.0) == [3, 3]
    assert together(0.01, 0.5) == [10, 10]
    assert together(0.01, 0.02) == [50, 50]


def test_rates_are_of_all_processes(monkeypatch):
    """Reference: closed form: 16 images a step of 2 s are 8 images/s; at 250 GFLOP an image two
    processes do 1 TFLOP/s each, a tenth of the 10 that the devices could; memory is the phase's."""
    order = []

    def noted(name: str, value: object) -> Callable:
        return lambda *_: order.append(name) or value

    step = SimpleNamespace(
        accelerator=SimpleNamespace(device=CPU, num_processes=2),
        compiled=True,
        begin=lambda *arguments: order.append(arguments),
    )
    monkeypatch.setattr(bench, "time_whole", noted("train", 2.0))
    monkeypatch.setattr(bench, "time_shares", lambda *_: {"data": 1.0})
    monkeypatch.setattr(bench, "gflops_of", lambda *_: 250.0)
    monkeypatch.setattr(memory, "peak", noted("peak", 3 * 2**29))
    monkeypatch.setattr(memory, "reset_peak", noted("reset", None))
    phase = replace(PHASE, batch_gpu=4)
    figures = bench.measure_phase(step, None, phase, 10.0, True)
    assert order == ["reset", (phase, True, True), "train", "peak"]
    assert asdict(figures) == {
        "resolution": 8,
        "fading": True,
        "batch_size": 16,
        "batch_gpu": 4,
        "compiled": True,
        "images_per_sec": 8.0,
        "sec_per_kimg": 125.0,
        "gflop_per_image": 250.0,
        "tflops": 1.0,
        "share_of_peak": 0.1,
        "peak_memory_gb": 1.5,
        "shares": {"data": 1.0},
    }


# The largest batch that fits


class Device:
    """A step on a device that holds `room` images; `tried` are the sizes of its forward passes."""

    def __init__(self, kind: str, room: int, processes: int = 1, stddev_group: int = 4):
        self.accelerator = SimpleNamespace(device=torch.device(kind), num_processes=processes)
        self.D = SimpleNamespace(stddev_group=stddev_group)
        self.room = room
        self.tried: list[int] = []

    def fits(self, phase: Phase) -> bool:
        return fits(phase, self.accelerator.num_processes, self.D.stddev_group)

    def begin(self, phase: Phase, restart: bool, compile: bool = False) -> None:
        assert restart
        self.tried.append(phase.images_per_pass(self.accelerator.num_processes))

    def rehearse(self) -> None:
        if self.tried[-1] > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")


SHARES = [(64, 1, 4), (64, 2, 4), (24, 2, 3), (24, 1, 4), (12, 1, 1), (4, 1, 16), (48, 1, 16)]


def largest(phase: Phase, processes: int, group: int, fitting: Callable[[int], bool]) -> int | None:
    """Brute force: the largest number of images that the rules allow and that fits."""
    allowed = [
        n
        for n in range(1, phase.batch_size + 1)
        if fits(replace(phase, batch_gpu=n), processes, group)
        and n <= phase.batch_size // processes
    ]
    return max((n for n in allowed if fitting(n)), default=None)


@pytest.mark.parametrize("batch_size, processes, group", SHARES)
def test_largest_batch_by_trial(batch_size, processes, group, monkeypatch):
    """Reference: all sizes by brute force, on a device with room for every number of images."""
    phase = replace(PHASE, batch_size=batch_size)
    monkeypatch.setattr(memory_fit, "on_any", lambda accelerator, flag: flag)
    monkeypatch.setattr(memory, "release", lambda device: None)  # no device here, and many tries
    for room in range(0, batch_size + 2):
        step = Device("cuda", room, processes, group)
        expected = largest(phase, processes, group, lambda n, room=room: n <= room)
        if expected is None:
            with pytest.raises(UserError, match="not even") as error:
                bench.largest_fit(step, phase)
            assert f"not even {step.tried[-1]} images" in str(error.value)
            assert "8x8 fading" in str(error.value) and "channel_base" in str(error.value)
        else:
            assert bench.largest_fit(step, phase) == expected == step.tried[-1]
        assert step.tried == sorted(step.tried, reverse=True)


@pytest.mark.parametrize("batch_size, processes, group", SHARES)
def test_largest_batch_by_calculation(batch_size, processes, group, monkeypatch):
    """Reference: brute force with 10 MB an image, 100 MB held before, and a fifth of the free
    memory left alone; only the smallest size is computed."""
    phase = replace(PHASE, batch_size=batch_size)
    smallest = min(
        n
        for n in range(1, batch_size + 1)
        if fits(replace(phase, batch_gpu=n), processes, group) and n <= batch_size // processes
    )
    monkeypatch.setattr(memory, "reset_peak", lambda device: None)
    monkeypatch.setattr(memory, "in_use", lambda: 100_000_000)
    monkeypatch.setattr(memory, "peak", lambda device: 100_000_000 + 10_000_000 * smallest)
    for room in [0.1, *(n + 0.5 for n in range(batch_size + 2))]:
        free = SimpleNamespace(available=room * 10_000_000 / 0.8)
        monkeypatch.setattr(bench.psutil, "virtual_memory", lambda free=free: free)
        step = Device("cpu", batch_size, processes, group)
        expected = largest(phase, processes, group, lambda n, room=room: n <= room)
        assert bench.largest_fit(step, phase) == (expected or smallest)
        assert step.tried == [smallest]


def test_memory_is_begun_anew_before_it_is_reckoned(monkeypatch):
    """Reference: what other phases used before does not count: the peak is reset, then the trial
    runs, then the peak is read."""
    step, order = Device("cpu", 64), []
    monkeypatch.setattr(memory, "reset_peak", lambda device: order.append("reset"))
    monkeypatch.setattr(memory, "in_use", lambda: order.append("before") or 0)
    monkeypatch.setattr(memory, "peak", lambda device: order.append("peak") or 1)
    monkeypatch.setattr(step, "rehearse", lambda: order.append("trial"))
    bench.largest_fit(step, PHASE)
    assert order == ["reset", "before", "trial", "peak"]


@pytest.mark.parametrize("sizes, expected", [((8, 64), 8), ((64, 16), 16), ((32, 32), 32)])
def test_processes_agree_on_the_largest_batch(sizes, expected, monkeypatch):
    """Reference: the smallest of what each finds by itself, as all must use the same."""
    rooms = [Device("cuda", room, 1) for room in sizes]

    def on_any(accelerator: object, failed: bool) -> bool:
        tried = mine.tried[-1]
        assert failed == (tried > mine.room)
        return any(tried > other.room for other in rooms)

    monkeypatch.setattr(memory_fit, "on_any", on_any)
    for mine in rooms:
        assert bench.largest_fit(mine, replace(PHASE, batch_size=64)) == expected


def test_memory_is_shared_by_the_processes_of_a_machine(monkeypatch):
    """Reference: half of the free memory for each of two."""
    monkeypatch.setattr(memory, "reset_peak", lambda device: None)
    monkeypatch.setattr(memory, "in_use", lambda: 0)
    monkeypatch.setattr(memory, "peak", lambda device: 4_000)  # 1 kB an image
    free = SimpleNamespace(available=33_000 / 0.8)
    monkeypatch.setattr(bench.psutil, "virtual_memory", lambda: free)
    step = Device("cpu", 64)
    phase = replace(PHASE, batch_size=64)
    assert bench.largest_fit(step, phase) == 32
    launched(monkeypatch)
    assert bench.largest_fit(step, phase) == 16


@pytest.mark.skipif(not memory.can_measure_peak(), reason="only Linux reports peaks")
def test_need_is_found_again_after_more_was_needed():
    """Reference: the memory that the same pass needs before a step of a larger batch, whose memory
    the allocator keeps. Unless that is released, no need would be seen at all."""
    wide = {"network__channel_base": 512, "network__channel_max": 16}
    large = {"network__resolution": 32, "schedule__start_resolution": 32}
    config = load_config(None, overrides(**large, **wide))
    step = make_step(config, 0, make_loss(config), Accelerator())
    phase = config.make_schedule().phases[-1]

    def need(n: int) -> int:
        memory.reset_peak(CPU)
        before = memory.in_use()
        step.begin(replace(phase, batch_size=n), restart=True)
        step.rehearse()
        return memory.peak(CPU) - before

    need(8)
    first = need(8)
    assert need(64) > 2 * first > 10e6
    assert need(8) > first / 2


@pytest.mark.parametrize("room, expected", [(9, 8), (5, 4)])
def test_find_batch_prints_settings_that_are_accepted(room, expected, here, quick, monkeypatch):
    """Reference: `schedule.check_batches`, for the very words that are printed; the rows and the
    JSON are measured with them. One MiB an image, and memory for `room` of them."""
    total = SimpleNamespace(available=room * 2**20 / 0.8, total=2**34)
    monkeypatch.setattr(bench.psutil, "virtual_memory", lambda: total)
    monkeypatch.setattr(memory, "in_use", lambda: 2**28)
    monkeypatch.setattr(memory, "peak", lambda device: 2**28 + 4 * 2**20)  # of 4, the smallest
    lines, content = measured(here, "--find-batch")
    assert [figures["batch_gpu"] for figures in content["phases"]] == [expected] * 3
    words = shlex.split(lines[-2].partition(": ")[2])
    assert words == ["-o", f"schedule.batch_gpu={{4: {expected}, 8: {expected}}}"]
    config = load_config(None, [*overrides(), words[1]])
    check_batches(config.make_schedule(), 1, config.network.stddev_group)
    assert {p.images_per_pass(1) for p in config.make_schedule().phases} == {expected}


def test_find_batch_on_a_device_that_runs_out(here, quick, monkeypatch):
    """Reference: the command with a device that takes 8 images, but 4 while 8x8 fades in: settings
    for both; and with one that takes none, which ends in a message."""
    real, room = bench.largest_fit, {"8x8 fading": 4}

    def rehearse(step: Step) -> None:
        if step.phase.images_per_pass(1) > room.get(str(step.phase), 8):
            raise torch.OutOfMemoryError("CUDA out of memory.")

    def on_cuda(step: Step, phase: Phase) -> int:
        cpu = step.accelerator
        step.accelerator = SimpleNamespace(device=torch.device("cuda"), num_processes=1)
        try:
            return real(step, phase)
        finally:
            step.accelerator = cpu

    monkeypatch.setattr(Step, "rehearse", rehearse)
    monkeypatch.setattr(bench, "largest_fit", on_cuda)
    lines, content = measured(here, "--find-batch")
    assert [figures["batch_gpu"] for figures in content["phases"]] == [8, 4, 8]
    assert "-o 'schedule.batch_gpu={4: 8, 8: 4}'" in lines[-2]
    lines, _ = measured(here, "--find-batch", "--resolutions", "8", schedule__batch_gpu=4)
    assert lines[-2] == "what fits into a forward pass, by resolution: 8: 4"
    room["8x8 stable"] = 0
    message = refused(*options(), "--find-batch")
    assert "Error: not even 4 images fit into memory at 8x8 stable" in message


def test_a_system_that_does_not_tell_memory(here, quick, monkeypatch):
    """Reference: no /proc: a dash and null; --find-batch, which needs to know, is refused."""
    monkeypatch.setattr(memory, "PROCESS", here / "no" / "proc")
    lines, content = measured(here, network__resolution=4)
    assert content["phases"][0]["peak_memory_gb"] is None
    assert rows(lines)[0][-3] == "-"
    message = refused(*options(), "--find-batch")
    assert "Error: --find-batch needs a GPU, or a CPU under Linux" in message


def test_out_of_memory_is_told(here, quick, monkeypatch):
    """Reference: the phase that ran out, torch's own words, and the option that helps; the phases
    before it have their rows, and nothing goes on reading."""
    before = set(threading.enumerate())
    real = Step.update_critic

    def critic(step: Step, batch: Batch, penalty: bool):
        if step.phase.fading:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return real(step, batch, penalty)

    monkeypatch.setattr(Step, "update_critic", critic)
    message = refused(*options(), "--json", "f.json")
    assert [cells[0] for cells in rows(message.splitlines())] == ["4x4 stable"]
    assert "Error: out of memory at 8x8 fading (CUDA out of memory" in message
    assert "--find-batch" in message and not list(here.iterdir())
    message = refused(*options(), "--find-batch")
    assert "Error: out of memory at 8x8 fading" in message
    assert "; choose smaller networks (network.channel_base)" in message

    def make_step(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr(bench, "make_step", make_step)
    assert "Error: out of memory at the start (CUDA out of memory" in refused(*options())
    assert set(threading.enumerate()) <= before


# Mistakes


def test_a_mistake(here):
    """Reference: one message on stderr, exit code 2, no traceback, and nothing measured."""
    result = run(*options(), "--resolutions", "5")
    assert result.exit_code == 2 and result.stdout == ""
    assert result.stderr == (
        "Error: --resolutions: 5 is not in the schedule, which has 4, 8; "
        "-o network.resolution=… changes where it ends\n"
    )
    assert not list(here.iterdir())


@pytest.mark.parametrize("value", ["a", "", "8,", ",8", "4;8", "4 8", "-4", "4.0", "10000"])
def test_resolutions_that_are_not_a_list(value, here):
    """Reference: the message has what was given, and an example that is accepted."""
    message = refused(*options(), f"--resolutions={value}")
    assert f"Error: --resolutions takes numbers such as 4,8; got '{value}'" in message


@pytest.mark.parametrize("value, wrong", [("5", 5), ("16", 16), ("4,0", 0), ("2,4", 2)])
def test_resolutions_that_the_schedule_lacks(value, wrong, here):
    """Reference: the schedule's own, 4 and 8."""
    message = refused(*options(), "--resolutions", value)
    assert f"Error: --resolutions: {wrong} is not in the schedule, which has 4, 8" in message
    lacks = options(schedule__start_resolution=8, schedule__stable_kimg=0.1)
    assert "which has 8;" in refused(*lacks, "--resolutions", "4")


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (["--peak-tflops", "0"], "'--peak-tflops': '0' must be more than 0"),
        (["--peak-tflops", "-1"], "'--peak-tflops': '-1' must be more than 0"),
        (["--peak-tflops", "x"], "'--peak-tflops': 'x' is not a number"),
        (["--peak-tflops", "inf"], "'--peak-tflops': 'inf' must be more than 0"),
        (["--peak-tflops", "nan"], "'--peak-tflops': 'nan' must be more than 0"),
        (["--json", "no/f.json"], "--json no/f.json: there is no folder no"),
        (["--json", "."], "--json .: is a folder; give a file's name"),
        (["--json", ""], "'--json': is empty"),
        (["--config", "nope"], "cannot read config 'nope'"),
        (["--config", "nope"], "one of: celeba-hq-8gpu, celeba-hq, celeba"),
        (["-o", "network.resolution=5"], "network.resolution"),
        (["extra"], "unexpected extra argument (extra)"),
    ],
)
def test_mistakes(arguments, expected, here):
    """Reference: the option and the value are named, and nothing is left behind."""
    assert expected in refused(*options(), *arguments)
    assert not list(here.iterdir())


def test_json_that_may_not_be_written(here, monkeypatch):
    """Reference: refused before anything is measured. The system's answer is given here, as a
    superuser may write everywhere."""
    (here / "f.json").write_text("kept")
    for name in ("f.json", "new.json"):
        asked = []

        def access(path: Path, mode: int, asked: list = asked) -> bool:
            asked.append(path)
            return mode != os.W_OK

        monkeypatch.setattr(os, "access", access)
        message = refused(*options(), "--json", name)
        assert f"Error: --json {name}: no permission to write there" in message
        assert asked[-1] == (Path("f.json") if name == "f.json" else Path("."))
    assert (here / "f.json").read_text() == "kept"


def test_a_batch_for_other_processes(here, monkeypatch):
    """Reference: `schedule.check_batches`: 8 images are not for three processes, 12 are."""
    launched(monkeypatch, size=3)
    message = refused(*options())
    assert "Error: schedule.batch_size (8) at 4x4" in message
    assert "number of processes (3); set schedule.batch_size=12" in message


# The machine


@pytest.mark.parametrize(
    "name, bf16, tf32, fp32",
    [
        ("NVIDIA H200", 989, 495, 67),
        ("NVIDIA H100 80GB HBM3", 989, 495, 67),
        ("NVIDIA H100 PCIe", None, None, None),  # slower, and not in the table
        ("NVIDIA A100-SXM4-80GB", 312, 156, 19.5),
        ("NVIDIA A100 80GB PCIe", 312, 156, 19.5),
        ("NVIDIA RTX A1000", None, None, None),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", None, None, None),  # a part of one
        ("NVIDIA H200 NVL", None, None, None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None, None, None),
        ("NVIDIA GeForce RTX 4090 D", None, None, None),
        ("NVIDIA GeForce RTX 3090 Ti", None, None, None),
        ("NVIDIA GeForce RTX 4090", 165, 82.6, 82.6),
        ("NVIDIA GeForce RTX 3090", 71, 35.6, 35.6),
        ("NVIDIA GeForce GTX 1080", None, None, None),
        ("AMD EPYC", None, None, None),
        ("mps", None, None, None),
        ("", None, None, None),
    ],
)
def test_peaks(name, bf16, tf32, fp32, monkeypatch):
    """Reference: NVIDIA's data sheets, dense products; unknown devices have no peak."""
    monkeypatch.setattr(machine, "device_name", lambda device: name)
    found = [machine.peak_tflops(torch.device("cuda"), p) for p in ("bf16", "tf32", "fp32")]
    assert found == [bf16, tf32, fp32]


def test_peak_of_a_known_device_is_used(here, quick, monkeypatch):
    """Reference: an A100's data sheet, at the config's precision; --peak-tflops overrides it. No
    convolution is measured."""
    monkeypatch.delattr(speeds, "measured")
    monkeypatch.setattr(machine, "device_name", lambda device: "NVIDIA A100-SXM4-40GB")
    small = {"network__resolution": 4}
    lines, content = measured(here, **small)
    check_content(content)
    assert lines[0] == "NVIDIA A100-SXM4-40GB, fp32; peak 19.5 TFLOP/s (data sheet)"
    assert content["peak_tflops"] == 19.5 and content["peak_is"] == "data sheet"
    _, content = measured(here, "--peak-tflops", "3", **small)
    assert content["peak_tflops"] == 3
    check_content(content)


def test_measured_peak(here, quick, monkeypatch):
    """Reference: the fastest convolution in the precision of the config, as measured for it; no
    peak without a measurement in that precision."""
    rates = {"fp32": [20.0, 50.0], "bf16": [70.0]}
    monkeypatch.setattr(speeds, "measured", lambda device, again: rates)
    small = {"network__resolution": 4}
    for precision, peak in (("fp32", 0.05), ("bf16", 0.07), ("tf32", None)):
        lines, content = measured(here, **small, run__precision=precision)
        check_content(content)
        assert content["peak_tflops"] == peak
        end = "tf32" if peak is None else f"{precision}; peak {peak:.3g} TFLOP/s (measured)"
        assert lines[0] == f"{machine.device_name(CPU)}, {end}"
        assert (rows(lines)[0][-1] == "-") == (peak is None)


def test_device_names(monkeypatch):
    """Reference: what CUDA says; /proc/cpuinfo, else Python's platform; else the kind of device."""
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device.index}")
    assert machine.device_name(torch.device("cuda", 1)) == "GPU 1"
    assert machine.device_name(torch.device("mps")) == "mps"
    if (info := Path("/proc/cpuinfo")).exists() and "model name" in info.read_text():
        assert f": {machine.device_name(CPU)}\n" in info.read_text()


def test_description_of_this_machine(monkeypatch):
    """Reference: the system's own figures; of a GPU its own memory."""
    found = machine.describe(CPU)
    assert list(found) == ["device", "device_memory_gb", "cores", "threads", "system"]
    assert found["cores"] == os.cpu_count() and found["threads"] == torch.get_num_threads()
    if Path("/proc/meminfo").exists():
        kib = int(Path("/proc/meminfo").read_text().split("MemTotal:")[1].split()[0])
        assert found["device_memory_gb"] == round(kib / 2**20, 1)
    gpu = SimpleNamespace(total_memory=80 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: gpu)
    assert memory.memory_of(torch.device("cuda")) == 80 * 2**30


def test_versions():
    """Reference: what the modules themselves report."""
    found = machine.versions()
    assert found["progan"] == __version__ and found["numpy"] == np.__version__
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert torch.__version__.startswith(found["torch"])
    if not torch.cuda.is_available():
        assert found["cuda"] is None and found["cudnn"] is None


def test_commit(tmp_path, monkeypatch):
    """Reference: `git rev-parse HEAD` of a repository made here, begun by 12 digits; a + as soon as
    the package is changed or gets a file, and not for other files; nothing outside git, in a
    folder of another repository (as of a virtual environment), without commits, or without git."""
    module = tmp_path / "source" / "progan" / "runtime" / "machine.py"
    module.parent.mkdir(parents=True)
    module.write_text("# one\n")
    monkeypatch.setattr(machine, "__file__", str(module))

    def git(*arguments: str, folder: Path = tmp_path / "source") -> str:
        name = ["-c", "user.name=A", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
        launch = ["git", "-C", str(folder), *name, *arguments]
        return subprocess.run(launch, check=True, capture_output=True, text=True).stdout.strip()

    assert machine.commit() is None
    git("init", "-q", folder=tmp_path)
    git("commit", "-q", "--allow-empty", "-m", "another", folder=tmp_path)
    assert machine.commit() is None
    git("init", "-q")
    assert machine.commit() is None
    git("add", "progan")
    git("commit", "-q", "-m", "one")
    head = git("rev-parse", "HEAD")
    assert len(head) >= 40 and machine.commit() == head[:12]
    (tmp_path / "source" / "notes.txt").write_text("not of the package")
    assert machine.commit() == head[:12]
    module.write_text("# two\n")
    assert machine.commit() == head[:12] + "+"
    git("checkout", "-q", "progan")
    assert machine.commit() == head[:12]
    (module.parent / "new.py").write_text("")
    assert machine.commit() == head[:12] + "+"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.commit() is None


# Memory


@pytest.mark.skipif(not memory.can_measure_peak(), reason="only Linux reports peaks")
def test_peak_of_a_process():
    """Reference: 200 MB that are held and given back: the peak rises by them and stays; reset,
    it falls to what is in use, and does not rise again by itself."""
    size = 200_000_000
    memory.reset_peak(CPU)
    before = memory.peak(CPU)
    assert before == pytest.approx(memory.in_use(), abs=3e6)
    block = np.ones(size, np.uint8)
    assert memory.in_use() - before == pytest.approx(size, abs=20e6)
    del block
    assert memory.in_use() == pytest.approx(before, abs=20e6)
    assert memory.peak(CPU) - before == pytest.approx(size, abs=20e6)
    memory.reset_peak(CPU)
    assert memory.peak(CPU) == pytest.approx(before, abs=20e6)


def test_peak_where_the_system_is_silent(tmp_path, monkeypatch):
    """Reference: `None` without /proc, and nothing is written there; nor where a sandbox's /proc
    has no such line, or cannot reset it."""
    proc = tmp_path / "self"
    monkeypatch.setattr(memory, "PROCESS", proc)
    memory.reset_peak(CPU)
    assert memory.peak(CPU) is None
    assert not list(tmp_path.iterdir())
    proc.mkdir()
    (proc / "status").write_text("VmHWM:\t  12 kB\n")
    memory.reset_peak(CPU)
    assert memory.peak(CPU) is None and len(list(proc.iterdir())) == 1
    (proc / "clear_refs").write_text("")
    assert memory.peak(CPU) == 12 * 1024
    (proc / "status").write_text("VmRSS:\t  12 kB\n")
    assert memory.peak(CPU) is None


def test_peak_of_a_gpu_is_of_its_tensors(monkeypatch):
    """Reference: torch's own counter of that device."""
    device, reset = torch.device("cuda", 1), []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", reset.append)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda of: 123 if of == device else 0)
    memory.reset_peak(device)
    assert reset == [device] and memory.peak(device) == 123
