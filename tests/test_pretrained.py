"""The network that comes with progan: `progan sample demo`."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import command
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

import progan
from progan.cli.main import main
from progan.cli.options import default_out
from progan.config.load import load_config
from progan.runs.snapshot_file import without_places
from progan.runs.which_snapshot import DEMO_FILE, find_snapshot
from progan.runtime import machine
from progan.runtime.errors import UserError
from progan.training.request import with_absolute_paths

CARD = Path(__file__).parent.parent / "docs" / "pretrained.md"
MADE_WITH = "AVX2"  # what the CPU had, as torch calls it; another one rounds differently


def made_with() -> dict[str, object]:
    with safe_open(DEMO_FILE, framework="pt") as file:
        return json.loads(file.metadata()["made_with"])


def test_the_demo_that_ships():
    """Reference: the preset, whose whole length it was trained for; a megabyte; its card."""
    snapshot = progan.load("demo")
    preset = load_config("demo")
    assert without_places(snapshot.config) == without_places(preset)
    assert (snapshot.nimg, snapshot.alpha) == (preset.make_schedule().total_nimg, None)
    assert DEMO_FILE.stat().st_size < 1_000_000
    text = CARD.read_text(encoding="utf-8")
    assert snapshot.sha256 in text and all(f"{value}" in text for value in made_with().values())


def test_commands_take_the_demo(here):
    """Reference: the same image from Python. A folder of this name wins, and both are said."""
    result = CliRunner().invoke(main, ["sample", "demo", "--seeds", "3", "--out", "3.png"])
    assert result.exit_code == 0, result.output
    with Image.open("3.png") as image:
        np.testing.assert_array_equal(np.asarray(image), progan.load("demo").sample([3])[0])
    assert CliRunner().invoke(main, ["sample", "demo@best"]).exit_code == 2
    begun = with_absolute_paths(load_config("demo", ["network.init=demo"]))
    assert begun.network.init == str(DEMO_FILE)
    (here / "demo").mkdir()
    with pytest.raises(UserError, match="no snapshots in demo"):
        find_snapshot(Path("demo"))


def test_what_is_made_of_the_demo_has_a_name_of_its_own(here):
    """Reference: a run called demo, of which results have the run's name, as of a folder here."""
    assert default_out("samples", Path("demo")) == Path("samples-of-pretrained-demo")
    for own in ("runs/demo", "runs/demo/", f"{here}/demo"):
        assert default_out("walk", Path(own), ".mp4") == Path("walk-of-demo.mp4")
    assert default_out("walk", Path("runs/demo@best")) == Path("walk-of-demo@best")
    (here / "demo").mkdir()
    assert default_out("samples", Path("demo")) == Path("samples-of-demo")


@pytest.mark.parametrize("there", ["", "demo", "runs/demo"])
def test_which_demo_is_said(there, here, caplog):
    """Reference: the folders that are there."""
    (here / there).mkdir(parents=True, exist_ok=True)
    caplog.set_level("INFO", logger="progan")
    if there == "demo":
        with pytest.raises(UserError):
            find_snapshot(Path("demo"))
        assert "the one in this folder" in caplog.text
    else:
        assert find_snapshot(Path("demo")) == DEMO_FILE
        assert "comes with progan" in caplog.text
    assert ("your own run is runs/demo" in caplog.text) == (there == "runs/demo")


@pytest.mark.slow
def test_the_preset_makes_the_demo_that_ships(tmp_path):
    """Reference: a run of the preset, bit for bit, where torch, threads and kind of CPU are those
    that it was made with."""
    made = made_with()
    here = machine.environment(torch.device("cpu"))
    vectors = torch.backends.cpu.get_cpu_capability()
    if any(here[name] != made[name] for name in ("torch", "device")) or vectors != MADE_WITH:
        pytest.skip(f"the network was made with {made}, {MADE_WITH}; here is {here}, {vectors}")
    settings = ["-o", f"run.precision={made['precision']}", "-o", "run.compile=false"]
    words = command("train", "--data", "demo", "--run-dir", tmp_path / "run", *settings)
    threads = {"OMP_NUM_THREADS": str(made["threads"])}
    subprocess.run(words, check=True, env=os.environ | threads, capture_output=True)
    made_here = load_file(find_snapshot(tmp_path / "run"))
    for name, weight in load_file(DEMO_FILE).items():
        assert torch.equal(weight, made_here[name].half()), name
