"""Short memory under all its names: recognized, batches halved, reported."""

import gc
import weakref
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner
from conftest import options

from progan.cli.main import main
from progan.config.schedule import Schedule, make_schedule
from progan.config.settings import OptimConfig, ScheduleConfig
from progan.model.networks import Critic, Generator
from progan.runtime import memory
from progan.runtime.errors import UserError
from progan.training import trials
from progan.training.costs import CostModel
from progan.training.step import Step
from progan.training.trials import Trials
from progan.training.updates import LossSettings
from progan.training.work import count_work

CPU = torch.device("cpu")


class FromCompiler(RuntimeError):
    """Like Dynamo's `BackendCompilerFailed`, which keeps the inner error like this."""

    def __init__(self, inner: Exception):
        super().__init__("backend='inductor' raised:")
        self.inner_exception = inner


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


OOM = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
# Messages as torch and its libraries give them.
SHORT = {
    "torch": OOM,
    "accelerator": torch.AcceleratorError("CUDA error: out of memory", 2),
    "cublas": RuntimeError(
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"
    ),
    "cudnn": RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    "cudnn 9": RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    "no algorithm": RuntimeError(
        "GET was unable to find an engine to execute this computation after trying 4 plans."
    ),
    "host": RuntimeError(
        "[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you "
        "tried to allocate 4000000000000 bytes. Error code 12 (Cannot allocate memory)"
    ),
    "python": MemoryError(),
    "compiler": FromCompiler(OOM),
    "cause": caused(RuntimeError("failed to run the graph"), OOM),
}


@pytest.mark.parametrize("kind", SHORT)
def test_short_memory_has_many_names(kind):
    """Reference: messages of torch, CUDA's libraries and Python, and errors around them."""
    assert memory.is_short(SHORT[kind])


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("expected dtype float for `end` but got dtype c10::BFloat16"),
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered", 700),
        ValueError("out of memory"),
        caused(UserError("out of memory, as has been told"), OOM),
    ],
)
def test_other_errors_are_not_short_memory(error):
    """Reference: errors that less memory would not fix, or that the user has already seen."""
    assert not memory.is_short(error)


def test_a_real_allocation_that_fails():
    """Reference: torch itself, asked for more than any machine has."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert memory.is_short(caught.value)


def test_release_frees_cycles():
    """Reference: a weak reference to what only a cycle holds."""

    class Node:
        pass

    gc.disable()
    try:
        node = Node()
        node.itself = node
        alive = weakref.ref(node)
        del node
        assert alive() is not None
        memory.release(CPU)
        assert alive() is None
    finally:
        gc.enable()


def schedule_to(resolution: int) -> Schedule:
    """Batches of 16 at 4x4, of 32 above."""
    settings = ScheduleConfig(stable_kimg=0.064, fade_kimg=0.064, batch_size={4: 16, 8: 32})
    return make_schedule(resolution, settings, OptimConfig())


def limited_updates(monkeypatch, most: int, error: Exception) -> list[tuple[str, int]]:
    """Makes memory short for trial updates of more than `most` images."""
    tried = []

    def random_update(G, D, loss, phase, n):
        tried.append((str(phase), n))
        if n > most:
            raise error

    monkeypatch.setattr(trials, "random_update", random_update)
    return tried


@pytest.mark.parametrize("kind", ["torch", "cublas", "compiler"])
def test_trial_updates_halve(monkeypatch, kind):
    """Reference: the numbers of images by hand. Half as many, in whole groups, until they fit; a
    phase of which not even a group fits ends the trial without an error."""
    schedule = schedule_to(8)
    G, D = (network(8, channel_base=32, channel_max=4) for network in (Generator, Critic))
    accelerator = SimpleNamespace(device=CPU, num_processes=1)
    model = CostModel(schedule, count_work(G, D, LossSettings(), schedule))
    tried = limited_updates(monkeypatch, 8, SHORT[kind])
    Trials(G, D, LossSettings(), accelerator).measure(model, budget=1e9)
    of_4 = [("4x4 stable", n) for n in (16, 8, 8, 8)]
    of_8 = [(name, n) for name in ("8x8 fading", "8x8 stable") for n in (32, 16, 8, 8, 8)]
    assert tried == of_4 + of_8
    assert set(model.trials) == set(schedule.phases)

    model = CostModel(schedule, model.work)
    tried = limited_updates(monkeypatch, 2, SHORT[kind])
    Trials(G, D, LossSettings(), accelerator).measure(model, budget=1e9)
    assert tried == [("4x4 stable", n) for n in (16, 8, 4)]
    assert not model.trials and model.left(0) is None


def test_other_errors_of_trial_updates_are_not_hidden(monkeypatch):
    """Reference: the same error comes out."""
    schedule = schedule_to(4)
    G, D = (network(4, channel_base=32, channel_max=4) for network in (Generator, Critic))
    limited_updates(monkeypatch, 8, RuntimeError("a fault of ours"))
    accelerator = SimpleNamespace(device=CPU, num_processes=1)
    with pytest.raises(RuntimeError, match="a fault of ours"):
        Trials(G, D, LossSettings(), accelerator).measure(CostModel(schedule, {}), budget=1e9)


@pytest.mark.parametrize("kind", ["cublas", "cudnn", "accelerator", "compiler"])
def test_each_kind_halves_a_phase(photos, tmp_path, monkeypatch, kind):
    """Reference: the message and the images a pass of a `torch.OutOfMemoryError`."""
    real = Step.try_out

    def try_out(self, n=None):
        if self.phase.images_per_pass(1) > 4:
            raise SHORT[kind]
        real(self)

    monkeypatch.setattr(Step, "try_out", try_out)
    words = ["train", "--data", photos, "--run-dir", tmp_path / "run", *options()]
    result = CliRunner().invoke(main, [*map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0
    assert result.output.count("memory is short at") == 3
    assert "4 images a forward pass" in result.output


@pytest.mark.parametrize("kind", SHORT)
def test_a_command_tells_of_it(photos, monkeypatch, kind):
    """Reference: what the error says, what to do, exit code 2, and no traceback; in a command
    that has no other word for it."""

    def fail(*arguments, **more):
        raise SHORT[kind]

    monkeypatch.setattr("progan.data.opening.find", fail)
    result = CliRunner().invoke(main, ["data", "info", str(photos)])
    assert result.exit_code == 2, result.exception
    assert result.output.startswith("Error: out of memory (")
    assert "; close other programs" in result.output
