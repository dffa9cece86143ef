"""Many processes, on one machine or several: the same weights, a message when one fails."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
import yaml
from conftest import assert_identical, free_port, load_checkpoint, options, torchrun
from float64 import compute_in_float64
from test_train import images, state, statistics, train, wait_for

from progan.cli.main import main
from progan.config.load import load_config
from progan.runtime.accelerator import make_accelerator
from progan.runtime.errors import UserError
from progan.runtime.launch import NEEDED, is_main, prints_errors, processes, processes_here, started
from progan.training.step import checksum

ROOT = Path(__file__).parent.parent

BATCH = {"schedule__batch_size": 16, "schedule__total_kimg": 0.192}
BATCH |= {"schedule__stable_kimg": 0.064, "schedule__fade_kimg": 0.064}
KINDS = {
    "paper, labels, augmented": {
        "data__labels": "true",
        "data__augment": "[color, translation, cutout]",
    },
    "logistic, lazy r1, two passes": {
        "loss__adversarial": "logistic",
        "loss__penalty": "r1",
        "loss__penalty_interval": 2,
    },
    "logistic, wgan_gp": {"loss__adversarial": "logistic"},
    "wgan, r1, power averages": {
        "loss__penalty": "r1",
        "ema__kind": "power",
        "ema__half_life_kimg": "null",
    },
    "adaptive, projection": {
        "loss__adversarial": "hinge",
        "data__augment": "[color]",
        "data__augment_target": 0.1,
        "data__augment_kimg": 0.1,
        "run__seed": 1,
        "data__labels": "true",
        "loss__labels": "projection",
    },
    "critic twice": {"loss__critic_updates": 2, "schedule__batch_size": 8},
    "relativistic, r1_r2, labels, augmented": {
        "loss__adversarial": "relativistic",
        "loss__penalty": "r1_r2",
        "data__labels": "true",
        "data__augment": "[color, translation, cutout]",
    },
}


def launch(*arguments: object, processes: int = 2, more: tuple = ()) -> subprocess.Popen:
    """Run torchrun with a module or one of our scripts, with stdout and stderr separate."""
    words = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(processes)]
    words += ["--master_port", str(free_port()), *more, *map(str, arguments)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def assert_equal_to_rounding(one: Path, many: Path) -> None:
    """Assert equality up to rounding: weights and moments in float64, statistics in float32."""
    expected, found = state(one), state(many)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        if isinstance(value, torch.Tensor):
            error = 1e-8 if value.dtype == torch.float64 else 1e-5
            torch.testing.assert_close(found[name], value, rtol=error, atol=error, msg=name)
    assert any(x.dtype == torch.float64 for x in expected.values() if isinstance(x, torch.Tensor))


def train_in_float64(processes: int, *arguments: object) -> None:
    """Run the command line as several processes, in float64."""
    process = launch(ROOT / "tests" / "float64.py", *arguments, processes=processes)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors


def assert_equals_one(photos: Path, many: Path, monkeypatch, **settings) -> None:
    """Assert that one process makes the same run in float64, statistics and grids included."""
    one = many.parent / "one"
    compute_in_float64(monkeypatch.setattr)
    train(photos, one, **settings)
    assert_equal_to_rounding(one, many)
    assert len(statistics(many)) == len(statistics(one))
    assert images(many).keys() == images(one).keys()


TWICE = """
import sys
sys.path.insert(0, {tests!r})
from float64 import compute_in_float64
from progan.cli.main import main
compute_in_float64()
for run_dir in sys.argv[1:3]:
    main(["train", "--run-dir", run_dir, *sys.argv[3:]], standalone_mode=False)
"""


def test_processes_equal_one_and_a_second_run_the_first(photos, tmp_path, monkeypatch):
    """Reference: one process, weights and both Adams to rounding in float64 after 12 updates over
    both phase boundaries; and as many lines of statistics and grids. For a second run in the same
    processes, whose connections the end of the first has closed: the first, bit for bit.

    Wrong slices of data, latents, labels or mixing factors, draws of the augmentation, a forgotten
    average, or statistics over part of a group would all show.
    """
    settings = BATCH | KINDS["paper, labels, augmented"]
    first, second, file = tmp_path / "first", tmp_path / "second", tmp_path / "twice.py"
    file.write_text(TWICE.format(tests=str(ROOT / "tests")))
    passes = options(**settings | {"schedule__batch_gpu": 4})  # two of each process
    process = launch(file, first, second, "--data", photos, *passes)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert_identical(state(first), state(second))
    assert_equals_one(photos, first, monkeypatch, **settings)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind, processes, passes",
    [
        ("paper, labels, augmented", 4, 1),
        ("logistic, lazy r1, two passes", 2, 2),
        ("logistic, wgan_gp", 4, 1),
        ("wgan, r1, power averages", 2, 1),
        ("relativistic, r1_r2, labels, augmented", 2, 2),
        ("critic twice", 2, 1),
        ("adaptive, projection", 2, 2),
    ],
)
def test_more_kinds_in_processes_equal_one(photos, tmp_path, monkeypatch, kind, processes, passes):
    """Reference: as above."""
    settings = BATCH | KINDS[kind]
    size = settings["schedule__batch_size"]
    more = {"schedule__batch_gpu": size // processes // passes}
    arguments = ["train", "--data", photos, "--run-dir", tmp_path / "many"]
    train_in_float64(processes, *arguments, *options(**settings | more))
    assert_equals_one(photos, tmp_path / "many", monkeypatch, **settings)


@pytest.mark.slow
@pytest.mark.parametrize("then", [1, 4])
def test_a_run_goes_on_with_another_number_of_processes(photos, tmp_path, monkeypatch, then):
    """Reference: one process in one go, in float64, to rounding. Begun on two, stopped
    within a phase."""
    settings = BATCH | {"schedule__learning_rate": 0.001}
    arguments = ["train", "--data", photos, "--run-dir", tmp_path / "run"]
    short = options(**settings | {"schedule__total_kimg": 0.16})
    compute_in_float64(monkeypatch.setattr)
    train_in_float64(2, *arguments, *short)
    if then == 1:
        train(photos, tmp_path / "run", **settings)
    else:
        train_in_float64(then, *arguments, *options(**settings))
    train(photos, tmp_path / "one", **settings)
    assert_equal_to_rounding(tmp_path / "one", tmp_path / "run")
    assert [line["nimg"] for line in statistics(tmp_path / "run")] == [
        line["nimg"] for line in statistics(tmp_path / "one")
    ]


@pytest.mark.slow
def test_a_killed_worker_is_started_again(photos, tmp_path):
    """Reference: the two processes undisturbed, bit for bit. One is killed with SIGKILL once there
    is a checkpoint; torchrun --max-restarts brings both back, which go on from there."""
    settings = options(**BATCH | {"schedule__total_kimg": 1.6, "schedule__learning_rate": 0.001})
    run_dir = tmp_path / "run"
    words = ["-m", "progan", "train", "--data", photos, "--run-dir"]
    process = launch(*words, run_dir, *settings, more=("--max-restarts", "1"))
    wait_for(lambda: list(run_dir.glob("checkpoints/*.pt")), process)
    workers = psutil.Process(process.pid).children()
    assert len(workers) == 2
    workers[1].kill()
    output, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    assert "going on from checkpoint-" in output
    torchrun(2, *words[2:], tmp_path / "whole", *settings)
    assert_identical(state(tmp_path / "whole"), state(run_dir))
    assert statistics(run_dir) == statistics(tmp_path / "whole")
    assert images(run_dir) == images(tmp_path / "whole")


def script(tmp_path: Path, code: str, rank: int = 1) -> Path:
    """progan's command line, with something wrong on one rank."""
    file = tmp_path / "faulty.py"
    file.write_text(f"import os\nif os.environ['RANK'] == '{rank}':\n{code}\n" + MAIN)
    return file


MAIN = "from progan.cli.main import main\nmain()\n"
DRIFTS = """
    from progan.training.step import Step
    real, calls = Step.average, iter(range(10**6))
    def average(self):
        real(self)
        if next(calls) == 3:
            self.D_parameters[0].data.view(-1)[0] += 1e-7
    Step.average = average
"""
HANGS = """
    import time
    from progan.training.step import Step
    real, calls = Step.average, iter(range(10**6))
    def average(self):
        real(self)
        if next(calls) == 3:
            time.sleep(9)
            os._exit(1)
    Step.average = average
"""
GPU_HANGS = """
    import torch
    from progan.runtime.watch import Meeting
    class Event:
        seen = 0
        def record(self):
            Event.seen += 1
            self.computed = Event.seen < 20
        def query(self):
            return self.computed
    torch.cuda.Event = Event
    real = Meeting.ends
    Meeting.ends = lambda self, gpu: real(self, True)
"""
OTHERS = """
    import sys
    sys.argv[sys.argv.index('--data') + 1] = os.environ['OTHERS']
"""
ELSEWHERE = """
    import sys
    sys.argv[sys.argv.index('--run-dir') + 1] += '-of-this-machine'
"""
WRITES = """
    import sys
    folder = os.environ['RUN']
    def watch(event, arguments):
        if event in ('open', 'os.mkdir', 'os.rename', 'os.remove'):
            writes = event != 'open' or arguments[2] & (os.O_WRONLY | os.O_RDWR)
            if writes and os.path.abspath(str(arguments[0])).startswith(folder):
                os.write(2, f'RANK 1 WROTE {arguments}'.encode())
                os._exit(9)
    sys.addaudithook(watch)
"""


@pytest.mark.slow
def test_processes_that_drift_apart_are_noticed(photos, tmp_path):
    """Reference: one weight of one process, moved by the smallest step that matters at the fourth
    update: the tick that ends with it reports it, and writes no checkpoint."""
    settings = options(**BATCH | {"run__tick_kimg": 0.032, "run__checkpoint_ticks": 1})
    words = ["train", "--data", photos, "--run-dir", tmp_path / "run", *settings]
    process = launch(script(tmp_path, DRIFTS), *words)
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "the processes' weights differ at 0.064 kimg" in errors
    assert "checkpoint-000000.032.pt" in errors
    assert load_checkpoint(tmp_path / "run")["progress"]["nimg"] == 32


@pytest.mark.slow
def test_processes_with_different_images_are_noticed(photos, tmp_path, monkeypatch):
    """Reference: rank 1 is given a copy that lacks one image: nothing is trained on or measured."""
    copy = shutil.copytree(photos, tmp_path / "copy")
    min(copy.rglob("*.png")).unlink()
    monkeypatch.setenv("OTHERS", str(copy))
    settings = BATCH | {"network__resolution": 16, "schedule__total_kimg": 0.32}
    train(copy, tmp_path / "unused", **settings)  # prepares them
    train(photos, tmp_path / "one", **settings)
    training = ["--run-dir", tmp_path / "run", *options(**settings)]
    for words in (["train", *training], ["evaluate", tmp_path / "one", "--metrics", "swd10"]):
        process = launch(script(tmp_path, OTHERS), *words, "--data", photos)
        _, errors = process.communicate(timeout=120)
        assert process.returncode != 0
        assert "the processes do not see the same images" in errors, errors
    assert not list(tmp_path.glob("run/checkpoints/*"))
    assert not (tmp_path / "one" / "metrics.jsonl").exists()


@pytest.mark.slow
def test_processes_with_different_checkpoints_are_noticed(photos, tmp_path):
    """Reference: rank 1 is given a run folder of its own, as on a machine without a shared disk,
    and would begin where rank 0 goes on: nothing is trained."""
    run_dir = tmp_path / "run"
    settings = BATCH | {"schedule__learning_rate": 0.001}  # a ramp would lead to the run's end
    train(photos, run_dir, **settings | {"schedule__total_kimg": 0.16})
    before = state(run_dir)
    words = ["train", "--data", photos, "--run-dir", run_dir, *options(**settings)]
    process = launch(script(tmp_path, ELSEWHERE), *words)
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0
    assert f"the processes do not see the same checkpoints in {run_dir}" in errors, errors
    assert_identical(before, state(run_dir))


@pytest.mark.slow
@pytest.mark.parametrize("fault, rank", [(HANGS, 1), (HANGS, 0), (GPU_HANGS, 1)])
def test_a_process_that_hangs_ends_the_run(photos, tmp_path, fault, rank):
    """Reference: run.timeout, a minute before torch's own. Whoever waits says so and ends with
    exit code 2, also if the silent process is the one that usually logs, or if both continue
    and only a GPU (an event that is never over) does not."""
    settings = BATCH | {"run__timeout": 0.1, "run__checkpoint_ticks": 1}
    settings |= {"schedule__total_kimg": 1000, "schedule__learning_rate": 0.001}
    words = ["train", "--data", photos, "--run-dir", tmp_path / "run", *options(**settings)]
    process = launch(script(tmp_path, fault, rank), *words)
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "Error: another process has ended or hangs (no answer)" in errors, errors
    assert "run.timeout is 0.1 minutes" in errors
    assert "Start again to go on from " in errors and "checkpoint-0000" in errors
    assert re.search(r"exitcode *: 2", errors), errors


@pytest.mark.slow
def test_a_process_that_never_comes_is_told(photos, tmp_path):
    """Reference: run.timeout and torch's margin, here both short; no traceback."""
    code = "    import time\n    time.sleep(20)\n    os._exit(1)\n"
    code += "from datetime import timedelta\nfrom progan.runtime import accelerator\n"
    code += "accelerator.MARGIN = timedelta(seconds=1)\n"
    settings = options(**BATCH | {"run__timeout": 0.05})
    words = ["train", "--data", photos, "--run-dir", tmp_path / "run", *settings]
    process = launch(script(tmp_path, code, rank=0), *words)
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "Error: another process has not come within 0.05 minutes" in errors, errors
    assert "DistStoreError" not in errors


@pytest.mark.slow
def test_a_suspended_job_goes_on(photos, tmp_path):
    """Reference: exit code 0 though the processes answered nothing for longer than run.timeout:
    all of them were stopped, as by Ctrl-Z."""
    settings = BATCH | {"run__timeout": 0.15, "schedule__total_kimg": 1.6}
    settings |= {"schedule__learning_rate": 0.001}
    words = ["-m", "progan", "train", "--data", photos, "--run-dir", tmp_path / "run"]
    process = launch(*words, *options(**settings))
    wait_for(lambda: (tmp_path / "run" / "stats.jsonl").exists(), process)
    workers = psutil.Process(process.pid).children()
    assert len(workers) == 2
    for number, pause in ((signal.SIGSTOP, 15), (signal.SIGCONT, 0)):
        for worker in workers:
            worker.send_signal(number)
        time.sleep(pause)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors


@pytest.mark.slow
def test_a_killed_process_is_told_by_the_other(photos, tmp_path):
    """Reference: the message of the one that is left, which is not the one that usually logs, long
    before run.timeout."""
    settings = BATCH | {"schedule__total_kimg": 1000, "schedule__learning_rate": 0.001}
    words = ["train", "--data", photos, "--run-dir", tmp_path / "run", *options(**settings)]
    process = launch(script(tmp_path, HANGS.replace("time.sleep(9)", ""), 0), *words)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "Error: another process has ended or hangs" in errors, errors
    assert "Start again to go on from " in errors


@pytest.mark.slow
def test_only_the_main_process_writes(photos, tmp_path, monkeypatch):
    """Reference: Python's audit hook on rank 1, which ends it at the first file in the run's folder
    that it opens for writing, creates, renames or removes. A test of the hook comes first."""
    monkeypatch.setenv("RUN", str(tmp_path / "run"))
    watched = script(tmp_path, WRITES + "    open(folder + 'x', 'w')\n")
    monkeypatch.setenv("RANK", "1")
    tried = subprocess.run([sys.executable, watched], capture_output=True, text=True)
    assert tried.returncode == 9 and "RANK 1 WROTE" in tried.stderr
    words = ["train", "--data", photos, "--run-dir", tmp_path / "run", *options(**BATCH)]
    process = launch(script(tmp_path, WRITES), *words)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert len(statistics(tmp_path / "run")) == 12


@pytest.mark.slow
def test_accelerate_that_starts_one_of_two_is_noticed(photos, tmp_path):
    """Reference: `accelerate launch --cpu --num_processes 2`, which silently starts one. (What it
    sets is in the next test.)"""
    words = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    words += ["-m", "progan", "train", "--data", str(photos), "--run-dir", str(tmp_path / "run")]
    result = subprocess.run([*words, *options()], capture_output=True, text=True, timeout=120)
    assert result.returncode != 0
    assert "accelerate was asked for several processes and started one" in result.stderr
    assert not list(tmp_path.rglob("checkpoint-*"))


def test_alone_after_accelerate(monkeypatch):
    """Reference: what `accelerate launch` sets for one process, and for several, in its source."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    make_accelerator(Path("."), None)
    monkeypatch.setenv("MASTER_PORT", "29500")
    with pytest.raises(UserError, match="launch with torchrun"):
        make_accelerator(Path("."), None)


@pytest.mark.slow
def test_two_machines_train_together(photos, tmp_path, monkeypatch):
    """Reference: one process, in float64, to rounding. Two agents of torchrun as on two machines,
    each with a cache of its own, meet at an address and share the run's folder."""
    words = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2"]
    words += ["--nproc_per_node", "1", "--rdzv_backend", "c10d", "--rdzv_id", "progan"]
    words += ["--rdzv_endpoint", f"127.0.0.1:{free_port()}", str(ROOT / "tests" / "float64.py")]
    words += ["train", "--data", str(photos), "--run-dir", str(tmp_path / "run"), *options(**BATCH)]
    hosts = []
    for name in ("a", "b"):
        environment = os.environ | {"PROGAN_CACHE": str(tmp_path / f"cache-{name}")}
        pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        hosts.append(subprocess.Popen(words, env=environment, **pipe))
    outputs = [host.communicate(timeout=200) for host in hosts]
    assert [host.returncode for host in hosts] == [0, 0], outputs
    assert sum("done; make images with" in output for output, _ in outputs) == 1
    compute_in_float64(monkeypatch.setattr)
    train(photos, tmp_path / "one", **BATCH)
    assert_equal_to_rounding(tmp_path / "one", tmp_path / "run")


@pytest.mark.slow
def test_the_slurm_example_goes_on_by_itself(photos, tmp_path):
    """Reference: SLURM's documented variables and commands, imitated: `srun` runs its arguments,
    `scontrol` names the machines and records a requeue. A run stopped by --max-hours is queued
    again; a complete one is not."""
    config = tmp_path / "tiny.yaml"
    settings = [w for w in options(**BATCH | {"schedule__learning_rate": 0.001}) if w != "-o"]
    config.write_text(load_config(None, settings).to_yaml())
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "srun").write_text('#!/bin/sh\nexec "$@"\n')
    (tools / "scontrol").write_text(
        f'#!/bin/sh\n[ "$1" = show ] && echo 127.0.0.1 || echo "$@" >> {tmp_path}/asked\n'
    )
    for tool in tools.iterdir():
        tool.chmod(0o755)
    path = f"{tools}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    slurm = {"SLURM_JOB_NODELIST": "here", "SLURM_JOB_NUM_NODES": "1", "SLURM_JOB_ID": "7"}
    ours = {
        "DATA": str(photos),
        "RUN": str(tmp_path / "run"),
        "PORT": str(free_port()),
        "PROCESSES": "2",
    }

    def submit(more: str, hours: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | slurm | ours | {"PATH": path, "HOURS": hours}
        environment["MORE"] = f"--config {config} {more}"
        job = ["bash", str(ROOT / "examples" / "slurm.sbatch")]
        return subprocess.run(job, capture_output=True, text=True, env=environment, timeout=200)

    result = submit("-o schedule.total_kimg=1000", "0.01")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "asked").read_text() == "requeue 7\n"
    shown = load_checkpoint(tmp_path / "run")["progress"]["nimg"] / 1000
    result = submit(f"-o schedule.total_kimg={shown + 0.16}", "1")
    assert result.returncode == 0, result.stderr
    assert "done; make images with" in result.stdout
    assert (tmp_path / "asked").read_text() == "requeue 7\n"
    assert load_checkpoint(tmp_path / "run")["progress"]["nimg"] == round(1000 * shown) + 160


LEFT_OVER = [
    ({"WORLD_SIZE": "2"}, "WORLD_SIZE=2 in the environment without RANK, MASTER_ADDR, MASTER_PORT"),
    ({"WORLD_SIZE": "two"}, "WORLD_SIZE=two in the environment without"),
    (dict.fromkeys(NEEDED, "2"), "RANK=2, MASTER_ADDR=2, MASTER_PORT=2 .*, which cannot be"),
    ({"RANK": "3", "LOCAL_RANK": "1", "MASTER_ADDR": "gone"}, None),
    (dict.fromkeys(NEEDED, "1") | {"RANK": "7", "LOCAL_RANK": "5"}, None),
    ({"PMI_SIZE": "4", "OMPI_COMM_WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "x"}, None),
]


@pytest.mark.parametrize(("variables", "message"), LEFT_OVER)
def test_what_a_launcher_left_in_the_environment(monkeypatch, variables, message):
    """Reference: one process that writes, prints and joins nobody, at once; or, where several seem
    to be meant, a refusal that names what is set and both remedies."""
    for name in (*NEEDED, "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    if message:
        with pytest.raises(UserError, match=message) as refusal:
            make_accelerator(Path("."), None)
        assert "for one process: unset WORLD_SIZE RANK" in str(refusal.value)
    else:
        assert make_accelerator(Path("."), None).num_processes == 1
        assert {name: os.environ.get(name) for name in variables} == variables
        assert processes() == processes_here() == 1 and is_main() and prints_errors()


def test_a_time_limit_counts_from_the_launcher(monkeypatch):
    """Reference: the system's own times of this process, and under torchrun of the one above it,
    which stays when processes are started again; on the clock that nobody sets."""

    def age(process):
        return time.time() - process.create_time()

    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert time.monotonic() - started() == pytest.approx(age(psutil.Process()), abs=0.5)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert time.monotonic() - started() == pytest.approx(age(psutil.Process().parent()), abs=0.5)


def test_examples_are_whole():
    """Reference: bash's and YAML's own parsers, and the options that `progan train` has."""
    slurm = (ROOT / "examples" / "slurm.sbatch").read_text()
    assert subprocess.run(["bash", "-n"], input=slurm, text=True).returncode == 0
    service, job = yaml.safe_load_all((ROOT / "examples" / "kubernetes.yaml").read_text())
    assert (service["kind"], job["kind"]) == ("Service", "Job")
    (text,) = job["spec"]["template"]["spec"]["containers"][0]["args"]
    words = text.partition(";")[0].split()
    assert words[0] == "torchrun" and words[words.index("-m") + 1 :][:2] == ["progan", "train"]
    known = {option for parameter in main.commands["train"].params for option in parameter.opts}
    of_progan = slurm.partition("-m progan train")[2].partition("|")[0].split()
    of_progan += [word.partition("=")[0] for word in words[words.index("train") :]]
    used = {word for word in of_progan if word.startswith("--")}
    assert len(used) >= 4 and used <= known


def test_checksum_is_of_every_bit():
    """Reference: by hand: any bit, any two elements of different tensors swapped, the sign of 0."""
    draw = torch.Generator().manual_seed(0)
    tensors = [torch.randn(3, 4, generator=draw), torch.randn(5, generator=draw)]
    whole = checksum(tensors)
    assert whole == checksum([t.clone() for t in tensors])
    other = [t.clone() for t in tensors]
    other[0][0, 0], other[1][0] = tensors[1][0], tensors[0][0, 0]
    assert checksum(other) != whole
    bits = tensors[1].clone()
    bits.view(torch.int32)[2] ^= 1
    assert checksum([tensors[0], bits]) != whole
    assert checksum([torch.tensor([0.0])]) != checksum([torch.tensor([-0.0])])


@pytest.mark.slow
def test_signal_to_one_of_two_stops_both(photos, tmp_path):
    """Reference: exit code 0 and a checkpoint: SIGTERM to the second process only, which writes
    nothing itself."""
    run_dir = tmp_path / "run"
    settings = options(**BATCH | {"schedule__total_kimg": 1000, "schedule__learning_rate": 0.001})
    words = ["-m", "progan", "train", "--data", photos, "--run-dir", run_dir, *settings]
    process = launch(*words)
    wait_for(lambda: (run_dir / "stats.jsonl").exists(), process)
    psutil.Process(process.pid).children()[1].send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "nothing is lost; go on with: progan train --resume" in output
    assert load_checkpoint(run_dir)["progress"]["nimg"] > 0
