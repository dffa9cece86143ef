"""On a real GPU: nothing waits for it, runs resume there, its gradients are right."""

import copy
import json
import warnings
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from click.testing import CliRunner
from conftest import load_checkpoint, options
from test_step import EXTRAS, R1, Drawn, make_batch, make_step, make_trainer, phase_at

from progan.cli.main import main
from progan.config.schedule import Curve
from progan.training.ema import Average, HalfLife
from progan.training.step import Step
from progan.training.updates import LossSettings

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("gpu")]


@contextmanager
def waiting(mode):
    """With `error`, operations that wait for the GPU raise. torch warns that it misses some."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Synchronization debug mode is a prototype")
        torch.cuda.set_sync_debug_mode(mode)
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("extras", EXTRAS)
def test_a_step_waits_for_no_gpu(tmp_path, extras):
    """Reference: torch's own detection of waits, raised as an error; class labels, images kept on
    the GPU and not. A phase's first step may wait: libraries allocate memory and choose kernels."""
    for keep in ("true", "false"):
        settings = EXTRAS[extras] | {"data__device_cache": keep}
        trainer = make_trainer(Drawn(False), tmp_path, Accelerator(), **settings)
        assert trainer.accelerator.device.type == "cuda"
        for phase in trainer.schedule.phases:
            trainer.begin_phase(phase)
            for update in range(4):
                with waiting("error" if update else "default"):
                    trainer.train_step(phase)
        trainer.stream.close()


def test_a_wait_is_seen():
    """Reference: a value read on purpose; without it the test above would hold for any step."""
    x = torch.zeros(3, device="cuda")
    with waiting("error"), pytest.raises(RuntimeError, match="synchronizing"):
        x.sum().item()


@pytest.mark.parametrize("fading", [False, True])
@pytest.mark.parametrize("loss", [LossSettings(), R1], ids=["paper", "logistic-r1"])
def test_gradients_are_those_of_the_cpu(loss, fading):
    """Reference: float64 on the CPU. In float32 each network's gradients are off by rounding, 1e-4
    of their norm at most, where a term less, TF32 or a wrong layout is off by more."""
    exact, batch = make_step(loss), make_batch(dtype=torch.float64)
    exact.G.double(), exact.D.double()
    expected = gradients(exact, batch, fading)
    G, D = (copy.deepcopy(network).float().cuda() for network in (exact.G, exact.D))
    AcceleratorState._reset_state(reset_partial_state=True)  # `make_step` has chosen the CPU
    rounded = Step(G, D, loss, Accelerator(), "fp32", Average(G, [HalfLife(Curve(1.0).at)]))
    found = gradients(rounded, moved(make_batch()), fading)
    for a, b in zip(found, expected, strict=True):
        assert a.is_cuda
        assert (a.cpu().double() - b).norm() < 1e-4 * b.norm()


def moved(batch):
    """Move to the GPU."""
    parts = {
        name: None if x is None else x.detach().cuda().requires_grad_(x.requires_grad)
        for name, x in vars(batch).items()
    }
    return type(batch)(**parts)


def gradients(step, batch, fading) -> list[torch.Tensor]:
    """Gradients of both networks in mid-phase, each as one vector."""
    step.begin(phase_at(fading=fading), restart=True)
    step.set_progress(16)
    both = step.D_gradients(batch)[0], step.G_gradients(batch.for_generator())[0]
    return [torch.cat([grad.flatten() for grad in grads]) for grads in both]


def train(photos, run_dir, **settings) -> str:
    """A run in this process, through the command line's own function; its output."""
    arguments = ["train", "--data", str(photos), "--run-dir", str(run_dir), *options(**settings)]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_run_trains_and_goes_on(photos, tmp_path, any_end):
    """Reference: the schedule's end, finite numbers, a line per tick, and weights that all changed
    after resuming. Stopped in mid-fade, after five updates of twelve."""
    name = torch.cuda.get_device_name()
    assert name in train(photos, tmp_path, schedule__total_kimg=0.04)
    before = load_checkpoint(tmp_path)
    assert before["progress"]["nimg"] == 40
    assert "going on from checkpoint-000000.040.pt" in train(photos, tmp_path)
    after = load_checkpoint(tmp_path)
    assert after["progress"]["nimg"] == 96
    moved = {key: not torch.equal(value, before["G"][key]) for key, value in after["G"].items()}
    assert moved["blocks.8.conv.weight"] and moved["blocks.4.conv.weight"]
    assert all(torch.isfinite(value).all() for value in after["G"].values())
    lines = [json.loads(line) for line in (tmp_path / "stats.jsonl").read_text().splitlines()]
    assert [line["nimg"] for line in lines][-1] == 96
    assert all(np.isfinite(value) for line in lines for value in line.values())
