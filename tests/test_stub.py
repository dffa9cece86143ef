"""The commands on a stub of CUDA, which computes nothing: errors in paths taken on GPUs."""

import json
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from conftest import command, options
from stubcuda.build import why_not
from test_attributes import hand_made

pytestmark = [
    pytest.mark.stub,
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
]

RUN = Path(__file__).parent / "stubcuda" / "run.py"
ON_STUB = {"run__precision": "auto", "run__compile": "false"}
# 64 images of 8x8 in networks of up to 128 channels want about 130 MiB, those of 4x4 less.
WIDE = {
    "network__channel_base": 1024,
    "network__channel_max": 128,
    "network__z_dim": 64,
    "schedule__batch_size": 64,
    "schedule__stable_kimg": 0.064,
    "schedule__fade_kimg": 0.064,
    "schedule__total_kimg": 0.192,
}


def on_stub(*words: object, memory: str | None = None, values: bool = False) -> str:
    """Output of a command that must succeed on the stub; see `tried`."""
    result = tried(*words, memory=memory, values=values)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def tried(
    *words: object, memory: str | None = None, values: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run a command on the stub; it must not end in a traceback.

    Where memory is not what is tested, PyTorch keeps no freed memory: what no kernel has written is
    then zeros, not an earlier tensor that looks like a run gone wrong. A run in short memory needs
    `values` for that.
    """
    stub = [sys.executable, str(RUN), "--memory", memory or "4GiB"]
    stub += ["--values", "--"] if values else ["--"]
    env = environment() | ({} if memory else {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"})
    words = [*stub, *map(str, words)]
    result = subprocess.run(words, capture_output=True, text=True, timeout=600, env=env)
    assert "Traceback" not in result.stderr, result.stderr
    return result


def environment() -> dict[str, str]:
    """Environment with progan and the test helpers, wherever the command runs."""
    tests = Path(__file__).parent
    paths = [str(tests.parent), str(tests), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": ":".join(filter(None, paths))}


def training(data: object, run_dir: object, **settings: object) -> list[str]:
    return ["train", "--data", str(data), "--run-dir", str(run_dir), *options(**settings)]


def statistics(run_dir: Path) -> list[dict]:
    return [json.loads(line) for line in (run_dir / "stats.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def trained(photos, tmp_path_factory) -> Path:
    """A run of class labels on the stub, from 4x4 over both phases of 8x8 to 16x16."""
    run_dir = tmp_path_factory.mktemp("stub") / "run"
    grown = {"network__resolution": 16, "schedule__total_kimg": 0.16, "data__labels": "true"}
    grown["schedule__learning_rate"] = 0.001  # a run with a ramp to its end cannot be extended
    output = on_stub(*command(*training(photos, run_dir, **grown, **ON_STUB)))
    assert "on NVIDIA H200 (stub), in bf16" in output
    assert f"done; make images with: progan sample {run_dir}" in output
    return run_dir


def test_a_run_and_its_going_on(trained):
    """Reference: the schedule's updates to the end, and what a run writes on a CPU; a longer run
    goes on from the last checkpoint."""
    seen = [line["nimg"] for line in statistics(trained)]
    assert seen == list(range(16, 161, 16))
    assert (trained / "checkpoints" / "checkpoint-000000.160.pt").exists()
    assert (trained / "images" / "fakes-000000.160.png").exists()
    longer = ["train", "--resume", trained, "-o", "schedule.total_kimg=0.176"]
    assert "on NVIDIA H200 (stub), in bf16" in on_stub(*command(*longer))
    assert statistics(trained)[-1]["nimg"] == 176


def test_commands_on_a_run(trained, tmp_path):
    """Reference: the files that each command should write, and their numbers of images."""
    on_stub(*command("sample", trained, "--grid", "--out", tmp_path / "grid"))
    assert list((tmp_path / "grid").rglob("*.png"))
    figures = tmp_path / "figures.json"
    evaluate = ["evaluate", trained, "--metrics", "swd64,msssim32", "--json", figures]
    on_stub(*command(*evaluate))
    (snapshot,) = json.loads(figures.read_text())["snapshots"]
    assert snapshot["snapshot"].startswith(str(trained / "snapshots"))


def test_bench(tmp_path):
    """Reference: a figure of each phase of the schedule."""
    figures = tmp_path / "bench.json"
    on_stub(*command("bench", "--json", figures, *options(**ON_STUB)), memory="2GiB")
    phases = json.loads(figures.read_text())["phases"]
    assert len(phases) == 3


def test_check_and_dry_run_write_nothing(photos, tmp_path):
    """Reference: a line for each phase of the schedule, and no folder."""
    words = training(photos, tmp_path / "run", **ON_STUB)
    output = on_stub(*command(*words, "--check"), memory="2GiB")
    lines = [line.split(":")[0] for line in output.splitlines() if "a forward pass" in line]
    assert lines == ["4x4 stable", "8x8 fading", "8x8 stable"]
    assert "every phase fits" in output
    assert "8x8 fading" in on_stub(*command(*words, "--dry-run"))
    assert not (tmp_path / "run").exists()


WATCHED = """
import torch
from progan.cli.main import main
from progan.training.trainer import Trainer

plain = Trainer.train_step

def watched(trainer, phase):
    torch.cuda.set_sync_debug_mode("error")
    try:
        plain(trainer, phase)
    finally:
        torch.cuda.set_sync_debug_mode("default")

Trainer.train_step = watched
main()
"""


@pytest.mark.parametrize("keep", ["true", "false"])
def test_steps_of_the_command_wait_for_no_device(photos, tmp_path, keep):
    """Reference: torch's own word on what waits, an error in every step of a run with class labels,
    augmentation and accumulated gradients; images kept on the device and not."""
    settings = ON_STUB | {"data__device_cache": keep, "data__labels": "true"}
    settings |= {"data__augment": "[color, translation, cutout]", "schedule__batch_gpu": 4}
    words = training(photos, tmp_path / "run", **settings)
    assert "done; make images" in on_stub(sys.executable, "-c", WATCHED, *words)


def test_short_memory_halves(photos, tmp_path):
    """Reference: by hand: with 15 % less memory than 64 images need, half of them fit."""
    words = training(photos, tmp_path / "run", **WIDE, **ON_STUB)
    output = on_stub(*command(*words, "--check"), memory="110MiB")
    assert "4x4 stable: 64 images a forward pass" in output
    assert "8x8 fading: 32 images a forward pass" in output
    assert "8x8 fading" in on_stub(*command(*words, "--dry-run"), memory="110MiB")
    assert not (tmp_path / "run").exists()


def test_a_run_in_short_memory(photos, tmp_path):
    """Reference: as above; the run ends as with memory enough, and says how many it took."""
    words = training(photos, tmp_path / "run", **WIDE, **ON_STUB)
    output = on_stub(*command(*words), memory="110MiB", values=True)
    assert "memory is short at 8x8 fading: 32 images a forward pass" in output
    assert "done; make images" in output
    taken = [line["Progress/batch_gpu"] for line in statistics(tmp_path / "run")]
    assert taken == [64, 32, 32]


PEAKS = """
import json, sys
from dataclasses import replace
from pathlib import Path
import torch
from progan.runtime import memory
from progan.training.build import make_loss, make_step
from progan.runtime.accelerator import make_accelerator
from progan.config.load import load_config

# A thread of autograd's own would free tensors now earlier, now later than the calling one.
torch.autograd.set_multithreading_enabled(False)
config = load_config(None, sys.argv[1:])
accelerator = make_accelerator(Path("."), None)
step = make_step(config, 0, make_loss(config), accelerator)
phase = config.make_schedule().phases[1]
peaks = []
for n in (1024, 512, 256, 128):
    step.begin(replace(phase, batch_gpu=n), restart=True)
    step.rehearse()  # for what stays
    held = torch.cuda.memory_allocated()
    memory.reset_peak(accelerator.device)
    step.rehearse()
    peaks.append(memory.peak(accelerator.device) - held)
of_critic = sum(4 * p.numel() for p in step.D_parameters)
print(json.dumps({"peaks": peaks, "of_critic": of_critic}))
"""


def test_each_halving_needs_half():
    """Reference: PyTorch's own count of bytes, of a rehearsal over what stays: half as much, and
    less than two sets of the critic's gradients, as one is accumulated while the next comes in."""
    wide = WIDE | {"schedule__batch_size": 1024, "schedule__total_kimg": 3.072}
    wide |= {"schedule__stable_kimg": 1.024, "schedule__fade_kimg": 1.024}
    words = [word for word in options(**wide) if word != "-o"]
    output = on_stub(sys.executable, "-c", PEAKS, *words, memory="2GiB")
    found = json.loads(output.splitlines()[-1])
    peaks, gradients = found["peaks"], found["of_critic"]
    assert peaks[0] > 100 * gradients, "or gradients would be most of it"
    for whole, half in pairwise(peaks):
        assert 0 < half - whole / 2 < 2 * gradients, found


def test_not_even_a_group_fits(photos, tmp_path):
    """Reference: the exit code and words of a user's mistake."""
    words = training(photos, tmp_path / "run", **WIDE, **ON_STUB)
    result = tried(*command(*words, "--check"), memory="24MiB")
    assert result.returncode == 2
    assert re.search(
        r"not even \d+ images fit into memory at .*network.channel_base", result.stderr
    )


def test_attributes(tmp_path):
    """Reference: a run of labels of five attributes, and its samples, on the stub."""
    (tmp_path / "data").mkdir()
    hand_made(tmp_path / "data")
    settings = {"data__labels": "true", "schedule__learning_rate": 0.001}
    words = training(tmp_path / "data", tmp_path / "run", **settings, **ON_STUB)
    output = on_stub(*command(*words))
    assert "5 attributes: Bald" in output and "done; make images" in output
    on_stub(*command("sample", tmp_path / "run", "--class", "Bald,Young", "--out", tmp_path))
    assert list(tmp_path.glob("*-class-Bald+Young.png"))


@pytest.mark.parametrize("compile", ["auto", "true"])
def test_compiling(photos, tmp_path, compile):
    """Reference: on the stub code is compiled and not run; the graphs are recorded."""
    settings = ON_STUB | {"run__compile": compile, "schedule__total_kimg": 0.032}
    settings |= {"network__resolution": 4}
    output = on_stub(*command(*training(photos, tmp_path / "run", **settings)))
    assert ("compiling for 4x4 stable" in output) == (compile == "true")
    assert "not compiled" not in output and "done; make images" in output


def test_losses_are_those_of_the_cpu(photos, tmp_path):
    """Reference: the same run on the CPU, in float32. The CPU's kernels compute both, of operators
    that PyTorch chooses for either device: losses differ by rounding, over few updates."""
    short = {"schedule__stable_kimg": 0.008, "schedule__fade_kimg": 0.008}
    short |= {"schedule__total_kimg": 0.032, "run__tick_kimg": 0.008, "run__compile": "false"}
    on_stub(*command(*training(photos, tmp_path / "stub", **short)), values=True)
    on_cpu = command(*training(photos, tmp_path / "cpu", **short))
    subprocess.run(on_cpu, check=True, capture_output=True, env=environment(), timeout=120)
    pairs = zip(statistics(tmp_path / "stub"), statistics(tmp_path / "cpu"), strict=True)
    for stub, cpu in pairs:
        losses = {name: value for name, value in cpu.items() if name.startswith("Loss")}
        assert losses and {name: stub[name] for name in losses} == pytest.approx(losses, abs=1e-4)


PARTS = ["test_every_resolution", "not test_every_resolution"]


@pytest.mark.parametrize("tests", PARTS)
def test_what_cuda_makes_of_a_step(tests, monkeypatch):
    """Reference: the tests of `test_fake_cuda.py`, all of which a device that computes nothing can
    pass; layouts are those for cuDNN."""
    monkeypatch.setenv("STUB_CUDNN", "1")
    file = Path(__file__).parent / "test_fake_cuda.py"
    pytests = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-m", "gpu", "-k", tests]
    output = on_stub(*pytests, file)
    assert re.search(r"\d\d passed", output) and "skipped" not in output
