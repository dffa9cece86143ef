"""`progan doctor`: faults are found, crashes reported, and a report names nobody."""

import getpass
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner, Result
from phases import a_phase

from progan.cli.main import main
from progan.doctor import checks, folders, numbers, speed, system
from progan.doctor.checks import Size, everywhere, tried
from progan.doctor.finding import GOOD, NOT_HERE, SLOW, WRONG, Finding, anonymous, worst
from progan.doctor.links import finding_of, launched
from progan.doctor.numbers import EAGER, TOLERANCES, Networks, against_float64, relative_error
from progan.model import layers
from progan.runtime import speeds
from progan.runtime.cache import lock
from progan.runtime.errors import UserError
from progan.training import updates
from progan.training.work import Work

CPU = torch.device("cpu")
TINY = Networks(channel_base=256, channel_max=16, z_dim=16)
SMALL = Size(TINY, stream_bytes=2**20, training_seconds=0.5, compile_seconds=-1)
NAMES = [
    *("versions", "driver", "device", "memory", "shared memory", "cache folder", "free disk"),
    *("file locks", "file system", "compiler", "gradients, fp32", "gradients, bf16"),
    *("gradients, fp32, compiled", "gradients, bf16, compiled", "determinism"),
    *("precision", "speed, fp32", "speed, bf16", "training", "links", "data stream"),
]


@pytest.fixture(autouse=True)
def not_measured():
    """Forgets measured speeds, which a process keeps: here it plays many machines."""
    yield
    speed.tflops.cache_clear()


@pytest.fixture
def small(monkeypatch):
    """Makes the command run on the CPU in seconds: little is computed, nothing compiled."""
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.setattr(checks.examine, "__defaults__", (SMALL,))
    monkeypatch.setattr(speed, "LONG", 0)
    monkeypatch.setattr(speeds, "CONVOLUTIONS", [[4, 8], [8, 4]])
    monkeypatch.setattr(checks.system, "compiler", lambda device: Finding("compiler", GOOD, ""))
    monkeypatch.setattr(checks, "training", lambda *_: Finding("training", GOOD, ""))


def doctor(*arguments: str) -> tuple[Result, dict[str, str]]:
    """The command's result, and the state of each check."""
    result = CliRunner().invoke(main, ["doctor", *arguments], catch_exceptions=False)
    states = {line[10:36].strip(): line[:9].strip() for line in result.output.splitlines()}
    return result, {name: states[name] for name in states if name in NAMES}


def test_the_command(here, small, monkeypatch):
    """Reference: the list of all checks; none is wrong on a machine whose other tests pass. The
    cache has but the lock and measured speeds more than before."""
    monkeypatch.setattr(checks, "training", speed.training)
    before = {path.name for path in folders.cache_folder(None).glob("*")}
    result, states = doctor("--json", "report.json")
    assert sorted(states) == sorted(NAMES)
    assert result.exit_code == 0 and WRONG not in states.values(), result.output
    assert states["gradients, fp32"] == states["determinism"] == states["data stream"] == GOOD
    assert states["gradients, fp32, compiled"] == states["links"] == NOT_HERE
    assert "one device: nothing to compare" in result.output
    content = json.loads(Path("report.json").read_text())
    assert {found["name"]: found["state"] for found in content["findings"]} == states
    left = {path.name for path in folders.cache_folder(None).glob("*")} - before
    assert left <= {"doctor.lock", "compiled", "speeds"}


def test_a_report_has_no_names(here, small, monkeypatch):
    """Reference: the system's own names of user, host, home, this folder and the cache, in checks
    that crash with all of them in their messages."""
    names = [getpass.getuser(), socket.gethostname(), str(Path.home()), str(here)]
    names += [os.environ["PROGAN_CACHE"], "/srv/my data/x", sys.prefix]

    def crash() -> Finding:
        raise RuntimeError(" and ".join(names))

    monkeypatch.setattr(checks, "of_machine", lambda device: [("memory", crash)])
    monkeypatch.setattr(checks, "of_device", lambda *_: iter([]))
    result, _ = doctor("--json", "report.json")
    assert result.exit_code == 1 and names[0] in result.output
    text = Path("report.json").read_text()
    findings = json.loads(text)["findings"]
    assert "RuntimeError: <" in findings[-1]["says"]
    for name in [*names[2:], "/srv", str(Path.home())]:
        assert name not in text
    words = set(text.replace('"', " ").replace("/", " ").split())
    assert not words & {*names[:2]}


@pytest.mark.parametrize(
    "text, expected",
    [
        ("cannot open '/home/a/b.txt': no", "cannot open '<path>': no"),
        ("in ~/x, C:\\Users\\me and D:/y", "in <path>, <path> and <path>"),
        ("images/s, GB/s, and/or 3 / 4", "images/s, GB/s, and/or 3 / 4"),
        ("file:///srv/x", "file:<path>"),
        ({"a": ["/b/c", 1, None]}, {"a": ["<path>", 1, None]}),
    ],
)
def test_anonymous(text, expected):
    """Reference: by hand; what is no path stays."""
    assert anonymous(text) == expected


# Values -----------------------------------------------------------------------------------------


def without(monkeypatch, name: str) -> None:
    """Both updates computed with a term left out, or with one gradient 1 % too large."""
    real = numbers.critic_gradients

    def critic(G, D, parameters, batch, alpha, loss):
        if name == "the penalty":
            return real(G, D, parameters, batch, alpha, updates.LossSettings(penalty=None))
        if name == "the drift":
            return real(G, D, parameters, batch, alpha, updates.LossSettings(drift=0.0))
        grads, stats = real(G, D, parameters, batch, alpha, loss)
        largest = max(range(len(grads)), key=lambda i: grads[i].norm())
        grads[largest] = grads[largest] * 1.01
        return grads, stats

    monkeypatch.setitem(EAGER, "D", critic)


@pytest.mark.parametrize(
    "precision, name",
    [
        ("fp32", "the penalty"),
        ("fp32", "the drift"),
        ("fp32", "1 % of one gradient"),
        ("bf16", "the penalty"),
    ],
)
def test_a_missing_term_is_found(precision, name, monkeypatch):
    """Reference: float64 of the whole loss, known before the term is taken away; with it, good."""
    for number in range(numbers.BATCHES):
        numbers.reference(TINY, 8, number)
    assert against_float64(TINY, (8,), CPU, precision).state == GOOD
    without(monkeypatch, name)
    finding = against_float64(TINY, (8,), CPU, precision)
    assert finding.state == WRONG, finding
    assert finding.figures["D 8x8"] > TOLERANCES[precision] > finding.figures["G 8x8"]
    assert finding.remedy


def test_a_layer_that_errs_ends_in_exit_code_1(here, small, monkeypatch):
    """Reference: the command, when float32's minibatch stddev is 1 % off; the reference is not."""
    real = layers.minibatch_stddev

    def wrong(x, *rest, **more):
        return real(x, *rest, **more) * (1.0 if x.dtype == torch.float64 else 1.01)

    monkeypatch.setattr("progan.model.networks.minibatch_stddev", wrong)
    result, states = doctor()
    assert result.exit_code == 1
    assert [name for name, state in states.items() if state == WRONG] == ["gradients, fp32"]
    assert "\nwrong: gradients, fp32\n" in result.output


def test_float64_is_float64():
    """Reference: dtypes."""
    found = numbers.reference(TINY, 8, 0)
    assert {g.dtype for grads in found.values() for g in grads} == {torch.float64}


def test_relative_error_is_of_the_whole():
    """Reference: by hand: 3-4-5 off by 0.05 in one element; nan is no small error."""
    expected = [torch.tensor([3.0, 0.0]), torch.tensor(4.0)]
    found = [torch.tensor([3.0, 0.05]), torch.tensor(4.0)]
    assert relative_error(found, expected) == pytest.approx(0.01)
    assert not relative_error([torch.tensor([3.0, torch.nan]), found[1]], expected) <= 1


def test_what_is_not_finite_is_wrong(monkeypatch):
    """Reference: nan in a gradient; a report has null for it, as JSON has no nan."""
    monkeypatch.setattr(numbers, "relative_error", lambda *_: float("nan"))
    finding = against_float64(TINY, (8,), CPU, "fp32")
    assert finding.state == WRONG and set(finding.figures.values()) == {None}


@pytest.mark.parametrize("flip, state", [(0, GOOD), (1, WRONG)])
def test_other_bits_the_second_time(flip, state, monkeypatch):
    """Reference: the last bit of one element, changed from one call to the next."""
    real, calls = numbers.gradients, iter(range(99))

    def gradients(*arguments):
        found = real(*arguments)
        found["G"][0].view(torch.int32).view(-1)[0] ^= flip * (next(calls) % 2)
        return found

    monkeypatch.setattr(numbers, "gradients", gradients)
    assert numbers.twice(TINY, 8, CPU, "fp32").state == state


# What crashes, and what processes say -----------------------------------------------------------


def test_a_check_that_crashes_is_told(here, small, monkeypatch):
    """Reference: the error's first line; all other checks are there."""

    def crash(*_: object) -> Finding:
        raise RuntimeError("no such kernel\nand a traceback")

    monkeypatch.setattr(checks, "twice", crash)
    result, states = doctor()
    assert result.exit_code == 1 and sorted(states) == sorted(NAMES)
    assert [name for name, state in states.items() if state == WRONG] == ["determinism"]
    assert "RuntimeError: no such kernel; report it" in result.output
    assert "and a traceback" not in result.output


def test_a_device_that_cannot_be_had(here, small, monkeypatch):
    """Reference: no accelerator, no checks of it; those of the machine are done."""

    def refuse(*_: object) -> None:
        raise UserError("2 processes were started, but 1 joined")

    monkeypatch.setattr(checks, "make_accelerator", refuse)
    result, states = doctor()
    assert result.exit_code == 1
    assert states["device"] == WRONG and states["file locks"] == GOOD
    assert "training" not in states


def test_worst_of_the_processes(monkeypatch):
    """Reference: by hand: wrong before slow before good; every process's finding counts."""
    found = [Finding("x", state, "") for state in (NOT_HERE, GOOD, SLOW, WRONG, GOOD)]
    assert [worst(found[:n]).state for n in range(1, 6)] == [NOT_HERE, GOOD, SLOW, WRONG, WRONG]
    monkeypatch.setattr(checks, "gather_object", lambda mine: [*mine, found[3]])
    two = SimpleNamespace(num_processes=2)
    assert everywhere([two], "x", lambda: found[1]) == found[3]
    assert tried("x", lambda: found[1]) == found[1]


@pytest.mark.parametrize(
    ("count", "groups"),
    [
        (2, [[0, 1]]),
        pytest.param(3, [[0, 1], [0, 2], [1, 2], [0, 1, 2]], marks=pytest.mark.slow),
    ],
)
def test_all_reduce_between_processes(monkeypatch, count, groups):
    """Reference: real processes with gloo: each pair, and all; sums are right."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    found = launched(count)
    assert [each["between"] for each in found] == groups
    finding = finding_of(found)
    assert finding.state == GOOD and "-".join(map(str, range(count))) + " " in finding.says


def test_wrong_sums_are_told():
    """Reference: by hand: one group of four; nothing, where the processes failed."""
    groups = [[0, 1], [0, 2], [1, 2], [0, 1, 2]]
    found = [{"between": each, "right": True, "gb_per_sec": 1.0} for each in groups]
    assert finding_of(found).state == GOOD and "0-1-2 1 GB/s" in finding_of(found).says
    found[1]["right"] = False
    assert finding_of(found).state == WRONG and "0-2 wrong sums" in finding_of(found).says
    assert finding_of([]).state == WRONG


SCRIPT = """
import sys
from progan.runtime import speeds
from progan.doctor import checks, speed
from progan.doctor.finding import Finding
from progan.runtime.launch import is_main
sys.path.insert(0, {tests!r})
from test_doctor import SMALL
checks.examine.__defaults__ = (SMALL,)
speed.LONG, speeds.CONVOLUTIONS = 0, [[4, 8], [8, 4]]
checks.system.compiler = lambda device: Finding("compiler", "good" if is_main() else "slow", "")
from progan.cli.main import main
from progan.training.work import Work
from phases import a_phase
main()
"""


@pytest.mark.slow
def test_two_processes(tmp_path, monkeypatch):
    """Reference: the command under torchrun with gloo: exit code 0, one report, the pair's
    all-reduce; what the second process finds worse is in it."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(tests=str(Path(__file__).parent)))
    report = tmp_path / "report.json"
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
    words += ["2", str(script), "doctor", "--json", str(report)]
    result = subprocess.run(words, capture_output=True, text=True, timeout=240)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("data stream") == 1
    found = {each["name"]: each for each in json.loads(report.read_text())["findings"]}
    assert sorted(found) == sorted(NAMES)
    assert found["compiler"]["state"] == SLOW
    assert found["links"]["state"] == GOOD
    assert found["links"]["figures"]["groups"][0]["between"] == [0, 1]


# The machine ------------------------------------------------------------------------------------


def test_a_cache_that_cannot_be_written(here, small, monkeypatch):
    """Reference: a file where the cache's folder should be; what needs it is wrong, too, and what
    does not is done."""
    (here / "file").write_text("")
    monkeypatch.setenv("PROGAN_CACHE", str(here / "file" / "cache"))
    result, states = doctor()
    wrong = [name for name, state in states.items() if state == WRONG]
    assert result.exit_code == 1 and wrong == ["cache folder", "file locks", "data stream"]
    assert "cannot be written (Not a directory); set $PROGAN_CACHE" in result.output


def test_locks_that_do_not_hold(monkeypatch):
    """Reference: two files in place of one, as where locks are ignored."""
    assert folders.locks().state == GOOD
    names = iter("ab")
    monkeypatch.setattr(
        folders, "lock", lambda name, *more, **how: lock(name + next(names), *more, **how)
    )
    assert folders.locks().state == WRONG


@pytest.mark.parametrize("kind, state", [("ext4", GOOD), ("nfs4", SLOW), ("fuse.sshfs", SLOW)])
def test_network_file_systems(kind, state, here, monkeypatch):
    """Reference: mounts as psutil lists them: the nearest above counts, the last one at a place."""
    monkeypatch.setenv("PROGAN_CACHE", str(here / "on" / "cache"))
    mounts = [("/", "ext4"), (str(here / "on"), "tmpfs"), (str(here / "on"), kind)]
    mounts = [SimpleNamespace(mountpoint=place, fstype=fs) for place, fs in mounts]
    (here / "on").mkdir()
    monkeypatch.setattr(folders.psutil, "disk_partitions", lambda all: mounts)
    finding = folders.file_system()
    assert finding.state == state
    assert finding.figures == {"kind_cache": kind, "kind_folder": "ext4"}


def test_a_stream_of_wrong_or_slow_images(monkeypatch):
    """Reference: good as it is; a changed pixel is wrong; less than training takes is slow."""
    assert folders.stream(CPU, 2**20, None).state == GOOD
    assert folders.stream(CPU, 2**20, 1e12).state == SLOW
    real = folders.Stream.batch

    def batch(*arguments):
        found = real(*arguments)
        found.images[0, 0, 0, 0] += 1
        return found

    monkeypatch.setattr(folders.Stream, "batch", batch)
    assert folders.stream(CPU, 2**20, None).state == WRONG


def test_drivers(tmp_path, monkeypatch):
    """Reference: a tool of NVIDIA's name that answers, or fails, and a torch that sees no GPU."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert system.driver().state == NOT_HERE
    tool = tmp_path / "nvidia-smi"
    for script, cuda, expected in [
        ("echo 570.1", "13.0", "sees no GPU"),
        ("echo 570.1", None, "is built for CPUs only"),
        ("exit 9", "13.0", "no working driver"),
    ]:
        tool.write_text(f"#!/bin/sh\n{script}\n")
        tool.chmod(0o755)
        monkeypatch.setattr(torch.version, "cuda", cuda)
        finding = system.driver()
        assert finding.state == WRONG and expected in finding.says and finding.remedy
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    tool.write_text("#!/bin/sh\necho 570.1\n")
    assert system.driver() == Finding("driver", GOOD, "NVIDIA 570.1", "", {"driver": "570.1"})


def test_slow_devices(monkeypatch):
    """Reference: half of a data sheet's figure, or a tenth of what training reaches. A precision
    that `auto` does not choose is not slow, and without instructions for it not even tried."""
    rates = {"fp32": [5e3, 10e3], "bf16": [100.0]}
    monkeypatch.setattr(speed, "measured", lambda device, again=False: rates)
    for peak, state in [(None, GOOD), (19.0, GOOD), (21.0, SLOW)]:
        monkeypatch.setattr(speed.machine, "peak_tflops", lambda *_, peak=peak: peak)
        assert speed.rate(CPU, "fp32", "fp32").state == state
    monkeypatch.setattr(speed.machine, "peak_tflops", lambda *_: None)
    finding = speed.rate(CPU, "bf16", "fp32")
    assert finding.state == GOOD
    assert finding.says == "100 GFLOP/s in convolutions; run.precision=auto takes fp32"
    del rates["bf16"]
    finding = speed.rate(CPU, "bf16", "fp32")
    assert finding.state == NOT_HERE and "no instructions" in finding.says
    phase = a_phase(8, False, 0, 8, 8, None, 0.001)
    costs = SimpleNamespace(trials={phase: 0.001}, work={phase: Work(2.0, 0.0, 0)})
    costs.schedule = SimpleNamespace(phases=(phase,))  # 2 GFLOP in a ms: 2 TFLOP/s
    assert speed.finding_of(costs, "fp32", 19.0, 1).state == GOOD
    assert speed.finding_of(costs, "fp32", 21.0, 1).state == SLOW
    costs.schedule.phases = (phase, phase)  # one was too slow to be measured
    assert speed.finding_of(costs, "fp32", 19.0, 1).state == SLOW


def test_short_memory(monkeypatch):
    """Reference: one GiB of the host's free; Docker's own /dev/shm, with two GPUs."""
    gib = SimpleNamespace(available=2**30, total=2**33)
    monkeypatch.setattr(system.psutil, "virtual_memory", lambda: gib)
    assert system.memory(CPU).state == SLOW
    monkeypatch.setattr(
        system.shutil, "disk_usage", lambda path: SimpleNamespace(total=2**26, free=0)
    )
    for gpus, state in [(0, GOOD), (2, WRONG)]:
        monkeypatch.setattr(torch.cuda, "device_count", lambda gpus=gpus: gpus)
        assert system.shared_memory(Path("/")).state == state
    assert system.shared_memory(Path("/none")).state == NOT_HERE
    assert folders.disk().state == SLOW
