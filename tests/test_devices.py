"""`run.device` and --device: existing devices are used, others refused with a list of them."""

import logging
import subprocess
import sys

import pytest
import torch
from click.testing import CliRunner
from conftest import launched, options
from test_train import train

from progan.cli.main import main
from progan.config.load import load_config
from progan.runs.folder import differences
from progan.runtime.device import take_device
from progan.runtime.errors import UserError


@pytest.fixture
def machine_with(monkeypatch):
    """Make torch see `count` accelerators of a kind. Returns the indices made current."""

    def make(kind: str, count: int) -> list[int]:
        taken = []
        monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device(kind))
        monkeypatch.setattr(torch.accelerator, "device_count", lambda: count)
        monkeypatch.setattr(torch.accelerator, "set_device_index", taken.append)
        return taken

    return make


@pytest.mark.parametrize(
    "name, taken", [("auto", []), ("cuda", []), ("cuda:1", [1]), ("cuda:0", [0]), ("cpu", [])]
)
def test_a_device_that_is_there_is_taken(machine_with, name, taken):
    """Reference: by hand, two GPUs; one with a number becomes torch's current one, too."""
    current = machine_with("cuda", 2)
    assert take_device(name) == torch.device("cuda" if name == "auto" else name)
    assert current == taken


@pytest.mark.parametrize("name", ["cuda:2", "mps", "xpu", "xpu:0"])
def test_a_device_that_is_not_there_is_refused(machine_with, name):
    """Reference: by hand, two GPUs: the message names both and the CPU."""
    machine_with("cuda", 2)
    with pytest.raises(UserError, match=f"no device {name} here, but cuda:0, cuda:1, cpu; choose"):
        take_device(name)


def test_several_processes_take_their_own(machine_with, monkeypatch):
    """Reference: what torchrun sets; a number would put all of them on one GPU."""
    machine_with("cuda", 2)
    launched(monkeypatch)
    assert take_device("cuda") == torch.device("cuda")
    with pytest.raises(UserError, match="cuda:1 is for one process; each of these 2 takes a GPU"):
        take_device("cuda:1")


@pytest.mark.parametrize(
    "kind, hip, name, told",
    [
        ("mps", None, "auto", "on mps"),
        ("xpu", None, "xpu:0", "on xpu"),
        ("cuda", "7.1", "cuda", "on AMD GPUs"),
        ("cuda", "7.1", "cpu", None),
        ("cuda", None, "auto", None),
    ],
)
def test_untested_devices_are_told(machine_with, monkeypatch, caplog, kind, hip, name, told):
    """Reference: torch.version.hip: torch calls AMD's GPUs cuda, too, and sets it for them."""
    machine_with(kind, 1)
    monkeypatch.setattr(torch.version, "hip", hip)
    with caplog.at_level(logging.WARNING, "progan"):
        take_device(name)
    assert bool(caplog.messages) == bool(told)
    assert all(f"not been tested {told}: progan doctor" in line for line in caplog.messages)


def accelerators_on(*names: str, code: str = "") -> subprocess.CompletedProcess:
    """Makes an accelerator for each name in a process of its own, then prints their devices, or
    what was said instead; torch need not have such a device for that."""
    words = [sys.executable, "-c", MAKES_ACCELERATORS.format(code=code), *names]
    return subprocess.run(words, capture_output=True, text=True, timeout=120)


MAKES_ACCELERATORS = """
import os, sys
from pathlib import Path
import torch
from progan.runtime.accelerator import make_accelerator
{code}
made = []
for name in sys.argv[1:]:
    device, *variables = name.split()
    os.environ.update(variable.split("=") for variable in variables)
    try:
        made.append(make_accelerator(Path("."), None, device=torch.device(device)))
    except Exception as error:
        made.append(": ".join((type(error).__name__, type(error.__cause__).__name__, str(error))))
for each in made:
    print(getattr(each, "device", each))
"""


def test_accelerate_takes_the_device():
    """Reference: the name that was given, whatever Accelerate's own variable says and whatever
    other accelerators of this process have; Accelerate's own error, in a sentence, where its check
    of GPUs and driver fails."""
    fails = "from accelerate import state\nstate.check_cuda_p2p_ib_support = lambda: False"
    silenced = "NCCL_P2P_DISABLE=1 NCCL_IB_DISABLE=1"
    other = "ACCELERATE_TORCH_DEVICE=cuda:"
    names = ["cuda:0", f"cuda:0 {silenced}", f"cuda:1 {other}0", f"cpu {other}1"]
    result = accelerators_on(*names, code=fails)
    assert len(result.stdout.splitlines()) == 4, result.stderr
    told, *devices = result.stdout.splitlines()
    assert told.startswith(
        "UserError: NotImplementedError: with this driver several GPUs of the RTX 40"
    )
    assert "set NCCL_P2P_DISABLE=1 and NCCL_IB_DISABLE=1" in told
    assert devices == ["cuda:0", "cuda:1", "cpu"]


def test_commands_refuse_what_is_not_there(photos, here):
    """Reference: exit code 2, one message, nothing written, for a GPU that no machine has."""
    train(photos, here / "run", run__device="cpu")
    commands = [
        [name, here / "run", "--device", "cuda:999"]
        for name in ("sample", "evaluate", "neighbours", "balance")
    ]
    commands += [
        [*words, *options(run__device="cuda:999")]
        for words in (
            ["bench"],
            ["train", "--data", photos],
            ["train", "--data", photos, "--dry-run"],
        )
    ]
    for words in commands:
        result = CliRunner().invoke(main, list(map(str, words)))
        assert result.exit_code == 2, result.output
        assert result.stderr.startswith("Error: there is no device cuda:999 here, but "), words
    assert [path.name for path in here.iterdir()] == ["run"]


def test_device_is_an_option_of_commands(photos, here):
    """Reference: by hand: what is no device's name, and samples made on the CPU."""
    train(photos, here / "run", run__device="cpu")
    result = CliRunner().invoke(main, ["sample", "run", "--device", "banana"])
    assert result.exit_code == 2 and "'banana' must be auto, cpu, cuda, cuda:1" in result.stderr
    result = CliRunner().invoke(main, ["sample", "run", "--device", "cpu", "--grid"])
    assert result.exit_code == 0, result.output
    assert len(list(here.glob("samples-of-run/*"))) == 1


def test_a_run_goes_on_on_another_device():
    """Reference: the rule of run directories: what changes no weight but by rounding may change."""
    assert not differences(load_config(), load_config(None, ["run.device=cpu"]))


def test_names_of_devices():
    """Reference: by hand."""
    for name in ("auto", "cpu", "cuda", "cuda:1", "mps", "xpu", "xpu:0"):
        assert load_config(None, [f"run.device={name}"]).run.device == name
        assert load_config(None, [f"run.device={name.upper()}"]).run.device == name
    for name in ("gpu", "cuda:", "cuda:-1", "cpu:0", "cuda:1x"):
        with pytest.raises(UserError, match="run.device: .* must be auto, cpu, cuda, cuda:1"):
            load_config(None, [f"run.device='{name}'"])
