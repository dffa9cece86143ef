"""Compiled gradients: equal to eager ones, one compilation per phase, eager if it fails."""

import logging
import os
import shutil
from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from click.testing import CliRunner
from conftest import flat, load_checkpoint, options, progan
from float64 import in_type
from phases import a_phase

from progan.cli.main import main
from progan.config.schedule import Curve, Phase
from progan.model.networks import Critic, Generator
from progan.runtime.cache import default_cache
from progan.training import compile as compiling
from progan.training.compile import compiled
from progan.training.ema import Average, HalfLife
from progan.training.feed import noise
from progan.training.step import Step
from progan.training.updates import LossSettings, critic_gradients, generator_gradients

ALL_KINDS = ("color", "translation", "cutout")
CPU = torch.device("cpu")
CACHE_KEY = "TORCHINDUCTOR_CACHE_DIR"


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    """Restores the defaults of what a compilation sets for its process."""
    monkeypatch.setenv(CACHE_KEY, "remembered by monkeypatch")
    monkeypatch.delenv(CACHE_KEY)
    monkeypatch.setattr(logging.getLogger("torch.__trace"), "propagate", False)  # costs seconds
    traced = torch._dynamo.config.trace_autograd_ops
    yield
    torch._dynamo.reset()
    torch._dynamo.config.trace_autograd_ops = traced


def make_step(loss, *, resolution=8, channels=3, c_dim=0, precision="fp32", interval=1) -> Step:
    """Tiny networks with biases that are not 0, the same at every call."""
    torch.manual_seed(0)
    widths = {"channel_base": 32, "channel_max": 4}
    G = Generator(resolution, channels, z_dim=3, c_dim=c_dim, **widths)
    D = Critic(resolution, channels, c_dim=c_dim, **widths)
    for network in (G, D):
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(parameter, std=0.3)
    averages = Average(G, [HalfLife(Curve(1.0).at)])
    return Step(G, D, loss, Accelerator(cpu=True), precision, averages, interval)


def phase_at(resolution, fading) -> Phase:
    return a_phase(resolution, fading, 0, 32, 8, None, 0.001)


def results(step, resolution, fading, compile=False) -> dict[str, torch.Tensor]:
    """Gradients by parameter, and statistics, of both updates in mid-phase on the same noise."""
    step.begin(phase_at(resolution, fading), True, compile)
    return updates_of(step, torch.float32)


def updates_of(step, dtype) -> dict[str, torch.Tensor]:
    """`results` in the current phase."""
    torch.manual_seed(1)
    G, phase = step.G, step.phase
    batch = noise(G, 8, phase.resolution, augmented=bool(step.loss.augment))
    batch = in_type(batch, dtype)
    step.set_progress(8)
    found = {}
    for name, network, of, part in [
        ("D", step.D, step.D_gradients, batch),
        ("G", step.G, step.G_gradients, batch.for_generator(step.loss.relativistic)),
    ]:
        grads, stats = of(part)
        names = network.active_parameters(phase.resolution, phase.fading)
        found |= {f"{name}.{key}": grad for key, grad in zip(names, grads, strict=True)} | stats
    return found


# Equality ---------------------------------------------------------------------------------------

# Each case has features that not all runs need: labels, augmentation, grey images.
CASES = {
    "paper 4x4": (4, False, LossSettings(), {}),
    "wgan r1 4x4, grey": (4, False, LossSettings(penalty="r1"), {"channels": 1}),
    "logistic wgan_gp 4x4, classes": (4, False, LossSettings("logistic"), {"c_dim": 3}),
    "logistic r1 4x4, augmented": (4, False, LossSettings("logistic", "r1", augment=ALL_KINDS), {}),
    "paper 8x8 fading, augmented": (8, True, LossSettings(augment=ALL_KINDS), {}),
    "wgan r1 8x8 fading": (8, True, LossSettings(penalty="r1"), {}),
    "logistic wgan_gp 8x8 fading, grey": (8, True, LossSettings("logistic"), {"channels": 1}),
    "logistic r1 8x8 fading, attributes": (
        8,
        True,
        LossSettings("logistic", "r1", labels="attributes"),
        {"c_dim": 3},
    ),
    "relativistic r1_r2 8x8 fading, augmented": (
        8,
        True,
        LossSettings("relativistic", "r1_r2", augment=ALL_KINDS),
        {},
    ),
    "hinge 4x4, projection": (
        4,
        False,
        LossSettings("hinge", "r2", labels="projection", adaptive=True),
        {"c_dim": 3},
    ),
    "weights that vary, 4x4": (
        4,
        False,
        LossSettings("logistic", "r1", augment=("color",), augment_strength=torch.tensor(0.4)),
        {},
    ),
    "relativistic-average wgan_lp 4x4": (
        4,
        False,
        LossSettings("relativistic-average", "wgan_lp"),
        {},
    ),
}
# The first two losses with both penalties (logistic r1, with attributes, is in the test below),
# relativistic ones, a stable phase, and all that only some of them need.
DEFAULT = (
    "paper 8x8 fading, augmented",
    "wgan r1 4x4, grey",
    "logistic wgan_gp 4x4, classes",
    "relativistic r1_r2 8x8 fading, augmented",
    "relativistic-average wgan_lp 4x4",
)


def eager(resolution, fading, loss, settings, dtype=torch.float64) -> dict[str, torch.Tensor]:
    step = make_step(loss, **settings)
    step.G.to(dtype), step.D.to(dtype)
    step.begin(phase_at(resolution, fading), restart=True)
    return updates_of(step, dtype)


def traced(resolution, fading, loss, settings, dtype=torch.float64) -> dict[str, torch.Tensor]:
    """Trace everything that a compiler would receive, with the penalty's double backward, and run
    it with torch's own kernels."""
    step = make_step(loss, **settings)
    step.G.to(dtype), step.D.to(dtype)
    step.begin(phase_at(resolution, fading), restart=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiling, "BACKEND", "aot_eager")
        gradients = compiled(critic_gradients, generator_gradients)
    step.critic_gradients, step.generator_gradients = gradients
    return updates_of(step, dtype)


def assert_equal(found, expected) -> None:
    """Assert equality up to rounding in float64."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert value.dtype == torch.float64, name
        torch.testing.assert_close(
            found[name], value, rtol=0, atol=1e-12 * (1 + value.abs().max()), msg=name
        )


@pytest.mark.parametrize(
    "case",
    [*DEFAULT, *(pytest.param(c, marks=pytest.mark.slow) for c in CASES if c not in DEFAULT)],
)
def test_traced_equals_eager(case):
    """Reference: the same updates without `torch.compile`, gradients and statistics, to rounding in
    float64. They are two programs: where a graph lays a gradient out otherwise (what comes down
    from the fading generator's upsampling, and images of one channel, whose layout is ambiguous),
    convolutions take other kernels, and some add up in another order on some CPUs."""
    assert_equal(traced(*CASES[case]), eager(*CASES[case]))


def test_a_missing_term_is_seen():
    """Reference: a traced update of all terms, and eager ones with one term missing or changed: the
    test above must see that they differ."""
    whole = LossSettings("logistic", "r1", augment=("color",), labels="attributes")
    found = traced(4, False, whole, {"c_dim": 3})
    assert_equal(found, eager(4, False, whole, {"c_dim": 3}))
    for change in (
        {"drift": 0.0},
        {"penalty_weight": 0.0},
        {"penalty": "wgan_gp"},
        {"label": 0.0},
        {"labels": "classes"},
        {"adversarial": "wgan"},
        {"augment": ("cutout",)},
    ):
        with pytest.raises(AssertionError):
            assert_equal(found, eager(4, False, replace(whole, **change), {"c_dim": 3}))


def test_traced_in_bf16():
    """Reference: the eager update in float32 and in float64. What is traced in bf16 computes in
    bf16: each gradient is off by more than float32's rounding, and by little (as a cosine: see
    test_precision)."""
    case = (4, False, LossSettings(penalty="r1"))
    expected = eager(*case, {})
    exact = eager(*case, {}, torch.float32)
    found = traced(*case, {"precision": "bf16"}, torch.float32)
    for network in "DG":
        whole, rough, near = (
            torch.cat([v.flatten().double() for k, v in of.items() if k.startswith(f"{network}.")])
            for of in (expected, found, exact)
        )
        assert torch.nn.functional.cosine_similarity(whole, rough, dim=0) > 0.99
        assert (rough - whole).norm() > 100 * (near - whole).norm(), "it is bf16"


def assert_inductor_equals(resolution, fading, loss, settings):
    expected = results(make_step(loss, **settings), resolution, fading)
    step = make_step(loss, **settings)
    found = results(step, resolution, fading, compile=True)
    assert step.compiled, "compiled, not gone on without"
    assert os.environ[CACHE_KEY] == str(default_cache() / "compiled")
    assert any((default_cache() / "compiled").rglob("*.so")), "kept in the user's own cache"
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        error = (found[name] - value).norm() / value.norm().clamp_min(1e-6)
        assert error < 2e-5, f"{name} differs by {error:.1e}"


needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")


@pytest.mark.slow
@needs_compiler
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Inductor's own imports
@pytest.mark.parametrize("case", ["paper 4x4", "logistic r1 8x8 fading, attributes"])
def test_compiled_equals_eager(case):
    """Reference: the same updates without `torch.compile`, each gradient to 2e-5 of its norm: the
    real compiler, whose kernels add in another order (4e-7 was measured)."""
    assert_inductor_equals(*CASES[case])


# When it compiles -------------------------------------------------------------------------------


class Counting:
    """A backend that runs its graphs unchanged, and counts them."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph, inputs):
        self.graphs += 1
        return graph.forward


def train(photos, run_dir, **settings) -> str:
    """A run in this process, through the command line's own function; its output."""
    settings = {"schedule__total_kimg": 0.064} | settings  # two phases of four updates
    arguments = ["train", "--data", str(photos), "--run-dir", str(run_dir), *options(**settings)]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def weights(run_dir) -> dict[str, torch.Tensor]:
    """Weights of both networks, the average and the optimizers."""
    state = flat(load_checkpoint(run_dir))
    return {k: v for k, v in state.items() if isinstance(v, torch.Tensor)}


def assert_same_weights(a, b) -> None:
    a, b = weights(a), weights(b)
    assert a.keys() == b.keys()
    assert all(torch.equal(value, b[name]) for name, value in a.items())


def beside_eager(monkeypatch) -> list[float]:
    """Collects how far each compiled update is from the same eager one, relative to its norm."""
    errors: list[float] = []
    trials, try_out = [], Step.try_out

    def trial(step, n=None):
        trials.append(n)
        try_out(step, n)
        trials.pop()

    monkeypatch.setattr(Step, "try_out", trial)

    def watch(method, name, plain):
        real, attribute = getattr(Step, method), f"{name}_gradients"

        def both(step, *arguments):
            found, mine = real(step, *arguments), getattr(step, attribute)
            if step.compiled and not trials:
                setattr(step, attribute, plain)
                plain_ones = real(step, *arguments)
                a, b = (torch.cat([g.flatten() for g in x[0]]) for x in (found, plain_ones))
                setattr(step, attribute, mine)
                errors.append(((a - b).norm() / b.norm()).item())
            return found

        monkeypatch.setattr(Step, method, both)

    watch("D_gradients", "critic", critic_gradients)
    watch("G_gradients", "generator", generator_gradients)
    return errors


LAZY = {
    "loss__penalty": "r1",
    "loss__penalty_interval": 2,
    "data__labels": "true",
    "data__augment": "[color, translation, cutout]",
    "data__augment_strength": "{start: 0.2, end: 0.8}",
    "loss__adversarial": "relativistic",
    "loss__weights__penalty": "{start: 4, end: 1, decay: cosine, over: run}",
    "schedule__batch_gpu": 4,
}


@pytest.mark.parametrize(
    ("settings", "graphs"),
    [pytest.param({}, 2, id="paper"), pytest.param(LAZY, 3, id="lazy", marks=pytest.mark.slow)],
)
def test_one_compilation_a_phase(photos, tmp_path, monkeypatch, settings, graphs):
    """Reference: counting, in a real run of two phases, stable and fading: two graphs per phase, or
    three if updates go with and without the penalty, all of them before its first update. So for
    Dynamo neither alpha nor anything else in a real batch differs from the trial's noise: labels,
    draws of the augmentation, a part of a batch. Each update's gradients are those of the same
    weights without compilation, to rounding."""
    counting, seen, began = Counting(), [], Step.begin
    compared = beside_eager(monkeypatch)

    def begin(self, *arguments, **more):
        seen.append(counting.graphs)
        began(self, *arguments, **more)
        seen.append(counting.graphs)

    monkeypatch.setattr(compiling, "BACKEND", counting)
    monkeypatch.setattr(Step, "begin", begin)
    output = train(photos, tmp_path / "compiled", run__compile="true", **settings)
    assert output.count("compiling for ") == output.count("\ncompiled in ") == 2
    assert seen == [0, graphs, graphs, 2 * graphs]
    assert counting.graphs == 2 * graphs, "none in the last phase's updates"
    assert len(compared) == 16, "both networks in 8 updates"
    assert max(compared) < 1e-4
    train(photos, tmp_path / "eager", run__compile="false", **settings)
    assert counting.graphs == 2 * graphs, "none without run.compile"


def test_compiled_code_is_kept_in_the_users_cache(monkeypatch, tmp_path):
    """Reference: PROGAN_CACHE, also after torch has set its own; and a folder that the user chose
    for all of torch."""
    monkeypatch.setenv("PROGAN_CACHE", str(tmp_path))
    monkeypatch.setenv(CACHE_KEY, "/tmp/torchs-own")
    compiling.compiled(abs)
    assert os.environ[CACHE_KEY] == str(tmp_path / "compiled")
    monkeypatch.setattr(compiling, "CHOSEN", True)
    monkeypatch.setenv(CACHE_KEY, "/mine")
    compiling.compiled(abs)
    assert os.environ[CACHE_KEY] == "/mine"


# Where it fails ---------------------------------------------------------------------------------


def no_compiler(graph, inputs):
    raise RuntimeError("there is no compiler\nand here is a page about it")


def warnings_in(caplog) -> list[str]:
    """Warnings that progan logged, without those of torch."""
    records = [record for record in caplog.records if record.name == "progan"]
    assert all(record.levelno == logging.WARNING for record in records)
    return [record.getMessage() for record in records]


def test_failure_is_one_warning(photos, tmp_path, monkeypatch, caplog):
    """Reference: a run without run.compile, bit for bit, over both phases, as it is the same
    program; one line in all."""
    monkeypatch.setattr(compiling, "BACKEND", no_compiler)
    train(photos, tmp_path / "run", run__compile="true")
    train(photos, tmp_path / "eager", run__compile="false")
    (message,) = warnings_in(caplog)
    assert "the training step is not compiled, as that failed: RuntimeError" in message
    assert "\n" not in message
    assert_same_weights(tmp_path / "eager", tmp_path / "run")


def test_reason_names_what_a_compiler_said():
    """Reference: the message that the compiler's error has."""
    with pytest.raises(torch._dynamo.exc.BackendCompilerFailed) as caught:
        torch.compile(lambda x: x + 1, backend=no_compiler)(torch.ones(1))
    assert "there is no compiler" in compiling.why_compile_failed(caught.value)


def test_what_cannot_be_traced_is_named(monkeypatch, caplog):
    """Reference: the gradients without compilation, and Dynamo's word for what it met: a graph
    break inside the critic."""

    def break_graph(module, arguments):
        torch._dynamo.graph_break(msg="a hook of ours")

    expected = results(make_step(LossSettings()), 4, False)
    monkeypatch.setattr(compiling, "BACKEND", "eager")
    step = make_step(LossSettings())
    step.D.blocks["4"].conv.register_forward_pre_hook(break_graph)
    found = results(step, 4, False, compile=True)
    assert not step.compiled
    (message,) = warnings_in(caplog)
    assert "Unsupported" in message and "a hook of ours" in message
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def out_of_memory(graph, inputs):
    def run(*tensors):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    return run


def test_out_of_memory_is_not_a_compilers_failure(photos, tmp_path, monkeypatch, caplog):
    """Reference: a run without compilation when memory is short: smaller passes, and a message if
    even these do not fit; continuing without the compiler would end the same way, later."""
    monkeypatch.setattr(compiling, "BACKEND", out_of_memory)
    arguments = ["--data", str(photos), "--run-dir", str(tmp_path)]
    result = CliRunner().invoke(main, ["train", *arguments, *options(run__compile="true")])
    assert result.exit_code == 2
    assert "not even 4 images fit into memory at 4x4 stable" in result.output
    assert warnings_in(caplog) == []


@pytest.mark.slow
def test_a_broken_compiler_does_not_end_a_run(photos, tmp_path, monkeypatch):
    """Reference: run.compile=false, bit for bit. The real command with the real compiler, which
    finds no working C++ compiler on the machine: one line more on stderr says so."""
    short = {"network__resolution": 4, "schedule__total_kimg": 0.016}
    words = ["train", "--data", photos, "--run-dir"]
    eager = progan(*words, tmp_path / "eager", *options(run__compile="false", **short))
    monkeypatch.setenv("CXX", "/bin/false")
    monkeypatch.setenv(CACHE_KEY, str(tmp_path / "cache"))
    tried = progan(*words, tmp_path / "run", *options(run__compile="true", **short))
    assert tried.returncode == 0, tried.stderr
    (line,) = set(tried.stderr.splitlines()) - set(eager.stderr.splitlines())
    assert line.startswith("the training step is not compiled, as that failed: ")
    assert "/bin/false" in line
    assert_same_weights(tmp_path / "eager", tmp_path / "run")
