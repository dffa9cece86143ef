"""When updates are compiled: if it pays, as decided when the phase begins."""

from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner
from conftest import assert_identical, flat, load_checkpoint, options

from progan.cli.main import main
from progan.config.config import Config
from progan.training import compile as compiling
from progan.training.build import compiles
from progan.training.compile import SECONDS, SPEEDUP, pays
from progan.training.costs import CostModel
from progan.training.step import Step

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def compiler(monkeypatch):
    monkeypatch.setattr(compiling.shutil, "which", lambda name: f"/usr/bin/{name}")


@pytest.mark.parametrize("device", [CPU, CUDA])
def test_it_pays_where_it_saves_more_than_it_takes(device, compiler):
    """Reference: by hand. At 1.2 times the speed a sixth of the time is saved."""
    assert (SECONDS, SPEEDUP) == (60, 1.2)
    assert not pays(355, device) and pays(365, device)
    assert not pays(None, device), "nothing is known"


def test_no_compiler_no_compiling(monkeypatch):
    """Reference: a CPU without a C++ compiler cannot compile; Triton brings what GPUs need."""
    monkeypatch.setattr(compiling.shutil, "which", lambda name: None)
    assert not pays(1e9, CPU) and pays(1e9, CUDA)


@pytest.mark.parametrize(
    ("given", "meant"), [(None, "auto"), ("auto", "auto"), (True, True), (False, False)]
)
def test_values(given, meant):
    """Reference: the setting's description; earlier runs have null for auto."""
    assert Config(run={"compile": given}).run.compile is meant or meant == "auto"
    assert Config(run={"compile": given}).run.compile == meant


def train(photos, run_dir, **settings):
    words = ["train", "--data", photos, "--run-dir", run_dir, *options(**settings)]
    result = CliRunner().invoke(main, [*map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


class Choices:
    """The choice for each phase; all phases take `seconds`, and there is no real compiler."""

    def __init__(self, monkeypatch, seconds: float):
        self.seen: list[bool] = []
        monkeypatch.setattr(CostModel, "seconds_of", lambda costs, phase: seconds)
        monkeypatch.setattr(Step, "compile_gradients", lambda step: None)
        real = Step.begin

        def begin(step, *arguments, **more):
            real(step, *arguments, **more)
            self.seen.append(step.compiled)

        monkeypatch.setattr(Step, "begin", begin)


@pytest.mark.parametrize(
    ("seconds", "settings", "expected"),
    [
        (1e6, {"compile": "auto"}, True),
        (1, {"compile": "auto"}, False),
        (1, {"compile": True}, True),
        (1e6, {"compile": False}, False),
        (1e6, {"compile": "auto", "deterministic": True}, False),
    ],
)
def test_settings_decide(compiler, seconds, settings, expected):
    """Reference: `pays`, the setting where it says so, and no measured time in deterministic
    runs."""
    accelerator = SimpleNamespace(device=CPU, num_processes=1)
    assert compiles(Config(run=settings), seconds, accelerator) is expected


@pytest.mark.parametrize("seconds", [1e6, 1])
def test_each_phase_decides(photos, tmp_path, monkeypatch, compiler, seconds):
    """Reference: `pays`; it is said, and kept in the checkpoint."""
    choices, expected = Choices(monkeypatch, seconds), seconds > 1
    output = train(photos, tmp_path, run__compile="auto")
    assert choices.seen == [expected] * 3
    assert output.count("compiling for ") == 3 * expected
    assert load_checkpoint(tmp_path)["progress"]["compiled"] is expected


def test_a_resume_keeps_the_choice_of_its_phase(photos, tmp_path, monkeypatch, compiler, any_end):
    """Reference: the choice at the phase's first image, whatever times are predicted later;
    if the user changes the setting, it counts at once, and the next phase decides again."""
    with monkeypatch.context() as patch:
        Choices(patch, 1e6)
        train(photos, tmp_path, run__compile="auto", schedule__total_kimg=0.048)
    with monkeypatch.context() as patch:
        choices = Choices(patch, 1)
        train(photos, tmp_path, run__compile="auto", schedule__total_kimg=0.056)
        assert choices.seen == [True]
        train(photos, tmp_path, run__compile="false", schedule__total_kimg=0.064)
        assert choices.seen == [True, False]
        train(photos, tmp_path, run__compile="auto")
        assert choices.seen == [True, False, False]


def test_a_checkpoint_without_the_choice_goes_on(photos, tmp_path, monkeypatch, any_end):
    """Reference: the undisturbed run, bit for bit; its first part as an earlier version left it."""
    auto = {"run__compile": "auto"}
    train(photos, tmp_path / "whole", **auto)
    train(photos, tmp_path / "old", schedule__total_kimg=0.048, **auto)
    (path,) = sorted((tmp_path / "old" / "checkpoints").glob("*.pt"))[-1:]
    state = torch.load(path, weights_only=True)
    del state["progress"]["compiled"]
    torch.save(state, path)
    config = tmp_path / "old" / "config.yaml"
    config.write_text(config.read_text().replace("compile: auto", "compile: null"))
    assert "compile: null" in config.read_text()
    train(photos, tmp_path / "old", **auto)
    a, b = (flat(load_checkpoint(tmp_path / name)) for name in ("whole", "old"))
    timing = {key for key in a if key.endswith("/seconds") or "Timing" in key}
    assert_identical(*({k: v for k, v in x.items() if k not in timing} for x in (a, b)))


@pytest.mark.parametrize("deterministic", ["false", "true"])
def test_bench_decides_as_training(monkeypatch, compiler, quick, deterministic):
    """Reference: the choices of training in `test_settings_decide`."""
    choices = Choices(monkeypatch, 1e6)
    settings = {"run__compile": "auto", "run__deterministic": deterministic}
    words = ["bench", "--resolutions", "4", *options(**settings)]
    result = CliRunner().invoke(main, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert choices.seen == [deterministic == "false"]


def test_a_failed_compiler_is_remembered(photos, tmp_path, monkeypatch, compiler):
    """Reference: a run that goes on without a compiler is one without, whatever `auto` decided: so
    its resume is exact, too."""
    monkeypatch.setattr(CostModel, "seconds_of", lambda costs, phase: 1e6)
    monkeypatch.setattr(compiling, "BACKEND", lambda graph, inputs: 1 / 0)
    output = train(photos, tmp_path, run__compile="auto")
    assert output.count("compiling for ") == 1
    assert load_checkpoint(tmp_path)["progress"]["compiled"] is False
