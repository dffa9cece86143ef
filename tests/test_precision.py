"""bf16: when it is chosen, what computes in it, and what stays float32."""

import json
import math
from itertools import chain
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from accelerate import Accelerator
from click.testing import CliRunner
from conftest import flat, load_checkpoint, options
from phases import a_phase
from torch.utils._python_dispatch import TorchDispatchMode

from progan.cli.main import main
from progan.config.schedule import Curve
from progan.model.layers import EqualizedConv2d, EqualizedLinear
from progan.model.networks import Critic, Generator
from progan.runtime import speeds
from progan.runtime.numerics import computing_in, deterministic
from progan.runtime.speeds import resolve_precision
from progan.training.ema import Average, HalfLife
from progan.training.feed import Batch
from progan.training.step import Step
from progan.training.updates import LossSettings
from progan.training.work import WorkCounter

CPU = torch.device("cpu")
LOSSES = {
    "paper": LossSettings(),
    "logistic-r1": LossSettings("logistic", "r1", penalty_weight=5.0),
}

# What is chosen ---------------------------------------------------------------------------------


FASTER, SLOWER = {"fp32": [9.0, 2.0], "bf16": [5.0, 4.0]}, {"fp32": [3.0, 3.0], "bf16": [9.0, 1.0]}


def processes(main: bool = True, gains: bool = False) -> SimpleNamespace:
    """One of two processes, whose first one gains by bf16 or not."""

    def reduce(flag, reduction):
        assert reduction == "sum" and (flag == gains if main else flag == 0)
        return torch.tensor(float(gains))

    return SimpleNamespace(device=CPU, num_processes=2, is_main_process=main, reduce=reduce)


def alone(device: torch.device) -> SimpleNamespace:
    return SimpleNamespace(device=device, num_processes=1, is_main_process=True)


@pytest.mark.parametrize("able", [{"amx_bf16": True}, {"amx_bf16": False, "avx512_bf16": True}])
@pytest.mark.parametrize(("rates", "expected"), [(FASTER, "bf16"), (SLOWER, "fp32")])
def test_auto_on_cpus_is_measured(monkeypatch, able, rates, expected):
    """Reference: by hand, the time for as much of each convolution: 1/5 + 1/4 s is less than
    1/9 + 1/2 s; 1/9 + 1 s is more than 2/3 s. Neither the best nor the mean rate shows it."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    monkeypatch.setattr(speeds, "measured", lambda device: rates)
    assert resolve_precision("auto", alone(CPU)) == expected


@pytest.mark.parametrize(
    "able",
    [
        {"amx_bf16": False, "avx512_bf16": False, "avx512_f": True, "avx2": True},
        {"bf16": True, "sve_bf16": True, "neon": True},  # ARM's names
        {},
    ],
)
def test_auto_without_instructions(monkeypatch, able):
    """Reference: fp32, and no second is spent on it: nothing is measured."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    monkeypatch.delattr(speeds, "measured")
    assert resolve_precision("auto", alone(CPU)) == "fp32"


@pytest.mark.parametrize("gains", [True, False])
def test_the_first_process_decides(monkeypatch, gains):
    """Reference: the first process's result; the second adds nothing, and does not measure while
    the first one does."""
    monkeypatch.setattr(speeds, "gains_by_bf16", lambda device: gains)
    expected = "bf16" if gains else "fp32"
    assert resolve_precision("auto", processes(main=True, gains=gains)) == expected
    monkeypatch.delattr(speeds, "gains_by_bf16")
    assert resolve_precision("auto", processes(main=False, gains=gains)) == expected


def test_torch_has_the_names():
    """Reference: this machine's capabilities as torch reports them; with other names `auto` would
    be fp32 on every CPU, without a word."""
    able = torch.cpu.get_capabilities()
    if able.get("architecture") == "x86_64":
        assert {"amx_bf16", "avx512_bf16"} <= able.keys()


@pytest.mark.parametrize(("native", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_on_gpus(monkeypatch, native, expected):
    """Reference: what torch says of the GPU's own bf16; slow emulation on older ones does not
    count. The machine's CPU is not asked."""

    def supported(including_emulation=True):
        return native or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": not native})
    assert resolve_precision("auto", alone(torch.device("cuda"))) == expected


@pytest.mark.parametrize("device", ["mps", "xpu"])
def test_auto_elsewhere(monkeypatch, device):
    """Reference: fp32, whatever the machine's CPU can do."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    assert resolve_precision("auto", alone(torch.device(device))) == "fp32"


@pytest.mark.parametrize("device", ["cpu", "cuda", "mps"])
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_what_is_asked_for_is_done(monkeypatch, precision, device):
    """Reference: the setting itself; neither the hardware nor other processes matter."""
    monkeypatch.delattr(speeds, "gains_by_bf16")
    accelerator = SimpleNamespace(device=torch.device(device), num_processes=2)
    assert resolve_precision(precision, accelerator) == precision


# How it is measured ----------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch, tmp_path):
    """An empty cache, a CPU with bf16, two small convolutions; the list of what is measured."""
    monkeypatch.setenv("PROGAN_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    monkeypatch.setattr(speeds, "CONVOLUTIONS", [[4, 8], [8, 4]])
    real, found = speeds.gflops, []

    def gflops(*arguments):
        found.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(speeds, "gflops", gflops)
    return found


def test_measured_once(small, tmp_path, monkeypatch):
    """Reference: each convolution in each precision, once; then the figures that were kept, until
    torch, the number of threads or the processor is another."""
    rates = speeds.measured(CPU)
    once = [(*shape, p, CPU) for shape in ([4, 8], [8, 4]) for p in ("fp32", "bf16")]
    assert small == once and list(rates) == ["fp32", "bf16"]
    assert all(len(each) == 2 and min(each) > 0 for each in rates.values())
    assert speeds.measured(CPU) == rates and small == once
    (path,) = (tmp_path / "speeds").iterdir()
    assert json.loads(path.read_text())["gflops"] == rates
    for where, name, value in [
        (torch, "__version__", "3.0"),
        (torch, "get_num_threads", lambda: 99),
        (speeds, "device_name", lambda device: "another"),
        (torch.cpu, "get_capabilities", lambda: {"amx_bf16": True}),
    ]:
        with monkeypatch.context() as other:
            other.setattr(where, name, value)
            small.clear()
            speeds.measured(CPU)
            assert small == once, name
    small.clear()
    assert speeds.measured(CPU) == rates and not small


def test_the_best_of_a_busy_and_an_idle_machine(small, monkeypatch):
    """Reference: the faster of two times, for each convolution separately. Cached speeds stay: a
    run must not continue in another precision because someone has measured the speed again."""
    slow, fast = iter([1.0, 20.0, 3.0, 4.0]), iter([10.0, 2.0, 30.0, 4.0])
    monkeypatch.setattr(speeds, "gflops", lambda *arguments: next(slow))
    kept = speeds.measured(CPU)
    assert kept == {"fp32": [1.0, 3.0], "bf16": [20.0, 4.0]}
    monkeypatch.setattr(speeds, "gflops", lambda *arguments: next(fast))
    best = {"fp32": [10.0, 30.0], "bf16": [20.0, 4.0]}
    assert speeds.measured(CPU, again=True) == best
    assert speeds.measured(CPU) == kept


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: "",
        lambda content: "[" * 100_000,
        lambda content: json.dumps([content]),
        lambda content: json.dumps(content | {"of": {"device": "another"}}),
        lambda content: json.dumps(content | {"gflops": {"fp32": [1.0, 1.0]}}),
        lambda content: json.dumps(content | {"gflops": {"fp32": [1.0], "bf16": [1.0]}}),
        lambda content: json.dumps(content | {"gflops": {"fp32": [1, 1], "bf16": [1, math.nan]}}),
        lambda content: json.dumps(content | {"gflops": {"fp32": [1, 1], "bf16": [0, "x"]}}),
    ],
)
def test_damaged_figures_are_measured_again(small, tmp_path, damage):
    """Reference: the convolutions of a first time; then what is kept is whole again."""
    speeds.measured(CPU)
    (path,) = (tmp_path / "speeds").iterdir()
    once = small.copy()
    path.write_text(damage(json.loads(path.read_text())))
    rates = speeds.measured(CPU)
    assert small == 2 * once
    assert speeds.measured(CPU) == rates and small == 2 * once


def test_a_cache_that_cannot_be_written(small, tmp_path, caplog):
    """Reference: the figures all the same, and a warning that says where."""
    (tmp_path / "speeds").write_text("a file")
    assert list(speeds.measured(CPU)) == ["fp32", "bf16"]
    assert str(tmp_path / "speeds") in caplog.text and "measured again next time" in caplog.text


def test_only_cpus_are_measured(small, monkeypatch):
    """Reference: nothing, for what has no measurement; without instructions fp32 alone."""
    assert speeds.measured(torch.device("cuda")) == {} and not small
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    assert list(speeds.measured(CPU)) == ["fp32"]


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)]
)
def test_a_convolution_is_measured_as_training_does_it(monkeypatch, precision, dtype):
    """Reference: torch's own counter of FLOPs for all the repeats, the fastest of which takes half
    a second by the clock here; the types of what is computed, and channels last."""
    times = [3.0, 0.5, 2.0, 1.0]
    assert len(times) == speeds.REPEATS
    ticks = chain.from_iterable((10.0 * i, 10.0 * i + seconds) for i, seconds in enumerate(times))
    monkeypatch.setattr(speeds.time, "perf_counter", ticks.__next__)
    with WorkCounter() as counter, Results() as results:
        rate = speeds.gflops(4, 8, precision, CPU)
    assert rate == pytest.approx(counter.flops / len(times) / 0.5 / 1e9)
    assert results.types["convolution"] == results.types["convolution_backward"] == {dtype}
    assert results.channels_last["convolution"] == {True}


# How it is set ----------------------------------------------------------------------------------


CUDA, MKLDNN = torch.backends.cuda, torch.backends.mkldnn
CUDNN = torch.backends.cudnn
ROUNDED = (CUDA.matmul, CUDNN.conv, CUDNN.rnn, MKLDNN.matmul, MKLDNN.conv)


def settings() -> list[object]:
    """Everything that `computing_in` sets for the process, except TF32's older switches."""
    return [
        *(backend.fp32_precision for backend in ROUNDED),
        torch.is_autocast_enabled("cpu"),
        torch.get_autocast_dtype("cpu"),
        torch.is_autocast_cache_enabled(),
    ]


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
@pytest.mark.parametrize("fails", [False, True])
def test_settings_are_given_back(precision, fails):
    """Reference: torch's settings from before, one of them not torch's default, after work that
    ends well or in an error; inside, each backend rounds as the precision's name says."""
    conv = CUDNN.conv
    default = conv.fp32_precision
    try:
        for outside in ("tf32", "ieee"):
            conv.fp32_precision = outside
            before = settings()
            try:
                with computing_in(precision, CPU):
                    assert settings()[:5] == ["tf32" if precision == "tf32" else "ieee"] * 5
                    assert torch.is_autocast_enabled("cpu") == (precision == "bf16")
                    if fails:
                        raise KeyError
            except KeyError:
                assert fails
            assert settings() == before
    finally:
        conv.fp32_precision = default


def older_switches() -> list[str | bool]:
    """The switches that other libraries read; torch raises if they disagree with the newer ones."""
    return [torch.get_float32_matmul_precision(), CUDA.matmul.allow_tf32, CUDNN.allow_tf32]


@pytest.fixture
def own_switches():
    """Restores all switches when the test ends."""
    newer, (matmul, _, cudnn) = settings()[: len(ROUNDED)], older_switches()
    yield
    torch.set_float32_matmul_precision(matmul)
    CUDNN.allow_tf32 = cudnn
    for backend, value in zip(ROUNDED, newer, strict=True):
        backend.fp32_precision = value


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
@pytest.mark.parametrize("matmul", ["highest", "high", "medium"])
@pytest.mark.parametrize("cudnn", [True, False])
def test_older_switches_say_the_same(own_switches, precision, matmul, cudnn):
    """Reference: TF32's older switches by hand, inside; outside, those of a library that sets them,
    among them `medium`, which on GPUs means tf32."""
    torch.set_float32_matmul_precision(matmul)
    CUDNN.allow_tf32 = cudnn
    before = settings()
    with computing_in(precision, CPU):
        tf32 = precision == "tf32"
        assert older_switches() == ["high" if tf32 else "highest", tf32, tf32]
    assert older_switches() == [matmul, matmul != "highest", cudnn] and settings() == before


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
@pytest.mark.parametrize("matmul", ["highest", "high"])
@pytest.mark.parametrize("cudnn", [True, False])
def test_older_switches_outlast_a_mix(own_switches, precision, matmul, cudnn):
    """Reference: the older switches as set here, while the newer ones outside say the contrary, so
    that torch refuses to read the older; it reads them again when those outside agree."""
    torch.set_float32_matmul_precision(matmul)
    CUDNN.allow_tf32 = cudnn
    newer = (CUDA.matmul, CUDNN.conv)
    before = [setting.fp32_precision for setting in newer]
    for setting, older in zip(newer, (matmul == "high", cudnn), strict=True):
        setting.fp32_precision = "ieee" if older else "tf32"
    mixed = settings()
    with computing_in(precision, CPU):
        older_switches()
    assert settings() == mixed
    for backend in (CUDA.matmul, CUDNN):
        with pytest.raises(RuntimeError, match="mix of the legacy and new"):
            _ = backend.allow_tf32
    for setting, value in zip(newer, before, strict=True):
        setting.fp32_precision = value
    assert older_switches() == [matmul, matmul == "high", cudnn]


@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("outside", [True, False])
@pytest.mark.parametrize("fails", [False, True])
def test_algorithms_are_tried_unless_deterministic(monkeypatch, wanted, outside, fails):
    """Reference: torch's two settings by hand: one or the other inside; those of before afterwards,
    whether the work ends well or in an error."""
    monkeypatch.setattr(CUDNN, "benchmark", outside)
    try:
        with deterministic(wanted):
            assert torch.are_deterministic_algorithms_enabled() is wanted
            assert CUDNN.benchmark is not wanted
            if fails:
                raise KeyError
    except KeyError:
        assert fails
    assert CUDNN.benchmark is outside
    assert not torch.are_deterministic_algorithms_enabled()


# What computes in it ----------------------------------------------------------------------------


def make_step(precision, loss=None, c_dim=3, fused_scale=True) -> Step:
    """Tiny networks, the same at every call, as a run begins with them."""
    torch.manual_seed(0)
    shape = {"channel_base": 128, "channel_max": 8, "fused_scale": fused_scale}
    G = Generator(16, z_dim=8, c_dim=c_dim, **shape)
    D = Critic(16, c_dim=c_dim, **shape)
    step = Step(
        G,
        D,
        loss or LossSettings(),
        Accelerator(cpu=True),
        precision,
        Average(G, [HalfLife(Curve(1.0).at)]),
    )
    step.begin(a_phase(16, True, 0, 32, 8, None, 0.001), restart=True)
    step.set_progress(16)
    return step


def make_batch(c_dim=3) -> Batch:
    draw = np.random.default_rng(0)
    z, reals, mix = (
        torch.from_numpy(values.astype(np.float32))
        for values in (
            draw.standard_normal((8, 8)),
            draw.standard_normal((8, 3, 16, 16)),
            draw.random(8),
        )
    )
    return Batch(z, torch.eye(c_dim)[torch.arange(8) % c_dim], reals, mix.requires_grad_())


class Results(TorchDispatchMode):
    """Records the floating-point types that each operator returns, and their layout."""

    def __init__(self) -> None:
        super().__init__()
        self.types: dict[str, set[torch.dtype]] = {}
        self.channels_last: dict[str, set[bool]] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(x, torch.Tensor) and x.is_floating_point():
                name, last = func._overloadpacket.__name__, torch.channels_last
                self.types.setdefault(name, set()).add(x.dtype)
                layout = x.ndim == 4 and x.is_contiguous(memory_format=last)
                self.channels_last.setdefault(name, set()).add(layout)
        return out


@pytest.mark.parametrize("fused_scale", [True, False])
def test_only_products_are_bf16(fused_scale):
    """Reference: the types of what is computed, by hand. Convolutions and dense layers give bf16,
    forwards and backwards; pixel norm's norms and scales, the averages and roots of minibatch
    stddev, scores, label logits and images the critic sees are float32, as are losses."""
    step, layers, outer = make_step("bf16", fused_scale=fused_scale), set(), {}

    def of_layer(module, inputs, out):
        layers.add(out.dtype)

    def of_network(module, inputs, out):
        outs = out if isinstance(out, tuple) else (out,)
        outer.setdefault(type(module), []).append(([x.dtype for x in outs], inputs[0].dtype))

    for network in (step.G, step.D):
        network.register_forward_hook(of_network)
        for module in network.modules():
            if isinstance(module, (EqualizedConv2d, EqualizedLinear)):
                module.register_forward_hook(of_layer)
    batch = make_batch()
    with Results() as results:
        critic, critic_stats = step.D_gradients(batch)
        generator, generator_stats = step.G_gradients(batch.for_generator())
    assert layers == {torch.bfloat16}
    assert len(outer[Critic]) == 3, "reals and fakes, the penalty's, the generator's"
    for types, images in outer[Critic]:
        assert (types, images) == ([torch.float32] * 2, torch.float32)
    products = {"convolution", "convolution_backward", "mm", "addmm"}
    products = products & results.types.keys()
    assert {"convolution", "convolution_backward", "mm"} <= products
    for name in products:
        assert results.types[name] == {torch.bfloat16}, name
    for name in ("linalg_vector_norm", "rsqrt", "sqrt", "mean", "softplus", "_log_softmax"):
        assert results.types.get(name, {torch.float32}) == {torch.float32}, name
    assert {"linalg_vector_norm", "rsqrt", "sqrt", "mean"} <= results.types.keys()
    values = [*critic, *generator, *critic_stats.values(), *generator_stats.values()]
    assert {x.dtype for x in values} == {torch.float32}


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_are_near_those_of_fp32(loss):
    """Reference: the same update in fp32. bf16 keeps 8 bits, so each product is off by up to 1/256;
    weights wrong by as much change fp32's gradients alike, and units near zero change sides, as
    each processor rounds. Measured, as a cosine, over six draws of the weights: all gradients of a
    network together 0.943 at the worst, a parameter 0.65, so 0.9 and 0.5 are asked for."""
    found = {}
    for precision in ("fp32", "bf16"):
        step, batch = make_step(precision, LOSSES[loss]), make_batch()
        found[precision] = {}
        for name, network, of, part in [
            ("D", step.D, step.D_gradients, batch),
            ("G", step.G, step.G_gradients, batch.for_generator()),
        ]:
            grads = of(part)[0]
            names = network.active_parameters(16, True)
            found[precision][name] = dict(zip(names, grads, strict=True))
    for name, exact in found["fp32"].items():
        rough = found["bf16"][name]
        assert not all(torch.equal(rough[key], exact[key]) for key in exact), "it is bf16"
        whole = [torch.cat([g.flatten() for g in grads.values()]) for grads in (exact, rough)]
        assert cosine(*whole) > 0.9
        for key, grad in exact.items():
            assert cosine(grad, rough[key]) > 0.5, f"{name} {key}"


def cosine(a, b) -> float:
    return torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0).item()


def test_one_setting_serves_both_updates():
    """Reference: each update's gradients alone. Casts that the critic's update caches for fakes
    without a graph must not reach the generator's, when one `computing_in` covers both."""
    step, batch = make_step("bf16"), make_batch()
    alone, _ = step.G_gradients(batch.for_generator())
    with computing_in("bf16", CPU):
        step.D_gradients(batch)
        together, _ = step.G_gradients(batch.for_generator())
    assert all(grad.abs().max() > 0 for grad in alone)
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


# Runs -------------------------------------------------------------------------------------------


def train(photos, run_dir, **settings) -> str:
    """A run in this process, through the command line's own function; its output."""
    arguments = ["train", "--data", str(photos), "--run-dir", str(run_dir), *options(**settings)]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("faster", [True, False])
def test_auto_is_decided_where_it_runs(photos, tmp_path, monkeypatch, faster):
    """Reference: runs that name the precision, bit for bit, with bf16 faster and slower. The config
    keeps `auto`, so that a run may continue elsewhere; everything in a checkpoint is float32
    (except counts of images, in torch's Adam)."""
    monkeypatch.setattr(speeds, "gains_by_bf16", lambda device: faster)
    train(photos, tmp_path / "auto", run__precision="auto")
    train(photos, tmp_path / "named", run__precision="bf16" if faster else "fp32")
    config = yaml.safe_load((tmp_path / "auto" / "config.yaml").read_text())
    assert config["run"]["precision"] == "auto"
    auto, named = (flat(load_checkpoint(tmp_path / name)) for name in ("auto", "named"))
    auto, named = (
        {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
        for state in (auto, named)
    )
    for part in ("G", "D", "G_ema", "G_opt", "D_opt"):
        assert any(name.startswith(f"/{part}/") for name in auto), part
    assert {value.dtype for value in auto.values()} == {torch.float32}
    assert auto.keys() == named.keys()
    assert all(torch.equal(value, named[name]) for name, value in auto.items())
